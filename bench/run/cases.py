# SPDX-License-Identifier: MIT
"""What is measured: the workloads of bench/workloads with their arguments.

A case of the suite "time" takes 0.1 to 1 s on glibc's malloc; one of the suite "memory" is about
what it reports of itself, sleeps most of the time, and so may run beside others.
"""


class Case:
    """One workload with its arguments."""

    def __init__(self, suite, name, *argv, quick=None, env=None, counted=None):
        self.suite = suite
        self.name = name
        self.argv = argv
        self.quick = quick      # arguments for --quick; None: the case is not part of it
        self.env = env or {}    # of allod only: others do not know it
        self.counted = counted  # (argument to scale, its small and large value, pairs in one)

    def arguments(self, is_quick):
        return list(self.quick if is_quick and self.quick else self.argv)


def time(name, line, quick=None, **more):
    return Case("time", name, *line.split(), quick=quick and quick.split(), **more)


def memory(name, line, **more):
    return Case("memory", name, *line.split(), **more)


TIME = [
    time("pairs-64", "pairs 200000", quick="pairs 30000", counted=(1, 1000, 3000, 100)),
    time("batch-fifo", "batch fifo 1000 64 20000", quick="batch fifo 1000 64 4000",
         counted=(4, 50, 150, 1000)),
    time("batch-lifo", "batch lifo 1000 64 20000", quick="batch lifo 1000 64 4000",
         counted=(4, 50, 150, 1000)),
    time("batch-mixed-100k", "batch mixed 100000 48 20"),
    time("mixed-500B-1k", "mixed 1 1000 12000000 16 500 even", quick="mixed 1 1000 2000000 16 500",
         counted=(3, 100000, 300000, 1)),
    time("mixed-500B-100k", "mixed 1 100000 3000000 16 500 even",
         quick="mixed 1 100000 600000 16 500"),
    time("mixed-500B-1M", "mixed 1 1000000 1000000 16 500 even"),
    time("mixed-8K-1k", "mixed 1 1000 8000000 16 8k log", quick="mixed 1 1000 1500000 16 8k log",
         counted=(3, 100000, 300000, 1)),
    time("mixed-8K-10k", "mixed 1 10000 4000000 16 8k log"),
    time("mixed-500B-1k-2t", "mixed 2 1000 16000000 16 500 even",
         quick="mixed 2 1000 3000000 16 500"),
    time("mixed-8K-20k-2t", "mixed 2 20000 3000000 16 8k log"),
    time("many-threads", "mixed 64 32000 6000000 16 1k log"),
    time("larson-1", "larson 1 2000 16 500 60 150000"),
    time("larson-2", "larson 2 2000 16 500 40 100000", quick="larson 2 2000 16 500 10 50000"),
    time("handover-1", "handover 1 40000 16 500", quick="handover 1 5000 16 500"),
    time("handover-4", "handover 4 4000 16 2k"),
    time("exchange-2t", "exchange 2 10000 4000000 16 500", quick="exchange 2 10000 800000 16 500"),
    time("sharing-active", "sharing active 2 400000 400 8"),
    time("sharing-passive", "sharing passive 2 400000 400 8"),
    time("phases", "phases 3 16m 20"),
    time("short-threads", "threads 1000 2 200 1000", quick="threads 300 2 200 1000"),
    time("short-threads-left", "threads 600 2 1000 4"),
    time("bursts", "burst 4m 16m 40 5 500 0 0"),
    time("growth-small", "growth 64 16 16k 50 6000000", quick="growth 64 16 16k 50 800000"),
    time("growth-append", "growth 16 16 4k 0 8000000"),
    time("growth-large", "growth 2 64k 16m 12 1000"),
    time("aligned", "aligned 2000 4000000 16 512 1k", quick="aligned 2000 500000 16 512 1k"),
    time("aligned-over", "aligned 200 100000 4k 256k 8k"),
    time("zeroed-small", "zeroed 2000 6000000 16 1k", quick="zeroed 2000 800000 16 1k"),
    time("zeroed-large", "zeroed 100 40000 4k 256k"),
    time("big-32K-1M", "mixed 1 20 15000 32k 1m log"),
    time("big-1M-8M", "mixed 1 10 600 1m 8m log"),
    time("tree", "tree 16 60", quick="tree 14 20", counted=(2, 4, 12, 61439)),
    time("tokens", "tokens 20 8000", quick="tokens 3 8000"),
    time("fragment", "fragment 16m 12 2 0"),
]

MEMORY = [
    memory("stopped-producer", "stopped 64m 2"),
    memory("idle-owner", "idle_owner 256m 2000"),
    memory("survivors", "survivors 400m 20 2000"),
    memory("burst-idle", "burst 16m 256m 1 0 5000 0 0", env={"ALLOD_CONF": "background:auto"}),
    memory("burst-idle-no-background", "burst 16m 256m 1 0 5000 1m 1",
           env={"ALLOD_CONF": "background:off"}),
    memory("burst-idle-no-background-medium", "burst 16m 256m 1 0 5000 5000 1",
           env={"ALLOD_CONF": "background:off"}),
    memory("burst-idle-no-background-small", "burst 16m 256m 1 0 5000 64 64",
           env={"ALLOD_CONF": "background:off"}),
    memory("alternate", "alternate 32m 20 64 2048"),
    memory("shifting-sizes", "fragment 64m 12 8 1000"),
    memory("shrink", "shrink 32 8m 256k 1000"),
]


def find(names):
    """The cases whose name, or suite and name, contains one of the names; all without names."""
    return [c for c in TIME + MEMORY
            if not names or any(n in "%s/%s" % (c.suite, c.name) for n in names)]
