/* SPDX-License-Identifier: MIT */
/*
 * fork, and giving memory back on request.
 *
 * Nothing is done before a fork and nothing is waited for. In the child the heaps of the threads
 * that are no more are opened if they were at rest; one that was busy is lost with at most its
 * current slabs and one more, for the others are taken as those of an idle heap (seize.c). A child
 * made without fork() (clone by number) leaves the heaps of others as they are, which is correct as
 * well.
 */
#include <pthread.h>

#include "heap/core.h"

/*
 * A slab that a thread which is no more had taken from the heap, which is at rest, and not opened.
 */
static void open_taken(void *record, void *arg)
{
	const struct heap *heap = arg;
	struct slab *slab = record;
	const uint64_t word = a_load_rlx(&slab->word);
	if (word_state(word) != SLAB_OWNED || word_owner(word) != heap->id ||
		a_load_rlx(&slab->owner) != 0)
		return;
	slab->attachment = NULL;
	slab_open(slab);
}

/*
 * Ends what that thread began; if it was already opening the slab, the free blocks of that are
 * lost. Where the heap's own thread is inside, it may be that one which lets go of the slab: then
 * it is lost until its last block is freed.
 */
static void taking_end(struct heap *heap)
{
	if (a_load_rlx(&heap->takers) == 0)
		return;
	a_store_rlx(&heap->takers, 0);
	if (heap_is_at_rest(heap))
		page_record_each(open_taken, heap);
}

static void fork_child(void)
{
	page_fork_child();
	const struct heap *self = a_load_rlx(&heap_self);
	const uint32_t count = heap_pool_count();
	for (uint32_t id = 1; id <= count; id++) {
		struct heap *heap = heap_at(id);
		taking_end(heap);
		if (heap == self || !heap_is_at_rest(heap) || !a_load_rlx(&heap->active))
			continue;
		heap_mark_inside(heap);
		heap_release(heap);
	}
}

void heap_register_hooks(void)
{
	pthread_atfork(NULL, NULL, fork_child);
}

size_t heap_trim(void)
{
	struct heap *heap = heap_enter();
	size_t bytes = 0;
	if (heap != NULL) {
		heap_open_slabs(heap);
		bytes = heap_scavenge(heap);
		heap_leave(heap);
	}
	return bytes + page_trim();
}
