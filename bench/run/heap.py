#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures malloc on allod and its peers, side by side; see docs/performance.md."""
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True

import cases  # noqa: E402
import counts  # noqa: E402
import launch  # noqa: E402
import real  # noqa: E402
import session  # noqa: E402
import subjects as subjects_module  # noqa: E402
import table  # noqa: E402

MEMORY_ROUNDS = 2     # these figures hardly vary, and take seconds of sleep
AT_ONCE = 8           # workloads of the suite "memory" that run, and mostly sleep, together
STARTS = 40           # runs of an empty program in a round
EMPTY = ("start", "empty")
TIME_SUITES = ("time", real.SUITE)


class Heap(session.Benchmark):
    """malloc and free, as programs use them."""

    name = "heap"
    description = ("Measures malloc on allod, on glibc and on the packaged allocators, in one run; "
                   "prints tables and writes build/bench/heap.jsonl.")
    quick_help = "counts, and short rounds of a few cases: at most 2 minutes"
    suites = ("time", "memory", real.SUITE, "start")

    @classmethod
    def keys(cls):
        return ([(c.suite, c.name) for c in cases.TIME + cases.MEMORY]
                + [(real.SUITE, kind.name) for kind in real.CASES] + [EMPTY])

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

    @classmethod
    def print_tables(cls, figures):
        table.print_machine(figures)
        table.print_ratios(figures, "CPU time", "cpu", TIME_SUITES)
        table.print_ratios(figures, "elapsed time", "wall", TIME_SUITES)
        table.print_ratios(figures, "peak memory", "peak", TIME_SUITES)
        table.print_amounts(figures, "resident after idle", "resident_after_idle")
        table.print_amounts(figures, "memory over live", "resident_over_live", ("memory",))
        table.print_amounts(figures, "peak over live", "peak_over_live", ("memory",))
        table.print_amounts(figures, "page faults over pages used again", "faults_over_pages")
        table.print_amounts(figures, "page faults", "faults", TIME_SUITES)
        table.print_amounts(figures, "system calls", "syscalls")
        table.print_amounts(figures, "instructions a pair of malloc and free", "instructions")
        table.print_amounts(figures, "an empty program: time to run", "start")
        table.print_amounts(figures, "an empty program: resident", "resident", ("start",))
        table.print_failures(figures)


if __name__ == "__main__":
    sys.exit(session.main(Heap))
