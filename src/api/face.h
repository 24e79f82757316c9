/* SPDX-License-Identifier: MIT */
/*
 * The two faces of the heap: allod_* in liballod, the standard names in liballod-malloc.so.
 *
 * The files of this directory are compiled once for each. FACE(malloc) is the name of malloc in the
 * face at hand; FACE_EXPORT goes before each definition that the face exports. Nothing in here is
 * called by a lower layer, except heap_libc() (libc.c of each face).
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "extensions.h"

#ifdef ALLOD_FACE_STANDARD
#define FACE(name) name
#else
#include "allod/heap.h"
#define FACE(name) allod_##name
#endif

#define FACE_EXPORT __attribute__((visibility("default")))
/* Ways that run rarely: out of the callers' cache lines. */
#define FACE_COLD __attribute__((cold, noinline))

#if __has_attribute(copy)
#define FACE_COPY_ATTRIBUTES(function) __attribute__((copy(function)))
#else
#define FACE_COPY_ATTRIBUTES(function)
#endif

/*
 * glibc's second name for a call: FACE_SECOND_NAME(__libc_malloc, malloc). Old programs free with
 * cfree(); programs with a malloc of their own wrap __libc_malloc() and its sisters, while the
 * calls that they do not wrap come here. If these names were left to libc, blocks of one allocator
 * would be freed by the other. An alias, since a call would go to the program's own malloc.
 */
#ifdef ALLOD_FACE_STANDARD
#define FACE_SECOND_NAME(name, function)                                \
	extern __typeof__(function) name FACE_COPY_ATTRIBUTES(function) \
		__attribute__((alias(#function), visibility("default")))

/* The C library's headers may lack these. */
void free_sized(void *block, size_t size);
void free_aligned_sized(void *block, size_t alignment, size_t size);
#else
#define FACE_SECOND_NAME(name, function) _Static_assert(1, #name)
#endif

static inline bool face_is_power_of_two(size_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* Whether `enabled:false` hands everything over to libc; starts the heap to know. */
bool face_is_delegated(void);

/* Tells the failure of a call that did not reach the heap. Returns NULL. */
static inline void *face_fail(int error)
{
	errno = error;
	return NULL;
}
