# SPDX-License-Identifier: MIT
"""What all suites of ./dev bench do alike: rounds in which the subjects alternate, the file of
results, tables, targets, and the exit code.

A suite is a class derived from Benchmark; its program ends with sys.exit(session.main(TheClass)).
"""
import os
import signal
import sys

import figures as figures_module
import launch
import options
import subjects as subjects_module
import table
import targets

BUILD = os.path.join(launch.ROOT, "build")
TARGETS = os.path.join(launch.ROOT, "bench", "targets.tsv")


class Benchmark:
    """One run of a suite. Subclasses give the attributes, keys(), run() and print_tables()."""

    name = ""            # of ./dev bench NAME
    description = ""     # for --help
    quick_help = ""      # what --quick does, for --help
    suites = ()          # the first words of its cases, and of its targets
    rounds = 5
    quick_rounds = 3
    limit_s = 60         # for one run of a program
    units = {}           # of metrics that figures.UNITS does not know

    def __init__(self, args):
        self.args = args
        self.runner = launch.Runner(os.path.join(BUILD, "bench"), self.limit_s)
        self.library = os.path.join(BUILD, "liballod-malloc.so")
        self.subjects = self.all_subjects()
        self.figures = figures_module.Figures()
        self.figures.machine = options.machine()
        self.progress = table.Progress()

    def all_subjects(self):
        return subjects_module.all_subjects(self.library, self.args.peers, not self.args.quick)

    @classmethod
    def results(cls):
        return os.path.join(BUILD, "bench", cls.name + ".jsonl")

    @classmethod
    def add_options(cls, parser):
        """More options than all suites have."""

    @classmethod
    def keys(cls):
        """(suite, case) of everything that can be measured."""
        raise NotImplementedError

    def run(self):
        raise NotImplementedError

    @classmethod
    def print_tables(cls, figures):
        raise NotImplementedError

    @classmethod
    def after(cls, args, figures):
        """What else is to be made of the figures."""

    @classmethod
    def draw(cls, text):
        """Writes the suite's page of figures."""
        path = os.path.join(BUILD, "bench", cls.name + ".html")
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        print("drawn: %s" % path, file=sys.stderr)

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
        self.figures.add_sample(key, subject.name, number, sample)

    def run_rounds(self, key, run, subjects=None, rounds=None):
        """run(subject) returns a sample: {metric: value}, or for several cases of the suite at once
        {case/metric: value}."""
        rounds = rounds or self.args.rounds
        for number in range(1, rounds + 1):
            self.run_round(key, run, subjects, number, rounds)
        self.save()

    def run_round(self, key, run, subjects, number, rounds):
        self.progress.show("%s/%s" % key, "round %d of %d" % (number, rounds))
        for subject in subjects_module.in_turn(subjects or self.subjects, number):
            self.attempt(key, subject, number, lambda s=subject: run(s))

    def save(self):
        """After each case, so that a run that is stopped leaves what it has."""
        path = self.results()
        with open(path + ".new", "w", encoding="utf-8") as out:
            self.figures.write(out)
        os.replace(path + ".new", path)


def measured(kind, args):
    """The figures of a new run, or of the last one."""
    if args.last:
        return figures_module.read(kind.results())
    benchmark = kind(args)
    benchmark.run()
    benchmark.save()
    benchmark.progress.clear()
    return benchmark.figures


def run(kind):
    args = options.parse(kind)
    figures_module.UNITS.update(kind.units)
    if args.list:
        print("\n".join("%s/%s" % key for key in kind.keys()))
        return 0
    figures = measured(kind, args)
    if args.json:
        figures.write(sys.stdout)
    else:
        kind.print_tables(figures)
    kind.after(args, figures)
    failed = any(s in (subjects_module.ALLOD, "all") for _, s in figures.failures)
    if args.check:
        is_whole = not (args.only or args.quick)
        failed = targets.check(TARGETS, figures, is_whole, kind.name, kind.suites) > 0 or failed
    return 1 if failed else 0


def on_signal(number, frame):
    raise KeyboardInterrupt


def main(kind):
    """Runs the suite of a program; returns its exit code."""
    signal.signal(signal.SIGTERM, on_signal)
    try:
        return run(kind)
    except KeyboardInterrupt:
        print("bench: stopped; --last shows what was measured", file=sys.stderr)
        return 130
