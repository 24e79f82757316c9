# SPDX-License-Identifier: MIT
"""The commands of README.md that need nothing but a build: each runs, and does what is said."""
import os
import re
import shutil
import subprocess
import sys

from cli_harness import ROOT, Skip, main, same


def commands():
    """The lines of README's first block of shell commands."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme:
        block = re.search(r"^```sh\n(.*?)^```", readme.read(), re.MULTILINE | re.DOTALL)
    return block.group(1).splitlines()


def test_each_command_runs(cli):
    if not shutil.which("sqlite3"):
        raise Skip("no sqlite3 here")
    os.symlink(".", os.path.join(cli.directory, "build"))
    every = commands()
    assert len(every) >= 5, every
    for command in every:
        done = subprocess.run(["sh", "-c", command], cwd=cli.directory, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, timeout=60, check=False)
        same((command, done.returncode), (command, 0))
        if "sqlite3" in command:
            same((command, done.stdout), (command, "42\n"))
        assert done.stdout or done.stderr, "says nothing: " + command


sys.exit(main(sys.modules[__name__]))
