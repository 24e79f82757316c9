/* SPDX-License-Identifier: MIT */
/* Run with ALLOD_CONF=enabled:false: every call must reach libc, under either face. */
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

#include "conformance.h"

static struct mallinfo2 libc_info(void)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	struct mallinfo2 (*info)(void);

	CHECK(libc != NULL);
	*(void **)&info = dlsym(libc, "mallinfo2");
	CHECK(info != NULL);
	return info();
}

/* libc tells by its own statistics whether a block is its own. */
static size_t libc_held_bytes(void)
{
	struct mallinfo2 info = libc_info();

	return info.uordblks + info.hblkhd;
}

static void check_held_by_libc(void *block, size_t size)
{
	CHECK(block != NULL);
	CHECK(M(malloc_usable_size)(block) >= size);
	CHECK(libc_held_bytes() >= size);
	stamp(block, size, 1);
	M(free)(block);
	CHECK(libc_held_bytes() < size);
}

TEST(blocks_come_from_libc)
{
	size_t size = (size_t)8 << 20;
	void *p = NULL;

	check_held_by_libc(opaque(M(malloc)(size)), size);
	check_held_by_libc(opaque(M(calloc)(2, size / 2)), size);
	check_held_by_libc(opaque(M(realloc)(M(malloc)(10), size)), size);
	check_held_by_libc(opaque(M(memalign)(4096, size)), size);
	check_held_by_libc(opaque(M(aligned_alloc)(64, size)), size);
	check_held_by_libc(opaque(M(valloc)(size)), size);
	CHECK_EQ(M(posix_memalign)(&p, 256, size), 0);
	check_held_by_libc(opaque(p), size);
}

TEST(small_blocks_and_edge_cases)
{
	void *p = opaque(M(malloc)(opaque_size(0)));

	CHECK(p != NULL);
	p = opaque(M(realloc)(p, 100));
	stamp(p, 100, 2);
	p = opaque(M(realloc)(p, 100000));
	CHECK(p != NULL && stamp_holds(p, 100, 2));
	CHECK_EQ(M(realloc)(p, opaque_size(0)), NULL);
	FAILS(M(malloc)(opaque_size(SIZE_MAX)), ENOMEM);
	FAILS(M(calloc)(opaque_size(SIZE_MAX), 2), ENOMEM);
	p = opaque(M(calloc)(100, 10));
	CHECK(p != NULL && all_zero(p, 1000));
	KEEPS_ERRNO(M(free)(p));
	KEEPS_ERRNO(M(free)(NULL));
}

TEST(reports_are_those_of_libc)
{
	void *p = opaque(M(malloc)((size_t)9 << 20));
	size_t theirs = libc_held_bytes();
	struct mallinfo2 ours = M(mallinfo2)();

	CHECK_EQ(ours.uordblks + ours.hblkhd, theirs);
	CHECK(ours.uordblks + ours.hblkhd >= (size_t)9 << 20);
	M(free)(p);
	CHECK_EQ(M(mallopt)(M_MMAP_THRESHOLD, 1 << 20), 1);
	M(malloc_trim)(0);
}
