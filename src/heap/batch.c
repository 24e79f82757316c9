/* SPDX-License-Identifier: MIT */
/*
 * Allocating many blocks of a class at once. A heap is entered once for each slab instead of once
 * for each block, and what of a slab was never used is handed out by arithmetic: it is neither
 * linked nor touched. Blocks come from the same places in the same order as alloc.c takes them
 * from. Above the classes, each block is a run as ever.
 */
#include "heap/batch.h"

#include <errno.h>
#include <string.h>

#include "heap/core.h"
#include "heap/fast.h"

/* Fewer blocks than this are taken one by one: the fast path of malloc is shorter. */
#define MANY_LEAST 4

/* Takes up to `count` blocks off a list. */
static size_t list_take_many(struct block **list, size_t count, void **ret_blocks)
{
	struct block *block = *list;
	size_t n = 0;
	for (; n < count && block != BLOCK_END; n++) {
		struct block *next = block->next;
		block_take(block);
		ret_blocks[n] = block;
		block = next;
	}
	*list = block;
	return n;
}

/* Carves blocks behind those carved before. */
static void carve_next(struct slab *slab, size_t count, void **ret_blocks)
{
	char *at = (char *)slab_block_at(slab, a_load_rlx(&slab->carved));
	const size_t bytes = slab->bytes;
	for (size_t i = 0; i < count; i++)
		ret_blocks[i] = at + i * bytes;
}

/* Carves what is a hole of a slab of few blocks. */
static void carve_holes(struct slab *slab, size_t count, void **ret_blocks)
{
	uint64_t holes = a_load_rlx(&slab->holes);
	for (size_t i = 0; i < count; i++) {
		ret_blocks[i] = slab_block_at(slab, (uint32_t)__builtin_ctzll(holes));
		holes &= holes - 1;
	}
	a_store_rlx(&slab->holes, holes);
	if (holes == 0)
		a_store_rlx(&slab->magic, heap_classes[a_load_rlx(&slab->class)].magic);
}

/* Takes up to `count` blocks of those that are not carved; returns how many there were. */
static size_t slab_carve_many(struct slab *slab, size_t count, void **ret_blocks, bool *ret_zeroed)
{
	const uint32_t carved = a_load_rlx(&slab->carved);
	if (count > slab->capacity - carved)
		count = slab->capacity - carved;
	if (slab_has_holes(slab))
		carve_holes(slab, count, ret_blocks);
	else
		carve_next(slab, count, ret_blocks);
	slab_set_used(slab, slab_used(slab) + (uint32_t)count);
	a_store_rlx(&slab->carved, carved + (uint32_t)count);
	a_store_rlx(&slab->seen, 0);
	*ret_zeroed = slab->zeroed;
	/* What was another slab before may hold the keys of its free blocks. */
	const bool keyless = slab->zeroed || (slab->keyless && !slab_has_holes(slab));
	for (size_t i = 0; i < count && !keyless; i++)
		((struct block *)ret_blocks[i])->key = 0;
	return count;
}

/* Whether the slab has blocks to take, or else is let go of. */
static bool current_has_more(struct heap *heap, struct slab *slab)
{
	while (slab->free == BLOCK_END && a_load_rlx(&slab->carved) == slab->capacity &&
		!slab_collect(slab)) {
		a_store_rlx(&slab->owner, 0);
		if (remote_open_full(slab))
			return false;
		heap_keep(heap, slab);
	}
	return true;
}

/* Takes up to `count` blocks from one place; 0: no memory. */
static size_t take_some(struct heap *heap, unsigned class, size_t count, bool brief,
	void **ret_blocks, bool *ret_zeroed)
{
	size_t n = list_take_many(&heap->bin[class], count, ret_blocks);
	*ret_zeroed = false;
	if (n != 0)
		return n;
	if (!brief)
		page_tick();
	struct slab *slab = heap->current[class];
	while (slab == NULL || !current_has_more(heap, slab)) {
		slab = heap_current_replace(heap, class, brief);
		if (slab == NULL)
			return 0;
	}
	if (slab->free == BLOCK_END && !slab_collect(slab))
		return slab_carve_many(slab, count, ret_blocks, ret_zeroed);
	n = list_take_many(&slab->free, count, ret_blocks);
	slab_set_used(slab, slab_used(slab) + (uint32_t)n);
	a_store_rlx(&slab->seen, 0);
	return n;
}

void heap_leave_batch(struct heap *heap, bool brief)
{
	if (brief && heap == a_load_rlx(&heap_self))
		heap_mark_at_rest(heap, heap_is_hooked() ? LIMIT_HOOKED : CLASS_FAST_UNITS);
	else
		heap_leave(heap);
}

/* The class that serves the request, or 0 for a run. */
static unsigned class_for(size_t size, const struct heap_want *want)
{
	const size_t bytes = size_aligned(want->align, size);
	if (bytes > CLASS_BYTES_MAX || want->align > PAGE_GRANULE_BYTES)
		return 0;
	if (want->reserve > CLASS_BYTES_MAX && size >= HEAP_RESERVE_LEAST_BYTES)
		return 0;
	return class_of(bytes ? bytes : 1);
}

/* A run with room; the paths of alloc.c know of none. */
static void *alloc_reserved(size_t size, const struct heap_want *want, bool *ret_zeroed)
{
	if (size > HEAP_SIZE_MAX || heap_init() != 0)
		return NULL;
	if (!want->brief)
		page_tick();
	void *p = large_alloc_room(want->align, size, want->reserve,
		want->zeroed ? ret_zeroed : NULL);
	if (p != NULL)
		heap_hook_allocated(p, size);
	return p;
}

/* One block by the paths of malloc. */
static void *alloc_one(size_t size, const struct heap_want *want)
{
	bool zeroed = false;
	void *p;
	if (class_for(size, want) == 0 && heap_delegated() == NULL)
		p = alloc_reserved(size, want, &zeroed);
	else if (want->align <= HEAP_ALIGN_MIN)
		p = heap_malloc_fast(size);
	else
		p = heap_alloc_aligned(want->align, size);
	if (p != NULL && want->zeroed && !zeroed)
		memset(p, 0, heap_usable_size(p));
	return p;
}

static size_t alloc_each(size_t size, const struct heap_want *want, size_t count, void **ret_blocks)
{
	size_t n = 0;
	while (n < count && (ret_blocks[n] = alloc_one(size, want)) != NULL)
		n++;
	return n;
}

size_t heap_alloc_many(size_t size, const struct heap_want *want, size_t count, void **ret_blocks)
{
	const unsigned class = class_for(size, want);
	if (class == 0 || count < MANY_LEAST || heap_delegated() != NULL || heap_init() != 0 ||
		heap_is_hooked())
		return alloc_each(size, want, count, ret_blocks);
	size_t done = 0;
	while (done < count) {
		bool zeroed;
		struct heap *heap = heap_enter();
		if (heap == NULL)
			break;
		const size_t n = take_some(heap, class, count - done, want->brief,
			ret_blocks + done, &zeroed);
		heap_leave_batch(heap, want->brief);
		if (n == 0)
			break;
		for (size_t i = 0; i < n && want->zeroed && !zeroed; i++)
			memset(ret_blocks[done + i], 0, heap_classes[class].bytes);
		done += n;
	}
	return done;
}
