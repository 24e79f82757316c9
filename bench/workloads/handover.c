/* SPDX-License-Identifier: MIT */
/*
 * handover PAIRS BATCHES LOW HIGH: in each pair of threads one only allocates and one only frees.
 * Blocks are passed on a hundred at a time, and waiting sleeps, so that what is measured is the
 * allocator and not the queue. At most DEPTH batches are under way.
 */
#include "workload.h"

enum { BATCH = 100, DEPTH = 64 };

struct pair {
	void *blocks[DEPTH][BATCH];
	sem_t filled;
	sem_t empty;
	uint32_t state;
};

static size_t batches, low, high;

static void *produce(void *argument)
{
	struct pair *pair = argument;

	for (size_t n = 0; n < batches; n++) {
		void **batch = pair->blocks[n % DEPTH];

		while (sem_wait(&pair->empty) != 0)
			;
		for (int i = 0; i < BATCH; i++)
			batch[i] = block_take(size_even(&pair->state, low, high));
		sem_post(&pair->filled);
	}
	return NULL;
}

static void *consume(void *argument)
{
	struct pair *pair = argument;

	for (size_t n = 0; n < batches; n++) {
		void **batch = pair->blocks[n % DEPTH];

		while (sem_wait(&pair->filled) != 0)
			;
		for (int i = 0; i < BATCH; i++)
			block_give(batch[i]);
		sem_post(&pair->empty);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t count = number_of(argc, argv, 1);
	struct pair *pairs = table_of(count, sizeof(*pairs));
	pthread_t *threads = table_of(count, 2 * sizeof(*threads));

	batches = number_of(argc, argv, 2);
	low = number_of(argc, argv, 3);
	high = number_of(argc, argv, 4);
	for (size_t i = 0; i < count; i++) {
		pairs[i].state = (uint32_t)i + 1;
		sem_init(&pairs[i].filled, 0, 0);
		sem_init(&pairs[i].empty, 0, DEPTH);
		thread_start(&threads[2 * i], produce, &pairs[i]);
		thread_start(&threads[2 * i + 1], consume, &pairs[i]);
	}
	for (size_t i = 0; i < 2 * count; i++)
		thread_join(threads[i]);
	return 0;
}
