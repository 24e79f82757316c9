/* SPDX-License-Identifier: MIT */
/*
 * stopped LIVE PASSES: a producer allocates LIVE bytes and never allocates again, but does not end.
 * A consumer frees each block in random order and allocates one of another random size in its
 * place, PASSES times over. What is live stays the same, so memory should.
 */
#include "workload.h"

enum { LOW = 16, HIGH = 2048 };

static size_t limit, count;
static void **blocks;
static size_t *sizes;
static sem_t produced, ended;

static void *produce(void *unused)
{
	uint32_t state = 1;

	for (size_t filled = 0; filled < limit; count++) {
		sizes[count] = size_log(&state, LOW, HIGH);
		blocks[count] = block_take(sizes[count]);
		filled += sizes[count];
	}
	sem_post(&produced);
	while (sem_wait(&ended) != 0)
		;
	return unused;
}

static size_t consume(size_t passes)
{
	uint32_t state = 2;
	size_t live = limit;

	for (size_t i = 0; i < passes * count; i++) {
		size_t slot = random_below(&state, count);

		live -= sizes[slot];
		block_give(blocks[slot]);
		sizes[slot] = size_log(&state, LOW, HIGH);
		blocks[slot] = block_take(sizes[slot]);
		live += sizes[slot];
	}
	return live;
}

int main(int argc, char **argv)
{
	pthread_t producer;
	size_t passes = number_of(argc, argv, 2);
	size_t live, tables;

	limit = number_of(argc, argv, 1);
	blocks = table_of(limit / LOW, sizeof(*blocks));
	sizes = table_of(limit / LOW, sizeof(*sizes));
	thread_start(&producer, produce, NULL);
	while (sem_wait(&produced) != 0)
		;
	live = consume(passes);
	tables = count * (sizeof(*blocks) + sizeof(*sizes));
	report("resident_over_live", (double)(resident_bytes() - tables) / (double)live, "ratio");
	report("peak_over_live", (double)(peak_bytes() - tables) / (double)live, "ratio");
	sem_post(&ended);
	thread_join(producer);
	for (size_t i = 0; i < count; i++)
		block_give(blocks[i]);
	return 0;
}
