/* SPDX-License-Identifier: MIT */
/*
 * percpu_zhou CPUS BYTES ALIGN ORDER: a million elements are allocated, then freed in order (0), the
 * even ones and then the odd ones (1), or in reverse (2). The table of D. Zhou's patch (2017). The
 * shortest of three rounds.
 */
#include "percpu_pool.h"

enum { COUNT = 1000000, ROUNDS = 3 };

static void **elements;

static void free_all(int order)
{
	switch (order) {
	case 0:
		for (size_t i = 0; i < COUNT; i++)
			allod_percpu_free(elements[i]);
		break;
	case 1:
		for (size_t i = 0; i < COUNT; i += 2)
			allod_percpu_free(elements[i]);
		for (size_t i = 1; i < COUNT; i += 2)
			allod_percpu_free(elements[i]);
		break;
	default:
		for (size_t i = COUNT; i-- > 0;)
			allod_percpu_free(elements[i]);
	}
}

int main(int argc, char **argv)
{
	size_t bytes = number_of(argc, argv, 2);
	size_t align = number_of(argc, argv, 3);
	int order = (int)number_of(argc, argv, 4);
	double best_alloc = 1e18;
	double best_free = 1e18;

	elements = table_of(COUNT, sizeof(*elements));
	for (size_t i = 0; i < COUNT; i++)
		elements[i] = elements;
	for (int round = 0; round < ROUNDS; round++) {
		struct allod_percpu_pool *pool = pool_for(argv[1], NULL);
		uint64_t start = cpu_ns();
		for (size_t i = 0; i < COUNT; i++) {
			elements[i] = allod_percpu_alloc(pool, bytes, align);
			if (!elements[i])
				fail("no element");
		}
		uint64_t middle = cpu_ns();
		free_all(order);
		uint64_t end = cpu_ns();
		best_alloc = (double)(middle - start) < best_alloc ? (double)(middle - start)
								   : best_alloc;
		best_free = (double)(end - middle) < best_free ? (double)(end - middle) : best_free;
		allod_percpu_pool_destroy(pool);
	}
	report("alloc_s", best_alloc / 1e9, "s");
	report("free_s", best_free / 1e9, "s");
	return 0;
}
