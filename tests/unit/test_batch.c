/* SPDX-License-Identifier: MIT */
/*
 * The N1527 interface against the sentences of N1527 (the text as revised in March 2011), clause by
 * clause, on the mock operating system. Each test names the clause it holds.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "allod/batch.h"
#include "heap/batch.h"
#include "heap_fixture.h"
#include "os/mock.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define UNSET 12345

/* heap_libc() is weak: there is none here. */
bool face_is_delegated(void);
bool face_is_delegated(void)
{
	return false;
}

static void errnos_unset(int *errnos, size_t count)
{
	for (size_t i = 0; i < count; i++)
		errnos[i] = UNSET;
}

/* One row of the table: an element and what it must become. */
struct row {
	const char *name;
	bool has_block; /* a block of 100 bytes, else NULL */
	size_t size;
	size_t alignment;
	uintmax_t flags;
	int want_error;
	bool want_block;
	bool want_same; /* the same address as before */
};

static const struct row rows[] = {
	/* 7.22.3.5 (a): no action, always successful. */
	{ "nothing", false, 0, 0, 0, 0, false, false },
	{ "nothing, with flags", false, 0, 0, ALLOD_M2_ZERO_MEMORY, 0, false, false },
	/* (b): deallocated, ptr becomes zero. */
	{ "free", true, 0, 0, 0, 0, false, false },
	{ "free, ALL_FREE", true, 0, 0, ALLOD_M2_BATCH_IS_ALL_FREE, 0, false, false },
	{ "free, unknown flags", true, 0, 3, (uintmax_t)1 << 40, 0, false, false },
	{ "free, CONSTANT_TIME", true, 0, 0, ALLOD_M2_CONSTANT_TIME, 0, false, false },
	/* (c): allocated. */
	{ "allocate", false, 24, 0, 0, 0, true, false },
	{ "allocate one byte", false, 1, 0, 0, 0, true, false },
	{ "allocate aligned", false, 24, 4096, 0, 0, true, false },
	{ "allocate aligned to 2 MiB", false, 24, 2 * MIB, 0, 0, true, false },
	{ "allocate a run", false, 100 * KIB, 0, ALLOD_M2_ZERO_MEMORY, 0, true, false },
	{ "allocate, CONSTANT_TIME", false, 200 * KIB, 0, ALLOD_M2_CONSTANT_TIME, 0, true, false },
	{ "allocate, PREVENT_MOVE", false, 10, 0, ALLOD_M2_PREVENT_MOVE, 0, true, false },
	{ "allocate too much", false, (size_t)PTRDIFF_MAX + 1, 0, 0, ENOMEM, false, false },
	{ "allocate the most", false, SIZE_MAX, 0, 0, ENOMEM, false, false },
	{ "alignment 3", false, 24, 3, 0, EINVAL, false, false },
	{ "unknown flag", false, 24, 0, (uintmax_t)1 << 7, EINVAL, false, false },
	{ "user flag", false, 24, 0, ALLOD_M2_USERFLAGS_FIRST, EINVAL, false, false },
	/* (d): modified. */
	{ "resize within", true, 110, 0, 0, 0, true, true },
	{ "resize beyond", true, 5000, 0, 0, 0, true, false },
	{ "resize to a run", true, 1 * MIB, 0, ALLOD_M2_ZERO_MEMORY, 0, true, false },
	{ "resize within, PREVENT_MOVE", true, 112, 0, ALLOD_M2_PREVENT_MOVE, 0, true, true },
	{ "shrink, PREVENT_MOVE", true, 1, 0, ALLOD_M2_PREVENT_MOVE, 0, true, true },
	{ "resize beyond, PREVENT_MOVE", true, 113, 0, ALLOD_M2_PREVENT_MOVE, ENOSPC, true, true },
	{ "resize misaligned, PREVENT_MOVE", true, 100, 1 * MIB, ALLOD_M2_PREVENT_MOVE, ENOSPC,
		true, true },
	{ "resize to an alignment", true, 100, 64 * KIB, 0, 0, true, false },
	{ "resize to too much", true, SIZE_MAX, 0, 0, ENOMEM, true, true },
	{ "resize to too much, PREVENT_MOVE", true, SIZE_MAX, 0, ALLOD_M2_PREVENT_MOVE, ENOMEM,
		true, true },
	{ "resize to alignment 24", true, 100, 24, 0, EINVAL, true, true },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void check_row(const struct row *row, const struct allod_mallocation5 *before,
	const struct allod_mallocation5 *after, int error)
{
	if (error != row->want_error)
		test_fail(__FILE__, __LINE__, "%s: error %d", row->name, error);
	if ((after->ptr != NULL) != row->want_block)
		test_fail(__FILE__, __LINE__, "%s: ptr %p", row->name, after->ptr);
	if (row->want_same && after->ptr != before->ptr)
		test_fail(__FILE__, __LINE__, "%s: moved", row->name);
	if (error != 0) {
		/* An element that fails is as it was. */
		CHECK(memcmp(before, after, sizeof(*after)) == 0);
	} else if (row->want_block) {
		CHECK_EQ(after->size, heap_usable_size(after->ptr));
		CHECK(after->size >= row->size && after->reserve >= after->size);
		if (row->alignment != 0)
			CHECK_EQ((uintptr_t)after->ptr % row->alignment, 0);
	}
	if (row->has_block && row->want_block)
		fixture_check_fill(after->ptr, row->size < 100 ? row->size : 100, (uintptr_t)row);
	for (size_t i = row->has_block ? before->size : 0;
		error == 0 && row->flags & ALLOD_M2_ZERO_MEMORY && i < after->size; i++)
		CHECK_EQ(((char *)after->ptr)[i], 0);
}

static void row_begin(const struct row *row, struct allod_mallocation5 *e)
{
	memset(e, 0, sizeof(*e));
	if (row->has_block) {
		e->ptr = heap_alloc(100);
		fixture_fill(e->ptr, 100, (uintptr_t)row);
	}
	e->size = row->size;
	e->alignment = row->alignment;
	e->flags = row->flags;
}

/* Every row alone, and then all in one batch: each with its own result. */
TEST(elements_by_the_table)
{
	struct allod_mallocation5 before[ROWS];
	struct allod_mallocation5 elements[ROWS];
	struct allod_mallocation5 *pointers[ROWS + 2];
	int errnos[ROWS + 2];
	size_t failing = 0;

	fixture_start();
	for (size_t i = 0; i < ROWS; i++) {
		struct allod_mallocation5 *pointer = &elements[i];
		size_t count = 1;

		row_begin(&rows[i], &elements[i]);
		before[i] = elements[i];
		errnos_unset(errnos, 1);
		CHECK_EQ(allod_batch_alloc5(errnos, &pointer, &count), rows[i].want_error == 0);
		CHECK_EQ(count, rows[i].want_error == 0);
		check_row(&rows[i], &before[i], &elements[i], errnos[0]);
		heap_free(elements[i].ptr);
	}
	for (size_t i = 0; i < ROWS; i++) {
		row_begin(&rows[i], &elements[i]);
		before[i] = elements[i];
		pointers[i + 1] = &elements[i];
		failing += rows[i].want_error != 0;
	}
	pointers[0] = pointers[ROWS + 1] = NULL;
	size_t count = ROWS + 2;
	errnos_unset(errnos, count);
	errno = UNSET;
	CHECK(!allod_batch_alloc5(errnos, pointers, &count));
	CHECK_EQ(errno, UNSET);
	CHECK_EQ(count, ROWS + 2 - failing);
	CHECK_EQ(errnos[0], 0);
	CHECK_EQ(errnos[ROWS + 1], 0);
	for (size_t i = 0; i < ROWS; i++) {
		check_row(&rows[i], &before[i], &elements[i], errnos[i + 1]);
		heap_free(elements[i].ptr);
	}
	fixture_check_empty();
}

/* 7.22.3.3: sizes, counts, and the array that is made for a null pointer. */
TEST(batch1_allocates_and_frees)
{
	static void *ptrs[5000];
	static int errnos[5000];
	size_t count = 5000;
	size_t size = 24;

	fixture_start();
	errnos_unset(errnos, 5000);
	CHECK(allod_batch_alloc1(errnos, ptrs, &count, &size, 0, 0, ALLOD_M2_ZERO_MEMORY) == ptrs);
	CHECK_EQ(count, 5000);
	CHECK_EQ(size, 32);
	for (size_t i = 0; i < 5000; i++) {
		CHECK_EQ(errnos[i], 0);
		CHECK_EQ(heap_usable_size(ptrs[i]), 32);
		for (size_t j = 0; j < 32; j++)
			CHECK_EQ(((char *)ptrs[i])[j], 0);
		fixture_fill(ptrs[i], 32, i);
	}
	heap_check();
	for (size_t i = 0; i < 5000; i++)
		fixture_check_fill(ptrs[i], 32, i);
	/* (*size) zero and size NULL both free. */
	count = 2500;
	size = 0;
	errnos_unset(errnos, 5000);
	CHECK(allod_batch_alloc1(errnos, ptrs, &count, &size, 0, 0, 0) == ptrs);
	CHECK_EQ(size, 0);
	CHECK_EQ(errnos[2499], 0);
	CHECK_EQ(errnos[2500], UNSET);
	CHECK(ptrs[2499] == NULL && ptrs[2500] != NULL);
	count = 5000;
	CHECK(allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, ALLOD_M2_BATCH_IS_ALL_FREE) ==
		ptrs);
	CHECK_EQ(count, 5000);
	for (size_t i = 0; i < 5000; i++)
		CHECK(ptrs[i] == NULL);
	fixture_check_empty();
}

TEST(batch1_makes_the_array)
{
	size_t count = 100;
	size_t size = 1000;
	void **ptrs;

	fixture_start();
	ptrs = allod_batch_alloc1(NULL, NULL, &count, &size, 64, 0, 0);
	CHECK(ptrs != NULL && count == 100);
	CHECK_EQ(size, 1024);
	for (size_t i = 0; i < 100; i++)
		CHECK_EQ((uintptr_t)ptrs[i] % 64, 0);
	CHECK(allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0) == ptrs);
	heap_free(ptrs);
	/* "if size is NULL or (*size) is zero then a zero filled array is still returned" */
	ptrs = allod_batch_alloc1(NULL, NULL, &count, NULL, 0, 0, 0);
	CHECK(ptrs != NULL && count == 100);
	for (size_t i = 0; i < 100; i++)
		CHECK(ptrs[i] == NULL);
	heap_free(ptrs);
	/* No memory for the array: NULL, and (*count) is zero. */
	count = SIZE_MAX / 4;
	errno = 0;
	CHECK(allod_batch_alloc1(NULL, NULL, &count, &size, 0, 0, 0) == NULL);
	CHECK_EQ(count, 0);
	CHECK_EQ(errno, ENOMEM);
	count = (size_t)1 << 57;
	CHECK(allod_batch_alloc1(NULL, NULL, &count, &size, 0, 0, 0) == NULL);
	CHECK_EQ(count, 0);
	/* An empty batch. */
	size = 24;
	CHECK(allod_batch_alloc1(NULL, (void *[]){ NULL }, &count, &size, 0, 0, 0) != NULL);
	CHECK_EQ(count, 0);
	CHECK_EQ(size, 24);
	fixture_check_empty();
}

/* With ALL_ALLOC the pointers are not looked at. */
TEST(batch1_all_alloc_needs_no_cleared_array)
{
	void *ptrs[200];
	size_t count = 200;
	size_t size = 40;

	fixture_start();
	memset(ptrs, 0x5a, sizeof(ptrs));
	allod_batch_alloc1(NULL, ptrs, &count, &size, 0, 0, ALLOD_M2_BATCH_IS_ALL_ALLOC);
	CHECK_EQ(count, 200);
	allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0);
	fixture_check_empty();
}

/* (*size) becomes the smallest usable size of any object; elements are mixed. */
TEST(batch1_mixes_and_tells_the_smallest_size)
{
	void *ptrs[3] = { NULL, NULL, NULL };
	int errnos[3];
	size_t count = 3;
	size_t size = 200;

	fixture_start();
	ptrs[1] = heap_alloc(300);
	ptrs[2] = heap_alloc(10);
	fixture_fill(ptrs[2], 10, 7);
	allod_batch_alloc1(errnos, ptrs, &count, &size, 0, 0, 0);
	CHECK_EQ(count, 3);
	CHECK_EQ(size, 208);
	CHECK_EQ(heap_usable_size(ptrs[1]), 304);
	fixture_check_fill(ptrs[2], 10, 7);
	/* Nothing fits: every element fails, and the size stays. */
	size = 1000;
	allod_batch_alloc1(errnos, ptrs, &count, &size, 0, 0, ALLOD_M2_PREVENT_MOVE);
	CHECK_EQ(count, 0);
	CHECK_EQ(size, 1000);
	for (size_t i = 0; i < 3; i++)
		CHECK_EQ(errnos[i], ENOSPC);
	count = 3;
	allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0);
	fixture_check_empty();
}

/* 7.22.3.4 */
TEST(batch2_has_a_size_for_each)
{
	struct allod_mallocation2 e[4] = { { NULL, 10 }, { NULL, 0 }, { NULL, 0 },
		{ NULL, 100 * KIB } };
	struct allod_mallocation2 *pointers[5] = { &e[0], &e[1], NULL, &e[2], &e[3] };
	int errnos[5];
	size_t count = 5;

	fixture_start();
	e[2].ptr = heap_alloc(50);
	e[3].ptr = heap_alloc(50);
	errnos_unset(errnos, 5);
	CHECK(allod_batch_alloc2(errnos, pointers, &count, 0, 0, 0));
	CHECK_EQ(count, 5);
	for (size_t i = 0; i < 5; i++)
		CHECK_EQ(errnos[i], 0);
	CHECK_EQ(e[0].size, 16);
	CHECK(e[1].ptr == NULL && e[2].ptr == NULL);
	CHECK_EQ(e[3].size, 128 * KIB);
	e[0].size = 1000;
	e[3].size = 0;
	CHECK(!allod_batch_alloc2(errnos, pointers, &count, 0, 0, ALLOD_M2_PREVENT_MOVE));
	CHECK_EQ(count, 4);
	CHECK_EQ(errnos[0], ENOSPC);
	CHECK_EQ(e[0].size, 1000);
	heap_free(e[0].ptr);
	fixture_check_empty();
}

/* "expansions up to at least reserve bytes will try to not cause the relocation" */
TEST(reserved_blocks_grow_in_place)
{
	struct allod_mallocation5 e = { NULL, 100 * KIB, 0, 10 * MIB, ALLOD_M2_ZERO_MEMORY };
	struct allod_mallocation5 *pointer = &e;
	void *neighbours[8];
	size_t count = 1;
	void *p;

	fixture_start();
	CHECK(allod_batch_alloc5(NULL, &pointer, &count));
	CHECK_EQ(e.size, 128 * KIB);
	CHECK_EQ(e.reserve, 10 * MIB);
	p = e.ptr;
	for (size_t i = 0; i < 8; i++)
		neighbours[i] = heap_alloc(1 * MIB);
	for (size_t size = 200 * KIB; size <= 10 * MIB; size += 700 * KIB) {
		const size_t before = e.size;
		e.size = size;
		e.flags = ALLOD_M2_PREVENT_MOVE | ALLOD_M2_ZERO_MEMORY;
		CHECK(allod_batch_alloc5(NULL, &pointer, &count));
		CHECK(e.ptr == p && e.size >= size && e.reserve == 10 * MIB);
		for (size_t i = before; i < e.size; i += 511)
			CHECK_EQ(((char *)p)[i], 0);
		fixture_fill(p, e.size, size);
	}
	/* What shrinks keeps its room, and grows into it again; it reads as zero then. */
	CHECK(allod_try_realloc(p, 1) == p);
	CHECK_EQ(heap_usable_size(p), 64 * KIB);
	e.size = 10 * MIB;
	CHECK(allod_batch_alloc5(NULL, &pointer, &count) && e.ptr == p);
	for (size_t i = 64 * KIB; i < e.size; i += 511)
		CHECK_EQ(((char *)p)[i], 0);
	heap_check();
	/* allod_realloc() and allod_free() know it. */
	CHECK(heap_resize(p, 5 * MIB) == p);
	CHECK(heap_resize(p, 9 * MIB) == p);
	p = heap_resize(p, 40 * MIB);
	CHECK_EQ(heap_usable_size(p), 40 * MIB);
	heap_free(p);
	for (size_t i = 0; i < 8; i++)
		heap_free(neighbours[i]);
	fixture_check_empty();
}

/* RESERVE_IS_MULT multiplies by the usable size; what overflows or is small is ignored. */
TEST(reservations_are_hints)
{
	const struct {
		size_t size, reserve;
		uintmax_t flags;
		size_t want;
	} cases[] = {
		{ 100 * KIB, 8, ALLOD_M2_RESERVE_IS_MULT, 1 * MIB },
		{ 100 * KIB, 50 * KIB, 0, 128 * KIB },
		{ 100 * KIB, SIZE_MAX, ALLOD_M2_RESERVE_IS_MULT, 128 * KIB },
		{ 100 * KIB, SIZE_MAX, 0, 128 * KIB },
		{ 100 * KIB, (size_t)1 << 60, 0, 128 * KIB },
		{ 100, 1 * MIB, 0, 112 },
		{ 4096, 1 * MIB, 0, 1 * MIB },
		{ 4096, 8000, 0, 4096 },
	};

	fixture_start();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct allod_mallocation5 e = { NULL, cases[i].size, 0, cases[i].reserve,
			cases[i].flags };
		struct allod_mallocation5 *pointer = &e;
		size_t count = 1;

		CHECK(allod_batch_alloc5(NULL, &pointer, &count));
		CHECK_EQ(e.reserve, cases[i].want);
		heap_free(e.ptr);
	}
	fixture_check_empty();
}

/* A resize may ask for a reservation, too, and gets it where addresses are free. */
TEST(a_resize_reserves)
{
	struct allod_mallocation5 e = { NULL, 100 * KIB, 0, 0, 0 };
	struct allod_mallocation5 *pointer = &e;
	size_t count = 1;

	fixture_start();
	CHECK(allod_batch_alloc5(NULL, &pointer, &count));
	CHECK_EQ(e.reserve, e.size);
	e.reserve = 3 * MIB;
	CHECK(allod_batch_alloc5(NULL, &pointer, &count));
	CHECK_EQ(e.reserve, 3 * MIB);
	e.reserve = 0;
	e.size = 64 * MIB;
	fixture_fill(e.ptr, 100 * KIB, 3);
	CHECK(allod_batch_alloc5(NULL, &pointer, &count));
	fixture_check_fill(e.ptr, 100 * KIB, 3);
	heap_free(e.ptr);
	fixture_check_empty();
}

/* 7.22.3.2, .11, .12: equivalent to batches of one. */
TEST(single_calls)
{
	fixture_start();
	char *p = allod_try_realloc(NULL, 100);
	CHECK(p != NULL);
	fixture_fill(p, 100, 1);
	CHECK(allod_try_realloc(p, 112) == p);
	errno = 0;
	CHECK(allod_try_realloc(p, 113) == NULL && errno == ENOSPC);
	/* Not a constant: compilers warn of those. */
	volatile size_t most = SIZE_MAX;
	CHECK(allod_try_realloc(p, most) == NULL && errno == ENOMEM);
	CHECK(allod_try_aligned_realloc(p, 3, 10) == NULL && errno == EINVAL);
	CHECK(allod_try_aligned_realloc(p, 8 * MIB, 100) == NULL && errno == ENOSPC);
	CHECK(allod_try_aligned_realloc(p, 16, 100) == p);
	CHECK(allod_aligned_realloc(p, 48, 100) == NULL && errno == EINVAL);
	fixture_check_fill(p, 100, 1);
	errno = 0;
	p = allod_aligned_realloc(p, 4096, 10000);
	CHECK(p != NULL && (uintptr_t)p % 4096 == 0 && errno == 0);
	fixture_check_fill(p, 100, 1);
	p = allod_aligned_realloc(p, 4 * MIB, 3 * MIB);
	CHECK(p != NULL && (uintptr_t)p % (4 * MIB) == 0);
	fixture_check_fill(p, 100, 1);
	CHECK(allod_try_realloc(p, 20 * KIB) == p);
	CHECK(allod_aligned_realloc(p, 16, 0) == NULL);
	p = allod_aligned_realloc(NULL, 256, 3);
	CHECK(p != NULL && (uintptr_t)p % 256 == 0);
	CHECK(allod_try_realloc(p, 0) == NULL && errno == 0);
	p = allod_try_realloc(NULL, 0);
	CHECK(p != NULL);
	heap_free(p);
	fixture_check_empty();
}

/* CONSTANT_TIME gives nothing back: what has long been idle stays until the next call without. */
TEST(constant_time_does_no_housekeeping)
{
	size_t count = 1;
	size_t size = 64;
	void *p = NULL;

	fixture_start();
	heap_free(memset(heap_alloc(16 * MIB), 1, 16 * MIB));
	p = heap_alloc(64);
	mock_clock_advance(1000 * (uint64_t)1000000000);
	const unsigned before = mock_count(OS_CALL_DECOMMIT);
	for (unsigned i = 0; i < 100; i++) {
		void *ptrs[64] = { NULL };
		count = 64;
		allod_batch_alloc1(NULL, ptrs, &count, &size, 0, 0, ALLOD_M2_CONSTANT_TIME);
		allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, ALLOD_M2_CONSTANT_TIME);
	}
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), before);
	count = 1;
	allod_batch_alloc1(NULL, &p, &count, NULL, 0, 0, 0);
	CHECK(mock_count(OS_CALL_DECOMMIT) > before);
	fixture_check_empty();
}

/* Blocks of a slab that are freed together take their run back whole, whoever frees them. */
static void free_array(void *arg)
{
	size_t count = 10000;
	allod_batch_alloc1(NULL, arg, &count, NULL, 0, 0, 0);
	CHECK_EQ(count, 10000);
}

TEST(batches_cross_threads)
{
	static void *ptrs[10000];
	struct peer peer;

	fixture_start();
	peer_start(&peer);
	for (size_t size = 8; size < 40 * KIB; size = size * 3 + 8) {
		size_t count = 10000;
		size_t bytes = size;
		memset(ptrs, 0, sizeof(ptrs));
		if (size > 3000)
			count = 1000;
		allod_batch_alloc1(NULL, ptrs, &count, &bytes, 0, 0, 0);
		for (size_t i = 0; i < count; i++)
			fixture_fill(ptrs[i], 8, i);
		for (size_t i = 0; i < count; i++)
			fixture_check_fill(ptrs[i], 8, i);
		peer_run(&peer, free_array, ptrs);
		heap_check();
	}
	peer_end(&peer);
	fixture_check_empty();
}

/* In an order in which no two neighbours lie in one slab, and in reverse. */
TEST(any_order_of_frees)
{
	static void *ptrs[8192];

	fixture_start();
	for (unsigned order = 0; order < 3; order++) {
		size_t count = 8192;
		size_t size = 48;
		memset(ptrs, 0, sizeof(ptrs));
		allod_batch_alloc1(NULL, ptrs, &count, &size, 0, 0, 0);
		for (size_t i = 0; order == 1 && i < 4096; i++) {
			void *p = ptrs[i];
			ptrs[i] = ptrs[8191 - i];
			ptrs[8191 - i] = p;
		}
		for (size_t i = 0; order == 2 && i < 8192; i++) {
			const size_t j = i * 2654435761u % 8192;
			void *p = ptrs[i];
			ptrs[i] = ptrs[j];
			ptrs[j] = p;
		}
		allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0);
		CHECK_EQ(count, 8192);
		heap_check();
	}
	fixture_check_empty();
}

/* The system gives so many more pieces of memory, and no other kind. */
static void memory_ends_after(unsigned n)
{
	mock_fail_all_after(OS_CALL_COMMIT, n);
	mock_fail_all_after(OS_CALL_MAP, 0);
	mock_fail_all_after(OS_CALL_RESERVE, 0);
	mock_fail_all_after(OS_CALL_RESERVE_AT, 0);
	mock_fail_all_after(OS_CALL_GROW, 0);
}

/* As many as there is memory for, each with its errno; when there is some again, all is well. */
static void memory_ends(unsigned more)
{
	enum { COUNT = 100000 };
	static void *ptrs[COUNT];
	static int errnos[COUNT];
	size_t count = COUNT;
	size_t size = 1000;
	size_t good = 0;

	fixture_start();
	heap_free(heap_alloc(64));
	errnos_unset(errnos, COUNT);
	memory_ends_after(more);
	errno = UNSET;
	allod_batch_alloc1(errnos, ptrs, &count, &size, 0, 0, ALLOD_M2_ZERO_MEMORY);
	mock_reset();
	CHECK_EQ(errno, UNSET);
	for (size_t i = 0; i < COUNT; i++) {
		CHECK_EQ(errnos[i], ptrs[i] != NULL ? 0 : ENOMEM);
		good += ptrs[i] != NULL;
	}
	CHECK_EQ(count, good);
	CHECK(count < COUNT && count > 500);
	heap_check();
	/* Elements without a block are tried again, the others are resized to what they are. */
	count = COUNT;
	allod_batch_alloc1(errnos, ptrs, &count, &size, 0, 0, 0);
	CHECK_EQ(count, COUNT);
	allod_batch_alloc1(errnos, ptrs, &count, NULL, 0, 0, 0);
	fixture_check_empty();
}

TEST(memory_ends_at_once)
{
	memory_ends(0);
}

TEST(memory_ends_in_the_middle)
{
	memory_ends(3);
}

/* A refusal in the middle of mixed elements concerns one of them. */
TEST(one_refusal_fails_one_element)
{
	enum { COUNT = 40 };
	struct allod_mallocation5 e[COUNT];
	struct allod_mallocation5 *pointers[COUNT];
	int errnos[COUNT];

	fixture_start();
	heap_free(heap_alloc(64));
	for (unsigned nth = 0; nth < 12; nth++) {
		size_t count = COUNT;
		size_t failed = 0;
		for (size_t i = 0; i < COUNT; i++) {
			e[i] = (struct allod_mallocation5){ i % 4 == 1 ? heap_alloc(300 * KIB)
								       : NULL,
				i % 4 == 2 ? 0 : 3 * MIB, 0, 0, 0 };
			if (e[i].ptr != NULL)
				fixture_fill(e[i].ptr, 300 * KIB, i);
			pointers[i] = &e[i];
		}
		memory_ends_after(nth);
		(void)allod_batch_alloc5(errnos, pointers, &count);
		mock_reset();
		for (size_t i = 0; i < COUNT; i++) {
			failed += errnos[i] != 0;
			CHECK(errnos[i] == 0 || errnos[i] == ENOMEM);
			/* What could not grow is as it was. */
			if (i % 4 == 1)
				fixture_check_fill(e[i].ptr, 300 * KIB, i);
			else
				CHECK_EQ(e[i].ptr != NULL, errnos[i] == 0 && i % 4 != 2);
			CHECK(errnos[i] == 0 || e[i].size == 3 * MIB);
			heap_free(e[i].ptr);
		}
		CHECK_EQ(count + failed, COUNT);
		CHECK(failed > 0 || nth > 0);
		heap_check();
		fixture_check_empty();
	}
}

/* A slab that went back whole held no free block; so a batch that gets it again does not touch it. */
TEST(blocks_are_not_touched)
{
	static void *ptrs[8192];
	size_t count = 8192;
	size_t size = 24;

	fixture_start();
	for (unsigned round = 0; round < 2; round++) {
		allod_batch_alloc1(NULL, ptrs, &count, &size, 0, 0, ALLOD_M2_BATCH_IS_ALL_ALLOC);
		CHECK_EQ(count, 8192);
		/* Of the last slab, which stayed the heap's, blocks were taken one by one. */
		size_t untouched = 0;
		for (size_t i = 0; i < 8192; i++)
			untouched += ((struct block *)ptrs[i])->key == 0x1234;
		CHECK(round == 0 || untouched >= 6000);
		for (size_t i = 0; i < 8192; i++)
			((struct block *)ptrs[i])->key = 0x1234;
		allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0);
		CHECK_EQ(count, 8192);
	}
	/* What looks free by chance is none, and what was freed one by one has no keys later. */
	for (unsigned round = 0; round < 3; round++) {
		allod_batch_alloc1(NULL, ptrs, &count, &size, 0, 0, ALLOD_M2_BATCH_IS_ALL_ALLOC);
		for (size_t i = 0; i < 8192 && round > 1; i++)
			CHECK(((struct block *)ptrs[i])->key != BLOCK_KEY);
		for (size_t i = 0; i < 8192 && round < 1; i++)
			((struct block *)ptrs[i])->key = BLOCK_KEY;
		for (size_t i = 8192; i-- > 0 && round == 1;)
			heap_free(ptrs[i]);
		if (round != 1)
			allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0);
	}
	fixture_check_empty();
}
