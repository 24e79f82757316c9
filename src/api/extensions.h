/* SPDX-License-Identifier: MIT */
/*
 * What glibc's <malloc.h> has beyond the allocating calls. A libc without it (musl) gets glibc's
 * structures and numbers, so that the faces have the same calls everywhere.
 */
#pragma once

#include <malloc.h>
#include <stddef.h>
#include <stdio.h>

#if !defined(__GLIBC__)

struct mallinfo {
	int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

struct mallinfo2 {
	size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks,
		keepcost;
};

enum {
	M_MXFAST = 1,
	M_TRIM_THRESHOLD = -1,
	M_TOP_PAD = -2,
	M_MMAP_THRESHOLD = -3,
	M_MMAP_MAX = -4,
	M_CHECK_ACTION = -5,
	M_PERTURB = -6,
	M_ARENA_TEST = -7,
	M_ARENA_MAX = -8,
};

/* Defined by the face of the standard names. */
void *pvalloc(size_t size);
int malloc_trim(size_t pad);
int mallopt(int param, int value);
struct mallinfo mallinfo(void);
struct mallinfo2 mallinfo2(void);
int malloc_info(int info_options, FILE *stream);
void malloc_stats(void);

#endif

/* For `enabled:false` over a libc that knows none of these: nothing to trim, tune or tell. */

static inline int extension_no_malloc_trim(size_t pad)
{
	(void)pad;
	return 0;
}

static inline int extension_no_mallopt(int param, int value)
{
	(void)param, (void)value;
	return 0;
}

static inline struct mallinfo2 extension_no_mallinfo2(void)
{
	return (struct mallinfo2){ 0 };
}

static inline int extension_no_malloc_info(int info_options, FILE *stream)
{
	(void)info_options;
	return fputs("<malloc version=\"1\"></malloc>\n", stream) < 0;
}

static inline void extension_no_malloc_stats(void)
{
}
