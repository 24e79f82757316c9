/* SPDX-License-Identifier: MIT */
/* See page_fixture.h. */
#include "page_fixture.h"

#include "arena.h"
#include "harness.h"

#include <stdio.h>

size_t page_fixture_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	uintptr_t base = a_load_rlx(&page_arena.base);
	struct page_stats stats;
	unsigned long from, to;
	char line[512];
	size_t n = 0;

	CHECK(f != NULL);
	page_stats(&stats);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && to > base &&
			from < base + stats.committed_bytes)
			n++;
	fclose(f);
	return n;
}
