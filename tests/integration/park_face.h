/* SPDX-License-Identifier: MIT */
/*
 * The allocator that the tests of parked threads drive: the heap's own calls, linked in, so that
 * its inside can be checked (PARK_HEAP); or the standard names, with liballod-malloc.so preloaded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef PARK_HEAP

#include "heap/heap.h"

#define face_alloc heap_alloc
#define face_free heap_free
#define face_alloc_zeroed heap_alloc_zeroed
#define face_alloc_aligned heap_alloc_aligned
#define face_resize heap_resize

#else

#include <malloc.h>
#include <stdlib.h>

#define face_alloc malloc
#define face_free free
#define face_alloc_zeroed(size) calloc(1, size)
#define face_alloc_aligned memalign
#define face_resize realloc

#endif

/* What differs more is in park_face.c. */

/* Starts the allocator; skips the test where it cannot be driven. */
void face_start(void);
void face_trim(void);
/* Reads all statistics there are. */
void face_stats(void);
/* What slabs take, but for the rest at the end of each. */
uint64_t face_slab_bytes(void);
/* The file that holds the allocator's code and symbols, and where it is loaded. */
bool face_module(char *ret_path, size_t cap, uintptr_t *ret_base);
/* Names the calling thread's heap, for face_kept_is_bounded(); 0 where that cannot be told. */
uint32_t face_heap_id(void);
/*
 * With all other memory freed: what the heaps hold beside a slab a class is one slab a parked
 * thread.
 */
bool face_kept_is_bounded(const uint32_t *heap_ids, unsigned count);
/* Nothing is in use, nobody is inside: the heap's own checker. */
void face_check_empty(void);
