/* SPDX-License-Identifier: MIT */
/* Misuse of batches: it ends the process by the lines of free(), also within one batch. */
#include <signal.h>

#include "allod/batch.h"
#include "harness.h"

/* heap_libc() is weak: there is none here. */
bool face_is_delegated(void);
bool face_is_delegated(void)
{
	return false;
}

/* Misuse ends the process, by the same lines as free(). */
static void free_twice(size_t distance)
{
	void *ptrs[512] = { NULL };
	size_t count = 512;
	size_t size = 128;
	allod_batch_alloc1(NULL, ptrs, &count, &size, 0, 0, 0);
	ptrs[distance] = ptrs[0];
	allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0);
}

static void free_inside(void)
{
	void *ptrs[8] = { NULL };
	size_t count = 8;
	size_t size = 128;
	allod_batch_alloc1(NULL, ptrs, &count, &size, 0, 0, 0);
	ptrs[5] = (char *)ptrs[5] + 16;
	allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0);
}

static void resize_foreign(void)
{
	int foreign[16];
	(void)!allod_aligned_realloc(foreign, 16, 100);
}

TEST(misuse_is_fatal)
{
	CHECK_DEATH(free_twice(1), SIGABRT, "allod: double free\n");
	CHECK_DEATH(free_twice(300), SIGABRT, "allod: double free\n");
	CHECK_DEATH(free_twice(511), SIGABRT, "allod: double free\n");
	CHECK_DEATH(free_inside(), SIGABRT, "allod: invalid free\n");
	CHECK_DEATH(resize_foreign(), SIGABRT, "allod: invalid free\n");
}
