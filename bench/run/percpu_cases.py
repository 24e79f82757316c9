# SPDX-License-Identifier: MIT
"""What ./dev bench percpu runs: programs of bench/workloads with their arguments.

A case has a command line for each subject; a program may report several metrics. The subject allod
is the one that targets speak of.
"""
from subjects import ALLOD

# Operations beside what programs do instead.
INSTEAD = ("tls", "atomic", "lock", "getcpu", "cpu-atomic")
OPERATIONS = ("add-in", "add-cid", "add32", "add-return", "xchg", "cmpxchg", "pair", "push-pop",
              "ring", "counter", "counter-near")
ELEMENTS = (1000, 4000, 16000, 64000, 256000)
THREADS = (1, 8, 64, 512)
STORAGE = ((1024, "1K"), (16384, "16K"), (131072, "128K"), (1048576, "1M"))


class Case:
    """A case of a suite: what each subject runs, in a whole run and in a quick one."""

    def __init__(self, suite, name, lines, quick=None, rounds=None):
        self.key = suite, name
        self.lines = {subject: line.split() for subject, line in lines.items()}
        self.quick = self.lines if quick is None else \
            {subject: line.split() for subject, line in quick.items()}
        self.rounds = rounds    # None: as the run has


def operations(threads, count, names):
    lines = {ALLOD: "percpu_ops add %d %d" % (count, threads)}
    lines.update((name, "percpu_ops %s %d %d" % (name, count, threads)) for name in names)
    return lines


def layouts(elements, count):
    return {name: "percpu_sharing %s %d %d" % (layout, elements, count)
            for name, layout in ((ALLOD, "pool"), ("packed", "packed"), ("padded", "padded"))}


def storages(threads, size, rounds):
    return {name: "percpu_threads_%s_%d %d %d" % (kind, size, threads, rounds)
            for name, kind in ((ALLOD, "percpu"), ("tls", "tls"))}


CASES = [
    Case("ops", "1t", operations(1, 10000000, INSTEAD + OPERATIONS),
         quick=operations(1, 2000000, INSTEAD)),
    Case("ops", "2t", operations(2, 5000000, INSTEAD + OPERATIONS),
         quick=operations(2, 1000000, INSTEAD)),
]
CASES += [Case("sharing", str(n), layouts(n, 400000), quick=layouts(n, 100000)
               if n in (1000, 64000) else {}) for n in ELEMENTS]
CASES += [Case("threads", "%s-%dt" % (name, threads), storages(threads, size, 5),
               quick=storages(threads, size, 1) if threads == 64 else {})
          for size, name in STORAGE for threads in THREADS]
