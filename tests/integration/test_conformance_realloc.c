/* SPDX-License-Identifier: MIT */
/* realloc, reallocarray and the sized forms of free. */
#include "conformance.h"

TEST(realloc_of_null_is_malloc)
{
	void *a = opaque(M(realloc)(NULL, 100));
	void *b = opaque(M(realloc)(NULL, opaque_size(0)));
	void *c = opaque(M(reallocarray)(NULL, 10, 10));
	void *d = opaque(M(reallocarray)(NULL, opaque_size(0), 10));

	CHECK(a != NULL && b != NULL && c != NULL && d != NULL);
	CHECK(a != b && b != d);
	M(free)(a);
	M(free)(b);
	M(free)(c);
	M(free)(d);
}

/* What glibc does: the block is gone, the result is NULL and no error is told. */
TEST(realloc_to_zero_frees)
{
	size_t before;

	M(free)(M(malloc)(1 << 20));
	before = held_bytes();
	for (size_t i = 0; i < 200; i++) {
		void *p = opaque(M(malloc)(i % 2 ? 1 << 20 : 1000));

		KEEPS_ERRNO(CHECK_EQ(opaque(M(realloc)(p, opaque_size(0))), NULL));
		p = opaque(M(malloc)(i % 2 ? 1 << 20 : 1000));
		KEEPS_ERRNO(CHECK_EQ(opaque(M(reallocarray)(p, opaque_size(0), 8)), NULL));
		p = opaque(M(malloc)(i % 2 ? 1 << 20 : 1000));
		KEEPS_ERRNO(CHECK_EQ(opaque(M(reallocarray)(p, 8, opaque_size(0))), NULL));
		p = opaque(M(memalign)(4096, i % 2 ? 1 << 20 : 1000));
		KEEPS_ERRNO(CHECK_EQ(opaque(M(realloc)(p, opaque_size(0))), NULL));
	}
	CHECK(held_bytes() <= before + 4096);
}

/* Up and down through all sizes, one byte over each step. */
TEST(realloc_keeps_contents)
{
	size_t size = 1;
	unsigned char *p = M(malloc)(size);

	stamp(p, size, 3);
	while (size < (size_t)8 << 20) {
		size_t bigger = size + size / 5 + 1;

		p = opaque(M(realloc)(p, bigger));
		CHECK(p != NULL && stamp_holds(p, size, 3));
		stamp(p, bigger, 3);
		size = bigger;
	}
	while (size > 1) {
		size -= size / 4 + 1;
		p = opaque(M(realloc)(p, size + 1));
		CHECK(p != NULL && stamp_holds(p, size, 3));
	}
	M(free)(p);
}

TEST(realloc_by_one_byte_keeps_contents)
{
	unsigned char *p = M(malloc)(1);

	p[0] = stamp_at(4, 0);
	for (size_t size = 2; size < 20000; size++) {
		p = opaque(M(realloc)(p, size));
		CHECK(p != NULL);
		p[size - 1] = stamp_at(4, size - 1);
		if (size % 512 == 0)
			CHECK(stamp_holds(p, size, 4));
	}
	M(free)(p);
}

/*
 * Large blocks move by moving pages: each must arrive at its place, and new ones overlap no others.
 */
TEST(realloc_of_large_blocks_keeps_contents)
{
	enum { count = 4 };
	unsigned char *blocks[count];
	size_t sizes[count];
	uint64_t random = test_seed();

	for (size_t i = 0; i < count; i++) {
		sizes[i] = 100000;
		blocks[i] = M(malloc)(sizes[i]);
		stamp(blocks[i], sizes[i], i);
	}
	for (size_t round = 0; round < 60; round++) {
		size_t i = round % count;
		size_t size = 50000 + test_random(&random) % ((size_t)4 << 20);
		size_t kept = size < sizes[i] ? size : sizes[i];

		blocks[i] = opaque(M(realloc)(blocks[i], size));
		CHECK(blocks[i] != NULL && is_aligned(blocks[i], 16));
		CHECK(stamp_holds(blocks[i], kept, i));
		stamp(blocks[i], size, i);
		sizes[i] = size;
	}
	for (size_t i = 0; i < count; i++) {
		CHECK(stamp_holds(blocks[i], sizes[i], i));
		M(free)(blocks[i]);
	}
}

TEST(realloc_that_fails_leaves_the_block)
{
	static const size_t sizes[] = { 10, 1000, 50000, 2 << 20 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		void *p = M(malloc)(sizes[i]);

		stamp(p, sizes[i], i);
		FAILS(M(realloc)(p, opaque_size(SIZE_MAX)), ENOMEM);
		FAILS(M(realloc)(p, opaque_size((size_t)1 << 48)), ENOMEM);
		FAILS(M(reallocarray)(p, opaque_size(SIZE_MAX / 2), 3), ENOMEM);
		CHECK(stamp_holds(p, sizes[i], i));
		M(free)(p);
	}
}

TEST(realloc_of_aligned_blocks_keeps_contents)
{
	for (size_t align = 16; align <= (size_t)4 << 20; align *= 2) {
		unsigned char *p = M(memalign)(align, 3000);

		CHECK(p != NULL && is_aligned(p, align));
		stamp(p, 3000, 5);
		p = opaque(M(realloc)(p, 9000));
		CHECK(p != NULL && stamp_holds(p, 3000, 5));
		p = opaque(M(realloc)(p, 500));
		CHECK(p != NULL && stamp_holds(p, 500, 5));
		M(free)(p);
	}
}

TEST(shrinking_gives_memory_back)
{
	unsigned char *p = M(malloc)((size_t)64 << 20);
	size_t before = held_bytes();

	stamp(p, 1000, 6);
	p = opaque(M(realloc)(p, 1000));
	CHECK(p != NULL && stamp_holds(p, 1000, 6));
	CHECK(held_bytes() + ((size_t)60 << 20) < before);
	M(free)(p);
}

TEST(reallocarray_multiplies)
{
	unsigned char *p = opaque(M(reallocarray)(NULL, 100, 30));

	CHECK(p != NULL && M(malloc_usable_size)(p) >= 3000);
	stamp(p, 3000, 7);
	p = opaque(M(reallocarray)(p, 1000, 30));
	CHECK(p != NULL && M(malloc_usable_size)(p) >= 30000);
	CHECK(stamp_holds(p, 3000, 7));
	FAILS(M(reallocarray)(p, opaque_size((size_t)1 << 32), (size_t)1 << 32), ENOMEM);
	FAILS(M(reallocarray)(p, opaque_size(SIZE_MAX), 2), ENOMEM);
	CHECK(stamp_holds(p, 3000, 7));
	M(free)(p);
	FAILS(M(reallocarray)(NULL, opaque_size(SIZE_MAX / 8 + 1), 8), ENOMEM);
}

TEST(free_sized_takes_any_block_of_that_size)
{
	for (size_t size = 0; size < 70000; size = size * 5 / 4 + 1) {
		KEEPS_ERRNO(M(free_sized)(M(malloc)(size), size));
		KEEPS_ERRNO(M(free_sized)(M(calloc)(size, 2), size * 2));
		KEEPS_ERRNO(M(free_sized)(M(realloc)(NULL, size), size));
		KEEPS_ERRNO(M(free_aligned_sized)(M(aligned_alloc)(256, size), 256, size));
	}
}

/* A block that shrank or grew where it was is in a class that its size does not tell. */
TEST(free_sized_after_realloc_frees_the_block)
{
	size_t before;

	M(free)(M(malloc)(1000));
	before = held_bytes();
	for (size_t i = 0; i < 3000; i++) {
		size_t size = 1 + i % 1000;
		void *p = M(malloc)(1000);

		p = opaque(M(realloc)(p, size));
		M(free_sized)(p, size);
		p = M(malloc)(size);
		p = opaque(M(realloc)(p, 1000));
		M(free_sized)(p, 1000);
	}
	CHECK(held_bytes() <= before + 65536);
}
