/* SPDX-License-Identifier: MIT */
/*
 * A program that was written from N1527, of March 2011, by the names that stand there: the relations
 * in which its text puts the calls to each other, and what it says of each parameter. Only public
 * headers are known here, and the shared library is what is called.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "allod/batch.h"
#include "allod/heap.h"
#include "harness.h"

/* All that such a program needs; docs/guide/from-n1527.md has the same lines. */
#define mallocation2 allod_mallocation2
#define mallocation5 allod_mallocation5
#define batch_alloc1 allod_batch_alloc1
#define batch_alloc2 allod_batch_alloc2
#define batch_alloc5 allod_batch_alloc5
#define aligned_alloc allod_aligned_alloc
#define aligned_realloc allod_aligned_realloc
#define try_realloc allod_try_realloc
#define try_aligned_realloc allod_try_aligned_realloc
#define calloc allod_calloc
#define free allod_free
#define malloc allod_malloc
#define malloc_usable_size allod_malloc_usable_size
#define realloc allod_realloc
#define M2_ZERO_MEMORY ALLOD_M2_ZERO_MEMORY
#define M2_PREVENT_MOVE ALLOD_M2_PREVENT_MOVE
#define M2_CONSTANT_TIME ALLOD_M2_CONSTANT_TIME
#define M2_RESERVE_IS_MULT ALLOD_M2_RESERVE_IS_MULT
#define M2_BATCH_IS_ALL_ALLOC ALLOD_M2_BATCH_IS_ALL_ALLOC
#define M2_BATCH_IS_ALL_REALLOC ALLOD_M2_BATCH_IS_ALL_REALLOC
#define M2_BATCH_IS_ALL_FREE ALLOD_M2_BATCH_IS_ALL_FREE

enum { MANY = 100, UNSET = -1 };

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define SMALL (4 * KIB)

static char letter_at(size_t i)
{
	return (char)(i * 7 + i / 251);
}

/* A block of so many bytes, filled; NULL for none. */
static char *block_of(size_t bytes)
{
	char *p = bytes ? malloc(bytes) : NULL;

	for (size_t i = 0; i < bytes; i++)
		p[i] = letter_at(i);
	return p;
}

static bool is_kept(const char *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (p[i] != letter_at(i))
			return false;
	return true;
}

static bool is_zero(const char *p, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (p[i])
			return false;
	return true;
}

/* What the calls for one object mean, as the text tells it: a batch of one object of one size. */
static void *one(void *p, size_t alignment, size_t size, uintmax_t flags)
{
	size_t count = 1;

	CHECK_EQ(batch_alloc1(NULL, &p, &count, &size, alignment, 0, flags), &p);
	CHECK(count <= 1);
	return count ? p : NULL;
}

static void *call(unsigned which, void *p, size_t alignment, size_t size)
{
	switch (which) {
	case 0: return realloc(p, size);
	case 1: return aligned_realloc(p, alignment, size);
	case 2: return try_realloc(p, size);
	default: return try_aligned_realloc(p, alignment, size);
	}
}

/* The contract of a result, whichever way it came about. Frees what is there then. */
static void judge(char *old, size_t had, char *new, size_t alignment, size_t size, bool in_place)
{
	const size_t kept = had < size ? had : size;

	if (!new) {
		/* The old object is not deallocated, and its value is unchanged. */
		CHECK(!old || is_kept(old, had));
		free(old);
		return;
	}
	CHECK(!in_place || !old || new == old);
	CHECK(malloc_usable_size(new) >= size);
	CHECK_EQ((uintptr_t) new % alignment, 0);
	CHECK(is_kept(new, kept));
	free(new);
}

/* 7.22.3.2, .10 to .12: each is equivalent to a batch of one. */
TEST(calls_for_one_object)
{
	static const size_t had[] = { 0, 1, 100, 5000, 40 * KIB, 300 * KIB };
	static const size_t sizes[] = { 1, 24, 100, 113, SMALL, 70 * KIB, 1 * MIB, 3 * MIB,
		(size_t)PTRDIFF_MAX + 1, SIZE_MAX };
	static const size_t alignments[] = { 1, 16, 64, 4096, 2 * MIB };

	for (unsigned n = 0; n < 4 * 6 * 10 * 5; n++) {
		const unsigned which = n % 4;
		const size_t old = had[n / 4 % 6];
		const size_t size = sizes[n / 24 % 10];
		const size_t alignment = which % 2 ? alignments[n / 240] : 1;
		const bool in_place = which >= 2;
		char *const a = block_of(old);
		char *const b = block_of(old);
		errno = 0;
		char *const x = call(which, a, alignment, size);
		const int error = errno;
		char *const y = one(b, alignment, size, in_place ? M2_PREVENT_MOVE : 0);
		/* What lies behind large ones is of no two alike, nor how they happen to lie. */
		if (!in_place || (old <= SMALL && alignment <= 16))
			CHECK_EQ(x != NULL, y != NULL);
		if (!x)
			CHECK(error == ENOMEM || (in_place && a && error == ENOSPC));
		judge(a, old, x, alignment, size, in_place);
		judge(b, old, y, alignment, size, in_place);
	}
}

/* 7.22.3.1, .6, .8: so are those that allocate. */
TEST(calls_that_allocate)
{
	static const size_t sizes[] = { 1, 24, 4096, 100 * KIB, 5 * MIB, SIZE_MAX };
	volatile size_t half = SIZE_MAX / 2;

	for (size_t i = 0; i < 6; i++) {
		char *x = malloc(sizes[i]);
		char *y = one(NULL, 0, sizes[i], 0);
		CHECK_EQ(x != NULL, y != NULL);
		if (x)
			CHECK_EQ(malloc_usable_size(x), malloc_usable_size(y));
		free(x);
		free(y);
		x = calloc(sizes[i], 1);
		y = one(NULL, 0, sizes[i], M2_ZERO_MEMORY);
		CHECK_EQ(x != NULL, y != NULL);
		if (x)
			CHECK(is_zero(x, 0, sizes[i]) && is_zero(y, 0, malloc_usable_size(y)));
		free(x);
		CHECK_EQ(one(y, 0, 0, 0), NULL);
		for (size_t alignment = 8; sizes[i] != SIZE_MAX && alignment <= 1 * MIB;
			alignment *= 4) {
			x = aligned_alloc(alignment, sizes[i]);
			y = one(NULL, alignment, sizes[i], 0);
			CHECK(x && y && ((uintptr_t)x | (uintptr_t)y) % alignment == 0);
			free(x);
			free(y);
		}
	}
	errno = 0;
	CHECK(!calloc(half, 3) && errno == ENOMEM);
	CHECK(!calloc(3, half));
}

/* Elements of every kind, twice the same. */
struct twins {
	struct mallocation5 a[MANY], b[MANY];
	struct mallocation5 *a_ptrs[MANY], *b_ptrs[MANY];
	int a_errnos[MANY], b_errnos[MANY];
};

static struct twins twins;
static uint64_t seed;

static size_t choose(size_t n)
{
	return test_random(&seed) % n;
}

/* Blocks are small, so that what a resize in place can do depends on nothing else. */
static void twins_make(size_t size, size_t alignment, uintmax_t flags)
{
	for (size_t i = 0; i < MANY; i++) {
		const size_t had = choose(2) ? 1 + choose(3000) : 0;
		struct mallocation5 *a = &twins.a[i], *b = &twins.b[i];
		*a = (struct mallocation5){ block_of(had), size ? size : choose(3) * choose(5000),
			alignment, 0, flags };
		*b = *a;
		b->ptr = block_of(had);
		twins.a_ptrs[i] = a;
		twins.b_ptrs[i] = b;
		twins.a_errnos[i] = twins.b_errnos[i] = UNSET;
		if (!size && !had && choose(4) == 0)
			twins.a_ptrs[i] = twins.b_ptrs[i] = NULL;
	}
}

/* Frees what is left by a batch that says so. */
static void twins_free(void)
{
	struct mallocation5 *all[MANY];
	size_t count = 0;

	for (size_t i = 0; i < MANY; i++) {
		twins.a[i].size = 0;
		twins.a[i].flags = M2_BATCH_IS_ALL_FREE | M2_CONSTANT_TIME;
		if (twins.a[i].ptr)
			all[count++] = &twins.a[i];
		free(twins.b[i].ptr);
	}
	const size_t asked = count;
	CHECK(batch_alloc5(NULL, all, &count) && count == asked);
	for (size_t i = 0; i < MANY; i++)
		CHECK(!twins.a[i].ptr);
}

/* Each element has the same result by both, whether it succeeds or not. */
static void twins_judge(size_t a_count, size_t b_count)
{
	size_t succeeded = 0;

	CHECK_EQ(a_count, b_count);
	for (size_t i = 0; i < MANY; i++) {
		const struct mallocation5 *a = &twins.a[i], *b = &twins.b[i];
		CHECK(twins.a_errnos[i] != UNSET);
		CHECK_EQ(twins.a_errnos[i], twins.b_errnos[i]);
		CHECK_EQ(a->ptr != NULL, b->ptr != NULL);
		if (twins.a_errnos[i] == 0 && a->ptr && a->size)
			CHECK_EQ(a->size, malloc_usable_size(a->ptr));
		succeeded += twins.a_errnos[i] == 0;
	}
	CHECK_EQ(a_count, succeeded);
}

static const uintmax_t some_flags[] = { 0, M2_ZERO_MEMORY, M2_PREVENT_MOVE,
	M2_PREVENT_MOVE | M2_ZERO_MEMORY | M2_CONSTANT_TIME, M2_RESERVE_IS_MULT };

/* How a block happens to lie decides nothing. */
static size_t some_alignment(uintmax_t flags)
{
	static const size_t some[] = { 0, 16, 3, 256 };

	return some[choose(flags & M2_PREVENT_MOVE ? 3 : 4)];
}

/* 7.22.3.4: the same as batch_alloc5() with these properties in each element. */
TEST(batch2_is_batch5)
{
	seed = test_seed();
	for (unsigned n = 0; n < 60; n++) {
		struct mallocation2 pairs[MANY], *ptrs[MANY];
		const uintmax_t flags = some_flags[choose(5)];
		const size_t alignment = some_alignment(flags);
		size_t a_count = MANY, b_count = MANY;

		twins_make(0, alignment, flags);
		for (size_t i = 0; i < MANY; i++) {
			pairs[i] = (struct mallocation2){ twins.a[i].ptr, twins.a[i].size };
			ptrs[i] = twins.a_ptrs[i] ? &pairs[i] : NULL;
		}
		const bool a = batch_alloc2(twins.a_errnos, ptrs, &a_count, alignment, 0, flags);
		const bool b = batch_alloc5(twins.b_errnos, twins.b_ptrs, &b_count);
		CHECK(a == (a_count == MANY) && b == a);
		for (size_t i = 0; i < MANY; i++) {
			twins.a[i].ptr = pairs[i].ptr;
			twins.a[i].size = pairs[i].size;
		}
		twins_judge(a_count, b_count);
		twins_free();
	}
}

/* 7.22.3.3: the same, of one size; which becomes the smallest of what was made. */
TEST(batch1_is_batch5)
{
	static const size_t sizes[] = { 1, 24, 500, 2000, 9000, SIZE_MAX };

	seed = test_seed();
	for (unsigned n = 0; n < 60; n++) {
		void *ptrs[MANY];
		const uintmax_t flags = some_flags[choose(5)];
		const size_t alignment = some_alignment(flags);
		const size_t asked = sizes[choose(6)];
		size_t a_count = MANY, b_count = MANY;
		size_t size = asked;
		size_t smallest = SIZE_MAX;

		twins_make(asked, alignment, flags);
		for (size_t i = 0; i < MANY; i++)
			ptrs[i] = twins.a[i].ptr;
		CHECK_EQ(batch_alloc1(twins.a_errnos, ptrs, &a_count, &size, alignment, 0, flags),
			ptrs);
		const bool b = batch_alloc5(twins.b_errnos, twins.b_ptrs, &b_count);
		CHECK_EQ(b, b_count == MANY);
		for (size_t i = 0; i < MANY; i++) {
			twins.a[i].ptr = ptrs[i];
			twins.a[i].size = ptrs[i] ? malloc_usable_size(ptrs[i]) : asked;
			if (twins.a_errnos[i] == 0 && twins.a[i].size < smallest)
				smallest = twins.a[i].size;
		}
		CHECK_EQ(size, a_count ? smallest : asked);
		twins_judge(a_count, b_count);
		twins_free();
	}
}

/* 7.22: the flags that ask for contents, a place, and room. */
TEST(flags)
{
	struct mallocation5 e = { block_of(100), 3000, 0, 0, M2_ZERO_MEMORY };
	struct mallocation5 *p = &e;
	const size_t usable = malloc_usable_size(e.ptr);
	size_t count = 1;

	memset(e.ptr, 1, usable);
	CHECK(batch_alloc5(NULL, &p, &count) && count == 1);
	CHECK(e.size >= 3000 && is_zero(e.ptr, usable, e.size));
	CHECK_EQ(((char *)e.ptr)[usable - 1], 1);
	/* An expansion up to the reservation does not move. */
	e.size = 200 * KIB;
	e.reserve = 8;
	e.flags = M2_RESERVE_IS_MULT;
	CHECK(batch_alloc5(NULL, &p, &count) && e.reserve >= 8 * 200 * KIB);
	void *const base = e.ptr;
	void *const behind = malloc(300 * KIB);
	e.flags = M2_PREVENT_MOVE;
	for (e.size = 300 * KIB; e.size < 8 * 200 * KIB; e.size += 100 * KIB)
		CHECK(batch_alloc5(NULL, &p, &count) && e.ptr == base);
	CHECK(try_realloc(base, 1500 * KIB) == base);
	/* Beyond, and at another alignment: ENOSPC, and all is as it was. */
	int errnos[2] = { UNSET, UNSET };
	struct mallocation5 two[2] = { { base, (size_t)1 << 45, 0, 0, M2_PREVENT_MOVE },
		{ block_of(64), 64, 1 * MIB, 0, M2_PREVENT_MOVE } };
	struct mallocation5 *both[2] = { &two[0], &two[1] };
	const struct mallocation5 before[2] = { two[0], two[1] };
	count = 2;
	CHECK(!batch_alloc5(errnos, both, &count) && count == 0);
	CHECK(errnos[0] == ENOSPC && errnos[1] == ENOSPC);
	CHECK(memcmp(before, two, sizeof(two)) == 0 && is_kept(two[1].ptr, 64));
	free(base);
	free(behind);
	free(two[1].ptr);
}

/* 7.22.3.3: without an array one is made; without a size nothing is in it. */
TEST(arrays_that_are_made)
{
	size_t count = MANY, size = 100;
	void **ptrs = batch_alloc1(NULL, NULL, &count, &size, 64, 0, M2_ZERO_MEMORY);

	CHECK(ptrs && count == MANY && size >= 100);
	for (size_t i = 0; i < MANY; i++)
		CHECK((uintptr_t)ptrs[i] % 64 == 0 && malloc_usable_size(ptrs[i]) >= size &&
			is_zero(ptrs[i], 0, size));
	CHECK_EQ(batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, M2_BATCH_IS_ALL_FREE), ptrs);
	CHECK(count == MANY && is_zero((char *)ptrs, 0, sizeof(*ptrs) * MANY));
	free(ptrs);
	size = 0;
	ptrs = batch_alloc1(NULL, NULL, &count, &size, 0, 0, 0);
	CHECK(ptrs && count == MANY && is_zero((char *)ptrs, 0, sizeof(*ptrs) * MANY));
	free(ptrs);
	count = SIZE_MAX / sizeof(void *);
	size = 1;
	CHECK(!batch_alloc1(NULL, NULL, &count, &size, 0, 0, 0) && count == 0);
}
