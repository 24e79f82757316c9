# SPDX-License-Identifier: MIT
"""Builds and counts many binary trees of pairs, some of which live long: binary_trees.py DEPTH.
After the program of that name of the Computer Language Benchmarks Game."""
import sys

LEAST_DEPTH = 4


def tree(depth):
    return (tree(depth - 1), tree(depth - 1)) if depth else (None, None)


def count(node):
    left, right = node
    return 1 if left is None else 1 + count(left) + count(right)


def main():
    depth = int(sys.argv[1])
    print("stretch", depth + 1, count(tree(depth + 1)))
    lasting = tree(depth)
    for now in range(LEAST_DEPTH, depth + 1, 2):
        number = 1 << (depth - now + LEAST_DEPTH)
        print(number, "of", now, sum(count(tree(now)) for _ in range(number)))
    print("lasting", depth, count(lasting))


main()
