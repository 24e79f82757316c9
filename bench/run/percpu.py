#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures memory with a copy for each processor; see docs/performance.md."""
import html
import sys

sys.dont_write_bytecode = True

import percpu_cases  # noqa: E402
import session  # noqa: E402
import svg  # noqa: E402
import table  # noqa: E402
from subjects import Subject  # noqa: E402

# What the sources of the layer measured, each on a machine of its own.
SOURCES = {
    "sharing": "M. Desnoyers (2025) compares an array without padding, one padded to cache lines, "
               "and a pool, over growing numbers of counters.",
    "threads": "M. Desnoyers (2025): what each thread has of its own is allocated, initialised and "
               "kept for each thread; what each processor has, for each processor.",
}


class Percpu(session.Benchmark):
    """Operations, false sharing, and threads' storage, with what else programs do."""

    name = "percpu"
    description = ("Measures allod's per-CPU memory beside what programs do without it; prints "
                   "tables and writes build/bench/percpu.jsonl.")
    quick_help = "short rounds of most cases: at most 2 minutes"
    suites = ("ops", "sharing", "threads", "zhou", "steady", "churn", "memory", "fork", "lost")
    quick_rounds = 2
    units = {"op": "ns", "thread": "ns", "resident": "bytes", "alloc_s": "s", "free_s": "s",
             "pair": "ns", "over_live": "ratio", "beyond": "bytes", "mappings": "count",
             "freeing_adds": "bytes", "kept": "ratio", "beyond_s": "s", "lost": "count"}

    def all_subjects(self):
        """In the order of the tables; each case names its own."""
        names = []
        for case in percpu_cases.CASES:
            names += [n for n in case.lines if n not in names]
        return [Subject(name) for name in names]

    @classmethod
    def keys(cls):
        return [case.key for case in percpu_cases.CASES]

    def run_case(self, case, number):
        """One round of a case, if it has so many."""
        lines = case.quick if self.args.quick else case.lines
        subjects = [s for s in self.subjects if s.name in lines]
        rounds = case.rounds or self.args.rounds
        if subjects and number <= rounds:
            self.run_round(case.key, lambda s: self.runner.run(lines[s.name], s)[0], subjects,
                           number, rounds)

    def run_suite(self, cases):
        """The cases alternate, as some targets compare one with another."""
        for number in range(1, max(case.rounds or self.args.rounds for case in cases) + 1):
            for case in cases:
                self.run_case(case, number)
        self.save()

    def run(self):
        wanted = [case for case in percpu_cases.CASES if self.wanted(case.key)]
        for suite in self.suites:
            cases = [case for case in wanted if case.key[0] == suite]
            if cases:
                self.run_suite(cases)

    @classmethod
    def add_options(cls, parser):
        parser.add_argument("--plot", action="store_true",
                            help="also draw the figures, into build/bench/percpu.html")

    @classmethod
    def after(cls, args, figures):
        if args.plot:
            cls.draw(page(figures))

    @classmethod
    def print_tables(cls, figures):
        table.print_all_amounts(figures, (
            ("an operation: CPU time", "ops", "op"),
            ("an addition to one of many counters, 2 threads", "sharing", "op"),
            ("a thread: creation and first use", "threads", "thread"),
            ("memory beyond that of the process, all threads", "threads", "resident"),
            ("a million elements: allocation", "zhou", "alloc_s"),
            ("a million elements: frees", "zhou", "free_s"),
            ("64 bytes, allocated and freed", "steady", "pair"),
            ("churn: memory over live", "churn", "over_live"),
            ("10,000 counters: memory beyond their own", "memory", "beyond"),
            ("mappings beyond one for each processor", "memory", "mappings"),
            ("memory that frees of untouched elements add", "memory", "freeing_adds"),
            ("memory kept when 10 of 11 are freed", "memory", "kept"),
            ("fork, beyond that of an empty process", "fork", "beyond_s"),
            ("initial values lost", "lost", "lost")))
        table.print_failures(figures)


def series(figures, suite, metric, suffix=""):
    """{subject: [(number in the case's name, figure)]}"""
    result = {}
    for key in figures.keys(metric, (suite,)):
        if not key[1].endswith(suffix):
            continue
        number = key[1][:len(key[1]) - len(suffix)]
        x = int(number[:-1]) * {"K": 1 << 10, "M": 1 << 20}[number[-1]] if number[-1] in "KM" \
            else int(number)
        for name in figures.subjects():
            value = figures.median(key, name, metric)
            if value:
                result.setdefault(name, []).append((x, value))
    return result


def page(figures):
    def chart(suite, metric, x_name, y_name, label, suffix=""):
        return svg.chart(series(figures, suite, metric, suffix), x_name, y_name, "{:g}".format,
                         label)

    def size(value):
        return table.amount(value, "bytes")

    parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>allod: per CPU</title>",
             "<h1>Memory with a copy for each processor</h1>",
             "<p>%s</p>" % html.escape("; ".join("%s: %s" % i for i in figures.machine.items())),
             "<h2>Additions to one of many counters, two threads</h2>",
             chart("sharing", "op", "counters", "an addition", table.span_ns),
             "<p><em>%s</em></p>" % html.escape(SOURCES["sharing"])]
    for threads in percpu_cases.THREADS:
        parts += ["<h2>%d threads, by bytes of storage</h2>" % threads,
                  chart("threads", "thread", "bytes", "creation of a thread", table.span_ns,
                        "-%dt" % threads),
                  chart("threads", "resident", "bytes", "memory", size, "-%dt" % threads)]
    parts.append("<p><em>%s</em></p>" % html.escape(SOURCES["threads"]))
    return "\n".join(parts) + "</html>\n"


if __name__ == "__main__":
    sys.exit(session.main(Percpu))
