/* SPDX-License-Identifier: MIT */
/*
 * percpu_lost CPUS COUNT: elements get initial values while two threads store to pages beside, so
 * that copies of these are under way; each processor's value is looked at. How many were lost.
 */
#include "percpu_pool.h"

enum { KEPT = 256, BYTES = 128 };

static _Atomic uintptr_t target;
static _Atomic bool is_over;

static void *store_on(void *argument)
{
	int cpu = (int)(intptr_t)argument;

	while (!is_over) {
		uint64_t *element = (uint64_t *)target;
		if (element)
			((volatile uint64_t *)allod_percpu_ptr(element, cpu))[1] = 99;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t cpus = number_of(argc, argv, 1);
	size_t count = number_of(argc, argv, 2);
	struct allod_percpu_pool *pool = pool_for(argv[1], NULL);
	void *kept[KEPT] = { NULL };
	pthread_t threads[2];
	size_t lost = 0;

	for (intptr_t i = 0; i < 2; i++)
		thread_start(&threads[i], store_on, (void *)i);
	for (size_t round = 1; round <= count; round++) {
		uint64_t value = round % 3 ? 7 : round;
		uint64_t *element = allod_percpu_alloc_init(pool, BYTES, 0, &value, sizeof(value));

		if (!element)
			fail("no element");
		for (size_t cpu = 0; cpu < cpus; cpu++)
			lost += *(const volatile uint64_t *)allod_percpu_peek(element, (int)cpu) !=
				value;
		target = (uintptr_t)element;
		allod_percpu_free(kept[round % KEPT]);
		kept[round % KEPT] = element;
	}
	is_over = true;
	for (int i = 0; i < 2; i++)
		thread_join(threads[i]);
	report("lost", (double)lost, "count");
	return 0;
}
