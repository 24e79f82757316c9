# SPDX-License-Identifier: MIT
"""The figures of a run: samples by case, subject and metric, and what is made of them.

Every sample is kept with the number of its round, because the best peer is chosen on odd rounds and
compared on even ones: the best of several noisy figures is too good, and would be chosen for that.
"""
import json
import math
import statistics

from subjects import AGAIN, ALLOD, PEERS

UNITS = {"cpu": "s", "wall": "s", "peak": "bytes", "faults": "count", "syscalls": "count",
         "instructions": "instructions/pair", "resident_after_idle": "bytes", "live": "bytes",
         "resident_beyond_live": "bytes", "resident_over_live": "ratio", "peak_over_live": "ratio",
         "faults_over_pages": "ratio", "resident": "bytes", "start": "s"}


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def spread(values):
    """The median distance from the median, as a part of it."""
    middle = statistics.median(values)
    return statistics.median(abs(v - middle) for v in values) / middle if middle else 0.0


# Student's t for a confidence of 95 %, by degrees of freedom; beyond, as for very many.
T_95 = (math.inf, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16,
        2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05,
        2.05)


def mean_and_margin(values):
    """The mean, and how far it may be off at a confidence of 95 %."""
    if len(values) < 2:
        return (values[0] if values else math.nan), math.inf
    degrees = len(values) - 1
    factor = T_95[degrees] if degrees < len(T_95) else 1.96
    return (statistics.fmean(values),
            factor * statistics.stdev(values) / math.sqrt(len(values)))


class Figures:
    """{(suite, case): {subject: {metric: {round: value}}}}, and what went wrong."""

    def __init__(self):
        self.cases = {}
        self.failures = {}
        self.machine = {}

    def add(self, key, subject, number, sample):
        metrics = self.cases.setdefault(key, {}).setdefault(subject, {})
        for metric, value in sample.items():
            metrics.setdefault(metric, {})[number] = value

    def add_sample(self, key, subject, number, sample):
        """A sample of one case; a metric called CASE/METRIC is that of another case of the suite,
        for programs that measure several."""
        for name, value in sample.items():
            case, slash, metric = name.rpartition("/")
            self.add((key[0], case) if slash else key, subject, number, {metric: value})

    def fail(self, key, subject, reason):
        self.failures[key, subject] = reason
        self.cases.get(key, {}).pop(subject, None)

    def rounds(self, key, subject, metric):
        return self.cases.get(key, {}).get(subject, {}).get(metric, {})

    def median(self, key, subject, metric, rounds=None):
        """Of all rounds, or of the odd (1) or even (0) ones; None if there is none. Rounds count
        from 1. If a thing was measured once only, that figure stands for every round."""
        samples = self.rounds(key, subject, metric)
        if len(samples) == 1:
            rounds = None
        values = [v for n, v in samples.items() if rounds is None or n % 2 == rounds]
        return statistics.median(values) if values else None

    def improvement(self, key, metric, name, base):
        """By how many percent a subject is better than another, round by round: the mean, and how
        far it may be off at a confidence of 95 %; None if there is none."""
        own, other = self.rounds(key, name, metric), self.rounds(key, base, metric)
        values = [100 * (1 - own[n] / other[n]) for n in own if other.get(n)]
        return mean_and_margin(values) if values else None

    def keys(self, metric, suites=None):
        return [key for key, subjects in self.cases.items()
                if (suites is None or key[0] in suites)
                and any(metric in metrics for metrics in subjects.values())]

    def subjects(self):
        """All names: allod, its peers, then those given."""
        names = {name for by_subject in self.cases.values() for name in by_subject}
        known = [n for n in (ALLOD, AGAIN) + PEERS if n in names]
        return known + sorted(names - set(known))

    def ranking(self, key, metric, names, rounds=None):
        """Those of the named subjects that have a figure, the smallest first."""
        found = [(self.median(key, n, metric, rounds), n) for n in names]
        return [name for value, name in sorted(f for f in found if f[0] is not None)]

    def write(self, out):
        """JSON lines: first the machine, then a line for each metric."""
        for name, value in self.machine.items():
            print(json.dumps({"suite": "machine", "case": "machine", "subject": "machine",
                              "metric": name, "value": value, "unit": "text"}), file=out)
        for (suite, case), by_subject in self.cases.items():
            for subject, metrics in by_subject.items():
                for metric, samples in metrics.items():
                    values = list(samples.values())
                    print(json.dumps({
                        "suite": suite, "case": case, "subject": subject, "metric": metric,
                        "value": statistics.median(values), "unit": UNITS.get(metric, ""),
                        "spread": round(spread(values), 4), "samples": samples}), file=out)
        for ((suite, case), subject), reason in self.failures.items():
            print(json.dumps({"suite": suite, "case": case, "subject": subject,
                              "metric": "failure", "value": reason, "unit": "text"}), file=out)


def read(path):
    """The figures that write() wrote; raises OSError or ValueError."""
    figures = Figures()
    with open(path, encoding="utf-8") as source:
        for line in map(json.loads, source):
            key = line["suite"], line["case"]
            if line["suite"] == "machine":
                figures.machine[line["metric"]] = line["value"]
            elif line["metric"] == "failure":
                figures.failures[key, line["subject"]] = line["value"]
            else:
                for number, value in line["samples"].items():
                    figures.add(key, line["subject"], int(number), {line["metric"]: value})
    return figures
