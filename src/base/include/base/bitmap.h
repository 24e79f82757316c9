/* SPDX-License-Identifier: MIT */
/*
 * A lock-free bitmap that hands out runs of bits; a set bit is free. Every layer that gives out
 * runs of anything uses it. It owns no memory: the caller gives zeroed storage, which may be
 * reserved pages that nobody has touched yet.
 *
 * May be called by: any thread at any time, also from a signal handler that interrupted another
 * call on the same bitmap. A thread stopped inside a call, even for ever, costs at most the bits of
 * that call.
 *
 * Promises
 * - A run is taken wholly or not at all. Two calls never hold the same bit.
 * - What was written to the memory of a run before bitmap_put() is seen by who takes it.
 * - bitmap_take() returns BITMAP_NONE only if no run that fits was free during the whole call. Bits
 *   claimed by a take that is under way count as not free, even if it fails and puts them back. A
 *   put that is under way may not be seen yet.
 * - A search touches neither words nor hints beyond the highest block of 512 bits that ever had a
 *   free bit, so a large map costs no more than the part of it in use.
 *
 * How it works, and why it is right, is told in bitmap.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#define BITMAP_NONE SIZE_MAX

/* Bits that share one hint: one cache line of words. */
#define BITMAP_BLOCK_BITS 512

struct bitmap {
	_Atomic(uint64_t) *words; /* const after init; 8 a block */
	_Atomic(uint64_t) *hints; /* const after init; 1 a block, behind the words */
	size_t bits;              /* const after init */
	size_t blocks;            /* const after init */
	/* Blocks [0, high_blocks) may ever have had a free bit; only grows. */
	_Atomic(uint64_t) high_blocks;
	/* Counts takes that put bits back, for a failing search to notice. */
	_Atomic(uint64_t) rollbacks;
};

/* Bytes of storage for a map of so many bits; a multiple of 64. */
size_t bitmap_storage_bytes(size_t bits);

/*
 * Makes a map with nothing free on storage that is zeroed and 64-byte aligned. The storage is not
 * touched: untouched pages stay untouched until bits in them are first put. `bits` must not be 0.
 */
void bitmap_init(struct bitmap *b, void *storage, size_t bits);

/*
 * Takes n adjacent free bits at the first fitting position from `start`, going round to the front
 * when there is none behind it, such that (position + align_offset) is a multiple of `align`, a
 * power of two (1 = anywhere). Returns the position or BITMAP_NONE. n must not be 0; a start
 * beyond the map counts as 0.
 */
size_t bitmap_take(struct bitmap *b, size_t n, size_t align, size_t align_offset, size_t start);

/* Takes exactly the bits [pos, pos + n), or nothing and returns false. A range that leaves the map
 * is not free. */
bool bitmap_take_at(struct bitmap *b, size_t pos, size_t n);

/*
 * The same. Behind them bits up to *ret_end were free: up to the first used one, or to the next
 * multiple of 64.
 */
bool bitmap_take_front(struct bitmap *b, size_t pos, size_t n, size_t *ret_end);

/*
 * Makes the bits [pos, pos + n) free. Returns false, with nothing changed, if one of them is free
 * already. (Two puts that overlap and race may leave the lower part of the loser's bits free:
 * either is a double free, which the caller reports and dies of.) The range must lie in the map.
 */
bool bitmap_put(struct bitmap *b, size_t pos, size_t n);

/*
 * The same; [*ret_from, *ret_to) are the free bits that they joined, theirs included, as far as
 * `reach` or a little more on each side. A glance.
 */
bool bitmap_put_joined(struct bitmap *b, size_t pos, size_t n, size_t reach, size_t *ret_from,
	size_t *ret_to);

/* Whether the bit is free at this moment. */
bool bitmap_is_free(const struct bitmap *b, size_t pos);

/* How many bits are free; walks the words in use. A snapshot only when nothing runs beside it. */
size_t bitmap_free_count(const struct bitmap *b);

/*
 * The first free bit in [from, limit), or BITMAP_NONE; *ret_run gets the number of free bits that
 * follow it without a gap, itself included, below `limit`. A glance: take the run by
 * bitmap_take_at() before using it.
 */
size_t bitmap_next_free(const struct bitmap *b, size_t from, size_t limit, size_t *ret_run);

/* The first bit in [from, limit) that is not free, or limit. */
size_t bitmap_free_end(const struct bitmap *b, size_t from, size_t limit);

/*
 * Checks every hint against the words, for tests; nothing else may run. Returns true if no hint
 * would make a search miss a run. Walks the whole part in use.
 */
bool bitmap_check(const struct bitmap *b);
