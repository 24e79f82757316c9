/* SPDX-License-Identifier: MIT */
/* Random operations of one thread against the shadow model. */
#include <string.h>

#include "base/options.h"
#include "harness.h"
#include "heap/heap.h"
#include "heap/thread.h"
#include "page/page.h"
#include "shadow.h"

enum { ROUNDS = 12, STEPS = 4000, LIVE_BYTES_MOST = 48 << 20 };

static struct shadow shadow;

/* All that is left in use by page is what heaps themselves lie in. */
static void check_all_given_back(void)
{
	struct heap_stats stats;
	struct page_stats page;
	const size_t chunk_heaps = PAGE_GRANULE_BYTES / HEAP_BYTES;

	heap_trim();
	shadow_check_account(&shadow, 1);
	heap_stats_read(&stats);
	page_stats(&page);
	CHECK_EQ(stats.slabs, 0);
	CHECK_EQ(page.used_bytes,
		(stats.heaps + chunk_heaps - 1) / chunk_heaps * PAGE_GRANULE_BYTES);
	CHECK_EQ(page.dirty_bytes, 0);
}

static void run_rounds(void)
{
	/* The heap is checked again and again, with nobody inside it. */
	options.background = OPTION_BACKGROUND_OFF;
	shadow_init(&shadow, test_seed(), LIVE_BYTES_MOST);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned step = 0; step < STEPS; step++)
			shadow_step(&shadow);
		shadow_check_overlap(&shadow, 1);
		shadow_check_account(&shadow, 1);
		if (round % 4 == 1)
			heap_trim();
		if (round % 4 == 3)
			shadow_free_all(&shadow);
	}
	shadow_free_all(&shadow);
	check_all_given_back();
}

TEST_TIMEOUT(random_operations, 60)
{
	run_rounds();
}

TEST_TIMEOUT(random_operations_with_page_mmap, 60)
{
	options.page = OPTION_PAGE_MMAP;
	run_rounds();
}

/* A small arena overflows into mappings of their own. */
TEST_TIMEOUT(random_operations_beyond_the_arena, 60)
{
	options.arena_bytes = 16 << 20;
	run_rounds();
}

/* Live blocks of one class from the first address to the last, in every class: none overlap. */
TEST_TIMEOUT(every_class_fills_several_slabs, 60)
{
	options.background = OPTION_BACKGROUND_OFF;
	shadow_init(&shadow, test_seed(), SIZE_MAX);
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		const size_t blocks = heap_classes[class].capacity * 2 + 3;
		const size_t bytes = heap_classes[class].bytes;
		for (size_t i = 0; i < blocks && i < SHADOW_BLOCKS_MAX; i++) {
			void *p = heap_alloc(bytes);
			CHECK(p != NULL);
			CHECK_EQ(heap_usable_size(p), bytes);
			shadow_put(&shadow, (struct shadow_block){ p, bytes, i });
		}
		shadow_check_overlap(&shadow, 1);
		shadow_check_account(&shadow, 1);
		while (shadow.count > 0) {
			struct shadow_block block;
			shadow_take(&shadow, &block);
			heap_free(block.p);
		}
		heap_check();
	}
	check_all_given_back();
}

/*
 * The mark of a free block lies in its memory when that becomes a large block. A program may copy
 * what it never wrote, as realloc() does, and the mark may so come back to where it was made.
 */
TEST(a_mark_that_came_back_is_no_double_free)
{
	unsigned char *small = heap_alloc(20000);
	unsigned char *other = heap_alloc(24000);
	CHECK(small != NULL && other != NULL);
	heap_free(small);
	heap_free(other);
	/* The first slab is given back now, and its run serves this. */
	unsigned char *large = heap_alloc((size_t)5 * PAGE_GRANULE_BYTES);
	CHECK_EQ(large, small);
	unsigned char *copy = heap_resize(large, 100);
	CHECK(copy != NULL);
	unsigned char *back = heap_resize(copy, 20000);
	CHECK_EQ(back, small);
	heap_free(back);
	heap_check();
}
