# SPDX-License-Identifier: MIT
"""The programs that ./dev try runs, and how each of them is run on a subject.

A subject is a way to run a program: on the system's malloc, or on allod. A case is a program with
its input; run() returns measurements and, by name, all the output that malloc must not change.
"""
import os
import shutil
import subprocess
import sys

import measure

WORK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "work")

# Variables that would change a program's output or its allocator.
DROPPED = ("LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "ALLOD_CONF", "ALLOD_CONF_FILE",
           "PERL5LIB", "PERL5OPT")


def clean_environment(home):
    env = {k: v for k, v in os.environ.items()
           if k not in DROPPED and not k.startswith(("MALLOC_", "PYTHON", "GIT_"))}
    env.update(LC_ALL="C", TZ="UTC", HOME=home, PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1",
               PERL_HASH_SEED="0")
    return env


def python3():
    """The system's python3: a version manager's would start through a shell script."""
    return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


class Subject:
    """A way to run programs."""

    def __init__(self, name, prefix=(), preload=None):
        self.name = name
        self.prefix = list(prefix)
        self.preload = preload

    def environment(self, home):
        env = clean_environment(home)
        if self.preload:
            env["LD_PRELOAD"] = self.preload
        return env


class Case:
    """A program with its input. Subclasses say what is run."""

    name = ""
    commands = ()
    side_by_side = False  # the runs sleep most of the time, so both subjects run at once

    def __init__(self, directory, allod):
        self.directory = directory
        self.allod = allod
        self.subjects = [Subject("system"), Subject("allod", [allod, "run", "--"])]
        self.notes = []

    def missing(self):
        return [c for c in self.commands if shutil.which(c) is None]

    def file(self, name):
        return os.path.join(self.directory, name)

    def generate(self, script, output, *args):
        """Runs one of the generators of work/ and keeps what it prints."""
        with open(self.file(output), "wb") as out:
            subprocess.run([python3(), os.path.join(WORK, script)] + list(args), stdout=out,
                           check=True, env=clean_environment(self.directory))

    def prepare(self):
        pass

    def start(self, subject, argv, stdin=os.devnull):
        return measure.Job(subject.prefix + argv, subject.environment(self.directory), stdin,
                           self.file("out." + subject.name))

    def finish(self, subject, job, result=None):
        """Waits for a job; returns measurements and digests of what it printed and made."""
        sample = job.wait()
        digests = {"stdout": measure.digest(job.stdout_path),
                   "stderr": measure.digest(job.stderr_path)}
        if result:
            digests[os.path.basename(result)[:-len(subject.name) - 1]] = measure.digest(result)
        return sample, digests


class Compiler(Case):
    name = "g++ -O2"
    commands = ("g++",)

    def prepare(self):
        self.generate("make_cpp.py", "large.cc", "1")

    def run(self, subject):
        result = self.file("large.o." + subject.name)
        job = self.start(subject, ["g++", "-std=c++17", "-O2", "-frandom-seed=1", "-c",
                                   self.file("large.cc"), "-o", result])
        return self.finish(subject, job, result)


class Python(Case):
    name = "python3"
    commands = ("python3",)

    def run(self, subject):
        job = self.start(subject, [python3(), os.path.join(WORK, "churn.py")])
        return self.finish(subject, job)


class IdlePython(Case):
    name = "python3, idle"
    commands = ("python3",)
    side_by_side = True

    def begin(self, subject):
        return self.start(subject, [python3(), os.path.join(WORK, "idle.py"),
                                    self.file("idle." + subject.name)])

    def end(self, subject, job):
        sample, output = self.finish(subject, job)
        with open(self.file("idle." + subject.name), encoding="ascii") as report:
            peak, idle = report.read().split()
        return {"peak_memory": int(peak), "idle_memory": int(idle)}, output


class Sqlite(Case):
    name = "sqlite3"
    commands = ("sqlite3",)

    def run(self, subject):
        database = self.file("shop.db." + subject.name)
        for leftover in (database, database + "-journal"):
            if os.path.exists(leftover):
                os.unlink(leftover)
        job = self.start(subject, ["sqlite3", "-batch", "-bail", database],
                         os.path.join(WORK, "database.sql"))
        return self.finish(subject, job, database)


class Perl(Case):
    name = "perl"
    commands = ("perl",)

    def run(self, subject):
        job = self.start(subject, ["perl", os.path.join(WORK, "words.pl")])
        return self.finish(subject, job)
