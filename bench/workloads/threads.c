/* SPDX-License-Identifier: MIT */
/*
 * threads ROUNDS AT_ONCE BLOCKS LEFT: short-lived threads, AT_ONCE at a time. Each allocates BLOCKS
 * of up to 1 KiB and frees all but every LEFT-th, which the main thread frees when it has ended.
 */
#include "workload.h"

struct worker {
	pthread_t thread;
	void **blocks;
	uint32_t state;
};

static size_t blocks, left;

static void *work(void *argument)
{
	struct worker *worker = argument;

	for (size_t i = 0; i < blocks; i++)
		worker->blocks[i] = block_take(size_log(&worker->state, 16, 1024));
	for (size_t i = 0; i < blocks; i++) {
		if (i % left == 0)
			continue;
		block_give(worker->blocks[i]);
		worker->blocks[i] = NULL;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t rounds = number_of(argc, argv, 1);
	size_t at_once = number_of(argc, argv, 2);
	struct worker *workers = table_of(at_once, sizeof(*workers));

	blocks = number_of(argc, argv, 3);
	left = number_of(argc, argv, 4);
	for (size_t i = 0; i < at_once; i++) {
		workers[i].blocks = table_of(blocks, sizeof(void *));
		workers[i].state = (uint32_t)i + 1;
	}
	for (size_t round = 0; round < rounds; round++) {
		for (size_t i = 0; i < at_once; i++)
			thread_start(&workers[i].thread, work, &workers[i]);
		for (size_t i = 0; i < at_once; i++)
			thread_join(workers[i].thread);
		for (size_t i = 0; i < at_once; i++) {
			for (size_t k = 0; k < blocks; k += left)
				block_give(workers[i].blocks[k]);
		}
	}
	return 0;
}
