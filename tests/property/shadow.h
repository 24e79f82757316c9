/* SPDX-License-Identifier: MIT */
/*
 * A shadow model of the heap: the blocks that one thread holds, each filled with a pattern made
 * from its number, and random operations on them. Every operation checks what the heap answered:
 * alignment, size, zeroes, and that the contents of old blocks are what they were. One thread uses
 * a shadow at a time; blocks may move from one shadow to another.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shadow_block {
	unsigned char *p;
	size_t bytes; /* usable; all of them bear the pattern, or for large blocks a sample */
	uint64_t id;
};

#define SHADOW_BLOCKS_MAX 4096

struct shadow {
	struct shadow_block blocks[SHADOW_BLOCKS_MAX];
	size_t count;
	size_t bytes;
	size_t bytes_most; /* above, blocks are freed first */
	uint64_t next_id;
	uint64_t random;
};

void shadow_init(struct shadow *s, uint64_t seed, size_t bytes_most);

/* One random operation. */
void shadow_step(struct shadow *s);

/* Frees one block at random, or all of them; the pattern is checked before. */
void shadow_free_one(struct shadow *s);
void shadow_free_all(struct shadow *s);

/* Moves a block chosen at random out of the shadow, or into it. */
bool shadow_take(struct shadow *s, struct shadow_block *ret_block);
void shadow_put(struct shadow *s, struct shadow_block block);

/* Checks that no two blocks overlap. Uses memory of its own; not while others use it. */
void shadow_check_overlap(const struct shadow *shadows, size_t count);

/* Checks the heap's invariants, and that its numbers are those of the shadows; at rest. */
void shadow_check_account(const struct shadow *shadows, size_t count);
