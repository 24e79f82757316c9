# SPDX-License-Identifier: MIT
"""Counts all words of some lengths in a random DNA sequence: k_nucleotide.py BASES.
After the program of that name of the Computer Language Benchmarks Game."""
import collections
import random
import sys

WORDS = ("GGT", "GGTA", "GGTATT", "GGTATTTTAATT", "GGTATTTTAATTTATAGT")


def words(sequence, length):
    return collections.Counter(sequence[i:i + length] for i in range(len(sequence) - length + 1))


def main():
    random_numbers = random.Random(1)
    bases = int(sys.argv[1])
    sequence = "".join(random_numbers.choices("ACGT", (30, 20, 20, 30), k=bases))
    for length in (1, 2):
        for word, number in words(sequence, length).most_common():
            print(word, "%.3f" % (100 * number / (bases - length + 1)))
    for word in WORDS:
        print(words(sequence, len(word))[word], word)


main()
