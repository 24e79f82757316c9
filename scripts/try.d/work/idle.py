# SPDX-License-Identifier: MIT
"""A service after its busy hour: builds a large cache, drops it, and then waits for 2 seconds
without doing anything. Writes its resident memory, in bytes, to the file named by argument."""
import hashlib
import random
import sys
import time


def resident_bytes():
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def main():
    random.seed(21)
    cache = {}
    for number in range(60000):
        cache[number] = bytes([number % 256]) * random.choice((700, 1200, 2500, 5000))
    survivors = {n: v for n, v in cache.items() if n % 1500 == 0}
    peak = resident_bytes()
    cache.clear()
    time.sleep(2)
    idle = resident_bytes()
    print(len(survivors), hashlib.sha256(b"".join(survivors.values())).hexdigest())
    with open(sys.argv[1], "w", encoding="ascii") as report:
        report.write("%d %d\n" % (peak, idle))


main()
