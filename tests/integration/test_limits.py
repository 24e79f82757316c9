#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_limits.py LIBRARY: programs on liballod-malloc.so under limits of the system; prints TAP.

What works under a limit on the system's malloc must work on allod, with the same output; what asks
for more than there is must be told so, and go on with what it has; and memory that was given back must be
there again.
"""
import errno
import os
import resource
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from limits_group import groups  # noqa: E402
from limits_moving import run_bursts, usable_groups  # noqa: E402
from limits_programs import (CHURN, EXHAUST, LOWERED, MAPPINGS, WORK, note,  # noqa: E402
                             ordinary_programs, python, run)

MIB = 1 << 20
LIMITS_MIB = (64, 100, 200, 500)


class Skip(Exception):
    pass


def set_limit(kind, mib):
    return lambda: resource.setrlimit(kind, (mib * MIB, mib * MIB))


def check_ordinary(library, kind):
    """Each program under each limit that it can live with on the system's malloc."""
    ran = 0
    for name, argv in ordinary_programs():
        wanted = run(argv)
        assert wanted[0] == 0, (name, wanted)
        for mib in LIMITS_MIB:
            if run(argv, before=set_limit(kind, mib)) != wanted:
                note("%s needs more than %d MiB on any malloc" % (name, mib))
                continue
            got = run(argv, library, before=set_limit(kind, mib))
            assert got == wanted, "%s within %d MiB: %r" % (name, mib, got)
            ran += 1
    assert ran > 12, "only %d runs" % ran


def exhaust(library, before, size):
    code, output, messages = run(python(EXHAUST, size), library, before, PYTHONMALLOC="malloc")
    assert code == 0, "blocks of %d: exit code %d: %s%s" % (size, code, output, messages)
    lines = output.splitlines()
    assert lines[1:] == run(python(WORK))[1].splitlines(), output
    return [int(word) for word in lines[0].split()]


def check_exhaust(library, kind, share):
    """How much there is, and that it is there again; at least a share of what the system gives."""
    for mib, size in ((100, 200), (100, 300000), (250, 5000), (250, 5000000)):
        limit = set_limit(kind, mib)
        counts = exhaust(library, limit, size)
        system = exhaust(None, limit, size)
        note("%d MiB, blocks of %d: %s, on the system's malloc %s" % (mib, size, counts, system))
        assert min(counts) > 0
        assert min(counts[1:]) >= 0.9 * counts[0], "memory was lost"
        assert counts[0] >= share * system[0], "less than %d %%" % (share * 100)


def test_address_space(library):
    check_ordinary(library, resource.RLIMIT_AS)


def test_address_space_exhausted(library):
    check_exhaust(library, resource.RLIMIT_AS, 0.75)


def test_data(library):
    check_ordinary(library, resource.RLIMIT_DATA)


def test_data_exhausted(library):
    check_exhaust(library, resource.RLIMIT_DATA, 0.75)


def test_limit_lowered_while_running(library):
    wanted = run(python(WORK))[1]
    for kind in ("RLIMIT_DATA", "RLIMIT_AS"):
        got = run(python(LOWERED, kind), library, PYTHONMALLOC="malloc")
        assert got == (0, wanted + "True\n", ""), (kind, got)


def test_mappings_exhausted(library):
    with open("/proc/sys/vm/max_map_count", encoding="ascii") as file:
        if int(file.read()) > 200000:
            raise Skip("vm.max_map_count is too high to reach it")
    wanted = run(python(WORK))[1]
    for conf in (None, "page:mmap"):
        for spare in (0, 3, 40):
            code, output, messages = run(python(MAPPINGS, spare), library, conf=conf)
            note("%s, %d mappings to spare: %s" % (conf or "page:arena", spare, messages.strip()))
            assert (code, output) == (0, wanted), (code, output, messages)
            assert messages.startswith("True failed "), messages


def in_namespace(script, argv):
    return ["unshare", "-m", "sh", "-c", script + ' && exec "$@"', "sh"] + argv


def test_without_proc_and_sys(library):
    hide = "mount -t tmpfs none /proc && mount -t tmpfs none /sys"
    if not shutil.which("unshare") or run(in_namespace(hide, ["true"]))[0] != 0:
        raise Skip("mount namespaces (CLONE_NEWNS) are not allowed here")
    for name, argv in ordinary_programs():
        plain = in_namespace(hide, argv)
        # The library is given to the program alone: unshare and mount need /proc.
        hidden = in_namespace(hide, ["env", "LD_PRELOAD=" + library] + argv)
        wanted = run(plain)
        for before in (None, set_limit(resource.RLIMIT_AS, 300)):
            got = run(hidden, before=before)
            assert got == wanted, (name, got, wanted)


def check_group(library, group):
    limit = 96 * MIB
    group.write(group.limit_file, str(limit))
    wanted = run(python(CHURN))
    for conf in (None, "decay_ms:3600000", "page:mmap", "background:off"):
        got = run(python(CHURN), library, group.enter, conf, PYTHONMALLOC="malloc")
        assert got == wanted, (conf, got, wanted)
    if os.path.exists(os.path.join(group.directory, group.peak_file)):
        note("at most %d of %d MiB used" % (int(group.read(group.peak_file)) // MIB, limit // MIB))
    for name, argv in ordinary_programs():
        wanted = run(argv)
        got = run(argv, library, group.enter)
        assert got == wanted, (name, got, wanted)


def test_control_group(library):
    for group in groups():
        try:
            with group:
                group.write(group.limit_file, str(1 << 30))
        except OSError as error:
            note("%s: %s" % (group.directory, errno.errorcode[error.errno]))
            continue
        with group:
            check_group(library, group)
        return
    raise Skip("no control group with a memory limit can be made here")


def test_control_groups_while_running(library):
    made = usable_groups(2)
    if not made:
        raise Skip("no control groups with a memory limit can be made here")
    first, second = made
    with first, second:
        for group in (first, second):
            group.write(group.limit_file, str(1 << 30))
        run_bursts(library, first, second)


def main():
    library = os.path.abspath(sys.argv[1])
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")
             and (len(sys.argv) == 2 or n[5:] in sys.argv[2:])]
    print("1..%d" % len(tests), flush=True)
    failed = 0
    for number, (name, test) in enumerate(tests):
        line = "%d - %s" % (number + 1, name[5:])
        try:
            test(library)
        except Skip as reason:
            print("ok %s # SKIP %s" % (line, reason), flush=True)
        except Exception as error:  # any mistake fails this test alone
            failed += 1
            text = "%s: %s" % (type(error).__name__, error)
            print("not ok %s\n# %s" % (line, text.replace("\n", "\n# ")), flush=True)
        else:
            print("ok %s" % line, flush=True)
    return 1 if failed else 0


sys.exit(main())
