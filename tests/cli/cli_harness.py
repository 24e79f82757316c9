# SPDX-License-Identifier: MIT
"""What the tests of the allod command share: a set-up, comparisons, TAP.

A test script is called with ALLOD LIBRARY LIBDIR [--update]: the built command and
liballod-malloc.so, and the library directory of an installation. Texts are compared with golden/;
--update writes them anew.
"""
import inspect
import os
import shutil
import subprocess
import sys
import tempfile

import cli_cases

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WIDTH = 80


class Skip(Exception):
    pass


class Cli:
    """One set-up: a copy of the command and the library in a directory of their own."""

    def __init__(self, directory, allod, library, libdir):
        self.directory = directory
        self.libdir = libdir
        self.allod = shutil.copy(allod, directory)
        self.library = shutil.copy(library, directory)
        os.chmod(directory, 0o755)

    def run(self, *args, **options):
        """Runs allod; returns (exit code, stdout, stderr)."""
        env = {k: v for k, v in os.environ.items()
               if k not in ("LD_PRELOAD", "ALLOD_CONF", "ALLOD_CONF_FILE")}
        env.update(options.pop("env", {}), LC_ALL="C")
        command = [options.pop("allod", self.allod)] + list(args)
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
                              check=False, **options)
        return done.returncode, done.stdout, done.stderr

    def make(self, name, contents, mode=0o755):
        return cli_cases.write(os.path.join(self.directory, name), contents, mode)


def same(got, wanted):
    if got != wanted:
        raise AssertionError("got    %r\nwanted %r" % (got, wanted))


def golden(name, text):
    path = os.path.join(HERE, "golden", name)
    if "--update" in sys.argv:
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
    with open(path, encoding="utf-8") as source:
        same(text, source.read())


def check_width(text):
    for line in text.splitlines():
        if len(line) > WIDTH:
            raise AssertionError("longer than %d columns: %r" % (WIDTH, line))


def run_test(number, name, test, arguments):
    """Runs one test in a directory of its own and prints its line; returns whether it is good."""
    with tempfile.TemporaryDirectory(prefix="allod-cli-") as directory:
        try:
            test(Cli(os.path.realpath(directory), *arguments))
        except Skip as reason:
            print("ok %d - %s # SKIP %s" % (number, name, reason), flush=True)
        except Exception as error:  # any mistake fails this test alone
            print("not ok %d - %s" % (number, name))
            print("# " + ("%s: %s" % (type(error).__name__, error)).replace("\n", "\n# "),
                  flush=True)
            return False
        else:
            print("ok %d - %s" % (number, name), flush=True)
    return True


def main(module):
    """Runs the functions test_* of a module; returns the exit code."""
    arguments = [a for a in sys.argv[1:] if a != "--update"]
    tests = [(n[5:], f) for n, f in vars(module).items()
             if n.startswith("test_") and inspect.isfunction(f)]
    print("1..%d" % len(tests))
    good = [run_test(i + 1, name, test, arguments) for i, (name, test) in enumerate(tests)]
    return 0 if all(good) else 1
