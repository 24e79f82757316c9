/* SPDX-License-Identifier: MIT */
/*
 * What a run that was just handed out contains: its granules' stamps still tell which of them read
 * as zero. Those have no pages, as a rule; those that do not have all of theirs.
 */
#include "arena.h"

#include <string.h>

enum {
	/*
	 * 256 KiB: what has its pages is gone over, 7 us a granule, or two calls are made: less that
	 * one costs than the other from there on.
	 */
	GAP_GRANULES = 4,
};

/* Granules [from, to) that are to get pages together; empty at first. */
struct hull {
	size_t from;
	size_t to;
};

/* Granules from pos on, `most` at most, that are like the first: fresh, or not. */
static size_t alike(const struct arena *a, size_t pos, size_t most)
{
	bool first = !(stamp_get(a, pos) & STAMP_EPOCH);
	size_t n = 1;

	while (n < most && !(stamp_get(a, pos + n) & STAMP_EPOCH) == first)
		n++;
	return n;
}

static void hull_populate(struct arena *a, const struct hull *hull)
{
	const size_t n = hull->to - hull->from;
	uint64_t begin;

	if (!n)
		return;
	huge_allow(a, hull->from, n);
	begin = n >= ARENA_CHUNK_GRANULES ? os_fine_ns() : 0;
	if (!os_populate(arena_address(a, hull->from), n << PAGE_GRANULE_SHIFT) && begin)
		cost_note(&a->cost_populate_ns, (os_fine_ns() - begin) * ARENA_CHUNK_GRANULES / n,
			1);
}

/* So many granules from pos on have no pages: with those before, if they are near. */
static void hull_add(struct arena *a, struct hull *hull, size_t pos, size_t n)
{
	if (hull->to && pos - hull->to >= GAP_GRANULES) {
		hull_populate(a, hull);
		hull->from = hull->to = 0;
	}
	if (!hull->to)
		hull->from = pos;
	hull->to = pos + n;
}

void page_prepare(struct page_run *run, bool zero, size_t populate_bytes)
{
	struct arena *a = arena_get();
	struct hull hull = { 0, 0 };
	size_t step;
	size_t pos;

	if (!run->fresh && !zero)
		return;
	if (!arena_position(a, run->base, &pos)) {
		/* A mapping of its own is not handed out again: what is beyond is nobody's. */
		if (populate_bytes)
			(void)os_populate(run->base, populate_bytes);
		return;
	}
	for (size_t i = 0; i < run->granules; i += step) {
		step = alike(a, pos + i, run->granules - i);
		if (stamp_get(a, pos + i) & STAMP_EPOCH) {
			if (zero)
				memset(arena_address(a, pos + i), 0, step << PAGE_GRANULE_SHIFT);
		} else if (populate_bytes) {
			hull_add(a, &hull, pos + i, step);
		}
	}
	hull_populate(a, &hull);
	run->zeroed |= zero;
}
