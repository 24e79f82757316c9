# SPDX-License-Identifier: MIT
"""What can be counted instead of timed: instructions under callgrind, and system calls."""
import os
import re
import subprocess
import tempfile

from launch import TIME_LIMIT_S, Failed, clean_environment

# Waiting for another thread is no call of the allocator's, and its number depends on the weather.
WAITING = {"futex", "sched_yield", "clock_nanosleep", "nanosleep", "restart_syscall"}


def environment(subject):
    env = clean_environment()
    if subject.library:
        env["LD_PRELOAD"] = subject.library
    return env


def instructions(command, subject):
    """Instructions that a command executes under callgrind."""
    with tempfile.NamedTemporaryFile(prefix="allod-bench-") as output:
        result = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + output.name, *command],
            env=environment(subject), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, timeout=TIME_LIMIT_S, check=False)
    found = re.search(r"Collected : (\d+)", result.stderr)
    if result.returncode != 0 or not found:
        raise Failed("does not run under callgrind")
    return int(found.group(1))


def instructions_per_pair(runner, case, subject):
    """What a malloc and its free cost in a case, loop and PLT included: the difference of two runs,
    so that neither the start nor the end counts."""
    index, small, large, pairs = case.counted
    counts = []
    for amount in (small, large):
        argv = list(case.argv)
        argv[index] = str(amount)
        counts.append(instructions([runner.program(argv[0]), *argv[1:]], subject))
    return (counts[1] - counts[0]) / ((large - small) * pairs)


def strace(subject, summary, env=None):
    """The part of a command line before the program whose system calls are counted."""
    own = dict(env or {}) if subject.is_allod else {}
    if subject.library:
        own["LD_PRELOAD"] = subject.library
    options = [o for item in {**own, **subject.env}.items() for o in ("-E", "%s=%s" % item)]
    return ["strace", "-f", "-c", "-o", summary, *options, "--"]


def total_in(summary):
    with open(summary, encoding="ascii", errors="replace") as lines:
        return total_of(lines)


def system_calls(runner, argv, subject, env=None):
    """System calls of a workload from start to end, those that wait left out."""
    with tempfile.TemporaryDirectory(prefix="allod-bench-") as directory:
        summary = os.path.join(directory, "calls")
        result = subprocess.run(
            [*strace(subject, summary, env), runner.program(argv[0]), *argv[1:]],
            env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, timeout=TIME_LIMIT_S, check=False)
        if result.returncode != 0:
            raise Failed("strace: %s" % result.stderr.strip()[-200:])
        return total_in(summary)


def total_of(lines):
    """The sum of the calls in a summary of strace -c."""
    total = 0
    for line in lines:
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] not in WAITING | {"total"}:
            total += int(fields[3])
    return total
