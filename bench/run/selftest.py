# SPDX-License-Identifier: MIT
"""Checks how figures are kept and judged, on some made up for it. Prints TAP."""
import io
import os
import re
import sys
import tempfile
import xml.dom.minidom

sys.dont_write_bytecode = True

import counts  # noqa: E402
import figures as figures_module  # noqa: E402
import heap  # noqa: E402
import page  # noqa: E402
import percpu  # noqa: E402
import plot  # noqa: E402
import rules  # noqa: E402
import selftest_rules  # noqa: E402
import targets  # noqa: E402
import verdicts  # noqa: E402
from selftest_rules import KEY, LINE, made_up  # noqa: E402

PROGRAMS = (heap.Heap, page.Page, percpu.Percpu)
NAMES = [""] + [kind.name for kind in PROGRAMS]


def a_named_case_that_was_not_measured_is_listed():
    target = verdicts.Target(LINE.replace("*", "made-up,gone,x-*") % ("at-most", "9"))
    found = {v.case: v.figure for v in rules.at_most(target, made_up(allod=[1, 1]))}
    return found == {"made-up": 1, "gone": None, "x-*": None}


def not_measured_is_missed_in_a_whole_run():
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.write(LINE % ("times-fastest", "1.1"))
        file.flush()
        kept, sys.stdout = sys.stdout, io.StringIO()
        try:
            nothing = figures_module.Figures()
            return (targets.check(file.name, nothing, True, "heap", ["time"]) == 1
                    and targets.check(file.name, nothing, False, "heap", ["time"]) == 0
                    and targets.check(file.name, nothing, True, "heap", ["memory"]) == 0)
        finally:
            sys.stdout = kept


def suites_of_one_name_have_targets_of_their_own():
    """A target that names its program is not missed by a whole run of another."""
    named = verdicts.Target(LINE.replace("time", "heap:time,memory") % ("at-most", "1"))
    return (named.is_for("heap", ["memory"]) and not named.is_for("percpu", ["memory"])
            and not named.is_for("heap", ["start"]))


def shipped_targets_name_their_program_where_they_must():
    suites = [s for kind in PROGRAMS for s in kind.suites]
    shared = {s for s in suites if suites.count(s) > 1}
    return all(t.program in NAMES and (t.program or shared.isdisjoint(t.suites))
               for t in shipped())


def a_program_may_measure_several_cases():
    figures = figures_module.Figures()
    figures.add_sample(KEY, "allod", 1, {"cpu": 1, "4K/each": 2})
    return (figures.median(KEY, "allod", "cpu") == 1
            and figures.median((KEY[0], "4K"), "allod", "each") == 2)


def figures_survive_their_file():
    figures = made_up(allod=[1, 2, 3], glibc=[3, 4, 5])
    figures.fail(KEY, "scudo", "signal 6")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "lines")
        with open(path, "w", encoding="utf-8") as out:
            figures.write(out)
        back = figures_module.read(path)
    return back.cases == figures.cases and back.failures == figures.failures


def figures_are_drawn():
    """Each chart is well-formed, with a line for each subject; table 1 compares four sizes."""
    figures = figures_module.Figures()
    for index, size in enumerate(("16K", "1M", "16M", "1G")):
        figures.add(("fault", size), "allod", 1, {"page": 5})
        figures.add(("fault", size), "mmap", 1, {"page": 500 + index})
    drawn = plot.page(figures)
    charts = re.findall("<svg.*?</svg>", drawn, flags=re.DOTALL)
    lines = [len(xml.dom.minidom.parseString(c).getElementsByTagName("polyline")) for c in charts]
    return lines == [2] and "<td>2847</td>" in drawn and "<td>101</td>" in drawn


def waiting_is_no_call_of_the_allocators():
    lines = ["% time     seconds  usecs/call     calls    errors syscall",
             " 50.00    0.000010           1        10           mmap",
             " 30.00    0.000010           1       900         3 futex",
             " 20.00    0.000010           1         5         5 access",
             "100.00    0.000030           1       915         8 total"]
    return counts.total_of(lines) == 15


def shipped():
    here = os.path.dirname(os.path.abspath(__file__))
    return targets.read(os.path.join(here, "..", "targets.tsv"))


def shipped_targets_are_understood():
    return len(shipped()) > 10 and all(t.rule in rules.RULES for t in shipped())


TESTS = selftest_rules.TESTS + (
    a_named_case_that_was_not_measured_is_listed, not_measured_is_missed_in_a_whole_run,
    suites_of_one_name_have_targets_of_their_own,
    shipped_targets_name_their_program_where_they_must,
    a_program_may_measure_several_cases, figures_survive_their_file, figures_are_drawn,
    waiting_is_no_call_of_the_allocators, shipped_targets_are_understood)


def main():
    print("1..%d" % len(TESTS))
    failed = 0
    for number, test in enumerate(TESTS, 1):
        passed = test()
        failed += not passed
        print("%s %d - %s" % ("ok" if passed else "not ok", number, test.__name__))
    return 1 if failed else 0


sys.exit(main())
