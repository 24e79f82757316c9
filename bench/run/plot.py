# SPDX-License-Identifier: MIT
"""The figures of the suite page as one HTML page, beside what is known of the paper's.

The paper is N. Douglas, "User Mode Memory Page Allocation: A Silver Bullet For Memory Allocation?"
(2011); its page allocator ran on Windows, and its processor was another one: compare ratios.
"""
import html
import re

import svg
from subjects import AGAIN, ALLOD, GLIBC
from table import amount, span_ns

SIZE = re.compile(r"^(\d+)([BKMG])$")
UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

# Cycles a page to allocate, touch and free: size, with the kernel's pages, with its own.
PAPER_TABLE_1 = (("16K", 2847, 16), ("1M", 3275, 15), ("16M", 6353, 113), ("1G", 6597, 116))

PAPER_SAYS = {
    "realloc": "The author's study before the paper: a block of 128 KiB is resized to 256 KiB 4.5 "
               "times faster.",
    "ring": "The author's study before the paper: allocating 8 MiB is 10 times quicker, and nearly "
            "the same time at all sizes. The paper: a hundred times or more in some common cases.",
    "app": "The paper: gains of some percent for programs that were not changed.",
}


def bytes_of(name):
    found = SIZE.match(name)
    return int(found.group(1)) * UNITS[found.group(2)] if found else None


def size_name(count):
    for unit in "GMKB":
        if count >= UNITS[unit]:
            return "%g%s" % (count / UNITS[unit], unit)
    return "%g" % count


def series_of(figures, suite, metric, prefix="", names=None, least=0, most=1 << 40):
    """{subject: [(bytes, figure)]} of the cases whose names are the prefix and a size."""
    result = {}
    for subject in names or [n for n in figures.subjects() if n != AGAIN]:
        for key in figures.keys(metric, (suite,)):
            size = bytes_of(key[1][len(prefix):]) if key[1].startswith(prefix) else None
            value = figures.median(key, subject, metric)
            if size and value and value > 0 and least <= size <= most:
                result.setdefault(subject, []).append((size, value))
    return result


def lines(figures, what, suite, metric, **more):
    chart = svg.chart(series_of(figures, suite, metric, **more), "bytes of a block", what,
                      size_name, span_ns)
    return chart


def table(head, rows):
    def row(cells, tag):
        return "<tr>%s</tr>" % "".join("<%s>%s</%s>" % (tag, html.escape(str(c)), tag)
                                       for c in cells)
    return "<table>%s%s</table>" % (row(head, "th"), "".join(row(r, "td") for r in rows))


def table_1(figures):
    rows = []
    for size, paged, own in PAPER_TABLE_1:
        here = [figures.median(("fault", size), n, "page") for n in ("mmap", ALLOD)]
        ratio = "%.0f" % (here[0] / here[1]) if all(here) else "-"
        rows.append((size, paged, own, "%.0f" % (paged / own),
                     *["%.1f ns" % v if v else "-" for v in here], ratio))
    return table(("block", "paper: kernel, cycles", "its allocator", "times", "here: mmap",
                  "allod", "times"), rows)


def table_2(figures):
    rows = []
    for key in figures.keys("cpu", ("app",)):
        found = figures.improvement(key, "cpu", ALLOD, GLIBC)
        cells = ["%+.1f ± %.1f %%" % found if found else "-"]
        for metric in ("faults", "syscalls"):
            cells += [amount(figures.median(key, n, metric), "count") for n in (GLIBC, ALLOD)]
        rows.append((key[1], *cells))
    return table(("program", "improvement of CPU time", "page faults: glibc", "allod",
                  "system calls: glibc", "allod"), rows)


def swaps(figures):
    """allod's two ways and copying, with one thread and with two."""
    result = {}
    for prefix, threads in (("1t-", "1 thread"), ("2t-", "2 threads")):
        for name in (ALLOD, "plain", "copy"):
            found = series_of(figures, "swap", "swap", prefix, [name])
            if name in found:
                result["%s, %s" % (name, threads)] = found[name]
    return svg.chart(result, "bytes of a block", "a call", size_name, span_ns)


def sections(figures):
    """(title, what the paper says, content)."""
    op = "free and allocate"
    return (
        ("Figures 5 and 6: allocate, touch each page, free", "",
         lines(figures, "CPU time of a page", "fault", "page")),
        ("Table 1: the same, of a page", "", table_1(figures)),
        ("Figure 7: the ring, nothing touched", PAPER_SAYS["ring"],
         lines(figures, op, "ring", "op", prefix="no-traverse-")),
        ("Figure 8: the ring, each page touched", PAPER_SAYS["ring"],
         lines(figures, op, "ring", "op", prefix="traverse-")),
        ("Figure 9: the ring by malloc, small blocks", "",
         lines(figures, op, "heap-on-page", "op", prefix="traverse-", most=2048)),
        ("Figure 10: the ring by malloc, from 4 KiB", "",
         lines(figures, op, "heap-on-page", "op", prefix="traverse-", least=4096)),
        ("Figure 11: realloc to twice the size, with room", PAPER_SAYS["realloc"],
         lines(figures, "realloc and touch", "realloc", "grow")),
        ("realloc without room", "",
         lines(figures, "the call", "realloc", "move", prefix="1t-")),
        ("Exchange of two blocks", "Not in the paper.", swaps(figures)),
        ("Table 2: programs", PAPER_SAYS["app"], table_2(figures)),
    )


STYLE = ("body{font:15px sans-serif;max-width:50em;margin:2em auto}table{border-collapse:collapse}"
         "td,th{border:1px solid #ccc;padding:3px 8px;text-align:right}")


def page(figures):
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>allod: pages</title>",
             "<style>%s</style><h1>Blocks of pages</h1>" % STYLE,
             "<p>%s</p>" % html.escape("; ".join("%s: %s" % i for i in figures.machine.items())),
             "<p>The paper: N. Douglas, “User Mode Memory Page Allocation: A Silver Bullet For "
             "Memory Allocation?” (2011). Its numbers are those of its table 1 and of its abstracts, from "
             "another processor and system.</p>"]
    for title, paper, content in sections(figures):
        parts.append("<h2>%s</h2>%s" % (html.escape(title), content))
        if paper:
            parts.append("<p><em>%s</em></p>" % html.escape(paper))
    return "\n".join(parts) + "</html>\n"
