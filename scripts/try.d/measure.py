# SPDX-License-Identifier: MIT
"""Runs programs and measures them by wait4().

Every program gets a session of its own and is remembered until it has been waited for, so that
stop_all() ends whatever still runs, and nothing else. wait4() counts a program together with the
children that it waited for, as a compiler driver does; peak memory is that of the largest of them.
The kernel also counts this script's own memory at the moment of the exec (about 15 MiB), so a
program smaller than that cannot be told apart.
"""
import hashlib
import os
import signal
import subprocess
import threading
import time

TIME_LIMIT_S = 100

_running = {}


class Failed(Exception):
    """A program failed, or could not be measured."""


class Job:
    """One started program."""

    def __init__(self, argv, env, stdin=os.devnull, stdout=os.devnull):
        self.argv = argv
        self.stdout_path = stdout
        self.stderr_path = stdout + ".err" if stdout != os.devnull else os.devnull
        self.start = time.monotonic()
        with open(stdin, "rb") as source, open(stdout, "wb") as out, \
                open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(argv, env=env, stdin=source, stdout=out, stderr=err,
                                            start_new_session=True)
        self.pid = self.process.pid
        _running[self.pid] = self

    def kill(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def has_ended(self):
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self):
        """Waits for the end; returns the measurements, or raises Failed."""
        timer = threading.Timer(TIME_LIMIT_S, self.kill)
        timer.daemon = True
        timer.start()
        try:
            _, status, usage = os.wait4(self.pid, 0)
        finally:
            timer.cancel()
        elapsed = time.monotonic() - self.start
        del _running[self.pid]
        self.process.returncode = status
        if status != 0:
            raise Failed(self.describe_failure(status, elapsed))
        return {"cpu_time": usage.ru_utime + usage.ru_stime, "elapsed": elapsed,
                "peak_memory": usage.ru_maxrss * 1024,
                "page_faults": usage.ru_minflt + usage.ru_majflt}

    def describe_failure(self, status, elapsed):
        if os.WIFSIGNALED(status):
            how = "was ended by signal %d" % os.WTERMSIG(status)
            if elapsed >= TIME_LIMIT_S:
                how = "did not end within %d s" % TIME_LIMIT_S
        else:
            how = "ended with exit code %d" % os.WEXITSTATUS(status)
        tail = ""
        for path in (self.stdout_path, self.stderr_path):
            with open(path, "rb") as printed:
                tail += printed.read()[-1000:].decode(errors="replace").rstrip() + "\n"
        return "%s %s\n%s" % (" ".join(self.argv)[:200], how, tail.strip())


def stop_all():
    """Ends every program that was started and has not been waited for."""
    for job in list(_running.values()):
        job.kill()
        try:
            os.waitpid(job.pid, 0)
        except ChildProcessError:
            pass
        del _running[job.pid]


def run(argv, env, stdin=os.devnull, stdout=os.devnull):
    """Runs a program to its end and returns its measurements."""
    return Job(argv, env, stdin, stdout).wait()


def resident_bytes(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise Failed("no resident memory in /proc/%d/status" % pid)


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as source:
        for block in iter(lambda: source.read(1 << 16), b""):
            total.update(block)
    return total.hexdigest()
