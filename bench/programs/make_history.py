# SPDX-License-Identifier: MIT
"""Prints a history for git fast-import: files of text that change a little in every commit.
make_history.py [COMMITS]; the same on every run."""
import random
import sys

FILES, LINES, CHANGES = 40, 300, 12
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def line():
    return " ".join(random.choices(WORDS, k=random.randint(2, 12))) + "\n"


def data(text):
    return "data %d\n%s\n" % (len(text), text)


def commit(number, files, changed):
    parts = ["commit refs/heads/main\nmark :%d\n" % number,
             "committer Bench <bench@example.org> %d +0000\n" % (1700000000 + 60 * number),
             data("change %d" % number)]
    for name in changed:
        parts += ["M 100644 inline dir%d/file%d.txt\n" % (name % 7, name),
                  data("".join(files[name]))]
    return "".join(parts)


def main():
    random.seed(23)
    files = [[line() for _ in range(LINES)] for _ in range(FILES)]
    print(commit(1, files, range(FILES)), end="")
    for number in range(2, 1 + int(sys.argv[1]) if len(sys.argv) > 1 else 400):
        changed = random.sample(range(FILES), 3)
        for name in changed:
            for _ in range(CHANGES):
                files[name][random.randrange(len(files[name]))] = line()
        print(commit(number, files, changed), end="")


main()
