/* SPDX-License-Identifier: MIT */
/*
 * block: blocks of whole pages for programs, over the page layer's granules; what
 * include/allod/page.h promises is done here.
 *
 * A block is of one of four kinds, told by its address:
 *   piece   up to 15 pages within one granule of the arena that blocks share (piece.c)
 *   run     granules of the arena (run.c)
 *   slot    addresses of its own within a slot aligned to its size, so that its page tables can be
 *           hung elsewhere as one (slot.c)
 *   loose   a mapping of its own, for what fits nowhere else (loose.c)
 *
 * Nothing here takes a lock. Every function may be called by any thread at any time, also from a
 * signal handler that interrupted another one of them, unless it says otherwise; but calls that
 * change one block at the same time need an order of the callers'.
 *
 * Callers: api. Calls down: page, os, base.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum block_kind {
	BLOCK_NONE = 0,
	BLOCK_PIECE,
	BLOCK_RUN,
	BLOCK_SLOT,
	BLOCK_LOOSE,
};

/* What a caller wants of a block; `flags` are those of enum allod_page_flag. */
struct block_want {
	unsigned flags;
	int node;
	size_t align_bytes;   /* power of two, 0: a page */
	size_t reserve_bytes; /* 0: none */
	const char *tag;      /* NULL: none */
};

/* What is known of a live block, at one moment. */
struct block {
	enum block_kind kind;
	unsigned flags; /* those that it was allocated with */
	char *base;
	size_t bytes;      /* its size: whole pages */
	size_t room_bytes; /* addresses that are its own; >= bytes */
	size_t id;         /* kind's own: number of the granule, slot or entry */
};

/* Allocates; 0, -ENOMEM or -EAGAIN. `bytes` is not 0; `want` is never NULL and has been checked. */
int block_alloc(size_t bytes, const struct block_want *want, void **ret_block);
/* Whether there is such a NUMA node. */
bool block_node_exists(int node);
/* What there is; live blocks by kind. */
struct block_stats {
	size_t blocks[BLOCK_LOOSE + 1];
	size_t bytes[BLOCK_LOOSE + 1];
	size_t waiting_bytes; /* freed, and kept with its pages, but for what page has */
};

void block_stats_read(struct block_stats *ret_stats);
/* Puts back what waits in caches, so that page can give it back; returns the bytes. */
size_t block_trim(void);
/* Frees a live block. Misuse ends the process. */
void block_free(void *block);
/* Finds the live block that begins at `block`; false if none does. */
bool block_find(const void *block, struct block *ret_block);
/* Finds the live block that holds `p`, which need not be its beginning. */
bool block_holding(const void *p, struct block *ret_block);
/* As block_find(), but ends the process with a line when there is none. */
void block_must_find(const void *block, struct block *ret_block);

/* realloc.c; *ret_block is written on success only. 0, -ENOSPC, -ENOMEM, -EAGAIN. */
int block_resize(void *block, size_t bytes, unsigned flags, void **ret_block);
/* The size up to which block_resize() could grow it in place now. */
size_t block_room(const struct block *block);
/* swap.c; 0, -ENOSPC, -ENOMEM. */
int block_swap(void *a, void *b, unsigned flags);

/* many.c: for batches of at most BLOCK_MANY. */

enum { BLOCK_MANY = 64 };

/*
 * Allocates up to `count` blocks of one size, as far as that is cheaper together; returns how many.
 * `flags` are of ALLOD_PAGE_ZEROED, _NO_COMMIT, _CONSTANT_TIME. The rest is for block_alloc(), also
 * if there is no memory.
 */
size_t block_alloc_many(size_t bytes, unsigned flags, size_t count, void **ret_blocks);
/* Frees live blocks, which it sorts. Misuse ends the process. */
void block_free_many(void **blocks, size_t count);

/* A range of addresses, and what became of it. */
struct block_range {
	char *address;
	size_t bytes;
	int result;
};

/* block_commit() or block_release() of each. */
void block_commit_many(struct block_range *ranges, size_t count);
void block_release_many(struct block_range *ranges, size_t count);

/* commit.c; the range lies within one block, else -EINVAL. */
int block_commit(void *address, size_t bytes);
int block_release(void *address, size_t bytes);
