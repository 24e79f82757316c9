# SPDX-License-Identifier: MIT
"""What ./dev bench page runs: programs of bench/workloads with their arguments, and on what.

{word} stands for what a subject is called by the program. A program reports several cases of its
suite, such as 64K/cycle: metric "cycle" of case "64K".
"""

ALL = ("allod", "allod-again", "mmap", "populate", "thp", "glibc", "jemalloc", "mimalloc",
       "tcmalloc")
KEEPING = ("allod", "allod-again", "glibc", "jemalloc", "mimalloc", "tcmalloc")
HEAPS = ("allod", "allod-again", "allod-mmap", "glibc", "jemalloc", "mimalloc", "tcmalloc")
NODES = ("allod-batch", "allod", "glibc", "jemalloc", "mimalloc", "tcmalloc")
SIZES = "4k 16k 64k 256k 1m 4m 16m 64m 256m 1024m"
# "slots": what the kernel takes for a move to a place of its own, whatever the size.
MOVING = ("allod", "allod-again", "glibc", "mmap", "slots")
PRESSED = ("allod", "allod-again", "glibc", "jemalloc", "mimalloc", "tcmalloc")
SMALL_PRESSURE = "pressure {word} 200m 128m 4k 100m %d %s"
RING = "page_ring {word} %s %s 3072m"


class Case:
    """A program with its arguments. `kind` tells what the subjects' libraries are to replace:
    "page" for blocks of pages, "malloc" for the heap."""

    def __init__(self, suite, name, line, names, quick=None, kind="page", words=None,
                 quick_names=None, most_rounds=1000):
        self.suite = suite
        self.name = name
        self.argv = line.split()
        self.names = names
        self.quick = quick.split() if quick else None
        self.quick_names = quick_names or names
        self.kind = kind
        self.most_rounds = most_rounds   # of what sleeps, or is told by once
        self.words = words or {}   # subject: what the program calls it, where that differs

    @property
    def is_counted(self):
        """Whether its system calls are counted, too."""
        return self.suite == "app"

    @property
    def key(self):
        return self.suite, self.name


def pressure(by, pause_ms):
    """A process that freed 128 MiB needs 100 in a control group of 200, after a pause."""
    line = "pressure {word} 200m 128m 4m 100m %d %s" % (pause_ms, by)
    return Case("pressure", "%s-%d-ms" % (by, pause_ms), line,
                [n for n in KEEPING if n != "allod-again"], most_rounds=2,
                quick=line if pause_ms < 1000 else None, quick_names=("allod", "glibc"))


CASES = [
    Case("fault", "all", "page_fault {word} 512m " + SIZES, ALL,
         quick="page_fault {word} 64m 4k 64k 1m 16m 64m"),
    Case("ring", "no-traverse", RING % ("25000 4k", "no-traverse"),
         [n for n in ALL if n != "populate"],
         quick="page_ring {word} 25000 4k no-traverse 3072m",
         quick_names=("allod", "allod-again", "tcmalloc", "mmap")),
    Case("ring", "traverse", RING % ("25000 4k", "traverse"), ALL,
         quick="page_ring {word} 1500 4k traverse 3072m", quick_names=KEEPING + ("mmap",)),
    Case("realloc", "room", "page_realloc {word} 1047 4m", KEEPING + ("mmap", "copy"),
         quick="page_realloc {word} 200 4m", quick_names=("allod", "allod-again", "glibc", "copy")),
    Case("realloc", "move", "page_move {word} 512m 1m 64m 256m 1024m", MOVING,
         quick="page_move {word} 256m 1m 64m 256m 1024m", quick_names=MOVING[:1] + MOVING[2:]),
    Case("swap", "moved", "page_swap {word} 41 4k 64k 256k 512k 1m 4m 16m 64m 256m 1024m",
         ("allod", "allod-again"), quick="page_swap {word} 21 64k 1m 64m 1024m",
         quick_names=("allod",),
         words={"allod": "swap", "allod-again": "swap"}),
    Case("swap", "plain", "page_swap {word} 41 4k 64k 256k 512k 1m 4m 16m 64m 256m", ("plain",)),
    Case("swap", "copied", "page_swap {word} 11 4k 64k 256k 512k 1m 4m 16m 64m 256m 1024m",
         ("copy",), quick="page_swap {word} 5 64k 1m 64m"),
    Case("batch", "pages", "page_batch {word} 1000 100 4k 64k 1m", ("allod", "allod-each"),
         words={"allod": "batch"}, quick="page_batch {word} 1000 20 4k 64k 1m"),
    Case("batch", "nodes-4M", "nodes {word} 4000000", NODES, kind="malloc",
         words={"allod-batch": "batch"}, quick="nodes {word} 1000000"),
    Case("compose", "warm", "page_compose {word} warm 256m 2m 32m", ALL,
         quick="page_compose {word} warm 128m 2m 32m",
         quick_names=("allod", "populate", "thp", "tcmalloc")),
    Case("compose", "gone", "page_compose {word} gone 256m 2m 32m", ("allod",),
         quick="page_compose {word} gone 128m 2m 32m"),
    Case("pressure", "small-now-mmap", SMALL_PRESSURE % (0, "mmap"), PRESSED, kind="malloc",
         quick=SMALL_PRESSURE % (0, "mmap")),
    Case("pressure", "small-5s-mmap", SMALL_PRESSURE % (5000, "mmap"), PRESSED, kind="malloc"),
    Case("heap-on-page", "ring", RING % ("25000 8", "traverse"), HEAPS, kind="malloc"),
    *(pressure(by, pause_ms) for by in ("own", "mmap") for pause_ms in (0, 300, 5000)),
    Case("app", "array-growing", "page_grow {word} 20 1000000", KEEPING,
         quick="page_grow {word} 10 500000"),
]
