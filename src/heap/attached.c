/* SPDX-License-Identifier: MIT */
/*
 * A heap's slabs beside the current ones. Each class has a list, slabs worth taking from first; a
 * slab is worth it from its class's threshold of free blocks on, so that a refill finds more than one
 * block. The slab's mark is the value of `used` at which its owner's next free has to look at it.
 */
#include "base/assert.h"
#include "heap/core.h"

static bool slab_is_usable(const struct slab *slab)
{
	return slab->capacity - a_load_rlx(&slab->used) >= slab_threshold(slab);
}

static void list_insert(struct slab_list *list, struct slab *slab, bool front)
{
	slab->prev = front ? NULL : list->last;
	slab->next = front ? list->first : NULL;
	*(slab->prev ? &slab->prev->next : &list->first) = slab;
	*(slab->next ? &slab->next->prev : &list->last) = slab;
}

static void list_remove(struct slab_list *list, struct slab *slab)
{
	*(slab->prev ? &slab->prev->next : &list->first) = slab->next;
	*(slab->next ? &slab->next->prev : &list->last) = slab->prev;
}

void slab_attach(struct heap *heap, struct slab *slab)
{
	const unsigned class = a_load_rlx(&slab->class);
	const bool usable = slab_is_usable(slab);
	slab->mark = usable ? 0 : slab->capacity - slab_threshold(slab);
	slab->attached = true;
	list_insert(&heap->attached[class], slab, usable);
	heap->attached_count[class]++;
}

void slab_detach(struct heap *heap, struct slab *slab)
{
	const unsigned class = a_load_rlx(&slab->class);
	ASSERT(slab->attached);
	list_remove(&heap->attached[class], slab);
	heap->attached_count[class]--;
	slab->attached = false;
	slab->mark = UINT32_MAX;
}

/* Of the current slabs above a granule, one may stay empty: its next use is likely and cheap. */
static void spare_replace(struct heap *heap, struct slab *slab)
{
	struct slab *old = heap->spare;
	heap->spare = slab;
	if (old == NULL || old == slab || !heap_holds(heap, old))
		return;
	const unsigned class = a_load_rlx(&old->class);
	if (heap->current[class] != old || a_load_rlx(&old->used) != 0)
		return;
	heap->current[class] = NULL;
	slab_destroy(old);
}

void slab_relieved(struct heap *heap, struct slab *slab)
{
	if (!slab->attached) {
		if (slab->mark == 0 && a_load_rlx(&slab->used) == 0)
			spare_replace(heap, slab);
		return;
	}
	if (a_load_rlx(&slab->used) == 0) {
		slab_detach(heap, slab);
		slab_destroy(slab);
	} else if (slab->mark != 0 && slab_is_usable(slab)) {
		slab_detach(heap, slab);
		slab_attach(heap, slab);
	}
}

struct slab *slab_take_attached(struct heap *heap, unsigned class)
{
	struct slab *slab = heap->attached[class].first;
	if (slab == NULL || slab->mark != 0)
		return NULL;
	slab_detach(heap, slab);
	return slab;
}
