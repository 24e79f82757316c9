#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures blocks of pages: of allod, of the kernel and of malloc; see docs/performance.md."""
import os
import shutil
import sys

sys.dont_write_bytecode = True

import applications  # noqa: E402
import counts  # noqa: E402
import page_cases  # noqa: E402
import plot  # noqa: E402
import session  # noqa: E402
import table  # noqa: E402
from subjects import AGAIN, ALLOD, GLIBC, Subject, packaged  # noqa: E402

KERNEL = ("mmap", "populate", "thp")


class Page(session.Benchmark):
    """The figures of N. Douglas, "User Mode Memory Page Allocation" (2011), and what goes beyond
    them."""

    name = "page"
    description = ("Measures allod's page calls beside mmap() and the packaged allocators, as the "
                   "paper did that they come from, in one run; prints tables and writes "
                   "build/bench/page.jsonl.")
    quick_help = "short rounds of most cases: at most 2 minutes"
    suites = ("fault", "ring", "realloc", "swap", "batch", "compose", "heap-on-page", "pressure",
              "app")
    quick_rounds = 2
    limit_s = 400        # the ring takes mmap() half a minute on a quiet machine
    units = {"cycle": "ns", "cycle_wall": "ns", "page": "ns", "call": "ns", "op": "ns",
             "grow": "ns", "grow_wall": "ns", "move": "ns", "first": "ns", "swap": "ns",
             "allocate": "ns", "construct": "ns", "release": "ns",
             "resizes": "count", "kept": "count", "survived": "runs", "growth": "ratio", "need": "us", "free": "us"}

    @classmethod
    def keys(cls):
        return [case.key for case in page_cases.CASES] + applications.KEYS

    def all_subjects(self):
        """Those of blocks of pages. The packaged allocators are preloaded; a program that asks for
        allod's page calls finds them in liballod.so, and malloc stays glibc's."""
        library = os.path.join(session.BUILD, "liballod.so")
        self.peers = list(packaged(page_cases.ALL))
        return ([Subject(ALLOD, library, "page"), Subject(AGAIN, library, "page"),
                 Subject("plain", library, "page"), Subject("copy", None, "copy"),
                 Subject("allod-each", library, "each"),
                 Subject(GLIBC, None, "malloc")]
                + [Subject(name, None, name) for name in KERNEL + ("slots",)]
                + [Subject(p.name, p.library, "malloc") for p in self.peers + self.args.peers])

    def heaps(self):
        """allod's malloc, with its pages and with mmap(), and the other ones."""
        mmap = {"ALLOD_CONF": "page:mmap"}
        return ([Subject(ALLOD, self.library, "malloc"), Subject(AGAIN, self.library, "malloc"),
                 Subject("allod-mmap", self.library, "malloc", mmap),
                 Subject("allod-batch", os.path.join(session.BUILD, "liballod.so")),
                 Subject(GLIBC, None, "malloc")]
                + [Subject(p.name, p.library, "malloc") for p in self.peers + self.args.peers])

    def subjects_of(self, case):
        names = case.quick_names if self.args.quick else case.names
        given = [p.name for p in self.args.peers] if GLIBC in names else []
        everybody = self.subjects if case.kind == "page" else self.heaps()
        return [s for s in everybody if s.name in names or s.name in given]

    def run_case(self, case):
        argv = case.quick if self.args.quick else case.argv

        def line(subject):
            word = case.words.get(subject.name, subject.word)
            return [a.format(word=word) for a in argv]

        subjects = self.subjects_of(case)
        self.run_rounds(case.key, lambda s: self.runner.run(line(s), s)[0], subjects,
                        min(self.args.rounds, case.most_rounds))
        for subject in subjects if case.is_counted and shutil.which("strace") else ():
            self.attempt(case.key, subject, 1, lambda s=subject: {
                "syscalls": counts.system_calls(self.runner, line(s), s)})

    def run(self):
        for case in page_cases.CASES:
            if self.wanted(case.key) and (case.quick or not self.args.quick):
                self.run_case(case)
        if not self.args.quick:
            subjects = [s for s in self.heaps() if s.name in (ALLOD, AGAIN, GLIBC)]
            applications.measure(self, subjects, 2 * self.args.rounds + 1)

    @classmethod
    def add_options(cls, parser):
        parser.add_argument("--plot", action="store_true",
                            help="also draw the figures, into build/bench/page.html")

    @classmethod
    def after(cls, args, figures):
        if args.plot:
            cls.draw(plot.page(figures))

    @classmethod
    def print_tables(cls, figures):
        table.print_all_amounts(figures, (
            ("allocate, touch, free: CPU time", "fault", "cycle"),
            ("allocate and free alone", "fault", "call"),
            ("ring: mean of a free and an allocation, less an empty loop", "ring", "op"),
            ("realloc, doubled with room, and touched", "realloc", "grow"),
            ("realloc, the call alone", "realloc", "call"),
            ("realloc without room: the call", "realloc", "move"),
            ("realloc without room: the first call", "realloc", "first"),
            ("exchange of two blocks", "swap", "swap"),
            ("many at once: allocations, each", "batch", "allocate"),
            ("many at once: allocations and links, each", "batch", "construct"),
            ("many at once: frees, each", "batch", "release"),
            ("a block larger than any free memory that lies together", "compose", "cycle"),
            ("and by how much of its size resident memory grows", "compose", "growth"),
            ("ring, by malloc", "heap-on-page", "op"),
            ("under pressure: runs that lived on", "pressure", "survived"),
            ("under pressure: resident before memory was needed", "pressure", "resident"),
            ("programs: CPU time", "app", "cpu"), ("page faults", "app", "faults"),
            ("system calls", "app", "syscalls"), ("resizes", "app", "resizes"),
            ("resizes that kept the address", "app", "kept")))
        table.print_improvements(figures, applications.SUITE, ALLOD, GLIBC)
        table.print_failures(figures)


if __name__ == "__main__":
    sys.exit(session.main(Page))
