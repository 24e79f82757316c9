/* SPDX-License-Identifier: MIT */
/*
 * Stamps of many granules: some at a time, since a large run has a hundred.
 */
#pragma once

#include "arena.h"

enum {
	STAMPS_EACH = 4,
	STAMPS_WIDE = 8,
	STAMPS_MANY = 32,
};

/* A one in each of the four. */
#define STAMP_ONES 0x0001000100010001u

static inline _Atomic(uint64_t) *stamps_at(const struct arena *a, size_t pos)
{
	return (_Atomic(uint64_t) *)(void *)&a->stamps[pos];
}

/* Eight stamps side by side, anywhere; the caller holds their granules, so they do not change. */
typedef uint16_t stamps_eight __attribute__((vector_size(16), aligned(2), may_alias));

/* Of n granules that the caller holds, how many are dirty and how many cold. */
static inline void stamps_count_each(const struct arena *a, size_t pos, size_t n, size_t *ret_dirty,
	size_t *ret_cold)
{
	*ret_dirty = 0;
	*ret_cold = 0;
	for (size_t i = pos; i < pos + n; i++) {
		*ret_dirty += (stamp_get(a, i) & STAMP_EPOCH) != 0;
		*ret_cold += (stamp_get(a, i) & STAMP_COLD) != 0;
	}
}

static inline stamps_eight stamps_read(const struct arena *a, size_t pos)
{
	return *(const stamps_eight *)(const void *)&a->stamps[pos];
}

/* Lanes that are zero where the granule is dirty and warm. */
static inline stamps_eight stamps_odd(stamps_eight at)
{
	/* A comparison gives 0 or -1. */
	return (stamps_eight)((at & STAMP_EPOCH) == 0) | (at & STAMP_COLD);
}

/* The same of 32 side by side, all lanes together. */
static inline stamps_eight stamps_odd_many(const struct arena *a, size_t pos)
{
	return stamps_odd(stamps_read(a, pos)) | stamps_odd(stamps_read(a, pos + STAMPS_WIDE)) |
		stamps_odd(stamps_read(a, pos + 2 * STAMPS_WIDE)) |
		stamps_odd(stamps_read(a, pos + 3 * STAMPS_WIDE));
}

/*
 * The same; as a rule all are dirty and none is cold, and that is found out many at a time. The last
 * step overlaps the one before: loops over single ones end where no processor foresees it.
 */
static inline void stamps_count(const struct arena *a, size_t pos, size_t n, size_t *ret_dirty,
	size_t *ret_cold)
{
	typedef uint64_t two __attribute__((vector_size(16), may_alias));
	stamps_eight odd;
	two halves;

	if (n < STAMPS_WIDE) {
		stamps_count_each(a, pos, n, ret_dirty, ret_cold);
		return;
	}
	if (n < STAMPS_MANY) {
		odd = stamps_odd(stamps_read(a, pos + n - STAMPS_WIDE));
		for (size_t i = 0; i + STAMPS_WIDE < n; i += STAMPS_WIDE)
			odd |= stamps_odd(stamps_read(a, pos + i));
	} else {
		odd = stamps_odd_many(a, pos + n - STAMPS_MANY);
		for (size_t i = 0; i + STAMPS_MANY < n; i += STAMPS_MANY)
			odd |= stamps_odd_many(a, pos + i);
	}
	halves = (two)odd;
	*ret_dirty = n;
	*ret_cold = 0;
	if (halves[0] | halves[1])
		stamps_count_each(a, pos, n, ret_dirty, ret_cold);
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

/* The stamps of granules that the caller holds; who looks at them meanwhile sees either value. */
static inline void stamps_set(struct arena *a, size_t pos, size_t n, uint16_t stamp)
{
	_Atomic(uint16_t) *at = &a->stamps[pos];
	size_t i = 0;

	if (n < STAMPS_WIDE) {
		for (; i < n; i++)
			a_store_rlx(&at[i], stamp);
		return;
	}
	for (; i + STAMPS_MANY < n; i += STAMPS_MANY) {
		a_store8_rlx(at + i, stamp);
		a_store8_rlx(at + i + STAMPS_WIDE, stamp);
		a_store8_rlx(at + i + 2 * STAMPS_WIDE, stamp);
		a_store8_rlx(at + i + 3 * STAMPS_WIDE, stamp);
	}
	for (; i + STAMPS_WIDE < n; i += STAMPS_WIDE)
		a_store8_rlx(at + i, stamp);
	a_store8_rlx(at + n - STAMPS_WIDE, stamp);
}
