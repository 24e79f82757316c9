# SPDX-License-Identifier: MIT
"""Control groups that change while a program runs, for test_limits.py."""
import errno
import time

from limits_group import groups
from limits_programs import BURSTS, note, python, start

MIB = 1 << 20


def usable_groups(count):
    """Some groups side by side, or none where they cannot be made."""
    for made in zip(*(groups("-%d" % n) for n in range(count))):
        try:
            for group in made:
                with group:
                    group.write(group.limit_file, str(1 << 30))
        except OSError as error:
            note("%s: %s" % (made[0].directory, errno.errorcode[error.errno]))
            continue
        return made
    return ()


def lower_limit(group, limit):
    """As the kernel lets one: it refuses while more is in use, and there is nothing to swap to."""
    for _ in range(60):
        try:
            group.write(group.limit_file, str(limit))
            return True
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.1)
    return False


def run_bursts(library, first, second):
    """Moves a program between two groups while it works, then lowers the limit of the last."""
    bursts = 6
    with start(python(BURSTS, bursts), library, first.enter) as program:
        for n in range(bursts - 1):
            for _ in range(5):
                (second, first)[n % 2].take(program.pid)
                time.sleep(0.02)
            assert program.stdout.readline() == "low\n"
            program.stdin.write("\n")
            program.stdin.flush()
        assert program.stdout.readline() == "low\n"
        # 20 MB are held, 150 were freed: they go back while the program waits.
        low = [lower_limit(group, 64 * MIB) for group in (first, second)]
        note("%d and %d KiB in use" % tuple(int(g.read(g.usage_file)) >> 10 for g in (first, second)))
        program.stdin.write("\n")
        program.stdin.flush()
        output = program.stdout.read()
    assert low == [True, True], "the limit could not be lowered: memory did not go back"
    assert (output, program.returncode) == ("True\n", 0), (output, program.returncode)
