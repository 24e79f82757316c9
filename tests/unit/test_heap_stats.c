/* SPDX-License-Identifier: MIT */
/* What the heap says of itself, against a shadow count. */
#include "heap_fixture.h"
#include "os/mock.h"

#define COUNT 3000

static void *blocks[COUNT];

/* What the program holds, by the heap's own word for each block's size. */
struct shadow {
	struct heap_class_stats rows[CLASS_COUNT];
	uint64_t bytes;
	uint64_t blocks;
	uint64_t large_bytes;
	uint64_t large_blocks;
};

static struct shadow shadow;

static void shadow_count(void *p, uint64_t one)
{
	const size_t usable = heap_usable_size(p);
	shadow.blocks += one;
	shadow.bytes += one * usable;
	if (fixture_state(fixture_slab(p)) != SLAB_LARGE) {
		shadow.rows[class_of(usable)].used_blocks += one;
	} else {
		shadow.large_blocks += one;
		shadow.large_bytes += one * usable;
	}
}

static void check_rows(const struct heap_stats *stats)
{
	struct heap_class_stats rows[CLASS_COUNT];
	uint64_t slabs = 0;
	CHECK_EQ(heap_class_stats_read(rows, CLASS_COUNT), CLASS_COUNT);
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		const struct heap_class_stats *row = &rows[class];
		CHECK_EQ(row->block_bytes, heap_classes[class].bytes);
		CHECK_EQ(row->used_blocks, shadow.rows[class].used_blocks);
		CHECK_EQ(row->used_blocks + row->free_blocks,
			row->slabs * heap_classes[class].capacity);
		slabs += row->slabs;
	}
	CHECK_EQ(slabs, stats->slabs);
}

static void check_stats(void)
{
	struct heap_stats stats;
	struct page_stats page;
	heap_check();
	heap_stats_read(&stats);
	page_stats(&page);
	CHECK_EQ(stats.used_blocks, shadow.blocks);
	CHECK_EQ(stats.used_bytes, shadow.bytes);
	CHECK_EQ(stats.large_blocks, shadow.large_blocks);
	CHECK_EQ(stats.large_bytes, shadow.large_bytes);
	CHECK_EQ(stats.slab_bytes + stats.large_bytes, fixture_granules() << PAGE_GRANULE_SHIFT);
	CHECK(stats.used_bytes - stats.large_bytes + stats.free_bytes <= stats.slab_bytes);
	CHECK_EQ(stats.committed_bytes, page.committed_bytes);
	CHECK_EQ(stats.cached_bytes, page.dirty_bytes);
	CHECK(stats.peak_bytes >= stats.slab_bytes + stats.large_bytes);
	check_rows(&stats);
}

static size_t random_size(uint64_t *random)
{
	return 1 + (test_random(random) >> (44 + test_random(random) % 19));
}

static void random_step(size_t i, uint64_t *random)
{
	if (blocks[i] != NULL) {
		shadow_count(blocks[i], (uint64_t)-1);
		if (test_random(random) % 4 == 0) {
			blocks[i] = heap_resize(blocks[i], random_size(random));
			shadow_count(blocks[i], 1);
			return;
		}
		heap_free(blocks[i]);
		blocks[i] = NULL;
		return;
	}
	blocks[i] = test_random(random) % 8 == 0
		? heap_alloc_aligned((size_t)1 << test_random(random) % 18, random_size(random))
		: heap_alloc(random_size(random));
	shadow_count(blocks[i], 1);
}

static void free_all(void)
{
	for (size_t i = 0; i < COUNT; i++) {
		if (blocks[i] != NULL)
			shadow_count(blocks[i], (uint64_t)-1);
		heap_free(blocks[i]);
		blocks[i] = NULL;
	}
}

TEST_TIMEOUT(the_numbers_are_those_of_a_shadow, 30)
{
	uint64_t random = test_seed();
	fixture_start();
	check_stats();
	for (int step = 0; step < 60000; step++) {
		random_step(test_random(&random) % COUNT, &random);
		if (step % 500 == 0)
			check_stats();
	}
	free_all();
	check_stats();
	fixture_check_empty();
}

/* Frees and allocates on another thread, whose heap is at rest when the numbers are read. */
static void work_of_peer(void *arg)
{
	uint64_t *random = arg;
	for (int step = 0; step < 3000; step++)
		random_step(test_random(random) % COUNT, random);
}

/* Blocks in bins of others count as used: the one inexactness, as heap.h says of a snapshot. */
static uint64_t blocks_in_bins(const struct heap *heap)
{
	uint64_t count = 0;
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		for (const struct block *b = heap->bin[class]; b != BLOCK_END; b = b->next)
			count++;
	}
	return count;
}

static void note_own_heap(void *arg)
{
	*(struct heap **)arg = fixture_heap();
}

TEST_TIMEOUT(the_numbers_hold_across_threads, 30)
{
	uint64_t random = test_seed();
	struct heap_stats stats;
	struct heap *other;
	struct peer peer;
	fixture_start();
	peer_start(&peer);
	for (int round = 0; round < 15; round++) {
		work_of_peer(&random);
		peer_run(&peer, work_of_peer, &random);
		peer_run(&peer, note_own_heap, &other);
		heap_check();
		heap_stats_read(&stats);
		CHECK_EQ(stats.used_blocks, shadow.blocks + blocks_in_bins(other));
		CHECK_EQ(stats.large_bytes, shadow.large_bytes);
		CHECK_EQ(stats.heaps_active, 2);
	}
	peer_end(&peer);
	heap_stats_read(&stats);
	CHECK_EQ(stats.heaps_active, 1);
	CHECK_EQ(stats.heaps, 2);
	check_stats();
	free_all();
	fixture_check_empty();
}
