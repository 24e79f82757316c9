/* SPDX-License-Identifier: MIT */
/* Large blocks, alignments, resizing, and requests that nobody can serve. */
#include <errno.h>
#include <string.h>

#include "base/options.h"
#include "heap_fixture.h"
#include "os/mock.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GRANULE PAGE_GRANULE_BYTES

/* The least size that is a large block. */
#define LARGE (CLASS_BYTES_MAX + 1)

static struct page_stats page_now(void)
{
	struct page_stats stats;
	page_stats(&stats);
	return stats;
}

static void start_direct(void)
{
	options.page = OPTION_PAGE_MMAP;
	fixture_start();
}

static void *filled(size_t size, uint64_t seed)
{
	void *p = heap_alloc(size);
	CHECK(p != NULL);
	fixture_fill(p, size, seed);
	return p;
}

TEST(above_the_classes_a_block_is_a_run)
{
	fixture_start();
	void *small = heap_alloc(CLASS_BYTES_MAX);
	CHECK_EQ(fixture_state(fixture_slab(small)), SLAB_OWNED);
	heap_free(small);
	heap_trim();
	void *p = filled(LARGE, 1);
	CHECK_EQ(fixture_state(fixture_slab(p)), SLAB_LARGE);
	CHECK_EQ((uintptr_t)p % GRANULE, 0);
	CHECK_EQ(heap_usable_size(p), GRANULE);
	CHECK_EQ(heap_usable_size(p), heap_good_size(LARGE));
	CHECK_EQ(fixture_granules(), 1);
	heap_check();
	heap_free(p);
	CHECK_EQ(fixture_state(fixture_slab(p)), SLAB_FREED);
	fixture_check_empty();
}

static void check_refused(size_t align, size_t size)
{
	errno = 0;
	CHECK_EQ(heap_alloc_aligned(align, size), NULL);
	CHECK_EQ(errno, ENOMEM);
}

static void check_impossible(void)
{
	void *p = filled(100, 3);
	const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 14, HEAP_SIZE_MAX + 1, HEAP_SIZE_MAX,
		HEAP_SIZE_MAX - GRANULE, (size_t)1 << 62, (size_t)1 << 50 };
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		check_refused(1, sizes[i]);
		check_refused(4096, sizes[i]);
		check_refused((size_t)1 << 40, sizes[i]);
		errno = 0;
		CHECK_EQ(heap_alloc_zeroed(sizes[i]), NULL);
		CHECK_EQ(errno, ENOMEM);
		errno = 0;
		CHECK_EQ(heap_resize(p, sizes[i]), NULL);
		CHECK_EQ(errno, ENOMEM);
		CHECK(!heap_resize_in_place(p, sizes[i]));
		fixture_check_fill(p, 100, 3);
	}
	for (size_t bit = 47; bit < 64; bit++)
		check_refused((size_t)1 << bit, 1);
	heap_free(p);
	fixture_check_empty();
}

/* What is appended to gets room up to 4 KiB; above, where blocks come to stay, the next class. */
TEST(a_block_that_grows_a_little_gets_room_if_it_is_small)
{
	fixture_start();
	for (size_t size = 64; size < CLASS_BYTES_MAX / 2; size += size / 2) {
		const size_t usable = heap_usable_size(heap_alloc(size));
		void *p = heap_resize(heap_alloc(size), usable + 1);
		const size_t most = usable + usable / 4;
		const size_t want = most <= 4096 ? most : usable + 1;
		CHECK_EQ(heap_usable_size(p), heap_good_size(want));
		heap_free(p);
	}
}

TEST(what_no_machine_has_is_refused)
{
	fixture_start();
	check_impossible();
}

TEST(what_no_machine_has_is_refused_of_direct_runs_too)
{
	start_direct();
	check_impossible();
}

TEST(errno_is_left_alone_by_success)
{
	fixture_start();
	errno = 77;
	void *p = heap_alloc(10);
	p = heap_resize(p, LARGE);
	p = heap_resize(p, 8 * MIB);
	p = heap_resize(p, 10);
	heap_free(p);
	heap_free(heap_alloc_zeroed(100 * KIB));
	heap_free(heap_alloc_aligned(128 * MIB, 10));
	heap_free(NULL);
	CHECK_EQ(errno, 77);
}

/* Every alignment with sizes below and above it, by arena and by a mapping of its own. */
static void check_alignments(size_t most)
{
	static const size_t sizes[] = { 1, 16, 17, 100, 513, 5000, 70000, 300000, 3000000 };
	for (size_t align = 1; align <= most; align *= 2) {
		void *blocks[9];
		for (size_t i = 0; i < 9; i++) {
			blocks[i] = heap_alloc_aligned(align, sizes[i]);
			CHECK(blocks[i] != NULL);
			CHECK_EQ((uintptr_t)blocks[i] % align, 0);
			CHECK(heap_usable_size(blocks[i]) >= sizes[i]);
			fixture_fill(blocks[i], heap_usable_size(blocks[i]), i);
		}
		heap_check();
		for (size_t i = 0; i < 9; i++) {
			fixture_check_fill(blocks[i], heap_usable_size(blocks[i]), i);
			heap_free(blocks[i]);
		}
	}
	fixture_check_empty();
}

TEST(every_alignment_is_kept)
{
	fixture_start();
	check_alignments(1024 * MIB);
}

TEST(every_alignment_is_kept_by_direct_runs)
{
	start_direct();
	check_alignments(64 * MIB);
}

TEST(a_block_keeps_its_place_while_half_of_it_is_used)
{
	fixture_start();
	for (unsigned class = 2; class < CLASS_COUNT; class ++) {
		const size_t bytes = heap_classes[class].bytes;
		void *p = filled(bytes, class);
		CHECK_EQ(heap_resize(p, bytes / 2), p);
		CHECK_EQ(heap_resize(p, bytes), p);
		CHECK_EQ(heap_resize(p, bytes - 1), p);
		fixture_check_fill(p, bytes, class);
		void *q = heap_resize(p, bytes / 2 - 1);
		CHECK(q != p && q != NULL);
		CHECK_EQ(heap_usable_size(q), heap_good_size(bytes / 2 - 1));
		heap_free(q);
	}
	fixture_check_empty();
}

TEST(a_block_that_is_appended_to_is_copied_seldom)
{
	size_t copies = 0;

	fixture_start();
	void *p = filled(16, 1);
	for (size_t bytes = 32; bytes <= CLASS_BYTES_MAX * 5 / 7; bytes += 16) {
		void *q = heap_resize(p, bytes);
		copies += q != p;
		CHECK(heap_usable_size(q) <= bytes + bytes * 2 / 5 + 16);
		fixture_check_fill(q, 16, 1);
		p = q;
	}
	test_note("%zu copies", copies);
	CHECK(copies < 56);
	heap_free(p);
	/* One that grows by much at once is as large as asked for. */
	p = filled(1024, 2);
	p = heap_resize(p, 2000);
	CHECK_EQ(heap_usable_size(p), heap_good_size(2000));
	heap_free(p);
	fixture_check_empty();
}

TEST(a_block_that_grows_takes_its_contents_along)
{
	fixture_start();
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		const size_t bytes = heap_classes[class].bytes;
		unsigned char *p = filled(bytes, class);
		unsigned char *q = heap_resize(p, bytes + 1);
		CHECK(q != p && q != NULL);
		fixture_check_fill(q, bytes, class);
		CHECK(heap_usable_size(q) > bytes);
		heap_free(q);
	}
	fixture_check_empty();
}

TEST(resizing_in_place_says_what_is_possible)
{
	fixture_start();
	void *p = heap_alloc(100);
	CHECK(heap_resize_in_place(p, 1));
	CHECK(heap_resize_in_place(p, 112));
	CHECK(!heap_resize_in_place(p, 113));
	void *q = heap_alloc(LARGE);
	CHECK(heap_resize_in_place(q, 2 * MIB));
	CHECK_EQ(heap_usable_size(q), 2 * MIB);
	CHECK(heap_resize_in_place(q, LARGE));
	CHECK_EQ(heap_usable_size(q), heap_good_size(LARGE));
	/* It may not seem to be of a class. */
	CHECK(!heap_resize_in_place(q, CLASS_BYTES_MAX));
	void *behind = heap_alloc(LARGE);
	CHECK_EQ((char *)behind, (char *)q + heap_good_size(LARGE));
	CHECK(!heap_resize_in_place(q, 2 * MIB));
	CHECK_EQ(heap_usable_size(q), heap_good_size(LARGE));
	heap_check();
	heap_free(p);
	heap_free(q);
	heap_free(behind);
	fixture_check_empty();
}

TEST(a_large_block_grows_in_place_where_it_can)
{
	fixture_start();
	void *p = filled(MIB, 1);
	CHECK_EQ(heap_resize(p, 4 * MIB), p);
	CHECK_EQ(heap_usable_size(p), 4 * MIB);
	fixture_check_fill(p, MIB, 1);
	fixture_fill(p, 4 * MIB, 2);
	/* And gives its tail back. */
	CHECK_EQ(heap_resize(p, MIB), p);
	CHECK_EQ(fixture_granules(), 16);
	CHECK_EQ(page_now().move_calls, 0);
	heap_check();
	heap_free(p);
	fixture_check_empty();
}

TEST(a_large_block_in_narrow_quarters_moves_its_pages)
{
	fixture_start();
	void *p = filled(MIB, 1);
	void *wall = heap_alloc(LARGE);
	void *q = heap_resize(p, 4 * MIB);
	CHECK(q != NULL && q != p);
	CHECK_EQ(page_now().move_calls, 1);
	fixture_check_fill(q, MIB, 1);
	CHECK_EQ(fixture_state(fixture_slab(p)), SLAB_FREED);
	CHECK_EQ(heap_usable_size(q), 4 * MIB);
	heap_check();
	heap_free(wall);
	heap_free(q);
	fixture_check_empty();
}

TEST(where_pages_cannot_move_a_large_block_is_copied)
{
	fixture_start();
	mock_facts()->overcommit_mode = 2;
	void *p = filled(MIB, 1);
	void *wall = heap_alloc(LARGE);
	void *q = heap_resize(p, 4 * MIB);
	CHECK(q != NULL && q != p);
	CHECK_EQ(page_now().move_calls, 0);
	fixture_check_fill(q, MIB, 1);
	heap_check();
	heap_free(wall);
	heap_free(q);
	fixture_check_empty();
}

TEST(a_large_block_that_shrinks_to_a_class_is_copied)
{
	fixture_start();
	void *p = filled(2 * MIB, 1);
	fixture_fill(p, 10000, 2);
	void *q = heap_resize(p, 10000);
	CHECK(q != NULL && q != p);
	CHECK_EQ(heap_usable_size(q), heap_good_size(10000));
	fixture_check_fill(q, 10000, 2);
	CHECK_EQ(fixture_state(fixture_slab(p)), SLAB_FREED);
	heap_free(q);
	fixture_check_empty();
}

TEST(direct_blocks_grow_shrink_and_move)
{
	start_direct();
	void *p = filled(MIB, 1);
	CHECK(!page_in_arena(p));
	for (size_t size = 2 * MIB; size <= 32 * MIB; size *= 2) {
		p = heap_resize(p, size);
		CHECK(p != NULL);
		fixture_check_fill(p, MIB, 1);
		CHECK_EQ(heap_usable_size(p), size);
		heap_check();
	}
	CHECK_EQ(heap_resize(p, MIB), p);
	CHECK_EQ(page_now().direct_bytes, MIB);
	fixture_check_fill(p, MIB, 1);
	p = heap_resize(p, 100);
	CHECK_EQ(heap_usable_size(p), 112);
	heap_free(p);
	fixture_check_empty();
}

/*
 * A shadow of realloc: one block through 2000 sizes of all magnitudes, in and out of the classes.
 */
static void resize_at_random(void)
{
	uint64_t random = test_seed();
	size_t size = 1;
	void *p = filled(size, 0);
	for (uint64_t i = 1; i <= 2000; i++) {
		const size_t next = 1 + (test_random(&random) >> (40 + test_random(&random) % 23));
		const size_t kept = size < next ? size : next;
		/* Whole, so that any prefix can be checked. */
		memset(p, (int)(i & 255), kept);
		void *q = heap_resize(p, next);
		CHECK(q != NULL && heap_usable_size(q) >= next);
		const unsigned char *bytes = q;
		for (size_t k = 0; k<kept; k += kept> 4096 ? 511 : 1)
			CHECK_EQ(bytes[k], i & 255);
		CHECK_EQ(bytes[kept - 1], i & 255);
		p = q;
		size = next;
		if (i % 64 == 0)
			heap_check();
	}
	heap_free(p);
	fixture_check_empty();
}

TEST_TIMEOUT(a_block_goes_through_many_sizes, 20)
{
	fixture_start();
	resize_at_random();
}

TEST_TIMEOUT(a_direct_block_goes_through_many_sizes, 20)
{
	start_direct();
	resize_at_random();
}

/* Slots for direct runs are counted in the metadata: none is lost to a refusal. */
TEST(a_refused_direct_run_costs_nothing)
{
	start_direct();
	void *p = filled(MIB, 1);
	heap_free(heap_alloc(LARGE));
	heap_free(heap_resize(filled(MIB, 2), 2 * MIB));
	const size_t metadata = page_now().metadata_bytes;
	const size_t direct = page_now().direct_bytes;
	/* All: at a boundary of the map from addresses to runs, the first is for a table of it. */
	mock_fail_all_after(OS_CALL_MAP, 0);
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(heap_alloc(LARGE), NULL);
		/* Neither in place, nor by moving, nor by copying. */
		mock_fail(OS_CALL_GROW, 1, ENOMEM);
		mock_fail(i % 2 ? OS_CALL_MOVE : OS_CALL_RESERVE, 1, ENOMEM);
		CHECK_EQ(heap_resize(p, 2 * MIB), NULL);
	}
	CHECK_EQ(page_now().metadata_bytes, metadata);
	CHECK_EQ(page_now().direct_bytes, direct);
	fixture_check_fill(p, MIB, 1);
	heap_free(p);
	fixture_check_empty();
}
