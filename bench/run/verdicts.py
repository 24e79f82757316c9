# SPDX-License-Identifier: MIT
"""A line of bench/targets.tsv, and what a run says to it."""
import fnmatch

from table import amount


class Target:
    """One line of targets.tsv."""

    def __init__(self, line):
        fields = line.rstrip("\n").split("\t")
        self.name, suites, self.case, self.metric, rule, limit, self.unit = fields[:7]
        self.rule, _, self.base = rule.partition(":")
        self.program, _, suites = suites.rpartition(":")
        self.suites = suites.split(",")
        self.limit = float(limit)

    def is_for(self, program, suites):
        """Whether it is one of a program's targets: two programs may have a suite of one name."""
        return self.program in ("", program) and not set(self.suites).isdisjoint(suites)

    def keys(self, figures):
        """The cases that were measured of those meant; the field may have several patterns."""
        patterns = self.case.split(",")
        return [k for k in figures.keys(self.metric, self.suites)
                if any(fnmatch.fnmatchcase(k[1], p) for p in patterns)]

    def expected(self, figures):
        """The same, and each case that is named but was not measured."""
        keys = self.keys(figures)
        named = [(self.suites[0], c) for c in self.case.split(",")
                 if not any(fnmatch.fnmatchcase(k[1], c) for k in keys)]
        return keys + named


class Verdict:
    """A target, or a case of one, with its figure; a figure of None was not measured. The margin is
    what the figure may be off by chance, as a part of it."""

    def __init__(self, target, case, figure, margin=0.0, against="", at_least=False):
        self.target, self.case, self.figure = target, case, figure
        self.margin, self.against, self.at_least = margin, against, at_least
        self.tolerance = 0.0    # the same in the figure's own unit

    @property
    def is_missed(self):
        if self.figure is None:
            return False
        if self.at_least:
            return self.figure * (1 + self.margin) + self.tolerance < self.target.limit
        return self.figure > self.target.limit * (1 + self.margin)

    def line(self):
        state = "MISSED" if self.is_missed else "ok"
        if self.figure is None:
            state = "not measured"
        shown = amount(self.figure, self.target.unit)
        margin = " ±%.0f %%" % (100 * self.margin) if self.margin else ""
        margin += " ±%.1f" % self.tolerance if self.tolerance else ""
        return "%-25s %-32s %10s%-7s %s %-9s %-12s %s" % (
            self.target.name, self.case, shown, margin, "≥" if self.at_least else "≤",
            amount(self.target.limit, self.target.unit), state, self.against)
