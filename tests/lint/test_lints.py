#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A lint that cannot fail checks nothing: each is run on a good little tree, where it must pass,
and on bad ones, where it must fail. Prints TAP."""
import os
import shutil
import subprocess
import sys
import tempfile

import trees

SOURCE = os.path.abspath(sys.argv[1])
LINTS = os.path.join(SOURCE, "scripts/lint")
LAYERS = ["base", "os", "page", "heap", "block", "percpu"]
LIBRARY_LINTS = ["exports", "needed", "overrides", "tls"]


def put(root, files):
    for path, text in files.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(full, 0o755)


def compile_library(root, name, text, options):
    subprocess.run(["gcc", "-shared", "-fPIC", "-ftls-model=initial-exec", "-fno-builtin", "-w",
                    "-x", "c", "-", "-o", os.path.join(root, "build", name), "-nostartfiles",
                    *options], input=text, text=True, check=True)


def compile_layer(root, layer):
    out = os.path.join(root, "build/src", layer)
    os.makedirs(out, exist_ok=True)
    thing = os.path.join(out, layer)
    subprocess.run(["gcc", "-c", "-w", "-fno-builtin", "-Da_load_acq(p)=*(p)",
                    "-Da_store_rel(p,v)=(*(p)=(v))", os.path.join(root, f"src/{layer}/{layer}.c"),
                    "-o", thing + ".o"], check=True)
    subprocess.run(["ar", "rcs", os.path.join(out, f"lib{layer}.a"), thing + ".o"], check=True)


def make_tree(root, lint, changes, library):
    put(root, trees.GOOD)
    put(root, changes)
    shutil.copy(os.path.join(SOURCE, ".clang-format"), root)
    if lint == "layering":
        for layer in LAYERS:
            compile_layer(root, layer)
    if lint in LIBRARY_LINTS:
        for name, text in trees.GOOD_LIBRARIES.items():
            compile_library(root, name, text, ["-Wl,-z,nodelete"])
    if library:
        compile_library(root, "liballod-malloc.so", *library)


def run(lint, changes, library=None):
    """(exit status, output) of a lint on the good tree with changes."""
    with tempfile.TemporaryDirectory() as root:
        make_tree(root, lint, changes, library)
        result = subprocess.run([os.path.join(LINTS, lint), root, os.path.join(root, "build")],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                check=False)
        return result.returncode, result.stdout


def cases():
    """(name, lint, changes, library, whether it must pass) of every subtest."""
    lints = sorted(n for n in os.listdir(LINTS) if os.access(os.path.join(LINTS, n), os.X_OK)
                   and os.path.isfile(os.path.join(LINTS, n)))
    for lint in lints:
        yield f"{lint} passes the good tree", lint, {}, None, True
        bad = [(c, None) for c in trees.BAD.get(lint, [])]
        bad += [({}, lib) for lib in trees.BAD_LIBRARIES.get(lint, [])]
        if not bad:
            yield f"{lint} has a bad tree", None, {}, None, False
        for number, (changes, library) in enumerate(bad, 1):
            yield f"{lint} fails bad tree {number}", lint, changes, library, False


def main():
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    every = list(cases())
    failed = False
    print(f"1..{len(every)}")
    for number, (name, lint, changes, library, must_pass) in enumerate(every, 1):
        status, output = run(lint, changes, library) if lint else (2, "")
        # A lint that broke down has not found anything: its status counts only without a trace.
        good = (status == 0) == must_pass and status in (0, 1) and "Traceback" not in output
        failed |= not good
        print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
        if not good:
            print("".join(f"# {line}\n" for line in output.splitlines()), end="")
    return 1 if failed else 0


sys.exit(main())
