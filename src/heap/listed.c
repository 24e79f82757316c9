/* SPDX-License-Identifier: MIT */
/*
 * Slabs that have blocks to take, known without a search: those of a heap on the heap's pending
 * stack, open ones on their class's available stack. LISTED says that the slab's link is under way.
 *
 * operations: settle (after a push or an opening), drain, take. synchronization: any thread, any
 * time. linearization: the stacks' exchanges. ordering: the stacks' own; what a slab holds is
 * acquired by adopting it. progress: lock-free; a thread stopped with a link in its hands keeps
 * that one slab from being listed, until its last block is freed; an owner that drains also holds
 * the links that would come back to it at once. reclamation: none, records are type-stable.
 *
 * A heap that is given back drains its pending stack after it has stopped being active; who pushes
 * looks whether it is active after the push. Both use a full fence, so one of them sees the other
 * [heap.4].
 */
#include "base/assert.h"
#include "heap/core.h"

static struct stack available[CLASS_COUNT];

const struct stack *slab_available(unsigned class)
{
	return &available[class];
}

static _Atomic(uint32_t) *slab_link(uint32_t index)
{
	return &((struct slab *)page_record_at(index))->link;
}

static void list_available(struct slab *slab, unsigned class)
{
	stack_push(&available[class], page_record_index(slab), slab_link);
}

static void list_pending(struct slab *slab, uint32_t owner)
{
	struct heap *heap = heap_at(owner);
	stack_push(&heap->pending, page_record_index(slab), slab_link);
	/* [heap.4] seq: the push comes before the look; pairs with heap_release(). */
	a_fence_seq();
	if (!a_load_rlx(&heap->active))
		heap_reroute_pending(heap);
}

/* Puts the link of a slab, popped by the caller, where it belongs now; returns the slab's word. */
static uint64_t link_reroute(struct slab *slab)
{
	const uint64_t word = remote_unlist(slab);
	if ((word & WORD_LISTED) == 0)
		return word;
	if (word_state(word) == SLAB_OPEN)
		list_available(slab, a_load_rlx(&slab->class));
	else
		list_pending(slab, word_owner(word));
	return word;
}

/*
 * Ends when the heap is active again: its new thread drains the rest, and what is put back here for
 * that thread would come up again and again until it does.
 */
void heap_reroute_pending(struct heap *heap)
{
	uint32_t index;
	while (!a_load_rlx(&heap->active) &&
		(index = stack_pop(&heap->pending, slab_link)) != STACK_EMPTY)
		link_reroute(page_record_at(index));
}

/*
 * Clears LISTED of a slab that is the heap's, whose link the caller has popped; false: it is not.
 */
static bool link_drop(struct slab *slab, uint32_t owner)
{
	uint64_t word = a_load_rlx(&slab->word);
	do {
		if (word_state(word) != SLAB_OWNED || word_owner(word) != owner)
			return false;
		/* [heap.9] rel: who lists the slab next, by remote_push() or remote_open(), writes
		 * its link after it was read here. */
	} while (!a_cas_weak_rel(&slab->word, &word, word & ~WORD_LISTED));
	return true;
}

/*
 * One by one, so that a thread stopped in here keeps one link. What is still the heap's is a
 * current slab, from which it collects in any case, or the one that its thread names: their links
 * are dropped, for put back they would come up again before those beneath. The next free there
 * lists them again.
 */
void heap_reroute_seized(struct heap *heap, uint32_t id)
{
	uint32_t index;
	while ((index = stack_pop(&heap->pending, slab_link)) != STACK_EMPTY) {
		struct slab *slab = page_record_at(index);
		if (!link_drop(slab, id))
			link_reroute(slab);
	}
}

void slab_settle(struct slab *slab, enum remote_result result, unsigned class, uint32_t owner)
{
	switch (result) {
	case REMOTE_LIST_OWNER: list_pending(slab, owner); break;
	case REMOTE_LIST_OPEN: list_available(slab, class); break;
	case REMOTE_WHOLE: slab_give_back(slab, false); break;
	case REMOTE_INVALID: heap_fatal_invalid_free();
	case REMOTE_DONE: break;
	}
}

/* The slab is named as the heap's from its first moment. */
static void adopted(struct heap *heap, struct slab *slab, struct block *list, uint32_t count)
{
	heap_name(heap, slab);
	slab->free = list;
	slab->attachment = NULL;
	slab->mark = MARK_NEVER;
	slab_set_used(slab, slab->capacity - count);
	a_store_rlx(&slab->owner, (uintptr_t)heap);
}

/* Adopts an open slab whose link the caller has popped; in none of the heap's lists. */
static bool adopt_popped(struct heap *heap, struct slab *slab)
{
	uint32_t count;
	struct block *list;
	if (!remote_adopt(slab, heap->id, true, &list, &count))
		return false;
	adopted(heap, slab, list, count);
	return true;
}

/* Collects from a slab of this heap; its own free list is kept behind. */
static void collect_more(struct heap *heap, struct slab *slab)
{
	uint32_t count;
	struct block *list = remote_collect(slab, &count);
	if (list == BLOCK_END)
		return;
	if (slab->free != BLOCK_END) {
		/* The shorter way: the remote frees that wait are about a threshold's worth. */
		slab_list_last(slab, list)->next = slab->free;
	}
	slab->free = list;
	slab_set_used(slab, slab_used(slab) - count);
	slab_relieved(heap, slab);
}

/* Collects from a slab of this heap whose link the caller has popped. */
static void link_collect(struct heap *heap, struct slab *slab)
{
	/* Collecting comes first, so that the slab need not be listed again at once. */
	collect_more(heap, slab);
	link_reroute(slab);
}

/*
 * Reroutes the link of a slab that this heap no longer holds, unless it would come back here:
 * another thread is about to take the slab. True then; the link stays the caller's.
 */
static bool link_comes_back(const struct heap *heap, struct slab *slab)
{
	const uint64_t word = remote_unlist(slab);
	if ((word & WORD_LISTED) == 0)
		return false;
	if (word_state(word) == SLAB_OPEN)
		list_available(slab, a_load_rlx(&slab->class));
	else if (word_owner(word) == heap->id)
		return true;
	else
		list_pending(slab, word_owner(word));
	return false;
}

/*
 * One by one, so that a thread stopped in here keeps one link, and those that come back: they are
 * kept until the end, for else they would be popped again and again while their taker is stopped.
 */
bool slab_drain_pending(struct heap *heap)
{
	uint32_t kept = STACK_EMPTY;
	uint32_t index;
	bool any = false;
	while ((index = stack_pop(&heap->pending, slab_link)) != STACK_EMPTY) {
		struct slab *slab = page_record_at(index);
		any = true;
		if (heap_touch(heap, slab)) {
			link_collect(heap, slab);
		} else if (link_comes_back(heap, slab)) {
			a_store_rlx(&slab->link, kept);
			kept = index;
		}
	}
	while (kept != STACK_EMPTY) {
		struct slab *slab = page_record_at(kept);
		kept = a_load_rlx(&slab->link);
		list_pending(slab, heap->id);
	}
	return any;
}

struct slab *slab_take_available(struct heap *heap, unsigned class)
{
	uint32_t index;
	while ((index = stack_pop(&available[class], slab_link)) != STACK_EMPTY) {
		struct slab *slab = page_record_at(index);
		if (heap_touch(heap, slab)) {
			link_collect(heap, slab);
			continue;
		}
		const uint64_t word = remote_unlist(slab);
		if ((word & WORD_LISTED) == 0)
			continue;
		if (!adopt_popped(heap, slab))
			link_reroute(slab);
		else if (a_load_rlx(&slab->class) == class)
			return slab;
		else
			slab_attach(heap, slab);
	}
	return NULL;
}

bool slab_adopt(struct heap *heap, struct slab *slab)
{
	uint32_t count;
	struct block *list;
	if (!remote_adopt(slab, heap->id, false, &list, &count))
		return false;
	adopted(heap, slab, list, count);
	return true;
}
