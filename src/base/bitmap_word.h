/* SPDX-License-Identifier: MIT */
/*
 * Words and hints of the bitmap: the layout and the plain reads that bitmap.c (take and put) and
 * bitmap_walk.c (looking only) share. Private to these two files. bitmap.c tells the protocol.
 */
#pragma once

#include "base/bitmap.h"

#define WORD_BITS 64
#define BLOCK_WORDS (BITMAP_BLOCK_BITS / WORD_BITS)

#define HINT_LACK_MASK 0x3ffull
#define HINT_MARK 0x400ull
#define HINT_EPOCH 0x800ull

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The bits of [from, end) that lie in the word of `from`. */
static inline uint64_t word_mask(size_t from, size_t end)
{
	size_t low = from % WORD_BITS;
	size_t len = min_size(WORD_BITS - low, end - from);

	return ~0ull >> (WORD_BITS - len) << low;
}

static inline size_t word_end(size_t bit)
{
	return (bit | (WORD_BITS - 1)) + 1;
}

/* The word as it is now; beyond the storage there is nothing free. */
static inline uint64_t word_read(const struct bitmap *b, size_t word)
{
	return word < b->blocks * BLOCK_WORDS ? a_load_rlx(&b->words[word]) : 0;
}

static inline size_t hint_bound(uint64_t hint)
{
	return BITMAP_BLOCK_BITS - (hint & HINT_LACK_MASK);
}

/* The first bit in [from, end) that is not free, or end. */
static inline size_t first_used(const struct bitmap *b, size_t from, size_t end)
{
	while (from < end) {
		uint64_t used = ~word_read(b, from / WORD_BITS) & word_mask(from, end);
		if (used)
			return from / WORD_BITS * WORD_BITS + (size_t)__builtin_ctzll(used);
		from = word_end(from);
	}
	return end;
}

/* The beginning of the free bits that end before `pos`, not below `least`. */
static inline size_t free_begin(const struct bitmap *b, size_t pos, size_t least)
{
	while (pos > least) {
		size_t word = (pos - 1) / WORD_BITS;
		size_t high = pos - word * WORD_BITS;
		uint64_t used = ~a_load_rlx(&b->words[word]) << (WORD_BITS - high);
		if (used)
			pos -= min_size((size_t)__builtin_clzll(used), pos - least);
		else
			pos = word * WORD_BITS > least ? word * WORD_BITS : least;
		if (used)
			break;
	}
	return pos;
}
