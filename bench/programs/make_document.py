# SPDX-License-Identifier: MIT
"""Prints a document for troff: chapters of paragraphs in several fonts, with rules and drawings.
make_document.py [NUMBER OF CHAPTERS]; the same text on every run."""
import random
import sys

SYLLABLES = ("ba", "co", "di", "fen", "ga", "hu", "ir", "ka", "lo", "men", "no", "per", "qui", "ra",
             "sta", "ter", "un", "ver", "wo", "xy", "zel")
FONTS = ("R", "I", "B", "BI", "CW", "HR", "HB", "NR", "ZCMI")


def word(random_numbers):
    return "".join(random_numbers.choice(SYLLABLES) for _ in range(random_numbers.randint(1, 4)))


def paragraph(random_numbers):
    words = [word(random_numbers) for _ in range(random_numbers.randint(40, 160))]
    for index in range(0, len(words), 12):
        words[index] = "\\f[%s]%s\\fP" % (random_numbers.choice(FONTS), words[index])
    text = " ".join(words)
    return ".sp 0.5\n.ti +1m\n" + text


def drawing(random_numbers):
    """A polygon and some circles, in colours of their own."""
    print(".sp 4c\n\\m[blue]\\D'c 1c'\\m[red]\\h'1c'\\D'e 2c 1c'\\m[]\\D'~ 1c 1c 1c -1c 1c 1c'")
    points = " ".join("%.2fc" % random_numbers.uniform(-1, 1) for _ in range(20))
    print("\\D'p %s'\n.br\n\\l'\\n(.lu'\n.sp 1c" % points)


def main():
    random_numbers = random.Random(1)
    chapters = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    print(".po 2.5c\n.ll 16c\n.pl 29.7c\n.ps 10\n.vs 12\n.hy 1")
    for chapter in range(1, chapters + 1):
        print(".bp\n.ps 18\n\\fBChapter %d: %s\\fP\n.ps 10\n.sp" % (chapter, word(random_numbers)))
        for number in range(14):
            print(paragraph(random_numbers))
            if number % 5 == 4:
                drawing(random_numbers)


main()
