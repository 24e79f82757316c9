/* SPDX-License-Identifier: MIT */
/*
 * Where the programs of ./dev bench page get their blocks from: allod's page calls, the kernel
 * directly, or malloc, whichever is loaded. One program runs on all of them, chosen by name.
 */
#pragma once

#include "timing.h"

struct page_source {
	const char *name;
	/* Whether what was freed may be handed out again without the kernel. */
	bool may_keep;
	/* Blocks that may grow to `reserve` bytes are allocated for that, where it can be said. */
	void *(*alloc)(size_t bytes, size_t reserve);
	void (*free)(void *block, size_t bytes);
	void *(*resize)(void *block, size_t old_bytes, size_t bytes);
};

/*
 * page:     allod_page_alloc() and so on
 * swap:     the same, with ALLOD_PAGE_SWAPPABLE
 * mmap:     mmap(), munmap(), mremap()
 * populate: the same, with MAP_POPULATE
 * thp:      the same, with MADV_HUGEPAGE
 * malloc:   malloc(), free(), realloc()
 * copy:     the same, but it is resized by malloc(), memcpy() and free()
 * nothing:  always the same address, which is not to be touched
 */
const struct page_source *source_named(const char *name);

/* A byte in each page. */
static inline void pages_touch(void *block, size_t from, size_t to)
{
	volatile char *bytes = block;

	for (size_t i = from; i < to; i += PAGE_BYTES)
		bytes[i] = 1;
}

/* Each page gets a stamp of its number and `seed`; pages_check() ends the program if one is not
 * there. */
void pages_stamp(void *block, size_t bytes, uint64_t seed);
void pages_check(const void *block, size_t bytes, uint64_t seed);

/* Reports a figure of the case for blocks of a size, such as 64K/NAME, or PREFIX64K/NAME. */
void report_size(const char *prefix, size_t bytes, const char *name, double value,
	const char *unit);
