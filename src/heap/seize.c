/* SPDX-License-Identifier: MIT */
/*
 * Taking the attached slabs of a heap whose thread is idle or stopped, so that their free blocks
 * are usable by others: they are opened, and listed with their class.
 *
 * operations: heap_seize_idle(). synchronization: any number of threads, against each other and
 * against the heap's own thread inside any operation. The own thread pays compiler fences only;
 * os_barrier() makes them full ones when this file runs. Each slab is claimed by itself, in the form
 * "I set, barrier, I look; you set, fence, you look":
 *   here        a mark in `owner`, of which there is no second; the barrier; a look at `named`.
 *               Then the mark goes to 0 by compare-and-swap: the slab is the taker's, OWNED by the
 *               heap still, and he opens it. The one slab that is named may be under work: it
 *               stays.
 *   the thread  `named` says which slab, then it looks at `owner`. A fast path that sees a mark
 *               takes the slow one. That puts the heap back in place of the mark by
 *               compare-and-swap, so that its maker fails; or fails itself, and then the slab is
 *               another's. A mark made later than that is another one, whose maker looks at `named`
 *               behind a barrier of his own.
 * Current slabs are never marked (OWNER_KEPT). The lists are only read here, to find the slabs: an
 * entry may be out of date, and so may be all that is read in a slab until it is claimed.
 *
 * linearization: the compare-and-swap of the mark to 0. ordering: the release of `named` and our
 * acquire hand over what the thread did to its slabs; entries are published by [heap.8]. progress:
 * nobody waits. A thread stopped in here keeps the one slab that it has claimed and not opened;
 * what it has only marked can be marked anew by the next taker, or taken back. Where os_barrier()
 * does not exist nothing is taken.
 */
#include "base/assert.h"
#include "heap/core.h"
#include "os/os.h"

/* A heap without a slow call between two looks this far apart counts as idle. */
#define IDLE_NS ((uint64_t)250 * 1000 * 1000)

/* A list that changes while it is followed may lead round: entries beyond what was counted. */
#define STEPS_MORE 64

static _Atomic(uint64_t) next_look_ns;
static _Atomic(uint64_t) marks_made;

/* One taker's work on one heap. */
struct taking {
	const struct heap *self;
	struct heap *heap;
	uint32_t id; /* the heap's, which may be so new that it has none yet */
	uintptr_t mark;
	const struct slab *named; /* what the heap's thread may be working on */
	bool any;                 /* slabs marked, then: taken */
};

static int barrier(const struct heap *self)
{
	return self->is_janitors ? os_task_barrier() : os_barrier();
}

static struct attachment *follow(_Atomic(struct attachment *) *link)
{
	/* [heap.8] acq: the entry is whole; pairs with list_insert() and list_remove(). */
	return a_load_acq(link);
}

/* Calls `fn` for the slab of each entry of the heap's lists, until it returns false. */
static void each_attached(struct taking *taking,
	bool (*fn)(struct taking *taking, struct slab *slab))
{
	uint32_t steps = a_load_rlx(&taking->heap->attached_granules) + STEPS_MORE;
	unsigned class = 0;
	while ((class = heap_attached_from(taking->heap, class + 1)) < CLASS_COUNT) {
		struct attachment *entry = follow(&taking->heap->attached[class].first);
		for (; entry != NULL; entry = follow(&entry->next)) {
			if (steps-- == 0 || !fn(taking, a_load_rlx(&entry->slab)))
				return;
		}
	}
}

/* Marks the slab, if it is the heap's and not a current one; also when another taker has. */
static bool mark(struct taking *taking, struct slab *slab)
{
	uintptr_t owner = a_load_rlx(&slab->owner);
	if (owner != (uintptr_t)taking->heap && !owner_is_mark(owner, taking->id))
		return true;
	if (owner == taking->mark || a_cas_strong_rlx(&slab->owner, &owner, taking->mark))
		taking->any = true;
	return true;
}

static bool unmark(struct taking *taking, struct slab *slab)
{
	uintptr_t owner = taking->mark;
	a_cas_strong_rlx(&slab->owner, &owner, (uintptr_t)taking->heap);
	return true;
}

/* Claims the slab and opens it; false when the janitor is about to be killed. */
static bool take(struct taking *taking, struct slab *slab)
{
	uintptr_t owner = taking->mark;
	if (taking->self->is_janitors && page_round_ends())
		return false;
	if (slab != taking->named && a_cas_strong_rlx(&slab->owner, &owner, 0)) {
		taking->any = true;
		slab->attachment = NULL;
		slab_open(slab);
	}
	return true;
}

/* Takes what is marked. */
static void take_marked(struct taking *taking)
{
	struct heap *heap = taking->heap;
	/* [heap.7] acq: sees all that the thread did to its slabs; pairs with heap_mark_at_rest(),
	 * heap_name() and heap_release(). */
	taking->named = a_load_acq(&heap->named);
	taking->any = false;
	a_add_rlx(&heap->takers, 1);
	a_store_rlx(&heap->taken, 1);
	each_attached(taking, take);
	a_sub_rlx(&heap->takers, 1);
}

/* Takes what can be taken from the heap; false: nothing. */
static bool seize(const struct heap *self, struct heap *heap, uint32_t id)
{
	struct taking taking = { .self = self,
		.heap = heap,
		.id = id,
		.mark = owner_mark(id, a_add_rlx(&marks_made, 1)) };
	each_attached(&taking, mark);
	if (taking.any && barrier(self) == 0) {
		take_marked(&taking);
	} else if (taking.any) {
		each_attached(&taking, unmark);
		return false;
	}
	/* Links may wait all the same: of slabs that a trim opened, or a taker who was stopped. */
	if (!taking.any && stack_is_empty(&heap->pending))
		return false;
	heap_reroute_seized(heap, id);
	return true;
}

/* Whether the heap's thread made no slow call since the last look. */
static bool is_idle(struct heap *heap)
{
	const uint32_t calls = a_load_rlx(&heap->slow_calls);
	const bool idle = a_load_rlx(&heap->slow_calls_seen) == calls;
	a_store_rlx(&heap->slow_calls_seen, calls);
	return idle && a_load_rlx(&heap->active);
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
		if (heap != self && is_idle(heap) && seize(self, heap, id))
			any = true;
	}
	return any;
}
