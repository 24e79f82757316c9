/* SPDX-License-Identifier: MIT */
/*
 * mixed THREADS LIVE OPERATIONS LOW HIGH DISTRIBUTION: each thread keeps LIVE blocks of random
 * size and replaces a random one at each of its operations. DISTRIBUTION is even (all sizes from
 * LOW to HIGH equally likely) or log (all doublings equally likely; powers of two).
 * OPERATIONS are shared out among the threads, and so is LIVE.
 */
#include "workload.h"

#include <string.h>

static size_t live, operations, low, high;
static bool is_log;

static size_t next_size(uint32_t *state)
{
	return is_log ? size_log(state, low, high) : size_even(state, low, high);
}

static void *run(void *argument)
{
	uint32_t state = (uint32_t)(uintptr_t)argument;
	void **blocks = table_of(live, sizeof(*blocks));

	for (size_t i = 0; i < live; i++)
		blocks[i] = block_take(next_size(&state));
	for (size_t i = 0; i < operations; i++) {
		uint32_t slot = random_below(&state, live);

		block_give(blocks[slot]);
		blocks[slot] = block_take(next_size(&state));
	}
	for (size_t i = 0; i < live; i++)
		block_give(blocks[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	size_t threads = number_of(argc, argv, 1);
	pthread_t *started = table_of(threads, sizeof(*started));

	live = number_of(argc, argv, 2) / threads;
	operations = number_of(argc, argv, 3) / threads;
	low = number_of(argc, argv, 4);
	high = number_of(argc, argv, 5);
	is_log = argc > 6 && strcmp(argv[6], "log") == 0;
	for (size_t i = 1; i < threads; i++)
		thread_start(&started[i], run, (void *)(uintptr_t)(i + 1));
	run((void *)(uintptr_t)1);
	for (size_t i = 1; i < threads; i++)
		thread_join(started[i]);
	return 0;
}
