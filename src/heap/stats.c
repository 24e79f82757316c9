/* SPDX-License-Identifier: MIT */
/*
 * Statistics: a walk over the records of the arena's granules, with no effect on anyone. Each slab
 * is read by relaxed loads while others change it, so a sum is right for blocks that nobody touches
 * meanwhile. The blocks in another thread's bins count as used, at most a slab's for each class;
 * the calling thread's own are counted exactly.
 */
#include <string.h>

#include "heap/core.h"

/*
 * Reads what its owner goes on changing. Between the two stores of slab_set_mark() the sum may be
 * anything, for once.
 */
__attribute__((no_sanitize("thread"))) static uint32_t used_seen(const volatile struct slab *slab,
	uint32_t capacity)
{
	const uint32_t used = slab->mark + slab->until;

	return used <= capacity ? used : capacity;
}

/* Blocks of a slab that the program does not hold. */
static uint32_t slab_free_blocks(const struct slab *slab, uint64_t word, uint32_t capacity)
{
	if (word_state(word) == SLAB_OPEN)
		return word_count(word);
	const uint32_t used = used_seen(slab, capacity);
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
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		for (const struct block *b = heap->bin[class]; b != BLOCK_END; b = b->next) {
			rows[class].free_blocks++;
			rows[class].used_blocks--;
		}
	}
	heap_leave(heap);
}

struct walk {
	struct heap_class_stats rows[CLASS_COUNT];
	uint64_t large_blocks;
	uint64_t large_bytes;
};

static void count_record(void *record, void *arg)
{
	const struct slab *slab = record;
	struct walk *walk = arg;
	const uint64_t word = a_load_rlx(&slab->word);
	const enum slab_state state = word_state(word);
	if (state == SLAB_OWNED || state == SLAB_OPEN) {
		count_slab(walk->rows, slab, word);
	} else if (state == SLAB_LARGE) {
		walk->large_blocks++;
		walk->large_bytes += a_load_rlx(&slab->granules) << PAGE_GRANULE_SHIFT;
	}
}

static void walk_all(struct walk *ret_walk)
{
	memset(ret_walk, 0, sizeof *ret_walk);
	if (heap_init() != 0)
		return;
	page_record_each(count_record, ret_walk);
	count_bins(ret_walk->rows);
}

size_t heap_class_stats_read(struct heap_class_stats *ret_rows, size_t cap)
{
	struct walk walk;
	walk_all(&walk);
	for (size_t i = 0; i < cap && i < CLASS_COUNT; i++) {
		ret_rows[i] = walk.rows[i];
		ret_rows[i].block_bytes = heap_classes[i].bytes;
	}
	return CLASS_COUNT;
}

static void sum_classes(struct heap_stats *sums, const struct walk *walk)
{
	for (unsigned i = 1; i < CLASS_COUNT; i++) {
		const struct heap_class_stats *row = &walk->rows[i];
		const struct class *class = &heap_classes[i];
		sums->used_blocks += row->used_blocks;
		sums->free_blocks += row->free_blocks;
		sums->used_bytes += row->used_blocks * class->bytes;
		sums->free_bytes += row->free_blocks * class->bytes;
		sums->slabs += row->slabs;
		sums->slab_bytes += row->slabs * class->granules * PAGE_GRANULE_BYTES;
	}
}

void heap_stats_read(struct heap_stats *ret_stats)
{
	struct walk walk;
	struct page_stats page;
	walk_all(&walk);
	page_stats(&page);
	struct heap_stats sums = {
		.used_bytes = walk.large_bytes,
		.used_blocks = walk.large_blocks,
		.large_bytes = walk.large_bytes,
		.large_blocks = walk.large_blocks,
		.committed_bytes = page.committed_bytes,
		.cached_bytes = page.dirty_bytes,
		.peak_bytes = page.used_peak_bytes,
		.heaps = heap_pool_count(),
	};
	sum_classes(&sums, &walk);
	for (uint32_t id = 1; id <= sums.heaps; id++)
		sums.heaps_active += a_load_rlx(&heap_at(id)->active);
	*ret_stats = sums;
}
