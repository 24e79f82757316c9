/* SPDX-License-Identifier: MIT */
/*
 * What the word of a granule of pieces says, and what is made of it: functions of numbers alone. See
 * core.h for the word, and piece.c for who changes it.
 */
#pragma once

#include "core.h"

enum {
	LISTS = 7,
	LISTED_SHIFT = 56,
	ZERO_SHIFT = 32,
	BEGIN_SHIFT = 16,
};

#define LISTED_MASK ((uint64_t)0xf << LISTED_SHIFT)

/* By pages: the list in which a granule with so many free in a row belongs... */
static const uint8_t list_of[PIECE_PAGES + 1] = { 0, 0, 1, 2, 3, 3, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6,
	6 };

static inline unsigned pages_in_granule(void)
{
	return 1u << (PAGE_GRANULE_SHIFT - page_shift());
}

static inline uint32_t all_pages(void)
{
	return (1u << pages_in_granule()) - 1;
}

static inline uint32_t live_of(uint64_t word)
{
	return (uint16_t)word;
}

static inline uint32_t begin_of(uint64_t word)
{
	return (uint16_t)(word >> BEGIN_SHIFT);
}

static inline uint32_t zero_of(uint64_t word)
{
	return (uint16_t)(word >> ZERO_SHIFT);
}

static inline uint32_t free_of(uint64_t word)
{
	return live_of(word) & ~begin_of(word);
}

static inline unsigned listed_of(uint64_t word)
{
	return (unsigned)(word >> LISTED_SHIFT) & 0xf;
}

static inline uint64_t make(uint32_t live, uint32_t begin, uint32_t zero, unsigned listed)
{
	return unit_word(UNIT_PIECES) | (uint64_t)listed << LISTED_SHIFT |
		(uint64_t)zero << ZERO_SHIFT | (uint64_t)begin << BEGIN_SHIFT | live;
}

/* The pages from each of which n free ones follow. */
static inline uint32_t starts_of(uint32_t free, size_t n)
{
	for (size_t have = 1; have < n;) {
		size_t step = have < n - have ? have : n - have;
		free &= free >> step;
		have += step;
	}
	return free;
}

static inline size_t longest(uint32_t free)
{
	size_t n = 0;

	for (; free; free &= free >> 1)
		n++;
	return n;
}

/* What `listed` should be: the number of a list plus one, or 0 for a granule without free pages. */
static inline unsigned listing_for(uint32_t free)
{
	return free ? list_of[longest(free)] + 1u : 0;
}

static inline uint32_t span(unsigned page, size_t n)
{
	return ((1u << n) - 1) << page;
}

/* Pages of the piece that begins at `page`. */
static inline size_t length_at(uint64_t word, unsigned page)
{
	uint32_t ends = (live_of(word) | begin_of(word)) >> page >> 1;

	return (size_t)__builtin_ctz(ends | 1u << (pages_in_granule() - page - 1)) + 1;
}

static inline unsigned page_of(const char *p)
{
	return (unsigned)(((uintptr_t)p & (PAGE_GRANULE_BYTES - 1)) >> page_shift());
}
