/* SPDX-License-Identifier: MIT */
/*
 * percpu_churn LIVE COUNT: LIVE elements of 8 to 512 bytes; COUNT times one is freed and another
 * allocated, of another size. The memory in use at the end over what is live.
 */
#include "percpu_pool.h"

int main(int argc, char **argv)
{
	size_t live = number_of(argc, argv, 1);
	size_t count = number_of(argc, argv, 2);
	void **elements = table_of(live, sizeof(*elements));
	struct allod_percpu_stats stats = { .size = sizeof(stats) };
	struct allod_percpu_pool *pool = pool_for("2", NULL);
	uint32_t state = 12345;
	uint64_t start;

	for (size_t i = 0; i < live; i++)
		elements[i] = allod_percpu_alloc(pool, size_even(&state, 8, 512), 4);
	start = cpu_ns();
	for (size_t i = 0; i < count; i++) {
		size_t at = random_below(&state, live);
		allod_percpu_free(elements[at]);
		elements[at] = allod_percpu_alloc(pool, size_even(&state, 8, 512), 4);
		if (!elements[at])
			fail("no element");
	}
	report("pair", (double)(cpu_ns() - start) / (double)count, "ns");
	if (allod_percpu_pool_stats(pool, &stats))
		fail("no statistics");
	report("over_live", (double)stats.touched_bytes / (double)stats.live_bytes, "ratio");
	return 0;
}
