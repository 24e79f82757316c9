# SPDX-License-Identifier: MIT
"""Control groups with a memory limit, for test_limits.py."""
import os


class Group:
    """A control group with a memory limit, version 1 or 2, below this process's own."""

    def __init__(self, directory, limit_file, peak_file, usage_file):
        self.directory = directory
        self.usage_file = usage_file
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

    def take(self, pid):
        self.write("cgroup.procs", str(pid))

    def __enter__(self):
        os.mkdir(self.directory)
        return self

    def __exit__(self, *_):
        os.rmdir(self.directory)


def groups(suffix=""):
    """The places where a group with a memory limit may be made."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split() for line in file]
    name = "allod-test-%d%s" % (os.getpid(), suffix)
    for fields in mounts:
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        if kind == "cgroup" and "memory" in options:
            yield Group(os.path.join(fields[4], name), "memory.limit_in_bytes",
                        "memory.max_usage_in_bytes", "memory.usage_in_bytes")
        elif kind == "cgroup2":
            yield Group(os.path.join(fields[4], name), "memory.max", "memory.peak",
                        "memory.current")
