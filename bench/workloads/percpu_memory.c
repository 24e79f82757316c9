/* SPDX-License-Identifier: MIT */
/*
 * percpu_memory CPUS KIND POOLS: what 10,000 counters of 8 bytes take that two processors add to,
 * beyond the pages that the counters fill; KIND: 0 zeroed, 1 all with the same initial value, 2 each
 * with its own. With POOLS, the counters are spread over so many pools. Then: what freeing elements
 * that nobody touched adds, and how much goes back when 10 of 11 are freed.
 */
#include "percpu_pool.h"

enum { COUNT = 10000, ACTIVE = 2, PARTS = 11, LARGE = 22000, LARGE_BYTES = 256 };

static uint64_t **elements;

static void counters(struct allod_percpu_pool **pools, size_t count, int kind)
{
	for (size_t i = 0; i < COUNT; i++) {
		uint64_t value = kind == 1 ? 1 : i + 1;
		struct allod_percpu_pool *pool = pools[i % count];

		elements[i] = kind ? allod_percpu_alloc_init(pool, 8, 0, &value, 8)
				   : allod_percpu_zalloc(pool, 8, 0);
		if (!elements[i])
			fail("no element");
	}
	for (size_t i = 0; i < COUNT; i++) {
		for (int cpu = 0; cpu < ACTIVE; cpu++)
			++*allod_percpu_ptr(elements[i], cpu);
	}
}

static void large(struct allod_percpu_pool *pool, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		elements[i] = allod_percpu_alloc(pool, LARGE_BYTES, 0);
		if (!elements[i])
			fail("no element");
	}
}

int main(int argc, char **argv)
{
	int kind = (int)number_of(argc, argv, 2);
	size_t count = number_of(argc, argv, 3);
	struct allod_percpu_pool **pools = table_of(count, sizeof(*pools));
	size_t before_mappings;
	size_t before;
	size_t filled;

	elements = table_of(LARGE, sizeof(*elements));
	for (size_t i = 0; i < LARGE; i++)
		elements[i] = (uint64_t *)elements;
	before_mappings = mappings();
	before = own_bytes();
	for (size_t i = 0; i < count; i++)
		pools[i] = pool_for(argv[1], NULL);
	counters(pools, count, kind);
	report("beyond", (double)(own_bytes() - before) - (double)(ACTIVE * COUNT * 8), "bytes");
	report("mappings",
		(double)(mappings() - before_mappings) - (double)number_of(argc, argv, 1), "count");
	struct allod_percpu_pool *pool = pool_for(argv[1], NULL);
	large(pool, LARGE);
	before = proc_bytes("/proc/self/smaps_rollup", "Anonymous: %zu");
	for (size_t i = 0; i < LARGE; i++)
		allod_percpu_free(elements[i]);
	filled = proc_bytes("/proc/self/smaps_rollup", "Anonymous: %zu");
	report("freeing_adds", filled > before ? (double)(filled - before) : 0, "bytes");
	large(pool, LARGE);
	before = proc_bytes("/proc/self/smaps_rollup", "Anonymous: %zu");
	for (size_t i = 0; i < LARGE; i++)
		*allod_percpu_ptr(elements[i], 1) = 1;
	filled = proc_bytes("/proc/self/smaps_rollup", "Anonymous: %zu") - before;
	for (size_t i = 0; i < LARGE / PARTS * (PARTS - 1); i++)
		allod_percpu_free(elements[i]);
	report("kept",
		((double)proc_bytes("/proc/self/smaps_rollup", "Anonymous: %zu") - (double)before) /
			(double)filled,
		"ratio");
	return 0;
}
