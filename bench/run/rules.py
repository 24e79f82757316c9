# SPDX-License-Identifier: MIT
"""The rules of bench/targets.tsv: each yields a verdict for each of a target's cases.

A ratio to the best peer: the peer is chosen on the odd rounds and compared on the even ones, and it
is missed only beyond the distance of allod from itself, which runs twice in every round.
"""
import statistics

from figures import geometric_mean
from subjects import AGAIN, ALLOD, GLIBC, PEERS
from verdicts import Verdict

ODD, EVEN = 1, 0


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


def at_least(target, figures):
    for key in target.expected(figures):
        yield Verdict(target, key[1], figures.median(key, ALLOD, target.metric), at_least=True)


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
    """The largest over the smallest of several cases. A case counts by how far it is from the mean
    of all in the same round, in the median over the rounds: the machine's own speed changes."""
    keys = target.keys(figures)
    samples = [figures.rounds(k, ALLOD, target.metric) for k in keys]
    common = set.intersection(*map(set, samples)) if samples else set()
    is_whole = len(keys) > 1 and common and all(s[n] > 0 for s in samples for n in common)
    figure = None
    if is_whole:
        means = {n: geometric_mean([s[n] for s in samples]) for n in common}
        values = [statistics.median(s[n] / means[n] for n in common) for s in samples]
        figure = max(values) / min(values)
    yield Verdict(target, "%d cases" % len(keys), figure)


def at_most_or(target, figures):
    """Its limit, or so many times the figure of another subject: `at-most-or:NAME=TIMES`. The figure
    shown is the better of the two, the second brought to the scale of the limit."""
    name, _, times = target.base.partition("=")
    for key in target.expected(figures):
        own = figures.median(key, ALLOD, target.metric)
        other = figures.median(key, name, target.metric)
        figure, against = own, ""
        if own is not None and other and own / other / float(times) * target.limit < own:
            figure = own / other / float(times) * target.limit
            against = "%.2f, %.1f times %s" % (own, own / other, name)
        yield Verdict(target, key[1], figure, against=against)


RULES = {"times-fastest": times_fastest, "times-leanest": times_leanest,
         "mean-times-fastest": mean_times_fastest, "at-most": at_most, "at-least": at_least,
         "above-glibc": above_glibc, "times-faster": times_faster,
         "faster-than-fastest": faster_than_fastest, "flat": flat,
         "improvement": improvement, "at-most-or": at_most_or}
