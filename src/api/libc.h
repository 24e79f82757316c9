/* SPDX-License-Identifier: MIT */
/*
 * The allocator that `enabled:false` hands everything over to: libc's, or whichever comes next
 * behind a preloaded library. Each face has an implementation: src/api/libc.c calls libc by name,
 * src/preload/libc.c must look its functions up, since it has taken their names.
 */
#pragma once

#include <stdio.h>

#include "heap/heap.h"

struct mallinfo2;

struct face_libc {
	struct heap_delegate heap; /* what the heap itself hands over */
	int (*trim)(size_t pad);
	int (*mallopt)(int param, int value);
	struct mallinfo2 (*mallinfo2)(void);
	int (*info)(int options, FILE *stream);
	void (*stats)(void);
};

/* Never NULL, and no function in it is. */
const struct face_libc *face_libc(void);
