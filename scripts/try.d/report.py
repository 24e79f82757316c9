# SPDX-License-Identifier: MIT
"""Progress on stderr, the table on stdout, and lines of JSON.

A figure is the median of the rounds; the spread is half the distance between the smallest and the
largest of them, in per cent of the median, of the subject where it is larger.
"""
import json
import math
import statistics
import sys

# metric: label, unit of the JSON lines, how a value is shown
METRICS = {
    "cpu_time": ("CPU time", "s", lambda v: "%.2f s" % v),
    "elapsed": ("elapsed time", "s", lambda v: "%.2f s" % v),
    "peak_memory": ("peak memory", "bytes", lambda v: "%.1f MiB" % (v / 1048576)),
    "page_faults": ("page faults", "count", lambda v: "%.1f k" % (v / 1000)),
    "idle_memory": ("after idle", "bytes", lambda v: "%.1f MiB" % (v / 1048576)),
}
ROW = "%-14s %-13s %12s %12s %7s %7s"


class Progress:
    """Says on stderr what is going on: in place on a terminal, else a line a case."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.case = None

    def show(self, case, text):
        if self.terminal:
            sys.stderr.write("\r\033[K%s: %s" % (case, text))
        elif case != self.case:
            sys.stderr.write("try: running %s\n" % case)
        self.case = case
        sys.stderr.flush()

    def clear(self):
        if self.terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def median(samples, metric):
    return statistics.median(s[metric] for s in samples)


def spread_pct(samples, metric):
    values = [s[metric] for s in samples]
    middle = statistics.median(values)
    return 50.0 * (max(values) - min(values)) / middle if middle else 0.0


def ratio(results, metric):
    base = median(results["system"], metric)
    return median(results["allod"], metric) / base if base else math.nan


def print_header(rounds):
    print("Each program runs on the system's malloc and on allod, %d times in turn; medians.\n"
          "Ratio: allod / system; below 1.00 allod needs less.\n" % rounds)
    print(ROW % ("program", "", "system", "allod", "ratio", "spread"))
    print("-" * 70, flush=True)


def print_case(case, results):
    """The rows of one program."""
    name = case.name
    for metric, (label, _, show) in METRICS.items():
        if metric not in results["allod"][0]:
            continue
        spread = max(spread_pct(results[s], metric) for s in ("system", "allod"))
        print(ROW % (name, label, show(median(results["system"], metric)),
                     show(median(results["allod"], metric)), "%.2f" % ratio(results, metric),
                     "±%.0f %%" % spread))
        name = ""
    for subject in results:
        if subject not in ("system", "allod"):
            figures = ["%s %s" % (METRICS[m][0], METRICS[m][2](median(results[subject], m)))
                       for m in METRICS if m in results[subject][0]]
            print("  on %s: %s,\n    %s" % (subject, ", ".join(figures[:3]),
                                          ", ".join(figures[3:])))
    for note in case.notes:
        print("  note: " + note.replace("; ", ";\n    ", 1))
    sys.stdout.flush()


def print_means(all_results):
    """One line over all programs: geometric means of the ratios."""
    parts = []
    for metric, (label, _, _) in METRICS.items():
        ratios = [ratio(r, metric) for r in all_results if metric in r["allod"][0]]
        ratios = [r for r in ratios if r > 0]
        if ratios:
            mean = math.exp(sum(math.log(r) for r in ratios) / len(ratios))
            parts.append("%s %.2f" % (label, mean))
    if parts:
        print("-" * 70)
        print("geometric means of the ratios:\n  " + ", ".join(parts))


def write_json(path, outcomes):
    """One line for each program, subject and metric."""
    with open(path, "w", encoding="utf-8") as out:
        for case, results in outcomes:
            for subject, samples in results.items():
                for metric in samples[0]:
                    line = {"suite": "try", "case": case.name, "subject": subject,
                            "metric": metric, "value": median(samples, metric),
                            "unit": METRICS[metric][1], "rounds": len(samples),
                            "spread_pct": round(spread_pct(samples, metric), 1)}
                    out.write(json.dumps(line) + "\n")
