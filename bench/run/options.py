# SPDX-License-Identifier: MIT
"""The options of ./dev bench, and the machine's description."""
import argparse
import os
import platform
import re

import subjects


def parse(kind):
    """The options of a suite (a class derived from session.Benchmark)."""
    parser = argparse.ArgumentParser(prog="dev bench " + kind.name, description=kind.description)
    parser.add_argument("--only", action="append", default=[], metavar="CASE",
                        help="only cases whose suite/name contains this (may be repeated)")
    parser.add_argument("--rounds", type=int, metavar="N",
                        help="rounds of each case (default: %d)" % kind.rounds)
    parser.add_argument("--quick", action="store_true", help=kind.quick_help)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH",
                        help="one more allocator, a library to preload (may be repeated)")
    parser.add_argument("--json", action="store_true", help="print JSON lines, not tables")
    parser.add_argument("--check", action="store_true",
                        help="compare with bench/targets.tsv; exit 1 while a target is missed")
    parser.add_argument("--last", action="store_true",
                        help="measure nothing: show (and check) the last run's figures")
    parser.add_argument("--list", action="store_true", help="print the cases")
    kind.add_options(parser)
    args = parser.parse_args()
    if args.rounds is None:
        args.rounds = kind.quick_rounds if args.quick else kind.rounds
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        args.peers = [subjects.given(text) for text in args.peer]
    except ValueError as error:
        parser.error(str(error))
    return args


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*:\s*(.*)", file.read())
    # Beyond a tenth of a processor, other programs were running: the times are not to be trusted.
    load = os.getloadavg()[0]
    busy = " (busy: compare ratios, not times)" if load > 0.1 * os.cpu_count() else ""
    return {"cpu": model.group(1) if model else platform.machine(), "cpus": str(os.cpu_count()),
            "kernel": platform.release(), "libc": " ".join(platform.libc_ver()),
            "load at the start": "%.2f%s" % (load, busy)}
