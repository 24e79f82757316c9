/* SPDX-License-Identifier: MIT */
/*
 * Where nothing runs in the background, calls are all that gives memory back: those that come by
 * page_tick(). A program that frees much, pauses, and then lives by its bins would never come
 * there. So a burst of frees closes the fast path of malloc, and the next allocation is a slow one:
 * it looks what fell due in the pause, and opens the path again. Frees are as fast as ever.
 *
 * The path is closed by the table in which it looks up the class of a size: in class 0 there is
 * never a block. synchronization: the heap's own thread only.
 */
#include <string.h>

#include "heap/core.h"

/* Of the frees that come by here one in so many closes the path, and costs a slow allocation. */
#define CLOSE_FREES 16

void heap_close(bool was_large)
{
	struct heap *heap = a_load_rlx(&heap_self);
	const size_t limit = a_load_rlx(&heap->limit);
	if (!page_wants_ticks() || limit == 0 || heap->closed ||
		(heap->closings++ % CLOSE_FREES != 0 && !was_large))
		return;
	heap_mark_inside(heap);
	heap->closed = true;
	memset(heap->classes, 0, sizeof heap->classes);
	heap_mark_at_rest(heap, limit);
}

void heap_open(void)
{
	struct heap *heap = a_load_rlx(&heap_self);
	const size_t limit = a_load_rlx(&heap->limit);
	if (limit == 0 || !heap->closed)
		return;
	heap_mark_inside(heap);
	heap->closed = false;
	memcpy(heap->classes, heap->open_classes, sizeof heap->classes);
	heap_mark_at_rest(heap, limit);
	page_tick();
}
