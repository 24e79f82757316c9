/* SPDX-License-Identifier: MIT */
/*
 * Zeroed blocks: they read as zero whatever lay there before, and one that is known to be zero is
 * not written to, so that its pages need no memory. And memory given back on request.
 */
#include <string.h>
#include <sys/mman.h>

#include "base/options.h"
#include "heap_fixture.h"
#include "os/mock.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static size_t page_bytes(void)
{
	return os_facts()->page_bytes;
}

/* Resident pages among those of [from, to) that lie wholly in it. */
static size_t resident_pages(uintptr_t from, uintptr_t to)
{
	static unsigned char flags[4096];
	const uintptr_t first = (from + page_bytes() - 1) & -page_bytes();
	const uintptr_t last = to & -page_bytes();
	size_t count = 0;
	if (first >= last)
		return 0;
	CHECK((last - first) / page_bytes() <= sizeof flags);
	CHECK_EQ(mincore((void *)first, last - first, flags), 0);
	for (size_t i = 0; i < (last - first) / page_bytes(); i++)
		count += flags[i] & 1;
	return count;
}

/* mincore() tells nothing where the kernel (or what plays its part) does not keep count. */
static void need_mincore(void)
{
	char *p = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	madvise(p, 64 * KIB, MADV_NOHUGEPAGE);
	if (resident_pages((uintptr_t)p, (uintptr_t)p + 64 * KIB) != 0)
		SKIP("mincore() takes untouched pages for resident");
	memset(p, 1, 64 * KIB);
	if (resident_pages((uintptr_t)p, (uintptr_t)p + 64 * KIB) == 0)
		SKIP("mincore() does not see resident pages");
	munmap(p, 64 * KIB);
}

static void check_zero(const void *p, size_t bytes)
{
	static const unsigned char zeroes[4096];
	const unsigned char *at = p;
	for (size_t i = 0; i < bytes; i += sizeof zeroes) {
		const size_t part = bytes - i < sizeof zeroes ? bytes - i : sizeof zeroes;
		CHECK(memcmp(at + i, zeroes, part) == 0);
	}
}

/* A class is untouched if its blocks are linked one at a time: from a page's size on. */
static void check_untouched(size_t size)
{
	for (int i = 0; i < 10; i++) {
		const uintptr_t p = (uintptr_t)heap_alloc_zeroed(size);
		CHECK(p != 0);
		/* The free list's link was in its first page. */
		CHECK_EQ(resident_pages((p | (page_bytes() - 1)) + 1, p + size), 0);
	}
}

TEST(a_fresh_zeroed_block_of_a_class_is_not_touched)
{
	need_mincore();
	fixture_start();
	if (page_bytes() > 4096)
		SKIP("pages are larger than the smallest of these blocks");
	for (size_t size = 5 * KIB; size <= CLASS_BYTES_MAX; size += 3 * KIB)
		check_untouched(size);
	check_untouched(CLASS_BYTES_MAX);
}

TEST(a_fresh_large_zeroed_block_is_not_touched_at_all)
{
	need_mincore();
	fixture_start();
	for (size_t size = 300 * KIB; size <= 8 * MIB; size *= 2) {
		const uintptr_t p = (uintptr_t)heap_alloc_zeroed(size);
		CHECK_EQ(resident_pages(p, p + size), 0);
	}
}

TEST(a_fresh_direct_zeroed_block_is_not_touched)
{
	need_mincore();
	options.page = OPTION_PAGE_MMAP;
	fixture_start();
	for (size_t size = 300 * KIB; size <= 8 * MIB; size *= 2) {
		const uintptr_t p = (uintptr_t)heap_alloc_zeroed(size);
		CHECK_EQ(resident_pages(p, p + size), 0);
	}
}

/* What was given back to the kernel is as good as new. */
TEST(a_zeroed_block_is_not_touched_after_a_trim_either)
{
	need_mincore();
	fixture_start();
	void *p = heap_alloc(4 * MIB);
	memset(p, 1, 4 * MIB);
	heap_free(p);
	heap_trim();
	const uintptr_t q = (uintptr_t)heap_alloc_zeroed(4 * MIB);
	CHECK_EQ(resident_pages(q, q + 4 * MIB), 0);
	check_zero((void *)q, 4 * MIB);
}

/* Used memory of every kind comes back as zero. */
static void check_reuse(void)
{
	static void *blocks[40];
	for (int round = 0; round < 3; round++) {
		for (size_t size = 1; size <= 2 * MIB; size += 1 + size * 2 / 5) {
			for (int i = 0; i < 40; i++) {
				blocks[i] = heap_alloc_zeroed(size);
				check_zero(blocks[i], size);
				memset(blocks[i], 0xa5, heap_usable_size(blocks[i]));
			}
			for (int i = 0; i < 40; i++)
				heap_free(blocks[(i * 7) % 40]);
		}
		if (round == 1)
			heap_trim();
		heap_check();
	}
	fixture_check_empty();
}

TEST_TIMEOUT(a_zeroed_block_is_zero_whatever_lay_there, 30)
{
	fixture_start();
	check_reuse();
}

/* Fills what is free, as far as one block of each size down to a granule reaches. */
static void dirty_all(void)
{
	void *blocks[9];

	for (int i = 0; i < 9; i++) {
		blocks[i] = heap_alloc(16 * MIB >> i);
		memset(blocks[i], 0xa5, 16 * MIB >> i);
	}
	for (int i = 0; i < 9; i++)
		heap_free(blocks[i]);
}

/* A slab in a dirty run: none of its blocks is known to be zero. */
TEST(a_slab_in_used_memory_is_not_taken_for_zero)
{
	unsigned dirty = 0;

	fixture_start();
	for (size_t size = 5 * KIB; size <= CLASS_BYTES_MAX; size = size * 5 / 4) {
		dirty_all();
		unsigned char *q = heap_alloc(size);
		dirty += q[size / 2] == 0xa5;
		heap_free(q);
		q = heap_alloc_zeroed(size);
		check_zero(q, size);
		heap_free(q);
		heap_trim();
	}
	/* The test is one only where slabs came to lie in what was filled. */
	CHECK(dirty > 4);
}

TEST(a_trim_gives_back_what_is_free_and_only_that)
{
	enum { count = 512 };
	static void *blocks[count];
	fixture_start();
	for (size_t i = 0; i < count; i++) {
		blocks[i] = heap_alloc(1 + i * 211 % 90000);
		CHECK(blocks[i] != NULL);
		fixture_fill(blocks[i], heap_usable_size(blocks[i]), i);
	}
	for (size_t i = 0; i < count; i += 2)
		heap_free(blocks[i]);
	const unsigned calls = mock_count(OS_CALL_DECOMMIT);
	CHECK(heap_trim() > 0);
	CHECK(mock_count(OS_CALL_DECOMMIT) > calls);
	heap_check();
	/* At once again there is nothing left to give. */
	CHECK_EQ(heap_trim(), 0);
	for (size_t i = 1; i < count; i += 2) {
		fixture_check_fill(blocks[i], heap_usable_size(blocks[i]), i);
		heap_free(blocks[i]);
	}
	CHECK(heap_trim() > 0);
	fixture_check_empty();
	struct page_stats page;
	page_stats(&page);
	CHECK_EQ(page.dirty_bytes, 0);
}

/* What the kernel refuses to take stays dirty, and is not promised to be zero. */
TEST(a_trim_that_is_refused_promises_nothing)
{
	fixture_start();
	CHECK(heap_alloc(1) != NULL); /* a trim works by a heap */
	void *p = heap_alloc(MIB);
	memset(p, 0xa5, MIB);
	heap_free(p);
	mock_fail_all_after(OS_CALL_DECOMMIT, 0);
	CHECK_EQ(heap_trim(), 0);
	heap_check();
	void *q = heap_alloc_zeroed(MIB);
	CHECK_EQ(q, p);
	check_zero(q, MIB);
}

/* A trim while its thread is inside the heap leaves the heap alone. */
TEST(a_trim_inside_the_heap_leaves_the_slabs)
{
	fixture_start();
	void *p = heap_alloc(100);
	const struct slab *slab = fixture_slab(p);
	struct heap *heap = fixture_heap();
	heap_mark_inside(heap);
	heap_trim();
	heap_mark_at_rest(heap, CLASS_FAST_UNITS);
	CHECK_EQ(heap->current[class_of(100)], slab);
	heap_check();
}
