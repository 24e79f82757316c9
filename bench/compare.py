# SPDX-License-Identifier: MIT
"""compare.py PROGRAM RESULTS LIBRARY...: runs PROGRAM on the system's malloc and on each LIBRARY.

The sides take turns, each round in another order, so that a machine that speeds up or slows down
does so for all. Prints medians and their ratio to the system's, and writes one JSON object a
pattern and side to RESULTS, with every sample and the machine's name.
"""
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

ROUNDS = int(os.environ.get("ROUNDS", "7"))


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*:\s*(.*)", file.read())
    return {"cpu": model.group(1) if model else platform.machine(), "cpus": os.cpu_count(),
            "kernel": platform.release(), "libc": " ".join(platform.libc_ver())}


def run_once(program, library):
    """{pattern: nanoseconds} of one run."""
    env = dict(os.environ)
    env.pop("LD_PRELOAD", None)
    if library:
        env["LD_PRELOAD"] = os.path.abspath(library)
    result = subprocess.run([program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, check=False)
    # The loader only warns about a library that it cannot load: the figures would be another's.
    if result.returncode != 0 or result.stderr:
        sys.exit(f"bench: {library or 'system'}: ends with {result.returncode}\n{result.stderr}")
    return {name: float(ns) for name, ns in map(str.split, result.stdout.splitlines())}


def measure(program, sides):
    """{side: {pattern: [nanoseconds]}}"""
    samples = {side: {} for side in sides}
    for number in range(ROUNDS):
        order = list(sides)[number % len(sides):] + list(sides)[:number % len(sides)]
        for side in order:
            for pattern, ns in run_once(program, sides[side]).items():
                samples[side].setdefault(pattern, []).append(ns)
        print(f"\rround {number + 1} of {ROUNDS}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return samples


def spread_pct(values):
    """Half the distance of the quartiles, in percent of the median."""
    low, _, high = statistics.quantiles(values, n=4)
    return 50 * (high - low) / statistics.median(values)


def print_table(samples):
    names = list(samples)
    print("ns per operation, median of %d rounds; in brackets half the quartile distance" % ROUNDS)
    print(f"{'':10}" + "".join(f"{side:>16}" for side in names)
          + "".join(f"{side + '/system':>18}" for side in names[1:]))
    for pattern, base in samples["system"].items():
        cells = [samples[side][pattern] for side in names]
        print(f"{pattern:10}"
              + "".join(f"{statistics.median(c):9.1f} (±{spread_pct(c):2.0f}%)" for c in cells)
              + "".join(f"{statistics.median(c) / statistics.median(base):18.2f}" for c in cells[1:]))


def main():
    program, results, *libraries = sys.argv[1:]
    sides = {"system": None}
    for library in libraries:
        name = re.sub(r"^lib|[-.].*$", "", os.path.basename(library))
        sides[name] = library
    samples = measure(program, sides)
    about = machine()
    with open(results, "a", encoding="utf-8") as file:
        for side, patterns in samples.items():
            for pattern, values in patterns.items():
                file.write(json.dumps({
                    "schema": "allod.bench/1", "time": int(time.time()), "machine": about,
                    "side": side, "pattern": pattern, "median_ns": statistics.median(values),
                    "spread_pct": round(spread_pct(values), 1), "samples_ns": values}) + "\n")
    print(", ".join(str(v) for v in about.values()))
    print_table(samples)
    print(f"all samples: {results}")


main()
