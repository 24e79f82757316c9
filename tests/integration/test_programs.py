#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_programs.py ALLOD: real programs must print and make the same on allod as on the system's
malloc. Each runs on both at once; prints TAP.

The workloads of ./dev try are run here too. Python's own small-block allocator is switched off in
most of its tests, so that every object comes from malloc.
"""
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "scripts", "try.d"))

import measure  # noqa: E402
import programs  # noqa: E402

TIME_LIMIT_S = 120


class Skip(Exception):
    pass


class Machine:
    """One of the two ways to run programs, with a directory of its own."""

    def __init__(self, directory, name, prefix):
        self.directory = os.path.join(directory, name)
        os.makedirs(self.directory)
        self.prefix = prefix
        self.env = programs.clean_environment(self.directory)

    def file(self, name):
        return os.path.join(self.directory, name)

    def run(self, *argv, **options):
        """Runs a program in the directory; returns its exit code, output and messages."""
        env = dict(self.env, **options.pop("env", {}))
        done = subprocess.run(self.prefix + list(argv), env=env, cwd=self.directory,
                              stdin=options.pop("stdin", subprocess.DEVNULL),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=TIME_LIMIT_S, check=False)
        return (done.returncode, done.stdout.decode(errors="replace"),
                done.stderr.decode(errors="replace"))

    def must(self, *argv, **options):
        """Like run(), for programs that have to succeed."""
        result = self.run(*argv, **options)
        if result[0] != 0:
            raise AssertionError("%s: exit code %d\n%s%s" % ((" ".join(argv),) + result))
        return result


def work(name):
    return os.path.join(programs.WORK, name)


def python_tests(machine, module, **env):
    """One of python's own test modules: every test's name and result. What some tests print beside
    that tells times."""
    python = programs.python3()
    if subprocess.run([python, "-c", "import test." + module], stdout=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL, check=False).returncode != 0:
        raise Skip("python's own tests (libpython3.N-testsuite) are not installed")
    code, _, messages = machine.must(python, "-m", "unittest", "-v", "test." + module, env=env)
    results = re.findall(r"^(\w+) \(([\w.]+)\).*?\.\.\. (\w+)", messages,
                         re.MULTILINE | re.DOTALL)
    count = re.search(r"^Ran (\d+) tests", messages, re.MULTILINE)
    assert len(results) > 50, "only %d results in the output" % len(results)
    return code, count.group(1), results


def test_python_threading(machine):
    return python_tests(machine, "test_threading")


def test_python_json_without_pymalloc(machine):
    return python_tests(machine, "test_json", PYTHONMALLOC="malloc")


def test_python_re_without_pymalloc(machine):
    return python_tests(machine, "test_re", PYTHONMALLOC="malloc")


def test_python_workload_without_pymalloc(machine):
    return machine.must(programs.python3(), work("churn.py"), "0.5", env={"PYTHONMALLOC": "malloc"})


def test_perl(machine):
    return machine.must("perl", work("words.pl"), "30000")


def test_sqlite(machine):
    with open(work("database.sql"), "rb") as script:
        result = machine.must("sqlite3", "-batch", "-bail", "shop.db", stdin=script)
    return result, measure.digest(machine.file("shop.db"))


def git_history():
    """A history of 300 commits for git fast-import."""
    yield "reset refs/heads/main\n"
    for n in range(300):
        text = "".join("line %d of version %d\n" % (k * n % 97, n // 3) for k in range(n % 80 + 5))
        message = "change %d" % n
        yield ("commit refs/heads/main\nmark :%d\ncommitter A U Thor <a@example.org> %d +0000\n"
               "data %d\n%s\nM 100644 inline dir%d/file%d\ndata %d\n%s\n" % (
                   n + 1, 1600000000 + n * 60, len(message), message, n % 7, n % 31, len(text),
                   text))


def test_git(machine):
    git = ["git", "-c", "pack.threads=1", "-c", "gc.auto=0"]
    with open(machine.file("history"), "w", encoding="ascii") as history:
        history.writelines(git_history())
    machine.must(*git, "init", "-q", "-b", "main", "origin")
    with open(machine.file("history"), "rb") as history:
        machine.must(*git, "-C", "origin", "fast-import", "--quiet", stdin=history)
    machine.must(*git, "-C", "origin", "gc", "-q", "--aggressive", "--prune=now")
    machine.must(*git, "clone", "-q", "--no-local", "origin", "copy")
    machine.must(*git, "-C", "copy", "repack", "-q", "-a", "-d", "-f", "--depth=20")
    return (machine.must(*git, "-C", "copy", "fsck", "--full", "--strict", "--no-progress"),
            machine.must(*git, "-C", "copy", "log", "--stat", "-p"),
            machine.must(*git, "-C", "copy", "verify-pack", "-v", *packs(machine)),
            machine.must(*git, "-C", "copy", "grep", "-c", "-E", "line (1|2)+ of"))


def packs(machine):
    directory = machine.file("copy/.git/objects/pack")
    names = sorted(n for n in os.listdir(directory) if n.endswith(".idx"))
    return [os.path.join(".git/objects/pack", n) for n in names]


def test_compiler(machine):
    source = machine.file("large.cc")
    with open(source, "wb") as out:
        subprocess.run([programs.python3(), work("make_cpp.py"), "1"], stdout=out, check=True)
    machine.must("g++", "-std=c++17", "-O1", "-frandom-seed=1", "-c", "large.cc", "-o", "large.o")
    machine.must("g++", "large.o", "-o", "large")
    return measure.digest(machine.file("large.o")), machine.must("./large")


NEEDS = {"test_perl": "perl", "test_sqlite": "sqlite3", "test_git": "git", "test_compiler": "g++"}


def first_difference(one, other):
    """A short account of where two results differ."""
    lines = [str(r).replace("\\n", "\n").splitlines() for r in (one, other)]
    for number, (left, right) in enumerate(zip(*lines)):
        if left != right:
            return "line %d\nsystem: %s\nallod:  %s" % (number + 1, left[:300], right[:300])
    return "one is longer: %d and %d lines" % (len(lines[0]), len(lines[1]))


def run_test(name, test, allod):
    """Runs a test on both machines at once; raises what went wrong."""
    if shutil.which(NEEDS.get(name, "sh")) is None:
        raise Skip("%s is not installed" % NEEDS[name])
    with tempfile.TemporaryDirectory(prefix="allod-programs-") as directory, \
            concurrent.futures.ThreadPoolExecutor(2) as pool:
        machines = (Machine(directory, "system", []),
                    Machine(directory, "allod", [allod, "run", "--"]))
        runs = [pool.submit(test, machine) for machine in machines]
        results = [run.result() for run in runs]
    if results[0] != results[1]:
        raise AssertionError("the output differs: " + first_difference(*results))


def main():
    allod = os.path.abspath(sys.argv[1])
    # Ignored where a shell started this in the background, and programs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")
             and (len(sys.argv) == 2 or n[5:] in sys.argv[2:])]
    print("1..%d" % len(tests), flush=True)
    failed = 0
    for number, (name, test) in enumerate(tests):
        line = "%d - %s" % (number + 1, name[5:])
        try:
            run_test(name, test, allod)
        except Skip as reason:
            print("ok %s # SKIP %s" % (line, reason), flush=True)
        except Exception as error:  # any mistake fails this test alone
            failed += 1
            text = "%s: %s" % (type(error).__name__, error)
            print("not ok %s\n# %s" % (line, text.replace("\n", "\n# ")), flush=True)
        else:
            print("ok %s" % line, flush=True)
    return 1 if failed else 0


sys.exit(main())
