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

static void fork_child(void)
{
	page_fork_child();
	const struct heap *self = a_load_rlx(&heap_self);
	const uint32_t count = heap_pool_count();
	for (uint32_t id = 1; id <= count; id++) {
		struct heap *heap = heap_at(id);
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
