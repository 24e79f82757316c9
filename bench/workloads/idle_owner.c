/* SPDX-License-Identifier: MIT */
/*
 * idle_owner BYTES IDLE_MS: a thread allocates BYTES and then does nothing; another frees all of it
 * and does nothing either. Reports what is still resident after IDLE_MS.
 */
#include "workload.h"

enum { LOW = 16, HIGH = 16384 };

static size_t limit, count;
static void **blocks;
static sem_t produced, ended;

static void *produce(void *unused)
{
	uint32_t state = 1;

	for (size_t filled = 0; filled < limit; count++) {
		size_t bytes = size_log(&state, LOW, HIGH);

		blocks[count] = block_take(bytes);
		filled += bytes;
	}
	sem_post(&produced);
	while (sem_wait(&ended) != 0)
		;
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t producer;
	size_t idle_ms = number_of(argc, argv, 2);

	limit = number_of(argc, argv, 1);
	blocks = table_of(limit / LOW, sizeof(*blocks));
	thread_start(&producer, produce, NULL);
	while (sem_wait(&produced) != 0)
		;
	for (size_t i = 0; i < count; i++)
		block_give(blocks[i]);
	sleep_ms(idle_ms);
	report("resident_after_idle", (double)(resident_bytes() - count * sizeof(*blocks)),
		"bytes");
	sem_post(&ended);
	thread_join(producer);
	return 0;
}
