/* SPDX-License-Identifier: MIT */
/*
 * larson SERVERS BLOCKS LOW HIGH GENERATIONS OPERATIONS: a server simulation after Larson and
 * Krishnan ("Memory allocation for long-running server applications", 1998). A thread replaces
 * random blocks of its table for OPERATIONS, then starts a successor that goes on with the same
 * table, and ends: most blocks are freed by another thread than the one that allocated them, which
 * is no more.
 */
#include "workload.h"

struct server {
	void **blocks;
	size_t generation;
	uint32_t state;
};

static size_t blocks, low, high, generations, operations;
static sem_t finished;

static void *serve(void *argument)
{
	struct server *server = argument;
	pthread_t successor;

	for (size_t i = 0; i < operations; i++) {
		uint32_t slot = random_below(&server->state, blocks);

		block_give(server->blocks[slot]);
		server->blocks[slot] = block_take(size_even(&server->state, low, high));
	}
	if (++server->generation == generations) {
		sem_post(&finished);
		return NULL;
	}
	thread_start(&successor, serve, server);
	pthread_detach(successor);
	return NULL;
}

int main(int argc, char **argv)
{
	size_t count = number_of(argc, argv, 1);
	struct server *servers = table_of(count, sizeof(*servers));

	blocks = number_of(argc, argv, 2);
	low = number_of(argc, argv, 3);
	high = number_of(argc, argv, 4);
	generations = number_of(argc, argv, 5);
	operations = number_of(argc, argv, 6);
	sem_init(&finished, 0, 0);
	for (size_t i = 0; i < count; i++) {
		pthread_t first;

		servers[i].blocks = table_of(blocks, sizeof(void *));
		servers[i].state = (uint32_t)i + 1;
		thread_start(&first, serve, &servers[i]);
		pthread_detach(first);
	}
	for (size_t i = 0; i < count; i++)
		sem_wait(&finished);
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < blocks; k++)
			block_give(servers[i].blocks[k]);
	}
	return 0;
}
