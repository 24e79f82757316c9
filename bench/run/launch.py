# SPDX-License-Identifier: MIT
"""Runs one workload on one subject, measured by bench/launch.c."""
import os
import signal
import subprocess

TIME_LIMIT_S = 150
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Failed(Exception):
    """A workload ended badly, or could not be started."""


def clean_environment():
    """Nothing of the caller's that an allocator or the loader would read."""
    return {k: v for k, v in os.environ.items()
            if k not in ("LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES")
            and not k.startswith(("MALLOC_", "MIMALLOC_", "TCMALLOC_", "SCUDO_", "TBB_", "ALLOD_"))}


def figures_of(line):
    """The measurements in one line of launch; raises Failed if the program did not end well."""
    status, user, system, elapsed, peak, minor, major = map(int, line.split())
    if status != 0:
        raise Failed("signal %d" % -status if status < 0 else "exit code %d" % status)
    return {"cpu": (user + system) / 1e6, "wall": elapsed / 1e6, "peak": peak * 1024,
            "faults": minor + major}


def reports_of(text):
    """What a workload said on descriptor 3."""
    return {name: float(value) for name, value, _ in (line.split() for line in text.splitlines())}


def stop(process):
    """Ends a launcher and what it started: they have a session of their own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


class Runner:
    """Where the programs are, how to start them, and how long one of them may run."""

    def __init__(self, directory, limit_s=60):
        self.directory = directory
        self.limit_s = limit_s

    def program(self, name):
        return os.path.join(self.directory, name)

    def command(self, subject, options=()):
        """The part of a command line before the program."""
        command = [self.program("launch"), "-l", str(self.limit_s), *options]
        if subject.library:
            command += ["-p", subject.library]
        return command + ["--"]

    def start(self, argv, subject, env=None, times=1):
        """Starts a workload; finish() waits for it."""
        read_end, write_end = os.pipe()
        options = ["-r", str(write_end), "-n", str(times)]
        own = dict(env or {}) if subject.is_allod else {}
        for name, value in {**own, **subject.env}.items():
            options += ["-e", "%s=%s" % (name, value)]
        command = self.command(subject, options) + [self.program(argv[0]), *argv[1:]]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, pass_fds=[write_end],
                                   env=clean_environment(), start_new_session=True)
        os.close(write_end)
        return process, read_end

    def finish(self, job):
        """The samples of a started workload, one for each time that it ran."""
        process, read_end = job
        limit_s = max(TIME_LIMIT_S, self.limit_s + 30)
        with os.fdopen(read_end, encoding="ascii") as pipe:
            try:
                out, err = process.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                stop(process)
                raise Failed("did not end within %d s" % limit_s) from None
            except BaseException:
                stop(process)
                raise
            reported = reports_of(pipe.read())
        # The loader only warns about a library that it cannot load: the figures would be another's.
        if "cannot be preloaded" in err:
            raise Failed("cannot be preloaded")
        try:
            samples = [figures_of(line) for line in out.splitlines()]
        except Failed as failure:
            raise Failed("%s %s" % (failure, err.strip()[-200:])) from None
        if not samples:
            raise Failed("did not start: %s" % err.strip()[-200:])
        for sample in samples:
            sample.update(reported)
        return samples

    def run(self, argv, subject, env=None, times=1):
        return self.finish(self.start(argv, subject, env, times))
