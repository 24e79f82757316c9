/* SPDX-License-Identifier: MIT */
/* The libc behind liballod: called by its plain names. */
#include <stdlib.h>

#include "extensions.h"
#include "libc.h"

#if defined(__GLIBC__)
#define EXTENSION(name) name
#else
#define EXTENSION(name) extension_no_##name
#endif

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
	.trim = EXTENSION(malloc_trim),
	.mallopt = EXTENSION(mallopt),
	.mallinfo2 = EXTENSION(mallinfo2),
	.info = EXTENSION(malloc_info),
	.stats = EXTENSION(malloc_stats),
};

const struct face_libc *face_libc(void)
{
	return &libc;
}

const struct heap_delegate *heap_libc(void)
{
	return &libc.heap;
}
