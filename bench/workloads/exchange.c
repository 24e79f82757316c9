/* SPDX-License-Identifier: MIT */
/*
 * exchange THREADS SLOTS OPERATIONS LOW HIGH: all threads put new blocks into random slots of one
 * table and free what was there, so that any thread's blocks are freed by any thread.
 */
#include "workload.h"

#include <stdatomic.h>

static _Atomic(void *) *slots;
static size_t slot_count, operations, low, high;

static void *run(void *argument)
{
	uint32_t state = (uint32_t)(uintptr_t)argument;

	for (size_t i = 0; i < operations; i++) {
		void *block = block_take(size_even(&state, low, high));

		block_give(atomic_exchange(&slots[random_below(&state, slot_count)], block));
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t threads = number_of(argc, argv, 1);
	pthread_t *started = table_of(threads, sizeof(*started));

	slot_count = number_of(argc, argv, 2);
	operations = number_of(argc, argv, 3) / threads;
	low = number_of(argc, argv, 4);
	high = number_of(argc, argv, 5);
	slots = table_of(slot_count, sizeof(*slots));
	for (size_t i = 0; i < threads; i++)
		thread_start(&started[i], run, (void *)(uintptr_t)(i + 1));
	for (size_t i = 0; i < threads; i++)
		thread_join(started[i]);
	for (size_t i = 0; i < slot_count; i++)
		block_give(slots[i]);
	return 0;
}
