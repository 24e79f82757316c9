# SPDX-License-Identifier: MIT
"""Compares the figures of a run with bench/targets.tsv.

A ratio to the best peer: the peer is chosen on the odd rounds and compared on the even ones, and it
is missed only beyond the distance of allod from itself, which runs twice in every round.
"""
import fnmatch
import statistics

from figures import geometric_mean
from subjects import AGAIN, ALLOD, GLIBC, PEERS
from table import amount

ODD, EVEN = 1, 0


class Target:
    """One line of targets.tsv."""

    def __init__(self, line):
        fields = line.rstrip("\n").split("\t")
        self.name, suites, self.case, self.metric, rule, limit, self.unit = fields[:7]
        self.rule, _, self.base = rule.partition(":")
        self.suites = suites.split(",")
        self.limit = float(limit)

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


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [Target(line) for line in lines if line.strip() and not line.startswith("#")]


def distance_from_itself(figures, keys, metric):
    """The median over the rounds of how far allod is from itself, as a part of it; over several
    cases, of the geometric mean."""
    ratios = {}
    for key in keys:
        again = figures.rounds(key, AGAIN, metric)
        for number, value in figures.rounds(key, ALLOD, metric).items():
            if value and again.get(number):
                ratios.setdefault(number, []).append(value / again[number])
    means = [abs(geometric_mean(r) - 1) for r in ratios.values()]
    return statistics.median(means) if means else 0.0


def named(other):
    return "against %s" % other if other else ""


def against_peer(target, figures, key, peer):
    own = figures.median(key, ALLOD, target.metric, EVEN)
    other = figures.median(key, peer, target.metric, EVEN) if peer else None
    figure = own / other if own is not None and other else None
    margin = distance_from_itself(figures, [key], target.metric)
    return Verdict(target, key[1], figure, margin, named(peer))


def times_fastest(target, figures):
    for key in target.keys(figures):
        ranking = figures.ranking(key, target.metric, PEERS, ODD)
        yield against_peer(target, figures, key, ranking[0] if ranking else None)


def times_leanest(target, figures):
    for key in target.keys(figures):
        fastest = figures.ranking(key, "cpu", PEERS, ODD)[:3]
        ranking = figures.ranking(key, target.metric, fastest, ODD)
        yield against_peer(target, figures, key, ranking[0] if ranking else None)


def mean_over(figures, keys, metric, name, rounds):
    values = [figures.median(key, name, metric, rounds) for key in keys]
    return geometric_mean(values) if values and all(values) else None


def mean_times_fastest(target, figures):
    """Only over the cases that every peer can run."""
    present = [p for p in PEERS if p in figures.subjects()]
    keys = [k for k in target.keys(figures)
            if all(figures.median(k, n, target.metric) for n in present + [ALLOD])]
    means = {p: mean_over(figures, keys, target.metric, p, ODD) for p in present}
    means = {p: m for p, m in means.items() if m}
    if not means:
        yield Verdict(target, "-", None)
        return
    peer = min(means, key=means.get)
    figure = (mean_over(figures, keys, target.metric, ALLOD, EVEN)
              / mean_over(figures, keys, target.metric, peer, EVEN))
    margin = distance_from_itself(figures, keys, target.metric)
    yield Verdict(target, "%d cases" % len(keys), figure, margin, named(peer))


def at_most(target, figures):
    for key in target.expected(figures):
        yield Verdict(target, key[1], figures.median(key, ALLOD, target.metric))


def above_glibc(target, figures):
    for key in target.expected(figures):
        own = figures.median(key, ALLOD, target.metric)
        base = figures.median(key, GLIBC, target.metric)
        figure = own - base if own is not None and base is not None else None
        yield Verdict(target, key[1], figure)


def how_many_times(target, figures, key, other, rounds):
    """How many times faster allod is than another subject."""
    own = figures.median(key, ALLOD, target.metric, rounds)
    base = figures.median(key, other, target.metric, rounds) if other else None
    figure = base / own if own and base is not None else None
    margin = distance_from_itself(figures, [key], target.metric)
    return Verdict(target, key[1], figure, margin, named(other), at_least=True)


def times_faster(target, figures):
    for key in target.expected(figures):
        yield how_many_times(target, figures, key, target.base, None)


def faster_than_fastest(target, figures):
    for key in target.expected(figures):
        ranking = figures.ranking(key, target.metric, PEERS, ODD)
        yield how_many_times(target, figures, key, ranking[0] if ranking else None, EVEN)


def improvement(target, figures):
    """In percent over glibc. What is beyond the confidence interval of its mean is missed."""
    for key in target.expected(figures):
        found = figures.improvement(key, target.metric, ALLOD, GLIBC)
        verdict = Verdict(target, key[1], found and found[0], against="against glibc",
                          at_least=True)
        verdict.tolerance = found[1] if found else 0.0
        yield verdict


def flat(target, figures):
    keys = target.keys(figures)
    values = [figures.median(k, ALLOD, target.metric) for k in keys]
    values = [v for v in values if v is not None]
    is_whole = len(values) == len(keys) > 1 and min(values) > 0
    yield Verdict(target, "%d cases" % len(keys), max(values) / min(values) if is_whole else None)


RULES = {"times-fastest": times_fastest, "times-leanest": times_leanest,
         "mean-times-fastest": mean_times_fastest, "at-most": at_most,
         "above-glibc": above_glibc, "times-faster": times_faster,
         "faster-than-fastest": faster_than_fastest, "flat": flat,
         "improvement": improvement}


def check(path, figures, is_whole, suites):
    """Prints each target of the suites with its figure; returns how many are missed. In a whole
    run, what was not measured is missed too."""
    missed = 0
    print("\ntargets of %s" % path)
    for target in read(path):
        if not set(target.suites) & set(suites):
            continue
        verdicts = list(RULES[target.rule](target, figures)) or [Verdict(target, "-", None)]
        for verdict in verdicts:
            missed += verdict.is_missed or (is_whole and verdict.figure is None)
            print(verdict.line())
    print("%d missed" % missed)
    return missed
