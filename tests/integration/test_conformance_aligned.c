/* SPDX-License-Identifier: MIT */
/* aligned_alloc, posix_memalign, memalign, valloc and pvalloc. */
#include <unistd.h>

#include "conformance.h"

static const size_t sizes[] = { 0, 1, 7, 16, 24, 100, 1000, 4096, 5000, 40000, 70000, 1 << 20 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Checks that the block is there, aligned, large enough and the caller's; frees it. */
static void check_and_free(void *block, size_t alignment, size_t size)
{
	CHECK(block != NULL);
	CHECK(is_aligned(block, alignment) && is_aligned(block, 16));
	CHECK(M(malloc_usable_size)(block) >= size);
	stamp(block, size, alignment);
	CHECK(stamp_holds(block, size, alignment));
	KEEPS_ERRNO(M(free)(block));
}

TEST(aligned_alloc_takes_every_power_of_two)
{
	for (size_t align = 1; align <= (size_t)64 << 20; align *= 2) {
		for (size_t i = 0; i < SIZES; i++)
			check_and_free(opaque(M(aligned_alloc)(align, sizes[i])), align, sizes[i]);
	}
}

TEST(aligned_alloc_refuses_other_alignments)
{
	static const size_t bad[] = { 0, 3, 5, 6, 7, 12, 24, 48, 100, 4095, 4097, SIZE_MAX,
		SIZE_MAX / 2, ((size_t)1 << 63) + 1 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		FAILS(M(aligned_alloc)(opaque_size(bad[i]), 0), EINVAL);
		FAILS(M(aligned_alloc)(opaque_size(bad[i]), 100), EINVAL);
	}
}

/* POSIX: the error is returned and the pointer keeps its value. */
TEST(posix_memalign_takes_powers_of_two_from_a_pointer_up)
{
	for (size_t align = sizeof(void *); align <= (size_t)64 << 20; align *= 2) {
		for (size_t i = 0; i < SIZES; i++) {
			void *p = NULL;

			KEEPS_ERRNO(CHECK_EQ(M(posix_memalign)(&p, align, sizes[i]), 0));
			check_and_free(opaque(p), align, sizes[i]);
		}
	}
}

TEST(posix_memalign_refuses_other_alignments)
{
	static const size_t bad[] = { 0, 1, 2, 3, 4, 5, 7, 9, 12, 24, 40, 100, 4097, SIZE_MAX,
		SIZE_MAX / 2, ((size_t)1 << 63) + 8 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		void *p = (void *)&bad;

		KEEPS_ERRNO(CHECK_EQ(M(posix_memalign)(&p, opaque_size(bad[i]), 100), EINVAL));
		CHECK_EQ(p, (void *)&bad);
		KEEPS_ERRNO(CHECK_EQ(M(posix_memalign)(&p, opaque_size(bad[i]), 0), EINVAL));
		CHECK_EQ(p, (void *)&bad);
	}
}

/* Of two errors the alignment is told: it is wrong whatever memory there is. */
TEST(a_bad_alignment_comes_before_a_size_too_large)
{
	void *p = &p;

	KEEPS_ERRNO(CHECK_EQ(M(posix_memalign)(&p, opaque_size(24), opaque_size(SIZE_MAX)),
		EINVAL));
	CHECK_EQ(p, &p);
	FAILS(M(aligned_alloc)(opaque_size(24), opaque_size(SIZE_MAX)), EINVAL);
	FAILS(M(aligned_alloc)(opaque_size(0), opaque_size(SIZE_MAX)), EINVAL);
	FAILS(M(memalign)(opaque_size(SIZE_MAX), opaque_size(SIZE_MAX)), EINVAL);
}

/* Neither fits, nor their sum, nor what it wraps round to. */
TEST(alignment_and_size_that_add_up_to_nothing)
{
	static const size_t pairs[][2] = { { (size_t)1 << 63, (size_t)1 << 63 },
		{ (size_t)1 << 62, ((size_t)3 << 62) + 1 }, { (size_t)1 << 62, (size_t)1 << 62 },
		{ (size_t)1 << 62, (size_t)PTRDIFF_MAX }, { 64, SIZE_MAX - 63 },
		{ 4096, SIZE_MAX - 4095 }, { 65536, SIZE_MAX - 65535 }, { 65536, SIZE_MAX - 65536 },
		{ 4096, (size_t)PTRDIFF_MAX - 4095 }, { 16, (size_t)PTRDIFF_MAX - 15 } };

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		size_t align = opaque_size(pairs[i][0]);
		size_t size = opaque_size(pairs[i][1]);
		void *p = &p;

		FAILS(M(aligned_alloc)(align, size), ENOMEM);
		FAILS(M(memalign)(align, size), ENOMEM);
		FAILS(M(memalign)(align - 1, size), ENOMEM);
		CHECK_EQ(M(posix_memalign)(&p, align, size), ENOMEM);
		CHECK_EQ(p, &p);
	}
}

/* As of malloc(0): something that free() takes, and that no other call is given. */
TEST(no_bytes_give_distinct_blocks)
{
	void *blocks[60];

	for (size_t i = 0; i < 60; i++) {
		switch (i % 6) {
		case 0: blocks[i] = M(aligned_alloc)(64, opaque_size(0)); break;
		case 1: blocks[i] = M(memalign)(64, opaque_size(0)); break;
		case 2: blocks[i] = M(valloc)(opaque_size(0)); break;
		case 3: blocks[i] = M(pvalloc)(opaque_size(0)); break;
		case 4: blocks[i] = M(aligned_alloc)((size_t)1 << 17, opaque_size(0)); break;
		default: CHECK_EQ(M(posix_memalign)(&blocks[i], 64, opaque_size(0)), 0);
		}
		CHECK(opaque(blocks[i]) != NULL);
		for (size_t j = 0; j < i; j++)
			CHECK(blocks[i] != blocks[j]);
	}
	for (size_t i = 0; i < 60; i++)
		M(free)(blocks[i]);
}

TEST(posix_memalign_without_memory_leaves_the_pointer)
{
	static const size_t big[] = { SIZE_MAX, SIZE_MAX - 64, (size_t)PTRDIFF_MAX + 1,
		(size_t)1 << 48 };

	for (size_t i = 0; i < sizeof(big) / sizeof(big[0]); i++) {
		void *p = (void *)&big;

		/* As glibc: its own tests look at errno. */
		errno = ERRNO_MARK;
		CHECK_EQ(M(posix_memalign)(&p, 64, opaque_size(big[i])), ENOMEM);
		CHECK_EQ(errno, ENOMEM);
		CHECK_EQ(p, (void *)&big);
	}
}

static size_t power_above(size_t n)
{
	size_t power = 1;

	while (power < n)
		power *= 2;
	return power;
}

TEST(memalign_rounds_the_alignment_up)
{
	static const size_t aligns[] = { 0, 1, 2, 3, 5, 8, 9, 15, 17, 24, 33, 100, 1000, 4095, 4097,
		65537, (1 << 20) + 1 };

	for (size_t i = 0; i < sizeof(aligns) / sizeof(aligns[0]); i++) {
		size_t align = opaque_size(aligns[i]);

		for (size_t j = 0; j < SIZES; j++)
			check_and_free(opaque(M(memalign)(align, sizes[j])), power_above(align),
				sizes[j]);
	}
}

TEST(memalign_refuses_alignments_that_cannot_be_rounded)
{
	FAILS(M(memalign)(opaque_size(((size_t)1 << 63) + 1), 1), EINVAL);
	FAILS(M(memalign)(opaque_size(SIZE_MAX), 1), EINVAL);
	FAILS(M(memalign)(opaque_size((size_t)1 << 63), 1), ENOMEM);
	FAILS(M(memalign)(opaque_size((size_t)1 << 63), (size_t)1 << 62), ENOMEM);
	FAILS(M(aligned_alloc)(opaque_size((size_t)1 << 63), 1), ENOMEM);
}

/* Far more than a huge page: either there are such addresses, or the failure is told. */
TEST(alignments_up_to_the_address_space)
{
	for (size_t align = (size_t)128 << 20; align <= (size_t)1 << 46; align *= 4) {
		void *p;

		errno = ERRNO_MARK;
		p = opaque(M(aligned_alloc)(align, 100));
		if (p == NULL) {
			CHECK_EQ(errno, ENOMEM);
			CHECK(align > (size_t)1 << 30);
			continue;
		}
		check_and_free(p, align, 100);
	}
}

TEST(aligned_blocks_do_not_overlap)
{
	enum { count = 1500 };
	static unsigned char *blocks[count];
	static size_t sizes_of[count];
	uint64_t random = test_seed();

	for (size_t round = 0; round < 2; round++) {
		for (size_t i = round; i < count; i += 1 + round) {
			size_t align = (size_t)1 << test_random(&random) % 14;

			M(free)(blocks[i]);
			sizes_of[i] = test_random(&random) % 5000;
			blocks[i] = opaque(M(memalign)(align, sizes_of[i]));
			CHECK(blocks[i] != NULL && is_aligned(blocks[i], align));
			stamp(blocks[i], sizes_of[i], i);
		}
		for (size_t i = 0; i < count; i++)
			CHECK(stamp_holds(blocks[i], sizes_of[i], i));
	}
	for (size_t i = 0; i < count; i++)
		M(free)(blocks[i]);
}

TEST(valloc_aligns_to_pages)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; i < SIZES; i++)
		check_and_free(opaque(M(valloc)(sizes[i])), page, sizes[i]);
}

TEST(pvalloc_rounds_the_size_to_pages)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; i < SIZES; i++) {
		size_t rounded = (sizes[i] + page - 1) / page * page;

		check_and_free(opaque(M(pvalloc)(sizes[i])), page, rounded);
	}
	FAILS(M(pvalloc)(opaque_size(SIZE_MAX - page + 2)), ENOMEM);
	FAILS(M(pvalloc)(opaque_size(SIZE_MAX - page + 1)), ENOMEM);
	FAILS(M(pvalloc)(opaque_size(SIZE_MAX - page)), ENOMEM);
	/* A size that is allowed, and is not when rounded. */
	FAILS(M(pvalloc)(opaque_size((size_t)PTRDIFF_MAX)), ENOMEM);
	FAILS(M(pvalloc)(opaque_size((size_t)PTRDIFF_MAX - page + 2)), ENOMEM);
	FAILS(M(valloc)(opaque_size((size_t)PTRDIFF_MAX)), ENOMEM);
}

/* A block comes back to the size class it came from, so that aligned blocks do not accumulate. */
TEST(aligned_blocks_are_reused)
{
	size_t before;

	M(free)(M(aligned_alloc)(4096, 100));
	before = held_bytes();
	for (size_t i = 0; i < 20000; i++)
		M(free)(opaque(M(aligned_alloc)((size_t)16 << i % 10, 1 + i % 3000)));
	CHECK(held_bytes() <= before + 65536);
}
