/* SPDX-License-Identifier: MIT */
/*
 * A program with a malloc of its own, made from glibc's second names, as profilers and counters
 * are. Under the preloaded library both the names that it takes and those that it leaves must meet
 * in one heap.
 */
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void __libc_free(void *block);

static atomic_size_t calls;

/* Found by libc and by the preloaded library before their own. */
#define TAKEN __attribute__((visibility("default")))

TAKEN void *malloc(size_t size)
{
	calls++;
	return __libc_malloc(size);
}

TAKEN void *calloc(size_t count, size_t size)
{
	calls++;
	return __libc_calloc(count, size);
}

TAKEN void *realloc(void *block, size_t size)
{
	calls++;
	return __libc_realloc(block, size);
}

TAKEN void free(void *block)
{
	calls++;
	__libc_free(block);
}

TEST(wrapped_calls_reach_the_heap)
{
	size_t before = calls;
	char *volatile p = malloc(100);

	CHECK(p != NULL && mallinfo2().uordblks >= 100);
	p = realloc(p, 100000);
	CHECK(p != NULL && malloc_usable_size(p) >= 100000);
	free(p);
	CHECK_EQ(calls, before + 3);
}

TEST(calls_left_alone_share_the_heap)
{
	void *volatile p = NULL;
	char *volatile text = strdup("a copy made by libc");

	CHECK(text != NULL);
	free(text);
	CHECK_EQ(posix_memalign((void **)&p, 4096, 100), 0);
	free(p);
	p = realloc(memalign(64, 100), 5000);
	CHECK(p != NULL);
	free(p);
}

/* A program's realloc is the only one that knows what its blocks look like. */
TEST(reallocarray_goes_by_the_programs_realloc)
{
	size_t before = calls;
	void *volatile p = reallocarray(NULL, 10, 10);

	CHECK(p != NULL);
	CHECK_EQ(calls, before + 1);
	free(p);
}

/* glibc has these since 2.43 only, and then they go by free() as well. */
void free_sized(void *block, size_t size) __attribute__((weak));
void free_aligned_sized(void *block, size_t alignment, size_t size) __attribute__((weak));

TEST(sized_frees_go_by_the_programs_free)
{
	void *volatile p = malloc(100);
	size_t before;

	CHECK(free_sized != NULL && free_aligned_sized != NULL);
	before = calls;
	free_sized(p, 100);
	CHECK_EQ(calls, before + 1);
	p = aligned_alloc(64, 128);
	before = calls;
	free_aligned_sized(p, 64, 128);
	CHECK_EQ(calls, before + 1);
}
