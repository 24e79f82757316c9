/* SPDX-License-Identifier: MIT */
/*
 * A thread and its heap: entering, leaving, the end of the thread. See heap/thread.h for the
 * protocol.
 *
 * The end is seen by a destructor of pthread-specific data, which asks to be called again until the
 * last round but one, so that the program's own destructors may still allocate. Those that come
 * later still use heaps from the pool for one operation each, so nothing leaks. A thread whose
 * first call comes from a destructor of the second round or later ends without our seeing it: its
 * heap waits for the next thread whose thread-local storage lies where its own did
 * (adopt_left_behind()).
 */
#include <limits.h>
#include <pthread.h>

#include "base/assert.h"
#include "heap/core.h"

__thread _Atomic(struct heap *) heap_self = &heap_none;
struct heap heap_none;
struct heap heap_gone;

static pthread_key_t exit_key;
static _Atomic(bool) exit_key_made;
static __thread _Atomic(bool) exit_watched;

/*
 * The last round but one, for a thread whose first call comes from a destructor, after our key's
 * turn, has one round less. ThreadSanitizer, too, lets go of a thread in the last round; no code
 * built for it may run after that.
 */
#define EXIT_ROUND (PTHREAD_DESTRUCTOR_ITERATIONS - 1)

/* One in so many slow calls looks at the clock, and may do a step of scavenge.c. */
#define SCAVENGE_CALLS 16

/* The destructor's argument counts its rounds. */
static void thread_exit(void *arg)
{
	const uintptr_t round = (uintptr_t)arg;
	if (round < EXIT_ROUND) {
		pthread_setspecific(exit_key, (void *)(round + 1));
		return;
	}
	struct heap *heap = heap_enter_own();
	struct heap *none = &heap_none;
	if (heap == NULL) {
		a_cas_strong_rlx(&heap_self, &none, &heap_gone);
	} else {
		a_store_rlx(&heap_self, &heap_gone);
		heap_release(heap);
	}
	page_thread_exit();
}

void heap_thread_init(void)
{
	if (!a_load_rlx(&exit_key_made) && pthread_key_create(&exit_key, thread_exit) == 0)
		a_store_rlx(&exit_key_made, true);
}

/* Once for each thread; the mark comes first, since setting the key may allocate. */
static void watch_exit(void)
{
	if (a_load_rlx(&exit_watched) || !a_load_rlx(&exit_key_made))
		return;
	a_store_rlx(&exit_watched, true);
	pthread_setspecific(exit_key, (void *)1);
}

void heap_watch_exit(void)
{
	if (__builtin_expect(a_load_rlx(&heap_self) == &heap_none, 0))
		watch_exit();
}

/*
 * Takes over the heap of a thread that ended without our seeing it, if its thread-local storage lay
 * where this thread's does: no two live threads have that at one place. libc uses the places of
 * ended threads again, so what such threads leave is bounded by how many there are at a time.
 * Looked for only when a heap would have to be made. The thread has no heap.
 */
static struct heap *adopt_left_behind(void)
{
	const uint32_t count = heap_pool_count();
	for (uint32_t id = 1; id <= count; id++) {
		struct heap *heap = heap_at(id);
		struct heap *none = &heap_none;
		if (a_load_rlx(&heap->place) != (uintptr_t)&heap_self)
			continue;
		/* A busy one ended inside; in the pool they are busy as well. */
		if (!heap_is_at_rest(heap) || !a_load_rlx(&heap->active))
			continue;
		if (!a_cas_strong_rlx(&heap_self, &none, heap))
			return NULL;
		watch_exit();
		return heap_enter_own();
	}
	return NULL;
}

/* The thread's first call, or one that interrupted another. */
static __attribute__((cold, noinline)) struct heap *enter_pooled(void)
{
	struct heap *heap = NULL;
	if (a_load_rlx(&heap_self) == &heap_none) {
		if (heap_init() != 0)
			return NULL;
		if (heap_pool_is_empty())
			heap = adopt_left_behind();
		if (heap != NULL)
			return heap;
	}
	heap = heap_pool_take();
	if (heap == NULL)
		return NULL;
	/* A handler may just have made its heap the thread's: then ours is for one operation. */
	struct heap *none = &heap_none;
	if (a_cas_strong_rlx(&heap_self, &none, heap)) {
		a_store_rlx(&heap->place, (uintptr_t)&heap_self);
		watch_exit();
	}
	return heap;
}

struct heap *heap_enter(void)
{
	struct heap *heap = heap_enter_own();
	return heap != NULL ? heap : enter_pooled();
}

void heap_leave(struct heap *heap)
{
	if (heap != a_load_rlx(&heap_self)) {
		heap_release(heap);
		return;
	}
	if (a_load_rlx(&heap->slow_calls) % SCAVENGE_CALLS == 0)
		heap_scavenge_tick(heap);
	heap_mark_at_rest(heap, heap_is_hooked() ? LIMIT_HOOKED : CLASS_FAST_UNITS);
}

/* Moves the blocks of the bin back to their slab, which is the current one. */
static void bin_return(struct heap *heap, unsigned class)
{
	struct slab *slab = heap->current[class];
	uint32_t count = 0;
	struct block *next;
	for (struct block *block = heap->bin[class]; block != BLOCK_END; block = next) {
		next = block->next;
		block->next = slab->free;
		slab->free = block;
		count++;
	}
	heap->bin[class] = BLOCK_END;
	slab_set_used(slab, slab_used(slab) - count);
}

/* Lets go of the current slab of a class. */
static void current_close(struct heap *heap, unsigned class)
{
	struct slab *slab = heap->current[class];
	if (class_has_bin(class))
		bin_return(heap, class);
	heap->current[class] = NULL;
	slab_open(slab);
}

bool heap_open_slabs(struct heap *heap)
{
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		if (heap->current[class] != NULL)
			current_close(heap, class);
	}
	heap->spare = NULL;
	return slab_open_attached(heap);
}

void heap_release(struct heap *heap)
{
	/* Before it can be another's: a heap in the pool was left behind by nobody. */
	a_store_rlx(&heap->place, 0);
	/*
	 * While another thread is between taking a slab and opening it, that is still listed with
	 * this heap: then it stays active in the pool, until who has it next finds that done.
	 */
	const bool all = heap_open_slabs(heap);
	/* [heap.7] rel: what was done to the slabs is done; pairs with seize(). */
	a_store_rel(&heap->named, NULL);
	if (all) {
		a_store_rlx(&heap->active, 0);
		/* [heap.4] seq: inactive comes before the last look; pairs with list_pending(). */
		a_fence_seq();
		heap_reroute_pending(heap);
	}
	heap_pool_put(heap);
}
