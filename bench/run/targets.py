# SPDX-License-Identifier: MIT
"""Compares the figures of a run with bench/targets.tsv."""
from rules import RULES
from verdicts import Target, Verdict


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [Target(line) for line in lines if line.strip() and not line.startswith("#")]


def check(path, figures, is_whole, program, suites):
    """Prints each target of the program's suites with its figure; returns how many are missed. In a whole
    run, what was not measured is missed too."""
    missed = 0
    print("\ntargets of %s" % path)
    for target in read(path):
        if not target.is_for(program, suites):
            continue
        verdicts = list(RULES[target.rule](target, figures)) or [Verdict(target, "-", None)]
        for verdict in verdicts:
            missed += verdict.is_missed or (is_whole and verdict.figure is None)
            print(verdict.line())
    print("%d missed" % missed)
    return missed
