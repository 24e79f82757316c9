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

/* Whether a block that is being freed, into this list, is seen to be free already. */
static inline __attribute__((always_inline)) bool block_is_free(const struct slab *slab,
	const struct block *block, struct block *const *list)
{
	if (__builtin_expect((uintptr_t)slab < a_fold(&heap_warm_records), 0))
		return block == *list;
	return block->key == BLOCK_KEY;
}

/*
 * Whether the block is misplaced in the slab or seen to be free. The product is below the magic
 * only for the start of a block (Lemire, Kaser, Kurz, "Faster remainder by direct computation",
 * 2019); a slab of several granules has magic 0, and so has one with blocks given back.
 */
static inline __attribute__((always_inline)) bool block_is_misused(const struct slab *slab,
	const struct block *block, struct block *const *list)
{
	const uint32_t magic = a_load_rlx(&slab->magic);
	const uint32_t place = (uint16_t)(uintptr_t)block;

	if (__builtin_expect(place * magic >= magic, 0))
		return true;
	return block_is_free(slab, block, list);
}

/* A block leaves a free list; one without its key was written to or freed twice. */
static inline __attribute__((always_inline)) void block_take(struct block *block)
{
	if (__builtin_expect(block->key != BLOCK_KEY, 0))
		heap_fatal_corrupted();
	block->key = 0;
}

/* A block enters a free list, of which it becomes the first. */
static inline __attribute__((always_inline)) void block_put(struct block **list,
	struct block *block)
{
	block->next = *list;
	block->key = BLOCK_KEY;
	*list = block;
}

__attribute__((noinline)) void *heap_alloc_slow(size_t size);
__attribute__((noinline)) void heap_free_slow(void *p);
/* The slab has reached its mark by a local free; the heap is inside, and is left. */
__attribute__((cold, noinline)) void heap_free_at_mark(struct heap *heap, struct slab *slab);

/* A block of the calling thread's bin, or NULL when it takes heap_alloc_slow() to get one. */
static inline __attribute__((always_inline)) void *heap_malloc_try(size_t size)
{
	struct heap *heap = a_load_rlx(&heap_self);
	/* A size that overflows here comes to class 0, whose bin is always empty. */
	const size_t units = (size + 15) >> 4;
	if (__builtin_expect(units >= a_fold(&heap->limit), 0))
		return NULL;
	const size_t class = heap->classes[units];
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
	a_store_rlx(&heap->limit, CLASS_FAST_UNITS);
	return taken ? block : NULL;
}

static inline __attribute__((always_inline)) void *heap_malloc_fast(size_t size)
{
	void *block = heap_malloc_try(size);

	return __builtin_expect(block != NULL, 1) ? block : heap_alloc_slow(size);
}

/*
 * Frees into a slab that the heap, which the caller is inside of, holds beside its current ones;
 * false when it does not hold it, or something is wrong with the block.
 */
static inline __attribute__((always_inline)) bool heap_free_beside(struct heap *heap,
	struct slab *slab, struct block *block)
{
	/* The name of the slab comes first, then the look at its owner: see seize.c. */
	a_store_rlx(&heap->named, slab);
	a_signal_fence();
	if (__builtin_expect(a_fold(&slab->owner) != (uintptr_t)heap, 0))
		return false;
	if (__builtin_expect(block_is_misused(slab, block, &slab->free), 0))
		return false;
	block_put(&slab->free, block);
	if (__builtin_expect(slab_count_down(slab), 0)) {
		heap_free_at_mark(heap, slab);
		return true;
	}
	heap_mark_at_rest(heap, CLASS_FAST_UNITS);
	return true;
}

static inline __attribute__((always_inline)) void heap_free_fast(void *p)
{
	const uintptr_t offset = (uintptr_t)p - a_fold(&page_arena.base);
	struct heap *heap = a_load_rlx(&heap_self);
	if (__builtin_expect(offset >= a_fold(&page_arena.bytes), 0) ||
		__builtin_expect(a_fold(&heap->limit) != CLASS_FAST_UNITS, 0)) {
		heap_free_slow(p);
		return;
	}
	struct slab *slab = (struct slab *)(a_fold(&page_arena.records) -
		(offset >> PAGE_GRANULE_SHIFT << PAGE_RECORD_SHIFT));
	struct block *block = p;
	a_store_rlx(&heap->limit, 0);
	a_signal_fence();
	/* Whosever the slab is, its class is one; and nobody takes a current slab from its heap. */
	const size_t class = a_load_rlx(&slab->class);
	if (__builtin_expect(heap->current[class] == slab, 1)) {
		struct block **bin = &heap->bin[class];
		if (__builtin_expect(!block_is_misused(slab, block, bin), 1)) {
			block_put(bin, block);
			a_signal_fence();
			a_store_rlx(&heap->limit, CLASS_FAST_UNITS);
			return;
		}
	}
	if (!heap_free_beside(heap, slab, block)) {
		heap_mark_at_rest(heap, CLASS_FAST_UNITS);
		heap_free_slow(p);
	}
}
