# SPDX-License-Identifier: MIT
"""Who is compared: allod, glibc's malloc, and what Debian packages of other allocators.

allod runs twice in each round, as two subjects: how far it is from itself tells how much of any
other distance is the machine's doing.
"""
import glob
import os
import sys

ALLOD, AGAIN, GLIBC = "allod", "allod-again", "glibc"

# name, Debian package, where its library is
PACKAGED = (
    ("jemalloc", "libjemalloc2", "/usr/lib/*/libjemalloc.so.2"),
    ("mimalloc", "libmimalloc2.0", "/usr/lib/*/libmimalloc.so.2"),
    ("tcmalloc", "libtcmalloc-minimal4", "/usr/lib/*/libtcmalloc_minimal.so.4"),
    ("tbbmalloc", "libtbbmalloc2", "/usr/lib/*/libtbbmalloc_proxy.so.2"),
    ("scudo", "libclang-rt-14-dev",
     "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.scudo_standalone-%s.so" % os.uname().machine),
)
PEERS = (GLIBC,) + tuple(name for name, _, _ in PACKAGED)


class Subject:
    """An allocator: a library to preload, or None for the system's own. A word for the workloads
    that need to be told what they measure, and environment of its own, may go with it."""

    def __init__(self, name, library=None, word=None, env=None):
        self.name = name
        self.library = library
        self.word = word
        self.env = env or {}

    @property
    def is_allod(self):
        return self.name in (ALLOD, AGAIN)


def packaged(names=None):
    """The installed ones of the packaged peers, or of those named; says which are missing."""
    for name, package, pattern in PACKAGED:
        if names is not None and name not in names:
            continue
        found = sorted(glob.glob(pattern))
        if found:
            yield Subject(name, found[-1])
        else:
            print("bench: going on without %s (package %s)" % (name, package), file=sys.stderr)


def given(text):
    """A subject from NAME=PATH; raises ValueError."""
    name, equals, path = text.partition("=")
    if not (name and equals) or name in PEERS + (ALLOD, AGAIN):
        raise ValueError("--peer wants NAME=PATH with a new name, not '%s'" % text)
    if not os.path.isfile(path):
        raise ValueError("--peer: there is no %s" % path)
    return Subject(name, os.path.abspath(path))


def all_subjects(library, extra, with_again):
    first = [Subject(ALLOD, library), Subject(GLIBC)]
    if with_again:
        first.append(Subject(AGAIN, library))
    return first + list(packaged()) + extra


def in_turn(subjects, number):
    """Another order in each round, so that nobody always runs after the same one."""
    shift = number * 3 % len(subjects)
    order = subjects[shift:] + subjects[:shift]
    return order if number % 2 == 0 else order[::-1]
