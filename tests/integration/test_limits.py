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
import subprocess
import sys

MIB = 1 << 20
TIME_LIMIT_S = 60
LIMITS_MIB = (64, 96, 128, 200, 256, 512)


class Skip(Exception):
    pass


def run(argv, library=None, before=None, conf=None, **env):
    """Runs a program, on the library if one is given; returns its exit code, output and messages."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LD_", "ALLOD_", "PYTHON"))}
    clean.update(env, LC_ALL="C", PYTHONDONTWRITEBYTECODE="1")
    if library:
        clean["LD_PRELOAD"] = library
    if conf:
        clean["ALLOD_CONF"] = conf
    done = subprocess.run(argv, env=clean, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=TIME_LIMIT_S, check=False,
                          preexec_fn=before, universal_newlines=True)
    return done.returncode, done.stdout, done.stderr


def note(text):
    print("# " + text, flush=True)


def python(code, *args):
    return [sys.executable, "-c", code] + [str(a) for a in args]


SQL = """create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
  insert into t select i, hex(i * i) from n;
select count(*), sum(length(b)), max(b) from t; select b, count(*) from t group by b limit 5;"""

WORK = """
import json, re, zlib
rows = [{"n": n, "text": "row %d" % n * (n % 7)} for n in range(3000)]
text = json.dumps(rows)
print(zlib.crc32(text.encode()), len(re.findall(r"row (\\d+)", text)), len(json.loads(text)))
"""


def ordinary_programs():
    yield "true", ["true"]
    yield "ls", ["ls", "/usr/lib", "/etc"]
    yield "sort", ["sort", "-r", "/etc/services" if os.path.exists("/etc/services") else __file__]
    yield "python3", python(WORK)
    if shutil.which("sqlite3"):
        yield "sqlite3", ["sqlite3", ":memory:", SQL]
    if shutil.which("perl"):
        yield "perl", ["perl", "-e", "my %h; $h{$_ % 997} .= $_ for 1..20000; print length $h{5}"]


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
    assert ran > 20, "only %d runs" % ran


# Takes blocks of one size until there are no more, twice; then works. Prints both counts.
EXHAUST = """
import sys
size = int(sys.argv[1])
def fill():
    kept = []
    # Python itself needs something to go on with.
    reserve = [bytearray(n) for n in (100, 300, 1000, 5000, 60000) * 100]
    try:
        while True:
            kept.append(bytearray(size))
    except MemoryError:
        reserve.clear()
    count = len(kept)
    ok = all(len(block) == size for block in kept[::101])
    kept.clear()
    return count if ok else -1
counts = [fill(), fill(), fill()]
print(*counts)
""" + WORK


def exhaust(library, before, size):
    code, output, messages = run(python(EXHAUST, size), library, before, PYTHONMALLOC="malloc")
    assert code == 0, "blocks of %d: exit code %d: %s%s" % (size, code, output, messages)
    lines = output.splitlines()
    assert lines[1:] == run(python(WORK))[1].splitlines(), output
    return [int(word) for word in lines[0].split()]


def check_exhaust(library, kind, share):
    """How much there is, and that it is there again; at least a share of what the system gives."""
    for mib in (100, 250):
        for size in (200, 5000, 300000, 5000000):
            limit = set_limit(kind, mib)
            counts = exhaust(library, limit, size)
            system = exhaust(None, limit, size)
            note("%d MiB, blocks of %d: %s, on the system's malloc %s" % (
                mib, size, counts, system))
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


# Lowers a limit of the running process below what it has.
LOWERED = """
import resource, sys
kept = [bytearray(100000) for _ in range(100)]
resource.setrlimit(getattr(resource, sys.argv[1]), (1 << 20, 1 << 20))
failed = False
try:
    for _ in range(300):
        kept.append(bytearray(1000000))
except MemoryError:
    failed = True
kept.clear()
""" + WORK + "print(failed)"


def test_limit_lowered_while_running(library):
    wanted = run(python(WORK))[1]
    for kind, word in (("RLIMIT_DATA", "True"), ("RLIMIT_AS", "False")):
        # What was reserved before counts as taken, so RLIMIT_AS comes too late for it.
        got = run(python(LOWERED, kind), library, PYTHONMALLOC="malloc")
        assert got == (0, wanted + word + "\n", ""), (kind, got)


# Uses up the mappings that a process may have, all but `spare`, then works as well as it can.
MAPPINGS = """
import mmap, sys
spare, kept, maps = int(sys.argv[1]), [], []
def maps_fill():
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        while True:
            prot = mmap.PROT_READ | (mmap.PROT_WRITE if len(maps) % 2 else 0)
            maps.append(mmap.mmap(-1, 4096, flags=flags, prot=prot))
    except (OSError, MemoryError):
        pass
maps_fill()
count = len(maps)
del maps[len(maps) - spare:]
failed = 0
for size in (100, 5000, 100000, 1000000, 30000000) * 40:
    try:
        kept.append(bytearray(size))
        kept[-1].extend(b"x" * size)
        if len(kept) % 3 == 0:
            kept.pop(0)
    except MemoryError:
        failed += 1
print(count > 10000, "failed", failed, file=sys.stderr)
kept.clear()
maps.clear()
""" + WORK


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


# Holds 20 MB in blocks of all sizes and goes through a gigabyte; memory for 300 MB comes and goes.
CHURN = """
import hashlib, threading
def churn(seed):
    kept = [b""] * 400
    for n in range(12000):
        size = (n * 7919 + seed) % 65521 + 1
        kept[(n * 31 + seed) % 400] = bytes([n & 255]) * size
    return hashlib.md5(b"".join(kept)).hexdigest()
threads = [threading.Thread(target=churn, args=(n,)) for n in range(2)]
for t in threads: t.start()
for t in threads: t.join()
print(churn(5))
"""


class Group:
    """A control group with a memory limit, version 1 or 2, below this process's own."""

    def __init__(self, directory, limit_file, peak_file):
        self.directory = directory
        self.limit_file = limit_file
        self.peak_file = peak_file

    def write(self, name, text):
        with open(os.path.join(self.directory, name), "w", encoding="ascii") as file:
            file.write(text)

    def read(self, name):
        with open(os.path.join(self.directory, name), encoding="ascii") as file:
            return file.read()

    def enter(self):
        self.write("cgroup.procs", "0")

    def __enter__(self):
        os.mkdir(self.directory)
        return self

    def __exit__(self, *_):
        os.rmdir(self.directory)


def groups():
    """The places where a group with a memory limit may be made."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split() for line in file]
    name = "allod-test-%d" % os.getpid()
    for fields in mounts:
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        if kind == "cgroup" and "memory" in options:
            yield Group(os.path.join(fields[4], name), "memory.limit_in_bytes",
                        "memory.max_usage_in_bytes")
        elif kind == "cgroup2":
            yield Group(os.path.join(fields[4], name), "memory.max", "memory.peak")


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
