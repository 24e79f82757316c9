/* SPDX-License-Identifier: MIT */
/*
 * page_realloc SOURCE BLOCKS MOST: figure 11 of N. Douglas, "User Mode Memory Page Allocation"
 * (2011): BLOCKS blocks of 4 KiB, all of which are doubled again and again until they have MOST
 * bytes, and a byte of each new page is written. All of it twice, and the second time is measured:
 * by then an allocator that keeps memory has it.
 *
 * Where it can be said, blocks are allocated with room for MOST bytes.
 */
#include "pages.h"

enum { FIRST_BYTES = 4096 };

static const struct page_source *source;
static size_t count;
static void **blocks;

static void allocate(size_t reserve)
{
	for (size_t i = 0; i < count; i++) {
		blocks[i] = source->alloc(FIRST_BYTES, reserve);
		if (!blocks[i])
			fail("no memory");
		pages_stamp(blocks[i], FIRST_BYTES, i);
	}
}

static void resize(size_t old_bytes, size_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		blocks[i] = source->resize(blocks[i], old_bytes, bytes);
		if (!blocks[i])
			fail("no memory");
	}
}

static void touch(size_t from, size_t to)
{
	for (size_t i = 0; i < count; i++)
		pages_touch(blocks[i], from, to);
}

/* The first page of each has its stamp still. */
static void check_and_free(size_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		pages_check(blocks[i], FIRST_BYTES, i);
		source->free(blocks[i], bytes);
	}
}

static void pass(size_t most, bool is_measured)
{
	allocate(most);
	for (size_t bytes = 2 * FIRST_BYTES; bytes <= most; bytes *= 2) {
		uint64_t wall = now_ns(), start = cpu_ns(), called, touched;

		resize(bytes / 2, bytes);
		called = cpu_ns();
		touch(bytes / 2, bytes);
		touched = cpu_ns();
		if (!is_measured)
			continue;
		report_size("", bytes, "call", (double)(called - start) / (double)count, "ns");
		report_size("", bytes, "grow", (double)(touched - start) / (double)count, "ns");
		report_size("", bytes, "grow_wall", (double)(now_ns() - wall) / (double)count,
			"ns");
	}
	check_and_free(most);
}

int main(int argc, char **argv)
{
	size_t most = number_of(argc, argv, 3);

	source = source_named(argv[1]);
	count = number_of(argc, argv, 2);
	blocks = table_of(count, sizeof(*blocks));
	pass(most, false);
	pass(most, true);
	return 0;
}
