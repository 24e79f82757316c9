/* SPDX-License-Identifier: MIT */
/*
 * Free pages of slabs that still hold blocks go back to the kernel: what stays, what comes back,
 * and when.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "base/options.h"
#include "heap_fixture.h"
#include "os/mock.h"

#define MS_NS ((uint64_t)1000000)
/* 32 blocks in a granule; a page holds two. */
#define TWO_KIB ((size_t)2048)
/* 16 blocks of five pages in a slab of five granules. */
#define WIDE ((size_t)20480)
enum { COUNT = 4096 };

static unsigned char *blocks[COUNT];

static void alloc_all(size_t count, size_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		blocks[i] = heap_alloc(bytes);
		fixture_fill(blocks[i], bytes, i);
	}
}

/* Frees all but one in so many. */
static void free_but(size_t count, size_t one_in)
{
	for (size_t i = 0; i < count; i++) {
		if (i % one_in != 0)
			heap_free(blocks[i]);
	}
}

static void check_survivors(size_t count, size_t bytes, size_t one_in)
{
	for (size_t i = 0; i < count; i += one_in)
		fixture_check_fill(blocks[i], bytes, i);
}

/* Pages of the slab's run that are there. */
static size_t resident_pages(const struct slab *slab)
{
	static unsigned char pages[2048];
	const size_t bytes = a_load_rlx(&slab->granules) * PAGE_GRANULE_BYTES;
	size_t count = 0;
	CHECK_EQ(mincore(slab->base, bytes, pages), 0);
	for (size_t i = 0; i < bytes / 4096; i++)
		count += pages[i] & 1;
	return count;
}

static size_t resident_pages_of(size_t count, size_t one_in)
{
	const struct slab *last = NULL;
	size_t pages = 0;
	for (size_t i = 0; i < count; i += one_in) {
		const struct slab *slab = fixture_slab(blocks[i]);
		if (slab != last)
			pages += resident_pages(slab);
		last = slab;
	}
	return pages;
}

TEST(a_trim_gives_back_pages_between_blocks_in_use)
{
	fixture_start();
	alloc_all(COUNT, TWO_KIB);
	free_but(COUNT, 16);
	CHECK(resident_pages_of(COUNT, 16) >= COUNT / 2);
	CHECK(heap_trim() >= COUNT / 2 * (size_t)4096 * 3 / 4);
	heap_check();
	/* A page for each survivor, and the granule's last one where blocks do not fill it. */
	CHECK(resident_pages_of(COUNT, 16) <= COUNT / 16 + COUNT / 32);
	check_survivors(COUNT, TWO_KIB, 16);
	/* A trim that finds nothing new gives back nothing. */
	CHECK_EQ(heap_trim(), 0);
	/* The holes are used again before a new slab is. */
	const size_t granules = fixture_granules();
	for (size_t i = 0; i < COUNT; i++) {
		if (i % 16 == 0)
			continue;
		blocks[i] = heap_alloc(TWO_KIB);
		fixture_fill(blocks[i], TWO_KIB, i);
	}
	CHECK(fixture_granules() <= granules + 1);
	heap_check();
	for (size_t i = 0; i < COUNT; i++) {
		fixture_check_fill(blocks[i], TWO_KIB, i);
		heap_free(blocks[i]);
	}
	fixture_check_empty();
}

TEST(blocks_of_several_granules_leave_their_pages)
{
	enum { WIDE_COUNT = 200 };
	fixture_start();
	alloc_all(WIDE_COUNT, WIDE);
	CHECK(a_load_rlx(&fixture_slab(blocks[0])->granules) > 1);
	free_but(WIDE_COUNT, 5);
	CHECK(resident_pages_of(WIDE_COUNT, 5) >= WIDE_COUNT * 5 - 16 * 5);
	heap_trim();
	heap_check();
	CHECK(resident_pages_of(WIDE_COUNT, 5) <= WIDE_COUNT / 5 * 5);
	check_survivors(WIDE_COUNT, WIDE, 5);
	/* What comes back reads as zero for who asks for that. */
	for (size_t i = 0; i < WIDE_COUNT; i++) {
		if (i % 5 == 0)
			continue;
		blocks[i] = heap_alloc_zeroed(WIDE);
		for (size_t at = 0; at < WIDE; at++)
			CHECK_EQ(blocks[i][at], 0);
	}
	check_survivors(WIDE_COUNT, WIDE, 5);
	for (size_t i = 0; i < WIDE_COUNT; i++)
		heap_free(blocks[i]);
	fixture_check_empty();
}

/* Does what a program does that lives on, by slow paths, for so long. */
static void live_on(uint64_t ms)
{
	for (uint64_t at = 0; at < ms; at += 10) {
		mock_clock_advance(10 * MS_NS);
		for (int i = 0; i < 32; i++) {
			void *p = heap_alloc((size_t)300 << 10);
			heap_free(heap_alloc_aligned(128, 6000));
			heap_free(p);
			void *small[64];
			for (int k = 0; k < 64; k++)
				small[k] = heap_alloc(7000);
			for (int k = 0; k < 64; k++)
				heap_free(small[k]);
		}
	}
}

TEST(slow_calls_give_back_what_nobody_has_used_for_decay_ms)
{
	fixture_start();
	alloc_all(COUNT, 2 * TWO_KIB);
	free_but(COUNT, 16);
	const size_t before = resident_pages_of(COUNT, 16);
	CHECK(before >= COUNT);
	live_on(options.decay_ms / 2);
	CHECK_EQ(resident_pages_of(COUNT, 16), before);
	live_on(2 * options.decay_ms);
	heap_check();
	CHECK(resident_pages_of(COUNT, 16) <= COUNT / 16 + COUNT / 32);
	check_survivors(COUNT, 2 * TWO_KIB, 16);
}

/* The janitor has no thread-local storage and no heap of its own between its steps. */
TEST(the_janitor_takes_what_an_idle_thread_left)
{
	size_t waiting = 0;
	fixture_start();
	alloc_all(COUNT, 2 * TWO_KIB);
	free_but(COUNT, 16);
	for (int round = 0; round < 8; round++) {
		a_store_rlx(&heap_self, NULL);
		struct heap *own = heap_at(1);
		while (heap_scavenge_in_janitor(&waiting))
			continue;
		a_store_rlx(&heap_self, own);
		mock_clock_advance(options.decay_ms / 2 * MS_NS);
	}
	CHECK(waiting > 0);
	heap_check();
	CHECK(resident_pages_of(COUNT, 16) <= COUNT / 16 + COUNT / 32);
	check_survivors(COUNT, 2 * TWO_KIB, 16);
	CHECK_EQ(heap_pool_count(), 2);
	for (size_t i = 0; i < COUNT; i += 16)
		heap_free(blocks[i]);
	fixture_check_empty();
}

TEST(pages_that_cannot_be_given_back_are_used_again_all_the_same)
{
	fixture_start();
	alloc_all(COUNT, TWO_KIB);
	free_but(COUNT, 16);
	mock_fail_all_after(OS_CALL_DECOMMIT, 0);
	heap_trim();
	heap_check();
	check_survivors(COUNT, TWO_KIB, 16);
	const size_t granules = fixture_granules();
	for (size_t i = 1; i < COUNT; i += 16)
		blocks[i] = heap_alloc(TWO_KIB);
	CHECK(fixture_granules() <= granules + 1);
	heap_check();
}

TEST(a_free_of_a_block_that_was_given_back_is_an_error)
{
	fixture_start();
	alloc_all(COUNT, TWO_KIB);
	free_but(COUNT, 16);
	heap_trim();
	/* The thread holds the slab again. */
	heap_free(blocks[0]);
	CHECK_DEATH(heap_free(blocks[2]), SIGABRT, "allod: invalid free\n");
	CHECK_DEATH(heap_free(blocks[16 + 2]), SIGABRT, "allod: invalid free\n");
}

/* The program locks a page of a block and frees the block: the kernel drops the pages before it only. */
TEST(a_locked_page_between_free_blocks)
{
	enum { PER = 32 };
	fixture_start();
	alloc_all(PER, TWO_KIB);
	if (mlock(blocks[PER / 2], TWO_KIB) != 0)
		SKIP("memory cannot be locked");
	for (size_t i = 1; i < PER; i++)
		heap_free(blocks[i]);
	heap_trim();
	heap_check();
	for (size_t i = 1; i < PER; i++)
		CHECK((blocks[i] = heap_alloc(TWO_KIB)) != NULL);
	fixture_check_fill(blocks[0], TWO_KIB, 0);
	heap_check();
}
