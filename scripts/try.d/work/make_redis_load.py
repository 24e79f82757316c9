# SPDX-License-Identifier: MIT
"""Prints commands for a Redis server, in its protocol: a cache that fills, changes the sizes of its
values and loses a third of its keys. make_redis_load.py [KEYS]; the same on every run."""
import random
import sys

FILL = "abcdefghijklmnopqrstuvwxyz" * 160


def command(*words):
    parts = ["*%d\r\n" % len(words)]
    parts += ["$%d\r\n%s\r\n" % (len(w), w) for w in words]
    return "".join(parts)


def value(low, high):
    size = random.randint(low, high)
    start = random.randrange(26)
    return FILL[start:start + size]


def commands(keys):
    for n in range(keys):
        yield command("SET", "page:%d" % n, value(20, 700))
    for n in range(keys // 2):
        yield command("HSET", "user:%d" % (n // 8), "field%d" % (n % 40), value(5, 120))
        yield command("ZADD", "rank:%d" % (n % 50), str(n * 7919 % 10007), "member:%d" % n)
    for n in range(keys // 4):
        yield command("RPUSH", "queue:%d" % (n % 100), value(10, 400))
    for n in range(0, keys, 2):
        yield command("SET", "page:%d" % n, value(300, 2500))
    for n in range(0, keys, 3):
        yield command("DEL", "page:%d" % n)
    for n in range(keys // 3):
        yield command("APPEND", "page:%d" % random.randrange(keys), value(10, 300))


def main():
    random.seed(22)
    for text in commands(int(sys.argv[1]) if len(sys.argv) > 1 else 60000):
        sys.stdout.write(text)


main()
