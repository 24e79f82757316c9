# SPDX-License-Identifier: MIT
"""The programs that test_limits.py runs, and how."""
import os
import shutil
import subprocess
import sys

TIME_LIMIT_S = 60


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


def start(argv, library, before):
    """Starts a program on the library, to speak with it by lines."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LD_", "ALLOD_", "PYTHON"))}
    clean.update(LC_ALL="C", LD_PRELOAD=library, PYTHONMALLOC="malloc")
    return subprocess.Popen(argv, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            preexec_fn=before, universal_newlines=True)


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
    yield "ls", ["ls", "/", "/usr"]
    yield "sort", ["sort", "-r", "/etc/services" if os.path.exists("/etc/services") else __file__]
    yield "python3", python(WORK)
    if shutil.which("sqlite3"):
        yield "sqlite3", ["sqlite3", ":memory:", SQL]
    if shutil.which("perl"):
        yield "perl", ["perl", "-e", "my %h; $h{$_ % 997} .= $_ for 1..20000; print length $h{5}"]


# Takes blocks of one size until there are no more, three times; then works. Prints the counts.
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


# Goes through 150 MB again and again, holds 20 MB, and says "low" when it has freed the rest, to wait for
# a line each time; at the end, whether all that it held is as it was.
BURSTS = """
import sys
kept = [bytes([n & 255]) * 20000 for n in range(1000)]
for _ in range(int(sys.argv[1])):
    burst = [bytes([n & 255]) * (1000 + n % 7000) for n in range(38000)]
    assert all(block[0] == n & 255 and block[-1] == n & 255 for n, block in enumerate(burst))
    burst = None
    print("low", flush=True)
    sys.stdin.readline()
print(all(block == bytes([n & 255]) * 20000 for n, block in enumerate(kept)), flush=True)
"""


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
