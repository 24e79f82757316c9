/* SPDX-License-Identifier: MIT */
/*
 * The fast paths of malloc and free, inline so that each face has them without a call. Both work
 * only on what the calling thread holds, mark it meanwhile (heap/thread.h), and leave everything
 * else to the slow paths.
 */
#pragma once

#include "heap/heap.h"
#include "heap/thread.h"
#include "page/page.h"

/* Ends the process: a block in a free list has lost its key. */
_Noreturn __attribute__((cold)) void heap_fatal_corrupted(void);

/*
 * While the heap has not grown beyond its first granules its blocks are in the caches, and a free
 * looks at the block's key: every double free is seen at once. Afterwards a free
 * only stores to the block, since waiting for a cold line was measured to add two thirds to the
 * time of a program with 100,000 live blocks of up to 500 bytes; the key is then looked at when the
 * block is taken again, and its line is needed anyway.
 */
#define HEAP_WARM_GRANULES 64
/* The lowest record of them, for records lie downwards; the highest address when there is none. */
extern _Atomic(uintptr_t) heap_warm_records __attribute__((visibility("hidden")));

/* Whether a block that is being freed into its own slab is seen to be free already. */
static inline __attribute__((always_inline)) bool block_is_free(const struct slab *slab,
	const struct block *block)
{
	if (__builtin_expect((uintptr_t)slab >= a_fold(&heap_warm_records), 1))
		return block->key == BLOCK_KEY;
	return block == slab->free;
}

/* A block leaves a free list; one without its key was written to or freed twice. */
static inline __attribute__((always_inline)) void block_take(struct block *block)
{
	if (__builtin_expect(block->key != BLOCK_KEY, 0))
		heap_fatal_corrupted();
	block->key = 0;
}

static inline __attribute__((always_inline)) void block_put(struct slab *slab, struct block *block)
{
	block->next = slab->free;
	block->key = BLOCK_KEY;
	slab->free = block;
}

__attribute__((noinline)) void *heap_alloc_slow(size_t size);
__attribute__((noinline)) void heap_free_slow(void *p);
/* The slab has reached its mark by a local free, which still names it. */
__attribute__((cold, noinline)) void heap_free_at_mark(struct heap *heap, struct slab *slab);

/* A block of the calling thread's bin, or NULL when it takes heap_alloc_slow() to get one. */
static inline __attribute__((always_inline)) void *heap_malloc_try(size_t size)
{
	struct heap *heap = a_load_rlx(&heap_self);
	/* A size that overflows here comes to class 0, whose bin is always empty. */
	const size_t class = (size + 15) >> 4;
	if (__builtin_expect(class >= a_fold(&heap->limit), 0))
		return NULL;
	a_store_rlx(&heap->limit, 0);
	a_signal_fence();
	struct block *block = heap->bin[class];
	/* No key: the list's end, or a block that lost it. */
	const bool taken = __builtin_expect(block->key == BLOCK_KEY, 1);
	if (taken) {
		heap->bin[class] = block->next;
		block->key = 0;
	}
	a_signal_fence();
	a_store_rlx(&heap->limit, CLASS_FINE_COUNT);
	return taken ? block : NULL;
}

static inline __attribute__((always_inline)) void *heap_malloc_fast(size_t size)
{
	void *block = heap_malloc_try(size);

	return __builtin_expect(block != NULL, 1) ? block : heap_alloc_slow(size);
}

static inline __attribute__((always_inline)) void heap_free_fast(void *p)
{
	const uintptr_t offset = (uintptr_t)p - a_fold(&page_arena.base);
	if (__builtin_expect(offset >= a_fold(&page_arena.bytes), 0)) {
		heap_free_slow(p);
		return;
	}
	struct slab *slab = (struct slab *)(a_fold(&page_arena.records) -
		(offset >> PAGE_GRANULE_SHIFT << PAGE_RECORD_SHIFT));
	struct heap *heap = a_load_rlx(&heap_self);
	/* If not at rest it stays untouched: it may name the slab of a free that we interrupted. */
	if (__builtin_expect(a_fold(&heap->freeing) != NULL, 0)) {
		heap_free_slow(p);
		return;
	}
	/* The name of the slab comes first, then the look at its owner: see seize.c. */
	a_store_rlx(&heap->freeing, slab);
	a_signal_fence();
	struct block *block = p;
	/*
	 * The product is below the magic only for the start of a block (Lemire, Kaser, Kurz,
	 * "Faster remainder by direct computation", 2019); a slab of several granules has magic 0.
	 */
	if (__builtin_expect(a_fold(&slab->owner) != heap, 0) ||
		__builtin_expect((uint32_t)(uint16_t)(uintptr_t)p * slab->magic >= slab->magic,
			0) ||
		__builtin_expect(block_is_free(slab, block), 0)) {
		a_store_rlx(&heap->freeing, NULL);
		heap_free_slow(p);
		return;
	}
	block_put(slab, block);
	if (__builtin_expect(slab_count_down(slab), 0)) {
		heap_free_at_mark(heap, slab);
		return;
	}
	/* [heap.7] rel: what was done to the slab is done; pairs with seize_slabs(). */
	a_store_rel(&heap->freeing, NULL);
}
