/* SPDX-License-Identifier: MIT */
/*
 * The fast paths of malloc and free, inline so that each face has them without a call. Both work
 * only on what the calling thread holds, mark it busy meanwhile (heap/thread.h), and leave
 * everything else to the slow paths.
 */
#pragma once

#include "heap/heap.h"
#include "heap/thread.h"
#include "page/page.h"

/* Ends the process: a block in a free list has lost its key. */
_Noreturn __attribute__((cold)) void heap_fatal_corrupted(void);

/*
 * While the heap has not grown beyond its first granules its blocks are in the caches, and a free
 * looks at the block's key: every double free is seen at once. Afterwards this is 0, and a free
 * only stores to the block, since waiting for a cold line was measured to add two thirds to the
 * time of a program with 100,000 live blocks of up to 500 bytes; the key is then looked at when the
 * block is taken again, and its line is needed anyway.
 */
#define HEAP_WARM_GRANULES 64
extern _Atomic(uintptr_t) heap_warm_granules;

/* Whether a block that is being freed into its own slab is seen to be free already. */
static inline __attribute__((always_inline)) bool block_is_free(const struct slab *slab,
	const struct block *block, uintptr_t granule)
{
	if (granule < a_const(&heap_warm_granules))
		return block_has_key(block);
	return block == slab->free;
}

/* A block leaves a free list; one without its key was written to or freed twice. */
static inline __attribute__((always_inline)) void block_take(struct block *block)
{
	if (__builtin_expect(block->key + (uintptr_t)block != 0, 0))
		heap_fatal_corrupted();
	block->key = 0;
}

__attribute__((noinline)) void *heap_alloc_slow(size_t size);
__attribute__((noinline)) void heap_free_slow(void *p);
/* The slab has reached its mark by a local free; the heap is busy and is left. */
__attribute__((cold, noinline)) void heap_free_at_mark(struct heap *heap, struct slab *slab);

/* A block of the calling thread's bin, or NULL when it takes heap_alloc_slow() to get one. */
static inline __attribute__((always_inline)) void *heap_malloc_try(size_t size)
{
	struct heap *heap = a_load_rlx(&heap_self);
	const uint64_t rest = a_load_rlx(&heap->state);
	/* A size that overflows here comes to class 0, whose bin is always empty. */
	const size_t class = (size + 15) >> 4;
	if (__builtin_expect((int64_t) class >= (int32_t)rest, 0))
		return NULL;
	a_store_rlx(&heap->state, HEAP_BUSY);
	a_signal_fence();
	struct block *block = heap->bin[class];
	if (__builtin_expect(block != NULL, 1)) {
		block_take(block);
		heap->bin[class] = block->next;
	}
	a_signal_fence();
	a_store_rlx(&heap->state, rest);
	return block;
}

static inline __attribute__((always_inline)) void *heap_malloc_fast(size_t size)
{
	void *block = heap_malloc_try(size);

	return __builtin_expect(block != NULL, 1) ? block : heap_alloc_slow(size);
}

static inline __attribute__((always_inline)) void heap_free_fast(void *p)
{
	const uintptr_t offset = (uintptr_t)p - a_const(&page_arena.base);
	if (__builtin_expect(offset >= a_const(&page_arena.bytes), 0)) {
		heap_free_slow(p);
		return;
	}
	const uintptr_t index = offset >> PAGE_GRANULE_SHIFT;
	struct slab *slab =
		(struct slab *)(a_const(&page_arena.records) - (index << PAGE_RECORD_SHIFT));
	struct heap *heap = a_load_rlx(&heap_self);
	const uint64_t rest = a_load_rlx(&heap->state);
	/*
	 * The slab's owner equals the state only if the slab is this heap's and the heap is at
	 * rest. If not, the state stays untouched: it may name the slab of a free that a signal
	 * handler interrupted.
	 */
	if (__builtin_expect(a_load_rlx(&slab->owner) != rest, 0)) {
		heap_free_slow(p);
		return;
	}
	/* The name of the slab comes first, then the look at its owner that counts: see seize.c. */
	a_store_rlx(&heap->state, heap_busy_at(index));
	a_signal_fence();
	struct block *block = p;
	/*
	 * The product is below the magic only for the start of a block (Lemire, Kaser, Kurz,
	 * "Faster remainder by direct computation", 2019); a slab of several granules has magic 0.
	 */
	const uint32_t remainder = (uint32_t)(offset & (PAGE_GRANULE_BYTES - 1)) * slab->magic;
	if (__builtin_expect(a_load_rlx(&slab->owner) != rest || remainder >= slab->magic ||
			    block_is_free(slab, block, index),
		    0)) {
		a_store_rlx(&heap->state, rest);
		heap_free_slow(p);
		return;
	}
	block->next = slab->free;
	block->key = block_key(p);
	slab->free = block;
	const uint32_t used = a_load_rlx(&slab->used) - 1;
	a_store_rlx(&slab->used, used);
	if (__builtin_expect(used == slab->mark, 0)) {
		heap_free_at_mark(heap, slab);
		return;
	}
	/* [heap.7] rel: what was done to the slab is done; pairs with seize_slabs(). */
	a_store_rel(&heap->state, rest);
}
