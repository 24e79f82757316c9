/* SPDX-License-Identifier: MIT */
/*
 * Statistics: a walk over the records of the arena's granules, with no effect on anyone. Each slab is read
 * by relaxed loads while others change it, so a sum is right for blocks that nobody touches
 * meanwhile. The blocks in another thread's bins count as used, at most a slab's for each class;
 * the calling thread's own are counted exactly.
 */
#include "base/options.h"
#include "heap/core.h"

/* Blocks of a slab that the program does not hold. */
static uint32_t slab_free_blocks(const struct slab *slab, uint64_t word, uint32_t capacity)
{
	if (word_state(word) == SLAB_OPEN)
		return word_count(word);
	const uint32_t used = a_load_rlx(&slab->used);
	const uint32_t held = used > word_count(word) ? used - word_count(word) : 0;
	return held < capacity ? capacity - held : 0;
}

static void count_slab(struct heap_class_stats *rows, const struct slab *slab, uint64_t word)
{
	const unsigned class = a_load_rlx(&slab->class);
	const uint32_t capacity = heap_classes[class].capacity;
	const uint32_t free_blocks = slab_free_blocks(slab, word, capacity);
	rows[class].slabs++;
	rows[class].free_blocks += free_blocks;
	rows[class].used_blocks += capacity - free_blocks;
}

static void count_bins(struct heap_class_stats *rows)
{
	struct heap *heap = heap_enter_own();
	if (heap == NULL)
		return;
	for (unsigned class = 1; class < CLASS_FINE_COUNT; class++) {
		for (const struct block *b = heap->bin[class]; b != NULL; b = b->next) {
			rows[class].free_blocks++;
			rows[class].used_blocks--;
		}
	}
	heap_leave(heap);
}

/* Sums of large blocks go to row 0, as bytes in used_blocks' place beside their number. */
struct large_sums {
	uint64_t blocks;
	uint64_t bytes;
};

static void walk(struct heap_class_stats *rows, struct large_sums *large)
{
	const uint32_t count = page_record_count();
	uint32_t index = 0;
	while (index < count) {
		const struct slab *slab = page_record_at(index);
		const uint64_t word = a_load_rlx(&slab->word);
		const enum slab_state state = word_state(word);
		if (state == SLAB_OWNED || state == SLAB_OPEN) {
			count_slab(rows, slab, word);
		} else if (state == SLAB_LARGE) {
			large->blocks++;
			large->bytes += a_load_rlx(&slab->granules) << PAGE_GRANULE_SHIFT;
		}
		index++;
	}
}

size_t heap_class_stats_read(struct heap_class_stats *ret_rows, size_t cap)
{
	struct heap_class_stats rows[CLASS_COUNT] = { 0 };
	struct large_sums large = { 0 };
	if (heap_init() == 0)
		walk(rows, &large);
	count_bins(rows);
	for (size_t i = 0; i < cap && i < CLASS_COUNT; i++) {
		ret_rows[i] = rows[i];
		ret_rows[i].block_bytes = heap_classes[i].bytes;
	}
	return CLASS_COUNT;
}

static void sum_classes(struct heap_stats *sums)
{
	struct heap_class_stats rows[CLASS_COUNT] = { 0 };
	struct large_sums large = { 0 };
	walk(rows, &large);
	count_bins(rows);
	sums->large_blocks = large.blocks;
	sums->large_bytes = large.bytes;
	sums->used_blocks = large.blocks;
	sums->used_bytes = large.bytes;
	for (unsigned i = 1; i < CLASS_COUNT; i++) {
		const struct class *class = &heap_classes[i];
		sums->used_blocks += rows[i].used_blocks;
		sums->free_blocks += rows[i].free_blocks;
		sums->used_bytes += rows[i].used_blocks * class->bytes;
		sums->free_bytes += rows[i].free_blocks * class->bytes;
		sums->slabs += rows[i].slabs;
		sums->slab_bytes += rows[i].slabs * class->granules * PAGE_GRANULE_BYTES;
	}
}

void heap_stats_read(struct heap_stats *ret_stats)
{
	struct heap_stats sums = { 0 };
	if (heap_init() == 0) {
		struct page_stats page;
		page_stats(&page);
		sums.committed_bytes = page.committed_bytes + page.direct_bytes;
		sums.cached_bytes = page.dirty_bytes;
		sums.peak_bytes = page.used_peak_bytes;
		sum_classes(&sums);
	}
	sums.heaps = heap_pool_count();
	for (uint32_t id = 1; id <= sums.heaps; id++)
		sums.heaps_active += a_load_rlx(&heap_at(id)->active);
	*ret_stats = sums;
}
