/* SPDX-License-Identifier: MIT */
/*
 * Taking the attached slabs of a heap whose thread is idle or stopped, so that their free blocks
 * are usable by others: they are opened, and listed with their class.
 *
 * operations: heap_seize_idle(). synchronization: any thread, against the heap's own thread inside
 * any operation. The own thread pays compiler fences only; os_barrier() makes them full ones when
 * this file runs. Two claims, each of the form "I set, barrier, I look; you set, fence, you look":
 *   the lists   `seized` here, `listing` there. Seen listing: give up. Else the lists are ours
 *               until `seized` is taken back, and the thread keeps off them meanwhile.
 *   each slab   `owner` taken away here; there `named` says which slab before `owner` is looked
 *               at. Every later free sees that the slab is not the heap's and pushes to its word.
 *               The one slab that is named may be under work: it stays.
 * linearization: remote_open() of each slab. ordering: the release of `named` and our acquire
 * hand over what the thread did to its slabs. progress: nobody waits; a thread stopped in here
 * leaves the heap seized, and it works on without attached slabs. Where os_barrier() does not exist
 * nothing is taken.
 */
#include "base/assert.h"
#include "heap/core.h"
#include "os/os.h"

/* A heap without a slow call between two looks this far apart counts as idle. */
#define IDLE_NS ((uint64_t)250 * 1000 * 1000)

static _Atomic(uint64_t) next_look_ns;

static int barrier(const struct heap *self)
{
	return self->is_janitors ? os_task_barrier() : os_barrier();
}

static void set_owners(struct heap *heap, struct heap *owner)
{
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		struct slab *slab = heap->attached[class].first;
		for (; slab != NULL; slab = slab->next)
			a_store_rlx(&slab->owner, owner);
	}
}

static void list_append(struct slab_list *list, struct slab *slab)
{
	slab->prev = list->last;
	slab->next = NULL;
	*(list->last != NULL ? &list->last->next : &list->first) = slab;
	list->last = slab;
}

/*
 * Opens every slab of one list but `touched`, and those that are left when the janitor is about to be
 * killed: these remain. Returns their granules.
 */
static uint32_t open_list(const struct heap *self, struct heap *heap, struct slab_list *list,
	const struct slab *touched)
{
	struct slab *slab = list->first;
	struct slab *next;
	uint32_t granules = 0;
	*list = (struct slab_list){ NULL, NULL };
	for (; slab != NULL; slab = next) {
		next = slab->next;
		if (slab == touched || (self->is_janitors && page_round_ends())) {
			granules += (uint32_t)a_load_rlx(&slab->granules);
			list_append(list, slab);
			a_store_rlx(&slab->owner, heap);
		} else {
			slab->attached = false;
			slab_open(slab);
		}
	}
	return granules;
}

static void open_all(const struct heap *self, struct heap *heap, const struct slab *touched)
{
	uint32_t granules = 0;
	for (unsigned class = 1; class < CLASS_COUNT; class ++)
		granules += open_list(self, heap, &heap->attached[class], touched);
	a_store_rlx(&heap->attached_granules, granules);
}

/* The lists are ours; takes the slabs' fields from the own thread, and opens them. */
static bool seize_slabs(const struct heap *self, struct heap *heap)
{
	set_owners(heap, NULL);
	if (barrier(self) != 0) {
		set_owners(heap, heap);
		return false;
	}
	/* [heap.7] acq: sees all that the thread did to its slabs; pairs with heap_mark_at_rest()
	 * and heap_touch(). */
	open_all(self, heap, a_load_acq(&heap->named));
	return true;
}

static bool seize(const struct heap *self, struct heap *heap)
{
	uint32_t none = 0;
	/* [heap.8] acq: sees the lists as the last taker left them. */
	if (!a_cas_strong_acq(&heap->seized, &none, 1))
		return false;
	bool done = false;
	/* [heap.8] acq: not listing, so the lists are whole; pairs with lists_leave(). */
	if (barrier(self) == 0 && a_load_acq(&heap->listing) == 0) {
		/* Without any, links may wait all the same: of slabs that a trim opened. */
		const bool has_none = a_load_rlx(&heap->attached_granules) == 0;
		done = has_none ? !stack_is_empty(&heap->pending) : seize_slabs(self, heap);
	}
	/* [heap.8] rel: gives the lists back; pairs with lists_enter(). */
	a_store_rel(&heap->seized, 0);
	if (done)
		heap_reroute_seized(heap);
	return done;
}

/* Whether the heap's thread made no slow call since the last look. */
static bool is_idle(struct heap *heap)
{
	const uint32_t calls = a_load_rlx(&heap->slow_calls);
	const bool idle = a_load_rlx(&heap->slow_calls_seen) == calls;
	a_store_rlx(&heap->slow_calls_seen, calls);
	return idle && a_load_rlx(&heap->active);
}

/* Whether it is worth the barriers. */
static bool has_something(struct heap *heap)
{
	return a_load_rlx(&heap->attached_granules) != 0 || !stack_is_empty(&heap->pending);
}

bool heap_seize_idle(const struct heap *self)
{
	const uint32_t count = heap_pool_count();
	uint64_t due = a_load_rlx(&next_look_ns);
	if (count < 2)
		return false;
	const uint64_t now = os_now_ns();
	if (now < due || !a_cas_strong_rlx(&next_look_ns, &due, now + IDLE_NS))
		return false;
	bool any = false;
	for (uint32_t id = 1; id <= count; id++) {
		struct heap *heap = heap_at(id);
		if (self->is_janitors && page_round_ends())
			break;
		if (heap != self && is_idle(heap) && has_something(heap) && seize(self, heap))
			any = true;
	}
	return any;
}
