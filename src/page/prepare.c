/* SPDX-License-Identifier: MIT */
/*
 * What a run that was just handed out contains: its granules' stamps still tell which of them read
 * as zero. Those have no pages, as a rule; those that do not have all of theirs.
 */
#include "arena.h"

#include <string.h>

/* The range of granules that read as zero, and what lies between them. */
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

/* Clears what is not zero, if asked to, and returns where the rest is. */
static struct hull walk(const struct arena *a, size_t pos, size_t n, bool zero)
{
	struct hull hull = { 0, 0 };
	size_t step;

	for (size_t i = 0; i < n; i += step) {
		step = alike(a, pos + i, n - i);
		if (!(stamp_get(a, pos + i) & STAMP_EPOCH)) {
			hull.from = hull.to ? hull.from : pos + i;
			hull.to = pos + i + step;
		} else if (zero) {
			memset(arena_address(a, pos + i), 0, step << PAGE_GRANULE_SHIFT);
		}
	}
	return hull;
}

void page_prepare(struct page_run *run, bool zero, bool populate)
{
	struct arena *a = arena_get();
	size_t pos;

	if (!run->fresh && !zero)
		return;
	if (!arena_position(a, run->base, &pos)) {
		if (populate)
			(void)os_populate(run->base, run->granules << PAGE_GRANULE_SHIFT);
		return;
	}
	struct hull hull = walk(a, pos, run->granules, zero);
	if (populate && hull.to) {
		huge_allow(a, hull.from, hull.to - hull.from);
		(void)os_populate(arena_address(a, hull.from),
			(hull.to - hull.from) << PAGE_GRANULE_SHIFT);
	}
	run->zeroed |= zero;
}
