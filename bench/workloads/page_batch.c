/* SPDX-License-Identifier: MIT */
/*
 * page_batch each|batch COUNT PASSES BYTES...: COUNT blocks of a size are allocated and freed,
 * PASSES times and once before that, when they are also written to: by a call each, or by one call
 * of allod_page_batch(). Reported are nanoseconds a block.
 */
#include "timing.h"

#include <string.h>

#include "allod/page.h"

#pragma weak allod_page_alloc
#pragma weak allod_page_batch
#pragma weak allod_page_free

#include "pages.h"

static struct allod_page_op *ops;
static size_t count;
static bool is_batch;

static void run(enum allod_page_verb verb, size_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		ops[i].verb = verb;
		ops[i].bytes = bytes;
	}
	if (allod_page_batch(ops, count) != count)
		fail("an operation failed");
}

static void allocate(size_t bytes)
{
	if (is_batch) {
		run(ALLOD_PAGE_OP_ALLOC, bytes);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		ops[i].block = allod_page_alloc(bytes, NULL);
		if (!ops[i].block)
			fail("no memory");
	}
}

static void give_back(void)
{
	if (is_batch) {
		run(ALLOD_PAGE_OP_FREE, 0);
		return;
	}
	for (size_t i = 0; i < count; i++)
		allod_page_free(ops[i].block);
}

static void measure(size_t bytes, size_t passes)
{
	uint64_t allocating = 0, freeing = 0;

	allocate(bytes);
	for (size_t i = 0; i < count; i++)
		pages_touch(ops[i].block, 0, bytes);
	give_back();
	for (size_t i = 0; i < passes; i++) {
		uint64_t start = cpu_ns(), allocated;

		allocate(bytes);
		allocated = cpu_ns();
		give_back();
		allocating += allocated - start;
		freeing += cpu_ns() - allocated;
	}
	report_size("", bytes, "allocate", (double)allocating / (double)(passes * count), "ns");
	report_size("", bytes, "release", (double)freeing / (double)(passes * count), "ns");
}

int main(int argc, char **argv)
{
	size_t passes;

	if (argc < 5)
		fail("too few arguments");
	if (!allod_page_batch)
		fail("a library with allod_page_batch() is to be preloaded");
	is_batch = strcmp(argv[1], "batch") == 0;
	count = number_of(argc, argv, 2);
	passes = number_of(argc, argv, 3);
	ops = table_of(count, sizeof(*ops));
	for (int i = 4; i < argc; i++)
		measure(number_of(argc, argv, i), passes);
	return 0;
}
