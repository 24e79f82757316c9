#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures malloc on allod and its peers, side by side; see docs/performance.md."""
import os
import shutil
import signal
import sys
import tempfile

sys.dont_write_bytecode = True

import cases  # noqa: E402
import counts  # noqa: E402
import figures as figures_module  # noqa: E402
import launch  # noqa: E402
import options  # noqa: E402
import real  # noqa: E402
import subjects as subjects_module  # noqa: E402
import table  # noqa: E402
import targets  # noqa: E402

BUILD = os.path.join(real.ROOT, "build")
RESULTS = os.path.join(BUILD, "bench", "heap.jsonl")
TARGETS = os.path.join(real.ROOT, "bench", "targets.tsv")
MEMORY_ROUNDS = 2     # these figures hardly vary, and take seconds of sleep
AT_ONCE = 8           # workloads of the suite "memory" that run, and mostly sleep, together
STARTS = 40           # runs of an empty program in a round
EMPTY = ("start", "empty")


class Session:
    """One run of the benchmark."""

    def __init__(self, args):
        self.args = args
        self.runner = launch.Runner(os.path.join(BUILD, "bench"))
        library = os.path.join(BUILD, "liballod-malloc.so")
        self.subjects = subjects_module.all_subjects(library, args.peers, not args.quick)
        self.figures = figures_module.Figures()
        self.figures.machine = options.machine()
        self.progress = table.Progress()

    def wanted(self, key):
        return not self.args.only or any(o in "%s/%s" % key for o in self.args.only)

    def attempt(self, key, subject, number, measured):
        """Adds what measured() returns, or notes why it could not. A subject that failed in a case
        has no figures there."""
        if (key, subject.name) in self.figures.failures:
            return
        try:
            sample = measured()
        except (launch.Failed, OSError) as failure:
            self.figures.fail(key, subject.name, str(failure))
            return
        self.figures.add(key, subject.name, number, sample)

    def run_rounds(self, key, run):
        for number in range(1, self.args.rounds + 1):
            self.progress.show("%s/%s" % key, "round %d of %d" % (number, self.args.rounds))
            for subject in subjects_module.in_turn(self.subjects, number):
                self.attempt(key, subject, number, lambda s=subject: run(s))
        self.save()

    def save(self):
        """After each case, so that a run that is stopped leaves what it has."""
        with open(RESULTS + ".new", "w", encoding="utf-8") as out:
            self.figures.write(out)
        os.replace(RESULTS + ".new", RESULTS)

    def run_time(self):
        for case in cases.TIME:
            key = case.suite, case.name
            if not self.wanted(key) or (self.args.quick and not case.quick):
                continue
            argv = case.arguments(self.args.quick)
            self.run_rounds(key, lambda s, argv=argv: self.runner.run(argv, s)[0])
            self.count(key, case, argv)

    def count(self, key, case, argv):
        """What needs to be counted once only."""
        for subject in self.subjects:
            if subject.name == subjects_module.AGAIN:
                continue
            self.progress.show("%s/%s" % key, "counting on %s" % subject.name)
            if not self.args.quick and shutil.which("strace"):
                self.attempt(key, subject, 1, lambda s=subject: {
                    "syscalls": counts.system_calls(self.runner, argv, s)})
            if case.counted and shutil.which("valgrind"):
                self.count_instructions(key, case, subject)

    def count_instructions(self, key, case, subject):
        """Not every peer runs under valgrind; that is no failure of the case."""
        try:
            pair = counts.instructions_per_pair(self.runner, case, subject)
        except launch.Failed as failure:
            self.figures.failures[key, subject.name + ", instructions"] = str(failure)
            return
        self.figures.add(key, subject.name, 1, {"instructions": pair})

    def run_memory(self):
        subjects = [s for s in self.subjects if s.name != subjects_module.AGAIN]
        for case in [] if self.args.quick else cases.MEMORY:
            key = case.suite, case.name
            if not self.wanted(key):
                continue
            for number in range(1, min(self.args.rounds, MEMORY_ROUNDS) + 1):
                self.progress.show("%s/%s" % key, "round %d" % number)
                order = subjects_module.in_turn(subjects, number)
                for first in range(0, len(order), AT_ONCE):
                    jobs = [(s, self.runner.start(case.argv, s, case.env))
                            for s in order[first:first + AT_ONCE]]
                    for subject, job in jobs:
                        self.attempt(key, subject, number, lambda j=job: self.runner.finish(j)[0])

    def run_start(self):
        if not self.wanted(EMPTY):
            return

        def run(subject):
            samples = self.runner.run(["empty"], subject, times=STARTS)
            sample = self.runner.run(["empty", "resident"], subject)[0]
            walls = sorted(s["wall"] for s in samples)
            return {"start": walls[len(walls) // 2], "resident": sample["resident"]}

        self.run_rounds(EMPTY, run)

    def run_programs(self):
        for kind in () if self.args.quick else real.CASES:
            if not self.wanted((real.SUITE, kind.name)):
                continue
            with tempfile.TemporaryDirectory(prefix="allod-bench-") as directory:
                program = real.Program(kind, directory, self.runner)
                self.progress.show("%s/%s" % program.key, "preparing")
                try:
                    program.prepare()
                except launch.Failed as failure:
                    self.figures.failures[program.key, "all"] = str(failure)
                    continue
                self.run_rounds(program.key, program.run)

    def run(self):
        self.run_start()
        self.run_time()
        self.run_memory()
        self.run_programs()
        self.save()
        self.progress.clear()


def main():
    args = options.parse()
    if args.list:
        names = [(c.suite, c.name) for c in cases.TIME + cases.MEMORY]
        names += [(real.SUITE, kind.name) for kind in real.CASES] + [EMPTY]
        print("\n".join("%s/%s" % n for n in names))
        return 0
    if args.last:
        figures = figures_module.read(RESULTS)
    else:
        session = Session(args)
        session.run()
        figures = session.figures
    if args.json:
        figures.write(sys.stdout)
    else:
        table.print_all(figures)
    failed = any(s in (subjects_module.ALLOD, "all") for _, s in figures.failures)
    if args.check:
        is_whole = not (args.only or args.quick)
        failed = targets.check(TARGETS, figures, is_whole) > 0 or failed
    return 1 if failed else 0


def on_signal(number, frame):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_signal)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("bench: stopped; --last shows what was measured", file=sys.stderr)
        sys.exit(130)
