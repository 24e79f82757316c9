/* SPDX-License-Identifier: MIT */
/*
 * The conformance suite: what the C and C++ standards, POSIX and the manual pages of glibc say of
 * the malloc family, checked call by call. Every file is built twice: for liballod's allod_* names,
 * and for the standard names, to be run with liballod-malloc.so preloaded.
 */
#pragma once

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#ifdef FACE_ALLOD
#include "allod/heap.h"
#define M(name) allod_##name
#else
#define M(name) name
/* glibc lacks these two; the preloaded library has them. */
void free_sized(void *block, size_t size) __attribute__((weak));
void free_aligned_sized(void *block, size_t alignment, size_t size) __attribute__((weak));
#endif

/* No call of the library sets errno to this. */
#define ERRNO_MARK 0x4d4d

/* The compiler must not see through these: it knows what the standard functions do. */
static inline size_t opaque_size(size_t n)
{
	__asm__("" : "+r"(n));
	return n;
}

static inline void *opaque(void *p)
{
	__asm__("" : "+r"(p) : : "memory");
	return p;
}

/* Runs the call with errno marked and requires that it be left alone. */
#define KEEPS_ERRNO(statement)               \
	do {                                 \
		errno = ERRNO_MARK;          \
		statement;                   \
		CHECK_EQ(errno, ERRNO_MARK); \
	} while (0)

/* The allocation must fail, and say so by this error. */
#define FAILS(expression, error)                              \
	do {                                                  \
		errno = ERRNO_MARK;                           \
		CHECK_EQ(opaque((void *)(expression)), NULL); \
		CHECK_EQ(errno, error);                       \
	} while (0)

static inline bool is_aligned(const void *p, size_t alignment)
{
	return ((uintptr_t)p & (alignment - 1)) == 0;
}

/* A pattern that depends on the block and the place in it. */
static inline unsigned char stamp_at(size_t seed, size_t at)
{
	return (unsigned char)(seed * 37 + at + (at >> 8) + (at >> 16));
}

static inline void stamp(void *block, size_t size, size_t seed)
{
	unsigned char *p = block;

	for (size_t i = 0; i < size; i++)
		p[i] = stamp_at(seed, i);
}

static inline bool stamp_holds(const void *block, size_t size, size_t seed)
{
	const unsigned char *p = block;

	for (size_t i = 0; i < size; i++) {
		if (p[i] != stamp_at(seed, i))
			return false;
	}
	return true;
}

static inline bool all_zero(const void *block, size_t size)
{
	const unsigned char *p = block;

	for (size_t i = 0; i < size; i++) {
		if (p[i] != 0)
			return false;
	}
	return true;
}

/* What the program holds, by the library's own account. */
static inline size_t held_bytes(void)
{
	struct mallinfo2 info = M(mallinfo2)();

	return info.uordblks + info.hblkhd;
}
