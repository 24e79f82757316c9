/* SPDX-License-Identifier: MIT */
/*
 * Size classes. Class 0 is never allocated from: its bin is always empty, so that one comparison on
 * the fast path sends size 0 and sizes that overflow to the slow path. Classes 1 to 32 are
 * multiples of 16 bytes up to 512; above, eight classes a doubling, so no class is more than 12.5 %
 * above the one before (from 128 bytes on) up to CLASS_BYTES_MAX. The table is generated when allod
 * is built, by gen_classes.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLASS_COUNT 81
#define CLASS_FINE_COUNT 33 /* classes reached by (size + 15) / 16 */
#define CLASS_FINE_BYTES ((size_t)512)
#define CLASS_BYTES_MAX ((size_t)32 << 10)

/*
 * Sizes that the fast path of malloc serves, in units of 16 bytes: it finds the class in a table of
 * bytes, for a branch between fine classes and others would be mispredicted in every other program.
 */
#define CLASS_FAST_BYTES ((size_t)4096)
#define CLASS_FAST_UNITS (CLASS_FAST_BYTES / 16 + 1)

struct class
{
	uint32_t bytes;     /* of a block */
	uint32_t capacity;  /* blocks in a slab */
	uint32_t threshold; /* free blocks from which a slab is worth taking blocks from */
	uint32_t magic;     /* ceil(2^32 / bytes), or 0 for slabs of several granules */
	uint64_t inverse;   /* ceil(2^64 / bytes) */
	uint16_t granules;  /* of a slab */
	uint16_t batch;     /* blocks carved at a time */
};

extern const struct class heap_classes[CLASS_COUNT] __attribute__((visibility("hidden")));

/*
 * Whether the class's current slab gives out its blocks by a bin. Larger slabs do it by their own
 * list, for there it is noticed when they become empty.
 */
static inline bool class_has_bin(unsigned class)
{
	return heap_classes[class].granules == 1;
}

/* The class of a size from 1 to CLASS_BYTES_MAX. */
static inline unsigned class_of(size_t size)
{
	if (size <= CLASS_FINE_BYTES)
		return (unsigned)((size + 15) >> 4);
	const size_t last = size - 1;
	const unsigned log = 63 - (unsigned)__builtin_clzl(last);
	return CLASS_FINE_COUNT + (log - 9) * 8 + (unsigned)((last >> (log - 3)) & 7);
}

/*
 * The size to ask the classes for: the class of a multiple of `align` has blocks at multiples of
 * it. (Where classes lie further apart than `align` all are multiples, else the multiple is a
 * class.) No class is as large as a size that overflows here.
 */
static inline size_t size_aligned(size_t align, size_t size)
{
	if (size > PTRDIFF_MAX)
		return PTRDIFF_MAX;
	return size > align ? (size + align - 1) & -align : align;
}
