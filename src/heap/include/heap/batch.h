/* SPDX-License-Identifier: MIT */
/*
 * Many blocks by one call, and what N1527 wants of a block beyond malloc's family. The rules of
 * heap/heap.h hold here too, but that failures are told by the result alone: errno may be written.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What is wanted of blocks, and how. */
struct heap_want {
	size_t align;   /* power of two, at least HEAP_ALIGN_MIN */
	size_t reserve; /* a hint: the size to which the block may grow in place; 0: none */
	bool zeroed;    /* of a resized block, what lies behind its old usable size */
	bool fixed;     /* a resize must not move */
	bool brief;     /* no housekeeping */
};

/* Blocks from this size on are given the room that their reservation asks for. */
#define HEAP_RESERVE_LEAST_BYTES ((size_t)4096)

/* Allocates `count` blocks, or fewer for want of memory; returns how many it has put in the array.
 */
size_t heap_alloc_many(size_t size, const struct heap_want *want, size_t count, void **ret_blocks);

/* Frees the blocks; NULLs are skipped. The fewer slabs take turns in the array, the faster. */
void heap_free_many(void *const *blocks, size_t count, bool brief);

/*
 * Changes the size of a live block, neither NULL nor 0. Returns 0, -ENOMEM, or -ENOSPC when it may
 * not move and would have to; the block is as it was then.
 */
int heap_adjust(void *block, size_t size, const struct heap_want *want, void **ret_block);

/* The size to which a live block can surely grow in place; at least its usable size. */
size_t heap_room(const void *block);
