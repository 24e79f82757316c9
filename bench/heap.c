/* SPDX-License-Identifier: MIT */
/*
 * What malloc and free cost in a few typical patterns. Calls the standard names, so that the same
 * binary measures whatever allocator is loaded. Prints "NAME NANOSECONDS" for each pattern, one
 * operation being one allocation with its free.
 *
 * The first and last byte of each block are written, as every program does.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	OPERATIONS = 2 * 1000 * 1000,
	LIVE = 10000,   /* blocks alive at a time where many are */
	BATCH = 100,    /* blocks handed from one thread to the other at a time */
	QUEUE = 16,     /* batches under way */
	LARGE = 20000,  /* operations on large blocks */
	GROWN = 300000, /* operations of the growing buffer */
};

struct pattern {
	const char *name;
	void (*run)(void);
	int operations;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* xorshift: the same sizes in every run. */
static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* Sizes as programs ask for them: mostly small, up to 4 KiB. */
static size_t random_size(uint32_t *state)
{
	uint32_t r = random_next(state);

	return 1 + ((r >> 8) & ((32u << (r % 8)) - 1));
}

static char *touch(size_t bytes)
{
	char *block = malloc(bytes);

	if (!block)
		abort();
	block[0] = 1;
	block[bytes - 1] = 1;
	return block;
}

/* One block at a time: the shortest way through the allocator. */
static void run_pair(void)
{
	for (int i = 0; i < OPERATIONS; i++)
		free(touch(64));
}

/* Many blocks of mixed sizes alive, replaced in random order. */
static void run_mixed(void)
{
	static char *blocks[LIVE];
	uint32_t state = 1;

	for (int i = 0; i < OPERATIONS; i++) {
		uint32_t which = random_next(&state) % LIVE;

		free(blocks[which]);
		blocks[which] = touch(random_size(&state));
	}
	for (int i = 0; i < LIVE; i++) {
		free(blocks[i]);
		blocks[i] = NULL;
	}
}

/* All allocated, then all freed in the same order: a phase of a program. */
static void run_phases(void)
{
	static char *blocks[LIVE];

	for (int round = 0; round < OPERATIONS / LIVE; round++) {
		for (int i = 0; i < LIVE; i++)
			blocks[i] = touch(48);
		for (int i = 0; i < LIVE; i++)
			free(blocks[i]);
	}
}

/* Handed over in batches, or passing them on would cost more than what is measured. */
static struct batch {
	_Atomic(int) full;
	char *blocks[BATCH];
} queue[QUEUE];

static void wait_until(struct batch *batch, int full)
{
	while (atomic_load_explicit(&batch->full, memory_order_acquire) != full)
		sched_yield();
}

static void *free_from_queue(void *unused)
{
	for (int i = 0; i < OPERATIONS / BATCH; i++) {
		struct batch *batch = &queue[i % QUEUE];

		wait_until(batch, 1);
		for (int k = 0; k < BATCH; k++)
			free(batch->blocks[k]);
		atomic_store_explicit(&batch->full, 0, memory_order_release);
	}
	return unused;
}

/* One thread allocates, the other frees. */
static void run_handover(void)
{
	pthread_t consumer;
	uint32_t state = 1;

	if (pthread_create(&consumer, NULL, free_from_queue, NULL) != 0)
		abort();
	for (int i = 0; i < OPERATIONS / BATCH; i++) {
		struct batch *batch = &queue[i % QUEUE];

		wait_until(batch, 0);
		for (int k = 0; k < BATCH; k++)
			batch->blocks[k] = touch(random_size(&state) % 512 + 1);
		atomic_store_explicit(&batch->full, 1, memory_order_release);
	}
	pthread_join(consumer, NULL);
}

/* Blocks of 64 KiB to 1 MiB, every page of them written. */
static void run_large(void)
{
	uint32_t state = 1;

	for (int i = 0; i < LARGE; i++) {
		size_t bytes = (size_t)(1 + random_next(&state) % 16) << 16;
		char *block = touch(bytes);

		for (size_t at = 0; at < bytes; at += 4096)
			block[at] = 1;
		free(block);
	}
}

/* A buffer that grows by an eighth from 1 KiB to 8 MiB, over and over. */
static void run_growth(void)
{
	size_t bytes = 1024;
	char *block = touch(bytes);

	for (int i = 0; i < GROWN; i++) {
		bytes = bytes < (size_t)8 << 20 ? bytes + bytes / 8 : 1024;
		block = realloc(block, bytes);
		if (!block)
			abort();
		block[bytes - 1] = 1;
	}
	free(block);
}

static const struct pattern patterns[] = {
	{ "pair", run_pair, OPERATIONS },
	{ "mixed", run_mixed, OPERATIONS },
	{ "phases", run_phases, OPERATIONS },
	{ "handover", run_handover, OPERATIONS },
	{ "large", run_large, LARGE },
	{ "growth", run_growth, GROWN },
};

int main(void)
{
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		uint64_t start = now_ns();

		patterns[i].run();
		printf("%s %.2f\n", patterns[i].name,
			(double)(now_ns() - start) / patterns[i].operations);
	}
	return 0;
}
