/* SPDX-License-Identifier: MIT */
/*
 * Stamps of many granules: some at a time, since a large run has a hundred.
 */
#pragma once

#include "arena.h"

enum {
	STAMPS_EACH = 4,
	STAMPS_WIDE = 8,
	/* So many at a time, that no sum of ones in a lane wraps round. */
	STAMPS_ROUND = 1 << 15,
};

/* A one in each of the four. */
#define STAMP_ONES 0x0001000100010001u

static inline _Atomic(uint64_t) *stamps_at(const struct arena *a, size_t pos)
{
	return (_Atomic(uint64_t) *)(void *)&a->stamps[pos];
}

/* Eight stamps side by side, anywhere; the caller holds their granules, so they do not change. */
typedef uint16_t stamps_eight __attribute__((vector_size(16), aligned(2), may_alias));

static inline size_t stamps_sum(stamps_eight ones)
{
	size_t sum = 0;

	for (unsigned i = 0; i < STAMPS_WIDE; i++)
		sum += ones[i];
	return sum;
}

/* Of n granules that the caller holds, how many are dirty and how many cold. */
static inline void stamps_count(const struct arena *a, size_t pos, size_t n, size_t *ret_dirty,
	size_t *ret_cold)
{
	const size_t end = pos + n;
	size_t dirty = 0;
	size_t cold = 0;

	while (end - pos >= STAMPS_WIDE) {
		const size_t stop = pos + min_size(end - pos, STAMPS_ROUND);
		stamps_eight dirty8 = { 0 };
		stamps_eight cold8 = { 0 };
		for (; stop - pos >= STAMPS_WIDE; pos += STAMPS_WIDE) {
			stamps_eight at = *(const stamps_eight *)(const void *)&a->stamps[pos];
			/* A comparison gives 0 or -1. */
			dirty8 -= (stamps_eight)((at & STAMP_EPOCH) != 0);
			cold8 -= (stamps_eight)((at & STAMP_COLD) != 0);
		}
		dirty += stamps_sum(dirty8);
		cold += stamps_sum(cold8);
	}
	for (; pos < end; pos++) {
		dirty += (stamp_get(a, pos) & STAMP_EPOCH) != 0;
		cold += (stamp_get(a, pos) & STAMP_COLD) != 0;
	}
	*ret_dirty = dirty;
	*ret_cold = cold;
}

/* How many granules from pos on, of n, are dirty, at a moment: anybody may hold them. */
static inline size_t stamps_dirty(const struct arena *a, size_t pos, size_t n)
{
	const size_t end = pos + n;
	size_t at = pos;

	while (at < end && stamp_get(a, at) & STAMP_EPOCH) {
		at++;
		/* An epoch and 0x7fff reach a lane's highest bit, but for an epoch of 0. */
		while (at % STAMPS_EACH == 0 && end - at >= STAMPS_EACH &&
			(((a_load_rlx(stamps_at(a, at)) & STAMP_ONES * STAMP_EPOCH) +
				 STAMP_ONES * 0x7fff) &
				STAMP_ONES << 15) == STAMP_ONES << 15)
			at += STAMPS_EACH;
	}
	return at - pos;
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
