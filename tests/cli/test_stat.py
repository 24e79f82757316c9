# SPDX-License-Identifier: MIT
"""Tests of allod stat on processes that use per-CPU memory. Usage: see cli_harness.py."""
import json
import os
import subprocess
import sys

import cli_harness
from cli_harness import Skip, same

# A program that makes three pools, stores to some of it, says so, and waits.
PROGRAM = """
import ctypes, os, sys
lib = ctypes.CDLL(sys.argv[1])
class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("flags", ctypes.c_uint), ("max_cpus", ctypes.c_uint),
                ("index", ctypes.c_int), ("content", ctypes.c_int)] + [
        (name, ctypes.c_size_t) for name in
        ("unit_bytes", "stride", "max_chunks", "max_element", "poison", "init_cpu", "init_arg")]
for call in (lib.allod_percpu_pool_create, lib.allod_percpu_alloc, lib.allod_percpu_place):
    call.restype = ctypes.c_void_p
def pool(name, **options):
    made = Options(size=ctypes.sizeof(Options), **options)
    return ctypes.c_void_p(lib.allod_percpu_pool_create(name, ctypes.byref(made)))
def element(pool, size):
    made = lib.allod_percpu_alloc(pool, ctypes.c_size_t(size), ctypes.c_size_t(0))
    return ctypes.c_void_p(made)
def store(element, cpu, size):
    ctypes.memset(lib.allod_percpu_place(element, cpu), 1, size)
a, b, c = pool(b"by cpu", max_cpus=8), pool(b"by cid", index=1, max_cpus=8), pool(b"one", flags=0x20)
for i in range(3):
    kept = element(a, 100)
store(kept, 0, 100)
store(kept, 5, 100)
store(element(b, 8192), 1, 8192)
store(element(c, 16), 0, 16)
print("ready", flush=True)
sys.stdin.read()
"""


class Running:
    """The program, from when it is ready until the end of a with statement."""

    def __init__(self):
        library = os.path.join(os.environ["ALLOD_BUILD_ROOT"], "liballod.so")
        if not os.path.exists(library):
            raise Skip("no liballod.so in this build")
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, library],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        assert self.process.stdout.readline() == b"ready\n"
        return str(self.process.pid)

    def __exit__(self, *_):
        self.process.communicate()


def test_stat_json(cli):
    with Running() as pid:
        code, out, err = cli.run("stat", "--json", pid)
    same((code, err), (0, ""))
    document = json.loads(out)
    same((document["schema"], str(document["pid"])), ("allod.stat/1", pid))
    same((document["active_cpus"], document["resident_known"]), (3, True))
    page = os.sysconf("SC_PAGESIZE")
    pools = {p["name"]: p for p in document["pools"]}
    same(sorted(pools), ["by cid", "by cpu", "one"])
    found = pools["by cpu"]
    same((found["index"], found["elements"], found["bytes"], found["chunks"]), ("cpu", 3, 300, 1))
    same(found["resident"], [{"cpu": 0, "bytes": page}, {"cpu": 5, "bytes": page}])
    found = pools["by cid"]
    same((found["index"], found["elements"], found["bytes"]), ("cid", 1, 8192))
    same([r["cpu"] for r in found["resident"]], [1])
    assert 8192 <= found["resident"][0]["bytes"] <= 8192 + page, found
    same((pools["one"]["index"], pools["one"]["resident"]), ("none", [{"cpu": 0, "bytes": page}]))


def test_stat_text(cli):
    with Running() as pid:
        code, out, err = cli.run("stat", pid)
    same((code, err), (0, ""))
    lines = out.splitlines()
    assert lines[0].endswith(": per-CPU pools of process " + pid), lines[0]
    at = lines.index("by cpu")
    same(lines[at + 1], "  elements  3, 300 B for each processor")
    same([line.split()[:2] for line in lines[at + 3:at + 5]], [["cpu", "0"], ["cpu", "5"]])
    assert "  cid 1     " in out and "  resident  " in out, out


def test_stat_of_a_process_that_may_not_be_read(cli):
    if os.getuid() != 0:
        raise Skip("only root has processes of other users")
    with Running() as pid:
        os.chmod(cli.allod, 0o755)
        code, out, err = cli.run("stat", pid, preexec_fn=lambda: os.setuid(65534))
    same((code, out), (1, ""))
    assert err.startswith("allod stat: cannot read process %s: " % pid), err


sys.exit(cli_harness.main(sys.modules[__name__]))
