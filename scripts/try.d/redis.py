# SPDX-License-Identifier: MIT
"""A Redis server under load, on a Unix socket in the temporary directory.

The server is filled by redis-cli with generated commands, then loaded by redis-benchmark. What must
agree is the digest that the server computes over all its data. Then everything is deleted, and
after two idle seconds the memory that the server still holds is read.
"""
import os
import re
import shutil
import subprocess
import time

import measure
import programs

START_LIMIT_S = 10
IDLE_S = 2


class Redis(programs.Case):
    name = "redis"
    commands = ("redis-cli", "redis-benchmark")

    def prepare(self):
        self.generate("make_redis_load.py", "load.resp", "60000")
        self.server = self.find_server()
        self.debug = []
        if self.version() >= 7:
            self.debug = ["--enable-debug-command", "local"]
        if self.is_linked_with_jemalloc():
            self.subjects[0].preload = "libc.so.6"
            self.subjects.append(programs.Subject("jemalloc"))
            self.notes.append("this redis-server is linked with jemalloc; for the system column "
                              "glibc's malloc was put before it")

    def find_server(self):
        """Debian's redis-tools has the server too, under the name of a checker; its package
        redis-server would add a name, and start a server on this machine."""
        server = shutil.which("redis-server")
        checker = shutil.which("redis-check-rdb")
        if not server and not checker:
            raise measure.Failed("there is no redis-server")
        if not server:
            server = self.file("redis-server")
            os.symlink(checker, server)
        return server

    def version(self):
        text = subprocess.run([self.server, "--version"], stdout=subprocess.PIPE, check=True,
                              universal_newlines=True).stdout
        found = re.search(r"v=(\d+)", text)
        return int(found.group(1)) if found else 0

    def is_linked_with_jemalloc(self):
        listing = subprocess.run(["ldd", self.server], stdout=subprocess.PIPE,
                                 universal_newlines=True, check=False)
        return "libjemalloc" in listing.stdout

    def socket(self, subject):
        return self.file("redis.%s" % subject.name)

    def client(self, subject, *words, **options):
        """One call of redis-cli; returns what it printed."""
        result = subprocess.run(["redis-cli", "-s", self.socket(subject)] + list(words),
                                env=programs.clean_environment(self.directory),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                universal_newlines=True, timeout=measure.TIME_LIMIT_S, check=False,
                                **options)
        return result.stdout.strip()

    def start_server(self, subject):
        job = self.start(subject, [self.server, "--port", "0", "--save", "", "--appendonly", "no",
                                   "--unixsocket", self.socket(subject),
                                   "--dir", self.directory] + self.debug)
        deadline = time.monotonic() + START_LIMIT_S
        while self.client(subject, "PING") != "PONG":
            if job.has_ended() or time.monotonic() > deadline:
                job.kill()
                job.wait()
                raise measure.Failed("redis-server ended at once")
            time.sleep(0.02)
        return job

    def load(self, subject):
        """Fills and exercises the server; returns the seconds that took and what must agree."""
        start = time.monotonic()
        with open(self.file("load.resp"), "rb") as source:
            replies = self.client(subject, "--pipe", stdin=source).splitlines()[-1:]
        subprocess.run(["redis-benchmark", "-s", self.socket(subject), "-q", "-n", "150000",
                        "-c", "32", "-P", "8", "-d", "300", "-t", "set,get,incr,lpush,hset,zadd"],
                       env=programs.clean_environment(self.directory), check=True,
                       timeout=measure.TIME_LIMIT_S, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        elapsed = time.monotonic() - start
        digest = self.client(subject, "DEBUG", "DIGEST")
        if not re.fullmatch("[0-9a-f]{40}", digest):
            raise measure.Failed("redis-server: no digest of the data: %s" % digest)
        return elapsed, {"replies": replies, "data": digest,
                         "number of keys": self.client(subject, "DBSIZE")}

    def run(self, subject):
        job = self.start_server(subject)
        try:
            elapsed, data = self.load(subject)
            self.client(subject, "FLUSHALL")
            time.sleep(IDLE_S)
            idle = measure.resident_bytes(job.pid)
        except (OSError, subprocess.SubprocessError) as error:
            job.kill()
            job.wait()  # tells how it ended
            raise measure.Failed("redis-server: %s" % error)
        self.client(subject, "SHUTDOWN", "NOSAVE")
        sample = job.wait()
        sample.update(elapsed=elapsed, idle_memory=idle)
        return sample, data
