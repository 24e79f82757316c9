/* SPDX-License-Identifier: MIT */
/*
 * Allocation beyond the fast path. Where blocks come from, nearest first: the current slab's own
 * frees, what others freed in it, what of it was never used; a slab that the heap holds beside it;
 * slabs that were listed with this heap; an open slab that anyone may take; a new slab.
 */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "heap/core.h"
#include "heap/fast.h"

/*
 * Puts free blocks into slab->free, or opens the slab because it is full and returns false.
 * *ret_fresh says that the blocks were carved just now: never used, or given back since.
 */
static bool current_refill(struct heap *heap, struct slab *slab, bool *ret_fresh)
{
	*ret_fresh = false;
	while (slab->free == BLOCK_END && !slab_collect(slab)) {
		*ret_fresh = slab_carve(slab);
		if (*ret_fresh)
			break;
		a_store_rlx(&slab->owner, 0);
		if (remote_open_full(slab))
			return false;
		heap_keep(heap, slab);
	}
	return true;
}

/* A slab to take blocks from next; a `brief` search leaves idle heaps alone. */
static struct slab *slab_next(struct heap *heap, unsigned class, bool brief)
{
	struct slab *slab = slab_take_attached(heap, class);
	if (slab == NULL && slab_drain_pending(heap))
		slab = slab_take_attached(heap, class);
	if (slab == NULL)
		slab = slab_take_available(heap, class);
	if (slab == NULL)
		slab = slab_take_attached(heap, class);
	if (slab == NULL && !brief && heap_seize_idle(heap))
		slab = slab_take_available(heap, class);
	return slab != NULL ? slab : slab_create(heap, class);
}

struct slab *heap_current_replace(struct heap *heap, unsigned class, bool brief)
{
	heap->current[class] = NULL;
	struct slab *slab = slab_next(heap, class, brief);
	if (slab == NULL)
		return NULL;
	heap->current[class] = slab;
	heap_keep(heap, slab);
	/* A slab of several granules that becomes empty is looked at: only one may stay. */
	slab_set_mark(slab, class_has_bin(class) ? MARK_NEVER : 0);
	return slab;
}

/* The current slab of the class, with free blocks in its list; NULL when there is no memory. */
static __attribute__((noinline)) struct slab *current_ready(struct heap *heap, unsigned class,
	bool *ret_fresh)
{
	struct slab *slab = heap->current[class];
	page_tick();
	while (slab == NULL || !current_refill(heap, slab, ret_fresh)) {
		slab = heap_current_replace(heap, class, false);
		if (slab == NULL)
			return NULL;
	}
	return slab;
}

/* Moves the current slab's list into the bin; its blocks count as used from then on. */
static bool bin_refill(struct heap *heap, unsigned class, bool *ret_fresh)
{
	struct slab *slab = current_ready(heap, class, ret_fresh);
	if (slab == NULL)
		return false;
	heap->bin[class] = slab->free;
	slab->free = BLOCK_END;
	slab_set_used(slab, a_load_rlx(&slab->carved));
	return true;
}

/* The first block of a list that is not empty. */
static inline struct block *list_take(struct block **list)
{
	struct block *block = *list;
	block_take(block);
	*list = block->next;
	return block;
}

/* The first block of the slab's own list, which is not empty. */
static inline struct block *slab_take(struct slab *slab)
{
	slab_set_used(slab, slab_used(slab) + 1);
	a_store_rlx(&slab->seen, 0);
	return list_take(&slab->free);
}

void *heap_alloc_class(struct heap *heap, unsigned class, bool *ret_zeroed)
{
	struct slab *slab = heap->current[class];
	bool fresh = false;
	struct block *block;
	if (class_has_bin(class)) {
		if (heap->bin[class] == BLOCK_END && !bin_refill(heap, class, &fresh))
			return NULL;
		block = list_take(&heap->bin[class]);
	} else {
		if (slab == NULL || slab->free == BLOCK_END)
			slab = current_ready(heap, class, &fresh);
		if (slab == NULL)
			return NULL;
		block = slab_take(slab);
	}
	*ret_zeroed = fresh && heap->current[class]->zeroed && heap_classes[class].batch == 1;
	block->next = NULL; /* with the key, all that it held if it reads as zero otherwise */
	return block;
}

/* A block of a class, by whichever heap this thread may use now. */
static void *alloc_small(unsigned class, bool *ret_zeroed)
{
	struct heap *heap = heap_enter();
	if (heap == NULL)
		return NULL;
	void *p = heap_alloc_class(heap, class, ret_zeroed);
	heap_leave(heap);
	return p;
}

/*
 * Every allocation but the fast path; sets *ret_zeroed when the block is known to read as zero, if
 * that matters (else NULL).
 */
static void *alloc_any(size_t align, size_t size, bool *ret_zeroed)
{
	const size_t bytes = size_aligned(align, size);
	unsigned class = 0;
	bool any;
	if (bytes <= CLASS_BYTES_MAX && align <= PAGE_GRANULE_BYTES)
		class = class_of(bytes);
	if (size > HEAP_SIZE_MAX || heap_init() != 0) {
		errno = ENOMEM;
		return NULL;
	}
	heap_open();
	void *p = class ? alloc_small(class, ret_zeroed ? ret_zeroed : &any)
			: large_alloc(align, size, ret_zeroed);
	if (p == NULL)
		errno = ENOMEM;
	else
		heap_hook_allocated(p, size);
	return p;
}

/*
 * The fast path of the classes above those of malloc's own: a block of the current slab's own list,
 * or NULL. It holds only while the heap is at rest and not hooked.
 */
static inline void *alloc_medium(size_t size)
{
	struct heap *heap = a_load_rlx(&heap_self);
	if (size - CLASS_FAST_BYTES - 1 >= CLASS_BYTES_MAX - CLASS_FAST_BYTES ||
		a_load_rlx(&heap->limit) != CLASS_FAST_UNITS)
		return NULL;
	if (page_wants_ticks())
		page_tick();
	const unsigned class = class_of(size);
	heap_mark_inside(heap);
	struct slab *slab = heap->current[class];
	void *p = NULL;
	if (heap->bin[class] != BLOCK_END)
		p = list_take(&heap->bin[class]);
	else if (slab != NULL && slab->free != BLOCK_END && !class_has_bin(class))
		p = slab_take(slab);
	a_signal_fence();
	a_store_rlx(&heap->limit, CLASS_FAST_UNITS);
	return p;
}

void *heap_alloc_slow(size_t size)
{
	void *p = alloc_medium(size);
	if (p != NULL)
		return p;
	const struct heap_delegate *libc = heap_delegated();
	if (libc != NULL)
		return libc->alloc(size);
	return alloc_any(HEAP_ALIGN_MIN, size, NULL);
}

void *heap_alloc(size_t size)
{
	return heap_malloc_fast(size);
}

void *heap_alloc_zeroed(size_t size)
{
	bool zeroed = false;
	void *p = size <= CLASS_FAST_BYTES ? heap_malloc_try(size) : alloc_medium(size);
	if (p == NULL) {
		const struct heap_delegate *libc = heap_delegated();
		if (libc != NULL)
			return libc->alloc_zeroed(size);
		p = alloc_any(HEAP_ALIGN_MIN, size, &zeroed);
	}
	return p == NULL || zeroed ? p : memset(p, 0, size);
}

void *heap_alloc_aligned(size_t align, size_t size)
{
	const size_t bytes = size_aligned(align, size);
	void *p = NULL;
	if (bytes <= CLASS_FAST_BYTES)
		p = heap_malloc_try(bytes);
	else if (align <= PAGE_GRANULE_BYTES)
		p = alloc_medium(bytes);
	if (p != NULL)
		return p;
	const struct heap_delegate *libc = heap_delegated();
	if (libc != NULL)
		return libc->alloc_aligned(align, size);
	return alloc_any(align, size, NULL);
}

size_t heap_good_size(size_t size)
{
	if (size <= CLASS_BYTES_MAX)
		return heap_classes[class_of(size ? size : 1)].bytes;
	if (size > HEAP_SIZE_MAX)
		return 0;
	return (size + PAGE_GRANULE_BYTES - 1) & ~(PAGE_GRANULE_BYTES - 1);
}
