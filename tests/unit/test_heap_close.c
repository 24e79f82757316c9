/* SPDX-License-Identifier: MIT */
/*
 * Where nothing runs in the background, calls give memory back, also those that a bin serves: a
 * burst of frees leaves the fast path of malloc closed, so that the next allocation looks what is due.
 */
#include <signal.h>

#include "base/options.h"
#include "heap_fixture.h"
#include "os/mock.h"

#define MS_NS ((uint64_t)1000000)

enum { BLOCKS = 16384, SMALL = 64, SMALL_BLOCKS = 500 };

static void *blocks[BLOCKS];
static void *small[SMALL_BLOCKS];

/* Whether malloc's fast path is closed for this size. */
static bool is_closed(size_t size)
{
	CHECK_EQ(a_load_rlx(&fixture_heap()->limit), CLASS_FAST_UNITS);
	return fixture_heap()->classes[(size + 15) / 16] == 0;
}

static size_t dirty_bytes(void)
{
	struct page_stats stats;
	page_stats(&stats);
	return stats.dirty_bytes;
}

/* Allocates and frees so much that page wants ticks; some small blocks are live. */
static void burst(size_t bytes)
{
	for (size_t i = 0; i < SMALL_BLOCKS; i++)
		small[i] = heap_alloc(SMALL);
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = heap_alloc(bytes);
	CHECK(!is_closed(SMALL));
	for (size_t i = 0; i < BLOCKS; i++)
		heap_free(blocks[i]);
	CHECK(page_wants_ticks());
}

/* One pair of calls that the bin serves, after a pause, gives nearly all back. */
static void check_given_back(void)
{
	CHECK(is_closed(SMALL));
	mock_clock_advance(10 * options.decay_ms * MS_NS);
	const size_t before = dirty_bytes();
	heap_free(heap_alloc(SMALL));
	test_note("dirty: %zu KiB, after a pause and a call %zu", before >> 10,
		dirty_bytes() >> 10);
	CHECK(before > (8 << 20));
	CHECK(dirty_bytes() < (1 << 20));
	/* And the path is open. */
	CHECK(!is_closed(SMALL));
	for (size_t i = 0; i < SMALL_BLOCKS; i++)
		heap_free(small[i]);
	CHECK(!is_closed(SMALL));
	fixture_check_empty();
}

TEST(a_call_that_a_bin_serves_gives_back)
{
	fixture_start();
	burst(1000);
	check_given_back();
}

TEST(after_blocks_of_slabs_of_several_granules)
{
	fixture_start();
	burst(20000);
	check_given_back();
}

TEST(after_one_large_block)
{
	fixture_start();
	for (size_t i = 0; i < SMALL_BLOCKS; i++)
		small[i] = heap_alloc(SMALL);
	heap_free(heap_alloc(64 << 20));
	check_given_back();
}

/* Frees go on while the path is closed: to the bin, beside the current slab, at a slab's mark. */
TEST(frees_leave_the_path_closed)
{
	fixture_start();
	burst(1000);
	for (size_t i = 0; i < SMALL_BLOCKS; i++) {
		heap_free(small[i]);
		CHECK(is_closed(SMALL));
	}
	heap_check();
	/* The next allocation opens them, whatever is due. */
	heap_free(heap_alloc(SMALL));
	CHECK(!is_closed(SMALL));
	fixture_check_empty();
}

TEST(a_double_free_to_the_bin_is_seen_in_a_large_heap)
{
	fixture_start();
	burst(1000);
	heap_free(small[0]);
	CHECK_DEATH(heap_free(small[0]), SIGABRT, "allod: double free\n");
	CHECK_DEATH(heap_free((char *)small[1] + 16), SIGABRT, "allod: invalid free\n");
}

/* By whatever call, the fast path serves every size again. */
TEST(any_allocation_opens)
{
	fixture_start();
	void *(*const calls[])(size_t size) = { heap_alloc, heap_alloc_zeroed };
	for (unsigned i = 0; i < 2; i++) {
		burst(1000);
		CHECK(is_closed(16) && is_closed(4096));
		heap_free(calls[i](i ? 16 : 4096));
		for (size_t size = 1; size <= CLASS_FAST_BYTES; size++)
			CHECK_EQ(fixture_heap()->classes[(size + 15) / 16], class_of(size));
		for (size_t k = 0; k < SMALL_BLOCKS; k++)
			heap_free(small[k]);
	}
	fixture_check_empty();
}

TEST(where_the_helper_task_gives_back_they_stay_open)
{
	fixture_start();
	options.background = OPTION_BACKGROUND_AUTO;
	for (size_t i = 0; i < 100; i++)
		blocks[i] = heap_alloc(1000);
	for (size_t i = 0; i < 100; i++)
		heap_free(blocks[i]);
	CHECK(!is_closed(SMALL));
}
