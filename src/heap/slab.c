/* SPDX-License-Identifier: MIT */
/* One slab's life in a heap: made, carved, collected from, opened, given back. See heap/slab.h. */
#include "base/assert.h"
#include "heap/core.h"
#include "heap/fast.h"

const struct block heap_block_end;
_Atomic(uintptr_t) heap_warm_records;

/* Granules behind the first name their distance to it, so that any address finds its slab. */
static void inner_begin(struct slab *slab, unsigned granules)
{
	for (unsigned i = 1; i < granules; i++) {
		struct slab *inner = page_record_of(slab->base + i * PAGE_GRANULE_BYTES);
		if (inner == slab)
			return; /* a run outside the arena has one record for all its granules */
		inner->keyless = false;
		remote_begin(inner, SLAB_INNER, i);
	}
}

static void inner_end(struct slab *slab, unsigned granules)
{
	for (unsigned i = 1; i < granules; i++) {
		struct slab *inner = page_record_of(slab->base + i * PAGE_GRANULE_BYTES);
		if (inner == slab)
			return;
		remote_end(inner, SLAB_INNER);
	}
}

struct slab *slab_create(struct heap *heap, unsigned class)
{
	const struct class *config = &heap_classes[class];
	struct page_run run;
	if (page_alloc(config->granules, 0, &run) != 0)
		return NULL;
	struct slab *slab = page_record_of(run.base);
	if (page_record_index(slab) >= HEAP_WARM_GRANULES)
		a_store_rlx(&heap_warm_records, UINTPTR_MAX);
	slab->free = BLOCK_END;
	slab->mark = MARK_NEVER;
	slab_set_used(slab, 0);
	a_store_rlx(&slab->magic, config->magic);
	slab->bytes = config->bytes;
	slab->base = run.base;
	slab->capacity = config->capacity;
	a_store_rlx(&slab->class, (uint16_t) class);
	slab->zeroed = run.zeroed;
	slab->attachment = NULL;
	a_store_rlx(&slab->carved, 0);
	a_store_rlx(&slab->seen, 0);
	a_store_rlx(&slab->holes, slab_has_holes(slab) ? UINT64_MAX >> (64 - slab->capacity) : 0);
	a_store_rlx(&slab->granules, config->granules);
	inner_begin(slab, config->granules);
	remote_begin(slab, SLAB_OWNED, heap->id);
	heap_keep(heap, slab);
	return slab;
}

/* The index of the next block to carve; `holes` are those left. */
static uint32_t carve_index(const struct slab *slab, uint64_t *holes, uint32_t carved)
{
	if (!slab_has_holes(slab))
		return carved;
	const uint32_t index = (uint32_t)__builtin_ctzll(*holes);
	*holes &= *holes - 1;
	return index;
}

bool slab_carve(struct slab *slab)
{
	ASSERT(slab->free == BLOCK_END);
	uint32_t carved = a_load_rlx(&slab->carved);
	uint64_t holes = a_load_rlx(&slab->holes);
	uint32_t count = slab->capacity - carved;
	if (count == 0)
		return false;
	const struct class *config = &heap_classes[a_load_rlx(&slab->class)];
	if (count > config->batch)
		count = config->batch;
	struct block **end = &slab->free;
	while (count-- > 0) {
		struct block *block = slab_block_at(slab, carve_index(slab, &holes, carved++));
		block->key = BLOCK_KEY;
		*end = block;
		end = &block->next;
	}
	*end = BLOCK_END;
	a_store_rlx(&slab->carved, carved);
	if (slab_has_holes(slab)) {
		a_store_rlx(&slab->holes, holes);
		if (holes == 0)
			a_store_rlx(&slab->magic, config->magic);
	}
	return true;
}

bool slab_collect(struct slab *slab)
{
	ASSERT(slab->free == BLOCK_END);
	uint32_t count;
	slab->free = remote_collect(slab, &count);
	slab_set_used(slab, slab_used(slab) - count);
	return count != 0;
}

struct block *slab_list_last(const struct slab *slab, struct block *list)
{
	uint32_t left = slab->capacity;
	while (list != BLOCK_END && list->next != BLOCK_END) {
		if (left-- == 0)
			heap_fatal_double_free();
		list = list->next;
	}
	return list;
}

void slab_open(struct slab *slab)
{
	const unsigned class = a_load_rlx(&slab->class);
	const uint32_t count = slab->capacity - slab_used(slab);
	struct block *first = slab->free;
	struct block *last = slab_list_last(slab, first);
	slab->free = BLOCK_END;
	a_store_rlx(&slab->owner, 0);
	slab_settle(slab, remote_open(slab, first, last, count), class, 0);
}

void slab_give_back(struct slab *slab, bool keyless)
{
	const size_t granules = a_load_rlx(&slab->granules);
	char *base = slab->base;
	slab->keyless = keyless;
	inner_end(slab, (unsigned)granules);
	page_free(base, granules);
}

void slab_destroy(struct slab *slab)
{
	ASSERT(slab_used(slab) == 0);
	/* A block that was freed twice was counted for one that is in use. (More would take long.) */
	if (slab_has_holes(slab))
		slab_list_last(slab, slab->free);
	a_store_rlx(&slab->owner, 0);
	slab->free = BLOCK_END;
	remote_end(slab, SLAB_OWNED);
	slab_give_back(slab, false);
}
