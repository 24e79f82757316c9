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
               if n == 64000 else {}) for n in ELEMENTS]
CASES += [Case("threads", "%s-%dt" % (name, threads), storages(threads, size, 5),
               quick=storages(threads, size, 1) if threads == 64 else {})
          for size, name in STORAGE for threads in THREADS]

# Pools: the processors that are possible, of which two are used.
POSSIBLE = (2, 64, 512)
ORDERS = (("in-order", 0), ("alternating", 1), ("reversed", 2))
OBJECTS = (("4", 4, 4), ("16", 16, 0), ("64", 64, 0), ("128", 128, 0), ("1K", 1024, 0),
           ("4-by-8", 4, 8))
STEADY = (("undefined", 0, 1), ("zeroed", 1, 1), ("zeroed-untouched", 2, 1), ("robust", 3, 1),
          ("undefined-2t", 0, 2))
CONTENTS = (("zero", 0), ("equal", 1), ("different", 2))


def pool(suite, name, line, quick="", rounds=None):
    """A case that only allod has; with `quick`, also in quick runs."""
    return Case(suite, name, {ALLOD: line}, quick={ALLOD: quick or line} if quick is not None
                else {}, rounds=rounds)


CASES += [pool("zhou", "%s-%s-%d" % (name, order, cpus),
               "percpu_zhou %d %d %d %d" % (cpus, size, align, number),
               quick="" if cpus == 512 else None)
          for name, size, align in OBJECTS for order, number in ORDERS for cpus in POSSIBLE]
CASES += [pool("steady", "%s-%d" % (name, cpus),
               "percpu_steady %d %d %d 5000000" % (cpus, kind, threads),
               quick="percpu_steady %d %d %d 1000000" % (cpus, kind, threads))
          for name, kind, threads in STEADY for cpus in POSSIBLE]
CASES += [pool("churn", "churn", "percpu_churn 100000 2000000", quick="percpu_churn 100000 500000")]
CASES += [pool("memory", "%s-%d" % (name, cpus), "percpu_memory %d %d 1" % (cpus, kind))
          for name, kind in CONTENTS for cpus in POSSIBLE]
CASES += [pool("memory", "1000-pools-512", "percpu_memory 512 0 1000"),
          pool("memory", "1000-pools-equal-512", "percpu_memory 512 1 1000")]
CASES += [pool("fork", "1M-%d" % cpus, "percpu_fork %d 1000000" % cpus) for cpus in (2, 512)]
CASES += [pool("lost", "lost", "percpu_lost 8 1000000", quick="percpu_lost 8 200000", rounds=1)]
