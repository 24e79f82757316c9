/* SPDX-License-Identifier: MIT */
/*
 * Stamps of many granules: four at a time, since a large run has a hundred.
 */
#pragma once

#include "arena.h"

enum { STAMPS_EACH = 4 };

/* A one in each of the four. */
#define STAMP_ONES 0x0001000100010001u

static inline _Atomic(uint64_t) *stamps_at(const struct arena *a, size_t pos)
{
	return (_Atomic(uint64_t) *)(void *)&a->stamps[pos];
}

/* A one in each of the four that has one of the bits; they are below the highest. */
static inline uint64_t stamps_with(uint64_t four, uint64_t bits)
{
	return ((four & STAMP_ONES * bits) + STAMP_ONES * 0x7fff) >> 15 & STAMP_ONES;
}

/* The sum of the four. */
static inline size_t stamps_sum(uint64_t four)
{
	return (uint16_t)(four + (four >> 16) + (four >> 32) + (four >> 48));
}

/* Of n granules, 2^15 at most at a time, how many are dirty and how many cold. */
static inline void stamps_count(const struct arena *a, size_t pos, size_t n, size_t *ret_dirty,
	size_t *ret_cold)
{
	size_t end = pos + n;
	size_t dirty = 0;
	size_t cold = 0;

	while (pos < end) {
		uint64_t dirty4 = 0;
		uint64_t cold4 = 0;
		size_t stop = pos + min_size(end - pos, 1 << 12);
		for (; pos < stop && (pos % STAMPS_EACH || stop - pos < STAMPS_EACH); pos++) {
			dirty += (stamp_get(a, pos) & STAMP_EPOCH) != 0;
			cold += (stamp_get(a, pos) & STAMP_COLD) != 0;
		}
		for (; stop - pos >= STAMPS_EACH; pos += STAMPS_EACH) {
			uint64_t four = a_load_rlx(stamps_at(a, pos));
			dirty4 += stamps_with(four, STAMP_EPOCH);
			cold4 += stamps_with(four, STAMP_COLD);
		}
		dirty += stamps_sum(dirty4);
		cold += stamps_sum(cold4);
	}
	*ret_dirty = dirty;
	*ret_cold = cold;
}

static inline void stamps_set(struct arena *a, size_t pos, size_t n, uint16_t stamp)
{
	size_t end = pos + n;

	for (; pos < end && (pos % STAMPS_EACH || end - pos < STAMPS_EACH); pos++)
		stamp_set(a, pos, stamp);
	for (; end - pos >= STAMPS_EACH; pos += STAMPS_EACH)
		a_store_rlx(stamps_at(a, pos), STAMP_ONES * stamp);
	for (; pos < end; pos++)
		stamp_set(a, pos, stamp);
}
