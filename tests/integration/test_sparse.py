#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_sparse.py INCLUDE...: sparse follows the mark of pointers to per-CPU elements. Prints TAP."""
import os
import shutil
import subprocess
import sys
import tempfile

PROLOGUE = """\
#include <allod/counter.h>
#include <allod/percpu-ops.h>
#include <allod/percpu-static.h>
#include <allod/percpu.h>
"""

# What programs do, and sparse has nothing to say of.
GOOD = {
    "a word of each processor": PROLOGUE + """
static uint64_t sum(struct allod_percpu_pool *pool)
{
	uint64_t ALLOD_PERCPU *word = allod_percpu_zalloc(pool, sizeof(uint64_t), 0);
	uint64_t sum = 0;
	int cpu;

	if (!word)
		return 0;
	allod_percpu_add(word, 1);
	allod_percpu_for_each_active(cpu)
		sum += *allod_percpu_ptr(word, cpu);
	sum += *(const uint64_t *)allod_percpu_peek(word, 0);
	allod_percpu_free(word);
	return sum;
}

int main(void)
{
	return (int)sum(allod_percpu_pool_create("words", NULL));
}
""",
    "a structure, lists and pairs": PROLOGUE + """
struct state {
	struct allod_percpu_list list;
	struct allod_percpu_pair pair;
	long plain;
};

int main(void)
{
	static struct allod_percpu_node node;
	struct allod_percpu_pool *pool = allod_percpu_pool_create(NULL, NULL);
	struct state ALLOD_PERCPU *state = allod_percpu_zalloc(pool, sizeof(struct state), 0);

	if (!allod_percpu_list_push(&state->list, &node))
		return 1;
	allod_percpu_pair_add(&state->pair, 1, 2);
	allod_percpu_ptr(state, 0)->plain = 3;
	return allod_percpu_list_pop(&state->list) != &node;
}
""",
    "a static variable": PROLOGUE + """
static ALLOD_PERCPU_DEFINE(uint64_t, hits) = 3;

int main(void)
{
	allod_percpu_add(ALLOD_PERCPU_VAR(hits), 1);
	return (int)*allod_percpu_ptr(ALLOD_PERCPU_VAR(hits), 0);
}
""",
    "librseq's names": """
#include <allod/compat/librseq-mempool.h>

int main(void)
{
	struct rseq_mempool *pool = rseq_mempool_create("ints", sizeof(int), NULL);
	int __rseq_percpu *item = rseq_mempool_percpu_zmalloc(pool);

	*rseq_percpu_ptr(item, 0) = 1;
	rseq_mempool_percpu_free(item);
	return rseq_mempool_destroy(pool);
}
""",
}

# A statement that is wrong, where `word` is an element and `plain` is not, and what sparse says.
BAD = {
    "an element that is followed": ("*word = 1;", "dereference of noderef expression"),
    "a member that is followed": ("word[2]++;", "dereference of noderef expression"),
    "an element that loses its mark": ("plain = word;", "different address spaces"),
    "an element given to memset": ("memset(word, 0, 8);", "different address spaces"),
    "an element given to free": ("free(word);", "different address spaces"),
    "a plain pointer given to an operation": ("allod_percpu_add(plain, 1);",
                                              "different address spaces"),
    "a plain pointer freed as an element": ("allod_percpu_free(plain);",
                                            "different address spaces"),
    "a plain pointer as an element": ("word = plain;", "different address spaces"),
}


def bad_program(statement):
    return "#include <stdlib.h>\n#include <string.h>\n" + PROLOGUE + """
int main(void)
{
	static uint64_t one;
	uint64_t *plain = &one;
	uint64_t ALLOD_PERCPU *word =
		allod_percpu_zalloc(allod_percpu_pool_create(NULL, NULL), sizeof(uint64_t), 0);

	%s
	return !plain || !word;
}
""" % statement


def sparse(text, includes):
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write(text)
        source.flush()
        done = subprocess.run(["sparse"] + ["-I" + i for i in includes] + [source.name],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode not in (0, 1):
            return done.stdout + "sparse ended with %d" % done.returncode
        return "".join(line for line in done.stdout.splitlines(True)
                       if os.path.basename(source.name) + ": note" not in line)


def main():
    includes = sys.argv[1:]
    if not shutil.which("sparse"):
        print("1..0 # SKIP sparse is not installed")
        return 77
    print("1..%d" % (len(GOOD) + len(BAD)))
    failed = 0
    results = [(name, sparse(text, includes), None) for name, text in GOOD.items()]
    results += [(name, sparse(bad_program(statement), includes), wanted)
                for name, (statement, wanted) in BAD.items()]
    for number, (name, said, wanted) in enumerate(results, 1):
        lines = [line for line in said.splitlines() if "warning:" in line or "error:" in line]
        is_good = len(lines) == 1 and wanted in lines[0] if wanted else not said
        print("%sok %d - %s" % ("" if is_good else "not ", number, name))
        if not is_good:
            print("# " + said.replace("\n", "\n# "))
        failed += not is_good
    return 1 if failed else 0


sys.exit(main())
