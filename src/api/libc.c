/* SPDX-License-Identifier: MIT */
/* The libc behind liballod: called by its plain names. */
#include <malloc.h>
#include <stdlib.h>

#include "libc.h"

static size_t usable_size(const void *p)
{
	return malloc_usable_size((void *)p);
}

static void *alloc_zeroed(size_t size)
{
	return calloc(1, size);
}

static const struct face_libc libc = {
	.heap = {
		.alloc = malloc,
		.alloc_zeroed = alloc_zeroed,
		.alloc_aligned = memalign,
		.free = free,
		.resize = realloc,
		.usable_size = usable_size,
	},
	.trim = malloc_trim,
	.mallopt = mallopt,
	.mallinfo2 = mallinfo2,
	.info = malloc_info,
	.stats = malloc_stats,
};

const struct face_libc *face_libc(void)
{
	return &libc;
}

const struct heap_delegate *heap_libc(void)
{
	return &libc.heap;
}
