/* SPDX-License-Identifier: MIT */
/*
 * What the workloads of the benchmark share. A workload is a program of one idea that calls the
 * standard names only, so that it measures whatever allocator is loaded; all its numbers come from
 * argv and its random numbers are the same in every run.
 *
 * Blocks are used as programs use them: each page is touched, and the first word carries a stamp
 * made from the address, which is looked at before the block is freed. Two owners of one block end
 * the program. Tables of blocks are mapped, not allocated, and so count for no allocator.
 *
 * Results other than time and peak go to file descriptor 3, if it is open, as "NAME VALUE UNIT".
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum {
	PAGE_BYTES = 4096,
	MIB = 1 << 20,
};

#define STAMP 0x5bd1e9955bd1e995u

/* The number in argv[index]: decimal, with k or m for powers of 1024. */
size_t number_of(int argc, char **argv, int index);

/* Zeroed memory for the workload's own tables. Ends the program if there is none. */
void *table_of(size_t count, size_t bytes_each);

/* Ends the program with a message: a workload that could not do its work must not be measured. */
_Noreturn void fail(const char *what);

void thread_start(pthread_t *ret_thread, void *(*run)(void *), void *argument);
void thread_join(pthread_t thread);

void sleep_ms(size_t milliseconds);
uint64_t now_ns(void);

/* Memory of this process that is in RAM, from smaps_rollup. */
size_t resident_bytes(void);
/* The most that it ever was. */
size_t peak_bytes(void);

void report(const char *name, double value, const char *unit);

/* xorshift: short, and good enough to choose sizes and slots. The state may not be 0. */
static inline uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static inline uint32_t random_below(uint32_t *state, size_t limit)
{
	return (uint32_t)(((uint64_t)random_next(state) * limit) >> 32);
}

/* A size from low to high, all equally likely. */
static inline size_t size_even(uint32_t *state, size_t low, size_t high)
{
	return low + random_below(state, high - low + 1);
}

/* A size from low up to high (powers of two): each doubling equally likely, as in most programs. */
static inline size_t size_log(uint32_t *state, size_t low, size_t high)
{
	int doublings = __builtin_ctzl(high) - __builtin_ctzl(low);
	size_t base = low << random_below(state, (size_t)doublings);

	return base + random_below(state, base);
}

/* Writes to each page and to the last byte, then the stamp. A block has at least 8 bytes. */
static inline void block_touch(void *block, size_t bytes)
{
	char *at = block;

	for (size_t i = PAGE_BYTES; i < bytes; i += PAGE_BYTES)
		at[i] = 1;
	at[bytes - 1] = 1;
	*(uint64_t *)block = (uintptr_t)block ^ STAMP;
}

static inline void *block_take(size_t bytes)
{
	void *block = malloc(bytes);

	if (!block)
		fail("no memory");
	block_touch(block, bytes);
	return block;
}

/* Frees a block, or NULL, after a look at its stamp. */
static inline void block_give(void *block)
{
	if (block && *(uint64_t *)block != ((uintptr_t)block ^ STAMP))
		fail("a block has another's content");
	free(block);
}
