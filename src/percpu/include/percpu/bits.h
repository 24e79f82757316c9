/* SPDX-License-Identifier: MIT */
/*
 * Words of the maps: runs of bits, found and changed word by word. A set bit of `alloc` is a
 * granule that is not free. Pure functions on memory that the caller's lock guards.
 */
#pragma once

#include <stdint.h>

#include "percpu/percpu.h"

/* The bits of [from, end) that lie in the word of `from`. */
static inline uint64_t bits_mask(uint32_t from, uint32_t end)
{
	uint32_t low = from % 64;
	uint32_t len = end - from < 64 - low ? end - from : 64 - low;
	return ~0ull >> (64 - len) << low;
}

/* [from, end) is not empty. */
static inline void bits_set(uint64_t *map, uint32_t from, uint32_t end)
{
	uint32_t last = (end - 1) / 64;

	map[from / 64] |= bits_mask(from, end);
	for (uint32_t word = from / 64 + 1; word < last; word++)
		map[word] = ~0ull;
	if (from / 64 != last)
		map[last] |= bits_mask(last * 64, end);
}

/* [from, end) is not empty. */
static inline void bits_clear(uint64_t *map, uint32_t from, uint32_t end)
{
	uint32_t last = (end - 1) / 64;

	map[from / 64] &= ~bits_mask(from, end);
	for (uint32_t word = from / 64 + 1; word < last; word++)
		map[word] = 0;
	if (from / 64 != last)
		map[last] &= ~bits_mask(last * 64, end);
}

/* The first set bit at or behind `from`, or `end`. */
static inline uint32_t bits_next_set(const uint64_t *map, uint32_t from, uint32_t end)
{
	uint32_t word = from / 64;
	uint64_t value;

	if (from >= end)
		return end;
	value = map[word] & ~0ull << from % 64;
	while (!value && ++word <= (end - 1) / 64)
		value = map[word];
	if (!value)
		return end;
	from = word * 64 + (uint32_t)__builtin_ctzll(value);
	return from < end ? from : end;
}

/* The same of a map whose words others change. */
static inline uint32_t bits_next_live(_Atomic(uint64_t) *map, uint32_t from, uint32_t end)
{
	for (; from < end; from = (from | 63) + 1) {
		uint64_t value = a_load_rlx(&map[from / 64]) & bits_mask(from, end);
		if (value)
			return (from & ~63u) + (uint32_t)__builtin_ctzll(value);
	}
	return end;
}

/* The first clear bit at or behind `from`, or `end`. */
static inline uint32_t bits_next_clear(const uint64_t *map, uint32_t from, uint32_t end)
{
	for (; from < end; from = (from | 63) + 1) {
		uint64_t value = ~map[from / 64] & bits_mask(from, end);
		if (value)
			return (from & ~63u) + (uint32_t)__builtin_ctzll(value);
	}
	return end;
}

/* One behind the last set bit of [from, end), or `from`. */
static inline uint32_t bits_last_set(const uint64_t *map, uint32_t from, uint32_t end)
{
	while (end > from) {
		uint32_t word = (end - 1) / 64;
		uint32_t low = word * 64 > from ? word * 64 : from;
		uint64_t value = map[word] & bits_mask(low, end);
		if (value)
			return word * 64 + 64 - (uint32_t)__builtin_clzll(value);
		end = low;
	}
	return from;
}

/* Each bit of the word at which `bits` <= 64 free bits begin, the next word included. */
static inline uint64_t bits_run_starts(uint64_t word, uint64_t next, uint32_t bits)
{
	unsigned __int128 starts = (unsigned __int128)next << 64 | word;
	for (uint32_t have = 1; have < bits;) {
		uint32_t step = have < bits - have ? have : bits - have;
		starts &= starts >> step;
		have += step;
	}
	return (uint64_t)starts;
}
