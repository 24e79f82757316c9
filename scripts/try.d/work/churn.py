# SPDX-License-Identifier: MIT
"""Python's own library at work: JSON, regular expressions, dictionaries and strings that come and
go. Prints digests only, the same on every run with PYTHONHASHSEED=0."""
import collections
import hashlib
import json
import random
import re
import sys

random.seed(20)
WORDS = ["".join(random.choices("etaoinshrdlu", k=random.randint(3, 11))) for _ in range(4000)]


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def documents(count):
    for number in range(count):
        yield {"id": number, "title": " ".join(random.choices(WORDS, k=6)),
               "body": " ".join(random.choices(WORDS, k=random.randint(40, 400))),
               "tags": random.choices(WORDS, k=5), "price": number * 1.25,
               "nested": {"parts": [{"n": n, "w": random.choice(WORDS)} for n in range(8)]}}


def json_round_trips(count):
    lines = [json.dumps(d, sort_keys=True) for d in documents(count)]
    back = [json.loads(line) for line in lines]
    pretty = json.dumps(back, indent=1)
    return digest(pretty), back


def regular_expressions(docs):
    pattern = re.compile(r"\b(?P<first>[a-z]*sh[a-z]*)\s+(?P<second>[a-z]{4,})\b")
    counts = collections.Counter()
    for doc in docs:
        for match in pattern.finditer(doc["body"]):
            counts[match.group("first"), len(match.group("second"))] += 1
        doc["body"] = re.sub(r"(\w+) (\w+)", r"\2 \1", doc["body"])
    return digest(repr(counts.most_common(50)))


def strings_that_grow(rounds):
    """Buffers of every size, most of them dropped in an order unlike that of their making."""
    kept = {}
    for number in range(rounds):
        size = random.choice((600, 900, 1500, 4000, 9000, 30000, 200000))
        kept[random.randrange(3000)] = bytes([number % 251]) * random.randint(size // 2, size)
    total = hashlib.sha256()
    for key in sorted(kept):
        total.update(kept[key])
    text = []
    for number in range(120000):
        text.append(str(number))
    return total.hexdigest()[:16], digest(",".join(text))


def main():
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    result, docs = json_round_trips(int(3000 * scale))
    print("json", result)
    print("re", regular_expressions(docs))
    print("strings", *strings_that_grow(int(40000 * scale)))
    index = collections.defaultdict(list)
    for doc in docs:
        for word in doc["body"].split():
            index[word].append(doc["id"])
    print("index", digest(repr(sorted((w, len(i), i[:3]) for w, i in index.items()))))


main()
