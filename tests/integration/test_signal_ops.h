/* SPDX-License-Identifier: MIT */
/*
 * Operations of the heap that a test interrupts or stops in the middle, and the blocks that the
 * process under test holds meanwhile. One thread at a time uses the table of blocks.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FINE ((size_t)48)     /* class 3: 1365 blocks a slab, all in one granule */
#define COARSE ((size_t)1024) /* 64 blocks a slab */

/* `prepare` brings the heap into the state in which `run` takes the way that the name tells. */
struct op {
	const char *name;
	void (*prepare)(void);
	void (*run)(void);
};

extern const struct op ops[];
extern const unsigned op_count;

/* The first so many are the fast paths. */
#define FAST_OPS 6

/* The operation's own block; whoever interrupts it leaves it alone. */
extern uint64_t *subject;

/* Every block in the table begins with a number that is checked when the block is freed. */
extern size_t block_count;
void hold(void *p);
void hold_many(size_t size, size_t count);
void release_many(size_t count);
