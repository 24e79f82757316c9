/* SPDX-License-Identifier: MIT */
/*
 * sharing WHICH THREADS OPERATIONS WRITES BYTES: threads write again and again to small blocks of
 * their own, after Berger's cache-scratch and cache-thrash. If an allocator puts blocks of two
 * threads into one cache line, they slow each other down.
 * active: each thread allocates its own blocks. passive: the first block of each comes from the
 * main thread, in one line with the others' perhaps; a thread that frees it must not get it back
 * into use in a way that keeps the line shared.
 */
#include "workload.h"

#include <string.h>

static size_t operations, writes, bytes;

static void write_often(volatile char *block)
{
	for (size_t i = 0; i < writes; i++)
		block[i % 8] = (char)(block[i % 8] + 1);
}

/* argument: a first block, or NULL. */
static void *run(void *argument)
{
	if (argument) {
		write_often(argument);
		free(argument);
	}
	for (size_t i = 0; i < operations; i++) {
		void *block = malloc(bytes);

		if (!block)
			fail("no memory");
		write_often(block);
		free(block);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t threads = number_of(argc, argv, 2);
	pthread_t *started = table_of(threads, sizeof(*started));
	void **firsts = table_of(threads, sizeof(*firsts));
	bool is_passive = strcmp(argv[1], "passive") == 0;

	operations = number_of(argc, argv, 3) / threads;
	writes = number_of(argc, argv, 4);
	bytes = number_of(argc, argv, 5);
	for (size_t i = 0; is_passive && i < threads; i++)
		firsts[i] = block_take(bytes);
	for (size_t i = 0; i < threads; i++)
		thread_start(&started[i], run, firsts[i]);
	for (size_t i = 0; i < threads; i++)
		thread_join(started[i]);
	return 0;
}
