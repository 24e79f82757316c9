/* SPDX-License-Identifier: MIT */
/*
 * page_fault SOURCE MEMORY BYTES...: blocks of one size, one after the other: allocated, a byte of
 * each page written, freed; MEMORY bytes in all, but three blocks at least. After one that is not
 * measured. Then the same without writing. Figures 5 and 6 and table 1 of N. Douglas, "User Mode
 * Memory Page Allocation" (2011).
 */
#include "pages.h"

enum { LEAST = 3, MOST = 2000 };

static const struct page_source *source;

static void cycles(size_t bytes, size_t count, bool touches)
{
	for (size_t i = 0; i < count; i++) {
		void *block = source->alloc(bytes, 0);

		if (!block)
			fail("no memory");
		if (touches)
			pages_touch(block, 0, bytes);
		source->free(block, bytes);
	}
}

static void measure(size_t bytes, size_t memory)
{
	size_t count = memory / bytes;
	uint64_t cpu, wall;

	count = count < LEAST ? LEAST : count > MOST ? MOST : count;
	cycles(bytes, 1, true);
	wall = now_ns();
	cpu = cpu_ns();
	cycles(bytes, count, true);
	cpu = cpu_ns() - cpu;
	wall = now_ns() - wall;
	report_size("", bytes, "cycle", (double)cpu / (double)count, "ns");
	report_size("", bytes, "cycle_wall", (double)wall / (double)count, "ns");
	report_size("", bytes, "page", (double)cpu / (double)count / (double)(bytes / PAGE_BYTES),
		"ns");
	/* Those that populate would do so here, too. */
	count = source->may_keep ? MOST : LEAST;
	cpu = cpu_ns();
	cycles(bytes, count, false);
	report_size("", bytes, "call", (double)(cpu_ns() - cpu) / (double)count, "ns");
}

int main(int argc, char **argv)
{
	size_t memory;

	if (argc < 4)
		fail("too few arguments");
	source = source_named(argv[1]);
	memory = number_of(argc, argv, 2);
	for (int i = 3; i < argc; i++)
		measure(number_of(argc, argv, i), memory);
	return 0;
}
