# SPDX-License-Identifier: MIT
"""What the lints share: walking the tree, and reading C well enough for the house style.

Every lint is called as `NAME [ROOT [BUILD]]` (the repository and its build directory), prints one
line per violation and exits 1 if there is any. Lines that begin with "warning:" don't count.
"""
import os
import re
import subprocess
import sys

ROOT = sys.argv[1] if len(sys.argv) > 1 else "."
BUILD = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "build")
SKIPPED_DIRECTORIES = {".git", "build", "__pycache__"}


def files(directories, suffixes):
    """Paths below ROOT's directories with one of the suffixes ("" for all), sorted."""
    found = []
    for directory in directories:
        for where, subdirectories, names in os.walk(os.path.join(ROOT, directory)):
            subdirectories[:] = [d for d in subdirectories if d not in SKIPPED_DIRECTORIES]
            found += [os.path.join(where, n) for n in names if n.endswith(suffixes)]
    return sorted(found)


def lines_of(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


def shown(path):
    return os.path.relpath(path, ROOT)


def functions(lines):
    """(name, first line number, last line number) of each function of a file in the house style:
    the brace that opens its body and the one that closes it stand in the first column."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            yield function_name(lines, start), start, number
            start = None


def function_name(lines, brace):
    """The name before the parameter list that ends above the line with the opening brace."""
    above = []
    for line in reversed(lines[:brace - 1]):
        if not line.strip() or line.startswith(("}", "#", "/*", " *")):
            break
        above.insert(0, line)
    names = re.findall(r"(\w+)\s*\(", re.sub(r"__attribute__\s*\(\(.*?\)\)", "", " ".join(above)))
    if len(names) == 0:
        return "?"
    return names[0]


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def require(path):
    """Ends the lint as failed if a build product is missing: nothing to look at is no success."""
    if not os.path.exists(path):
        finish([f"{path}: missing, so this lint has nothing to look at"])
    return path


def finish(violations):
    for violation in violations:
        print(violation)
    sys.exit(1 if any(not v.startswith("warning:") for v in violations) else 0)
