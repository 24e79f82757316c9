# SPDX-License-Identifier: MIT
"""Progress on stderr and tables on stdout."""
import math
import sys

import subjects
from figures import UNITS, geometric_mean


class Progress:
    """Says on stderr what is going on: in place on a terminal, else a line a case."""

    def __init__(self):
        self.is_terminal = sys.stderr.isatty()
        self.case = None

    def show(self, case, text):
        if self.is_terminal:
            sys.stderr.write("\r\033[K%s: %s" % (case, text))
        elif case != self.case:
            sys.stderr.write("bench: %s\n" % case)
        self.case = case
        sys.stderr.flush()

    def clear(self):
        if self.is_terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def span_ns(value):
    for limit, divisor, name in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
        if value < limit:
            return "%.*f %s" % (0 if value >= 100 * divisor else 1, value / divisor, name)
    return "%.2f s" % (value / 1e9)


def amount(value, unit):
    """A figure as people read it, in at most 8 characters."""
    if value is None:
        return "-"
    if unit == "s":
        return "%.0f us" % (value * 1e6) if value < 0.01 else "%.0f ms" % (value * 1e3)
    if unit == "ns":
        return span_ns(value)
    if unit == "bytes":
        return "%.2f MiB" % (value / 2**20) if value < 10 * 2**20 else "%.0f MiB" % (value / 2**20)
    if unit == "count":
        return "%.0f" % value if value < 1e5 else "%.0f k" % (value / 1e3)
    return "%.2f" % value


def print_row(label, cells, second=""):
    print("%-26s%10s" % (label, second) + "".join("%12s" % c for c in cells))


def print_ratios(figures, title, metric, suites=None):
    """Each subject over the best of the packaged peers, and the geometric mean of the rows in
    which all peers have a figure."""
    keys = figures.keys(metric, suites)
    names = figures.subjects()
    if not keys:
        return
    unit = UNITS.get(metric, "")
    print("\n%s: over the best peer" % title)
    print_row("", names, "best")
    columns = {name: [] for name in names}
    for key in keys:
        best = figures.ranking(key, metric, subjects.PEERS)
        least = figures.median(key, best[0], metric) if best else None
        values = [figures.median(key, n, metric) for n in names]
        ratios = [v / least if v is not None and least else math.nan for v in values]
        print_row(key[1], ["-" if math.isnan(r) else "%.2f" % r for r in ratios],
                  amount(least, unit))
        if not any(math.isnan(r) or r == 0 for r in ratios):
            for name, value in zip(names, ratios):
                columns[name].append(value)
    count = len(columns[names[0]])
    if count > 1:
        print_row("geometric mean of %d rows" % count,
                  ["%.2f" % geometric_mean(columns[n]) for n in names])


def print_amounts(figures, title, metric, suites=None):
    """Of each subject that has any of them."""
    keys = figures.keys(metric, suites)
    names = [n for n in figures.subjects()
             if any(figures.median(k, n, metric) is not None for k in keys)]
    if not keys:
        return
    print("\n%s" % title)
    print_row("", names)
    for key in keys:
        print_row(key[1], [amount(figures.median(key, n, metric), UNITS.get(metric, ""))
                           for n in names])


def print_all_amounts(figures, rows):
    """The machine, and a table for each (title, suite, metric)."""
    print_machine(figures)
    for title, suite, metric in rows:
        print_amounts(figures, title, metric, (suite,))


def print_improvements(figures, suite, name, base):
    """By how much a subject is better than another, with how far that may be off."""
    keys = figures.keys("cpu", (suite,))
    rows = [(key, [figures.improvement(key, m, name, base) for m in ("cpu", "wall")])
            for key in keys]
    if not any(any(found) for _, found in rows):
        return
    print("\nimprovement of %s over %s, in percent, at a confidence of 95 %%" % (name, base))
    print_row("", ["CPU time", "elapsed"])
    for key, found in rows:
        print_row(key[1], ["%+.1f ±%.1f" % f if f else "-" for f in found])


def print_machine(figures):
    print(", ".join("%s: %s" % item for item in figures.machine.items()))


def print_failures(figures):
    """A line for each subject and reason, with all its cases."""
    cases = {}
    for (key, subject), reason in figures.failures.items():
        cases.setdefault((subject, reason), []).append(key[1])
    if cases:
        print()
    for (subject, reason), names in cases.items():
        print("%s: FAILED in %s: %s" % (subject, ", ".join(names), reason))
