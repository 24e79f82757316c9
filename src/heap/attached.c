/* SPDX-License-Identifier: MIT */
/*
 * A heap's slabs beside the current ones. Each class has a list, slabs worth taking from first; a
 * slab is worth it from its class's threshold of free blocks on, so that a refill finds more than
 * one block. The slab's mark is the value of `used` at which its owner's next free has to look at
 * it.
 *
 * The lists are the own thread's, but another thread may take them whole from an idle heap
 * (seize.c).
 */
#include "base/assert.h"
#include "heap/core.h"

static bool slab_is_usable(const struct slab *slab)
{
	return slab->capacity - slab_used(slab) >= slab_threshold(slab);
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

/*
 * Enters the heap's lists, which another thread may be about to take: it sets `seized`, then looks
 * at `listing` behind os_barrier(), so one of the two sees the other. False: keep off the lists.
 */
static bool lists_enter(struct heap *heap)
{
	a_store_rlx(&heap->listing, 1);
	a_signal_fence();
	/* [heap.8] acq: sees the lists as the last taker left them; pairs with seize(). */
	if (a_load_acq(&heap->seized) == 0)
		return true;
	a_store_rlx(&heap->listing, 0);
	return false;
}

static void lists_leave(struct heap *heap)
{
	a_signal_fence();
	/* [heap.8] rel: the lists are whole again; pairs with seize(). */
	a_store_rel(&heap->listing, 0);
}

static void attach(struct heap *heap, struct slab *slab)
{
	const bool usable = slab_is_usable(slab);
	slab_set_mark(slab, usable ? 0 : slab->capacity - slab_threshold(slab));
	slab->attached = true;
	list_insert(&heap->attached[a_load_rlx(&slab->class)], slab, usable);
	a_store_rlx(&heap->attached_granules,
		a_load_rlx(&heap->attached_granules) + (uint32_t)a_load_rlx(&slab->granules));
}

static void detach(struct heap *heap, struct slab *slab)
{
	ASSERT(slab->attached);
	list_remove(&heap->attached[a_load_rlx(&slab->class)], slab);
	a_store_rlx(&heap->attached_granules,
		a_load_rlx(&heap->attached_granules) - (uint32_t)a_load_rlx(&slab->granules));
	slab->attached = false;
	slab_set_mark(slab, MARK_NEVER);
}

void slab_attach(struct heap *heap, struct slab *slab)
{
	if (slab_used(slab) == 0) {
		slab_destroy(slab);
	} else if (lists_enter(heap)) {
		attach(heap, slab);
		lists_leave(heap);
	} else {
		slab_open(slab);
	}
}

/* Of the current slabs above a granule, one may stay empty: its next use is likely and cheap. */
static void spare_replace(struct heap *heap, struct slab *slab)
{
	struct slab *old = heap->spare;
	heap->spare = slab;
	if (old == NULL || old == slab || !heap_holds(heap, old))
		return;
	const unsigned class = a_load_rlx(&old->class);
	if (heap->current[class] != old || slab_used(old) != 0)
		return;
	heap->current[class] = NULL;
	slab_destroy(old);
}

/* Moves an attached slab to where its `used` says; true if it left the list because it is empty. */
static bool list_update(struct heap *heap, struct slab *slab)
{
	const bool empty = slab_used(slab) == 0;
	if (empty || (slab->mark != 0 && slab_is_usable(slab)))
		detach(heap, slab);
	if (!empty && !slab->attached)
		attach(heap, slab);
	return empty;
}

void slab_relieved(struct heap *heap, struct slab *slab)
{
	if (!slab->attached) {
		if (slab->mark == 0 && slab_used(slab) == 0)
			spare_replace(heap, slab);
		return;
	}
	if (!lists_enter(heap)) {
		heap->recheck = true;
		return;
	}
	const bool empty = list_update(heap, slab);
	lists_leave(heap);
	if (empty)
		slab_destroy(slab);
}

/* Puts the lists in order after a time in which they could not be entered. */
static void lists_recheck(struct heap *heap)
{
	heap->recheck = false;
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		struct slab *next;
		for (struct slab *slab = heap->attached[class].first; slab != NULL; slab = next) {
			next = slab->next;
			if (list_update(heap, slab))
				slab_destroy(slab);
		}
	}
}

struct slab *slab_take_attached(struct heap *heap, unsigned class)
{
	if (a_load_rlx(&heap->attached_granules) == 0 || !lists_enter(heap))
		return NULL;
	if (heap->recheck)
		lists_recheck(heap);
	struct slab *slab = heap->attached[class].first;
	if (slab != NULL && slab->mark == 0)
		detach(heap, slab);
	else
		slab = NULL;
	lists_leave(heap);
	return slab;
}

/*
 * The first slab of the class's list, out of it; NULL: none, or *ret_barred: another thread takes
 * them.
 */
static struct slab *detach_first(struct heap *heap, unsigned class, bool *ret_barred)
{
	*ret_barred = !lists_enter(heap);
	if (*ret_barred)
		return NULL;
	struct slab *slab = heap->attached[class].first;
	if (slab != NULL)
		detach(heap, slab);
	lists_leave(heap);
	return slab;
}

/* One by one, and out of the lists each time: where the thread stops others can take the rest. */
bool slab_open_attached(struct heap *heap)
{
	bool barred = false;
	for (unsigned class = 1; class < CLASS_COUNT && !barred; class ++) {
		if (a_load_rlx(&heap->attached_granules) == 0)
			break;
		struct slab *slab;
		while ((slab = detach_first(heap, class, &barred)) != NULL)
			slab_open(slab);
	}
	heap->recheck = barred;
	return !barred;
}
