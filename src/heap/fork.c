/* SPDX-License-Identifier: MIT */
/*
 * fork, and giving memory back on request.
 *
 * Nothing is done before a fork and nothing is waited for. In the child the heaps of the threads
 * that are no more are opened if they were at rest; one that was busy is lost, with at most its
 * slabs. A child made without fork() (clone by number) leaves the heaps of others as they are,
 * which is correct as well.
 */
#include <pthread.h>

#include "heap/core.h"

/*
 * A slab that a thread which is no more was about to open: its heap is at rest, and not in lists.
 */
static void open_seized(void *record, void *arg)
{
	const struct heap *heap = arg;
	struct slab *slab = record;
	const uint64_t word = a_load_rlx(&slab->word);
	if (word_state(word) != SLAB_OWNED || word_owner(word) != heap->id ||
		heap->current[a_load_rlx(&slab->class)] == slab)
		return;
	slab->attached = false;
	slab_open(slab);
}

/* Ends what that thread began; the free blocks of the one slab that it was opening are lost. */
static void seizing_end(struct heap *heap)
{
	if (a_load_rlx(&heap->seized) == 0 || !heap_is_at_rest(heap))
		return;
	a_store_rlx(&heap->seized, 0);
	a_store_rlx(&heap->attached_granules, 0);
	heap->recheck = false;
	for (unsigned class = 1; class < CLASS_COUNT; class ++)
		heap->attached[class] = (struct slab_list){ NULL, NULL };
	page_record_each(open_seized, heap);
}

static void fork_child(void)
{
	page_fork_child();
	const struct heap *self = a_load_rlx(&heap_self);
	const uint32_t count = heap_pool_count();
	for (uint32_t id = 1; id <= count; id++) {
		struct heap *heap = heap_at(id);
		seizing_end(heap);
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
