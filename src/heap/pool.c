/* SPDX-License-Identifier: MIT */
/*
 * The pool of thread heaps: a stack of heaps that are free, and a table of all that were ever made.
 *
 * operations: take, put, at. synchronization: any thread, any time, with each other. linearization:
 * the stack's exchange; for a heap made new, the exchange of `made`. ordering: the stack's release
 * and acquire hand on the heap's plain fields. progress: lock-free. reclamation: none; heaps are
 * type-stable.
 */
#include "heap/thread.h"
#include "page/page.h"

#define CHUNK_HEAPS (PAGE_GRANULE_BYTES / HEAP_BYTES)
#define CHUNK_COUNT (((size_t)1 << HEAP_ID_BITS) / CHUNK_HEAPS)

/* In this order, so that the first chunks lie in one page with other data. */
static _Atomic(char *) chunks[CHUNK_COUNT];
static _Atomic(uint32_t) made;
static struct stack pool;

struct heap *heap_at(uint32_t id)
{
	/* [heap.3] acq: the chunk is zero or as its heaps left it; pairs with chunk_ready(). */
	char *chunk = a_load_acq(&chunks[(id - 1) / CHUNK_HEAPS]);
	return (struct heap *)(void *)(chunk + (id - 1) % CHUNK_HEAPS * HEAP_BYTES);
}

uint32_t heap_pool_count(void)
{
	/* [heap.3] acq: every id counted has its chunk; pairs with heap_make(). */
	return a_load_acq(&made);
}

static _Atomic(uint32_t) *pool_link(uint32_t index)
{
	return &heap_at(index + 1)->pool_link;
}

/* Makes sure that the chunk of the heap `index` is there. */
static bool chunk_ready(uint32_t index)
{
	_Atomic(char *) *slot = &chunks[index / CHUNK_HEAPS];
	if (a_load_rlx(slot) != NULL)
		return true;
	struct page_run run;
	if (page_alloc(1, 0, &run) != 0)
		return false;
	if (!run.zeroed)
		__builtin_memset(run.base, 0, PAGE_GRANULE_BYTES);
	char *none = NULL;
	/* [heap.3] rel: publishes the zeroed chunk; pairs with heap_at(). */
	if (!a_cas_strong_rel(slot, &none, run.base))
		page_free(run.base, 1);
	return true;
}

/* Makes a heap that never was; NULL when there is no memory or there are too many. */
static struct heap *heap_make(void)
{
	uint32_t index = a_load_rlx(&made);
	do {
		if (index >= CHUNK_COUNT * CHUNK_HEAPS || !chunk_ready(index))
			return NULL;
		/* [heap.3] rel: each id counted has its chunk; pairs with heap_pool_count(). */
	} while (!a_cas_weak_rel(&made, &index, index + 1));
	struct heap *heap = heap_at(index + 1);
	heap->id = index + 1;
	heap->fresh_attachments = heap->attachments;
	heap->fresh_end = heap->attachments + HEAP_ATTACHMENTS;
	heap_mark_inside(heap);
	for (unsigned class = 0; class < CLASS_COUNT; class ++)
		heap->bin[class] = BLOCK_END;
	for (unsigned units = 1; units < CLASS_FAST_UNITS; units++)
		heap->open_classes[units] = (uint8_t)class_of(units * 16);
	__builtin_memcpy(heap->classes, heap->open_classes, sizeof heap->classes);
	return heap;
}

struct heap *heap_pool_take(void)
{
	const uint32_t index = stack_pop(&pool, pool_link);
	struct heap *heap = index == STACK_EMPTY ? heap_make() : heap_at(index + 1);
	if (heap != NULL)
		a_store_rlx(&heap->active, 1);
	return heap;
}

bool heap_pool_is_empty(void)
{
	return stack_head_index(a_load_rlx(&pool.head)) == STACK_EMPTY;
}

void heap_pool_put(struct heap *heap)
{
	stack_push(&pool, heap->id - 1, pool_link);
}
