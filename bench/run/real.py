# SPDX-License-Identifier: MIT
"""Real programs with an allocator preloaded. Most are those of ./dev try, with the same input; what
they print is compared, too, so that a fast wrong answer is none.

Debian's redis-server is linked with jemalloc: a preloaded library takes its calls all the same, and
for glibc's figures glibc itself is preloaded.
"""
import os
import subprocess
import sys

import counts
from launch import ROOT, Failed, figures_of

PROGRAMS = os.path.join(ROOT, "bench", "programs")
sys.path.append(os.path.join(ROOT, "scripts", "try.d"))

import measure  # noqa: E402
import programs  # noqa: E402
import redis  # noqa: E402

SUITE = "programs"


class Compiler(programs.Compiler):
    """Without optimization: the front end allocates most, and this takes half the time."""
    name = "g++"

    def run(self, subject):
        result = self.file("large.o." + subject.name)
        job = self.start(subject, ["g++", "-std=c++17", "-O0", "-frandom-seed=1", "-c",
                                   self.file("large.cc"), "-o", result])
        return self.finish(subject, job, result)


class Lua(programs.Case):
    name = "lua"
    commands = ("lua5.4",)

    def run(self, subject):
        job = self.start(subject, ["lua5.4", os.path.join(PROGRAMS, "churn.lua")])
        return self.finish(subject, job)


class Git(programs.Case):
    """Packs a history anew."""
    name = "git"
    commands = ("git",)

    def prepare(self):
        env = programs.clean_environment(self.directory)
        script = os.path.join(PROGRAMS, "make_history.py")
        subprocess.run(["git", "init", "-q", "--bare", self.file("history")], check=True, env=env)
        with subprocess.Popen([programs.python3(), script], stdout=subprocess.PIPE,
                              env=env) as history:
            subprocess.run(["git", "-C", self.file("history"), "fast-import", "--quiet"],
                           stdin=history.stdout, check=True, env=env)

    def run(self, subject):
        job = self.start(subject, ["git", "-C", self.file("history"), "pack-objects", "--all",
                                   "--stdout", "-q", "--threads=1", "--no-reuse-delta",
                                   "--no-reuse-object", "--window=30"])
        return self.finish(subject, job)


CASES = (programs.Python, Compiler, programs.Sqlite, redis.Redis, Lua, programs.Perl, Git)


class Program:
    """A real program, measured as the workloads are."""

    def __init__(self, kind, directory, runner, suite=SUITE):
        self.key = suite, kind.name
        self.runner = runner
        self.case = kind(directory, None)
        self.expected = None
        self.is_server = isinstance(self.case, redis.Redis)
        self.lines = self.case.file("measured")

    def prepare(self):
        missing = self.case.missing()
        if missing:
            raise Failed("%s is not installed" % ", ".join(missing))
        self.case.prepare()

    def subject(self, subject):
        """How ./dev try would start it. The server is started as it is, for its process is asked
        about; everything else through the launcher, which measures more exactly."""
        if self.is_server:
            return programs.Subject(subject.name, preload=subject.library or "libc.so.6")
        return programs.Subject(subject.name, self.runner.command(subject, ("-o", self.lines)))

    def system_calls(self, subject):
        """Those of one run, under strace; raises Failed."""
        summary = self.case.file("calls")
        prefix = counts.strace(subject, summary)
        try:
            self.case.run(programs.Subject(subject.name, prefix))
        except (measure.Failed, OSError) as failure:
            measure.stop_all()
            raise Failed(str(failure).splitlines()[0]) from None
        return counts.total_in(summary)

    def run(self, subject):
        """One sample. Raises Failed."""
        try:
            sample, output = self.case.run(self.subject(subject))
        except (measure.Failed, OSError) as failure:
            measure.stop_all()
            raise Failed(str(failure).splitlines()[0]) from None
        if not self.is_server:
            with open(self.lines, encoding="ascii") as lines:
                sample = figures_of(lines.read())
        self.expected = self.expected or output
        if output != self.expected:
            raise Failed("prints something else than with the subject before")
        if self.is_server:
            sample = {"cpu": sample["cpu_time"], "wall": sample["elapsed"],
                      "peak": sample["peak_memory"], "faults": sample["page_faults"],
                      "resident_after_idle": sample["idle_memory"]}
        return sample
