/* SPDX-License-Identifier: MIT */
/*
 * page_compose SOURCE HOW TOTAL PIECE LARGE: TOTAL bytes of blocks of PIECE are allocated and
 * written to, and every other one is freed, so that half of the memory is free and nothing larger
 * than PIECE lies together. Then a block of LARGE is allocated, and a byte of each page written:
 * how long that takes, once in a process, and by how much resident memory grows at it.
 *
 * HOW is `warm`, or `gone`: what was freed is given back first, so that fresh pages have to do.
 */
#include "pages.h"

#include <string.h>

#include "allod/pressure.h"

#pragma weak allod_page_trim

static const struct page_source *source;
static void **blocks;
static size_t count;
static size_t piece;
static size_t large;
static bool gone;

static void scatter(void)
{
	for (size_t i = 0; i < count; i++) {
		blocks[i] = source->alloc(piece, 0);
		if (!blocks[i])
			fail("no memory");
		pages_touch(blocks[i], 0, piece);
		pages_stamp(blocks[i], piece, i);
	}
	for (size_t i = 1; i < count; i += 2)
		source->free(blocks[i], piece);
	if (gone && allod_page_trim)
		(void)allod_page_trim(3);
}

/* Nobody else's pages were taken. */
static void check(void)
{
	for (size_t i = 0; i < count; i += 2)
		pages_check(blocks[i], piece, i);
}

int main(int argc, char **argv)
{
	uint64_t start, called, touched;
	size_t before;
	void *block;

	source = source_named(argv[1]);
	gone = argc > 2 && strcmp(argv[2], "gone") == 0;
	piece = number_of(argc, argv, 4);
	large = number_of(argc, argv, 5);
	count = number_of(argc, argv, 3) / piece;
	blocks = table_of(count, sizeof(*blocks));
	scatter();
	before = resident_bytes();
	start = cpu_ns();
	block = source->alloc(large, 0);
	called = cpu_ns();
	if (!block)
		fail("no memory");
	pages_touch(block, 0, large);
	touched = cpu_ns();
	report_size(gone ? "gone-" : "warm-", large, "call", (double)(called - start), "ns");
	report_size(gone ? "gone-" : "warm-", large, "cycle", (double)(touched - start), "ns");
	report_size(gone ? "gone-" : "warm-", large, "growth",
		((double)resident_bytes() - (double)before) / (double)large, "ratio");
	check();
	return 0;
}
