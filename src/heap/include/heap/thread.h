/* SPDX-License-Identifier: MIT */
/*
 * Thread heaps: what one thread holds for itself, the pool that heaps come from, and the protocol
 * by which a thread enters its heap.
 *
 * A heap is type-stable memory named by an id. It is FREE in the pool, or ACTIVE and then private
 * to the thread (or to the one operation) that took it, except for `pending`, which anyone pushes
 * to.
 *
 * Entering: `limit` is CLASS_FAST_UNITS, what malloc's fast path serves, and 0 while the thread is
 * inside its heap: one comparison covers the size, this mark and a thread without a heap.
 * A signal handler that finds its thread inside uses another heap from the pool for that one
 * operation, and so does a destructor that runs after the thread gave its heap back. A handler that
 * never returns (longjmp) leaves its heap busy, and the thread goes on by the pool: slower, and
 * correct.
 *
 * Inside, `named` is the slab that the thread works on, if that is not a current one, which nobody
 * may take (seize.c).
 *
 * Both are stored and read by their own thread, so a compiler fence orders them; another thread
 * reads them only behind os_barrier(), or in the child of a fork. There `limit` tells which heaps
 * of vanished threads were at rest: fork's snapshot holds each thread's stores up to some point in
 * program order, and none later.
 */
#pragma once

#include "base/stack.h"
#include "heap/slab.h"
#include "page/page.h"

#define HEAP_ID_BITS 20
#define HEAP_BYTES ((size_t)4096)

/*
 * An entry of a heap's list of attached slabs. The heap's thread alone changes the lists, and other
 * threads only follow them forwards: `slab` is a record, as long as there are entries their memory
 * is theirs.
 */
struct attachment {
	_Atomic(struct slab *) slab;
	_Atomic(struct attachment *) next; /* of a free entry: the next free one */
	struct attachment *prev;
};

struct attachment_list {
	_Atomic(struct attachment *) first;
	struct attachment *last;
};

/* Entries that lie in the heap; more come from page, and stay the heap's. */
#define HEAP_ATTACHMENTS 30

struct heap {
	/* Own thread only, as all that says nothing else: blocks of current[i], if class_has_bin(). */
	struct block *bin[CLASS_COUNT];
	_Atomic(size_t) limit; /* own thread writes these; others read them as told above */
	_Atomic(struct slab *) named;
	/* Of sizes in units of 16 bytes; all 0 while heap_close() has closed malloc's fast path. */
	uint8_t classes[CLASS_FAST_UNITS];
	struct slab *current[CLASS_COUNT];
	struct attachment_list attached[CLASS_COUNT]; /* slabs worth taking from first */
	_Atomic(uint64_t) attached_classes[(CLASS_COUNT + 63) / 64]; /* whose list has entries */
	/* Of all entries, also of slabs that were taken; own thread writes. */
	_Atomic(uint32_t) attached_granules;
	_Atomic(uint32_t) taken;  /* another thread has set it: it took slabs, entries are left */
	struct slab *spare;       /* hint: the one current slab above a granule kept empty */
	uint32_t id;              /* const once made; never 0 */
	_Atomic(uint32_t) active; /* held by a thread or an operation */
	_Atomic(uint32_t) pool_link;
	_Atomic(uintptr_t) place;     /* of heap_self of the thread that has it, or had it last */
	_Atomic(uint32_t) takers;     /* seize.c: threads that are taking its slabs; see fork.c */
	_Atomic(uint32_t) slow_calls; /* own thread writes: how often it came by the slow path */
	_Atomic(uint32_t) slow_calls_seen; /* seize.c: at the last look */
	struct stack pending;              /* anyone: slabs of this heap with frees to collect */
	uint64_t scavenge_due_ns; /* own thread only: when the next round of scavenge.c begins */
	uint32_t scavenge_at;     /* own thread only: the record where the round goes on; 0: none */
	uint32_t closings;        /* own thread only: how often heap_close() came by */
	bool closed;              /* own thread only: by heap_close(), until heap_open() */
	bool is_janitors;         /* the janitor works by it, not a thread */
	struct attachment *free_attachments;
	struct attachment *fresh_attachments; /* up to the next, never used */
	struct attachment *fresh_end;
	uint32_t attachment_granules;           /* from page */
	uint8_t open_classes[CLASS_FAST_UNITS]; /* const once made: for heap_open() */
	struct attachment attachments[HEAP_ATTACHMENTS];
};

_Static_assert(sizeof(struct heap) <= HEAP_BYTES, "heaps lie at multiples of HEAP_BYTES");

/* The calling thread's heap; heap_none before its first call, heap_gone after its last. */
extern __thread _Atomic(struct heap *) heap_self;
extern struct heap heap_none __attribute__((visibility("hidden")));
extern struct heap heap_gone;

/* At rest, but with the fast paths closed: class 0 has no block, and free wants the whole limit. */
#define LIMIT_HOOKED ((size_t)1)

/* Whether the heap's thread is outside. */
static inline bool heap_is_at_rest(struct heap *heap)
{
	return a_load_rlx(&heap->limit) != 0;
}

/* Marks the heap: its thread is inside. */
static inline void heap_mark_inside(struct heap *heap)
{
	a_store_rlx(&heap->limit, 0);
	a_signal_fence();
}

/* Marks the heap: its thread is outside. */
static inline void heap_mark_at_rest(struct heap *heap, size_t limit)
{
	/* [heap.7] rel: what was done to the named slab is done; pairs with seize(). */
	a_store_rel(&heap->named, NULL);
	a_signal_fence();
	a_store_rlx(&heap->limit, limit);
}

/*
 * Whether the heap, which the caller is inside of, holds the slab. It may not though it does, of a
 * slab with a mark.
 */
static inline bool heap_holds(const struct heap *heap, const struct slab *slab)
{
	return (a_load_rlx(&slab->owner) & ~OWNER_KEPT) == (uintptr_t)heap;
}

/* The slab, which the heap has touched or made, becomes one that nobody may take. */
static inline void heap_keep(const struct heap *heap, struct slab *slab)
{
	a_store_rlx(&slab->owner, (uintptr_t)heap | OWNER_KEPT);
}

/* Pool (pool.c). A heap from it is busy and active; NULL when there is no memory. */
struct heap *heap_pool_take(void);
/* The heap holds no slabs, or is active since one is being taken; it may still get pending links. */
void heap_pool_put(struct heap *heap);
bool heap_pool_is_empty(void);
/* The heap with an id that was given out. */
struct heap *heap_at(uint32_t id);
/* Ids run from 1 to this. */
uint32_t heap_pool_count(void);

/* The calling thread's heap if it is at rest, now busy; else NULL. */
static inline struct heap *heap_enter_own(void)
{
	struct heap *heap = a_load_rlx(&heap_self);
	if (!heap_is_at_rest(heap))
		return NULL;
	heap_mark_inside(heap);
	a_store_rlx(&heap->slow_calls, a_load_rlx(&heap->slow_calls) + 1);
	return heap;
}

/* Threads (thread.c). The thread's heap, or another for one operation; busy. NULL: no memory. */
struct heap *heap_enter(void);
void heap_leave(struct heap *heap);
/*
 * After a call that gave a run to page: sees to it that the end of a thread that has no heap is
 * told to page. It may have started the janitor, which ends with it (page_thread_exit()).
 */
void heap_watch_exit(void);

/* Names the slab: if it is the heap's, nobody else touches it until the next name. */
static inline void heap_name(struct heap *heap, struct slab *slab)
{
	/* [heap.7] rel: what was done to the slab before is done; pairs with seize(). */
	a_store_rel(&heap->named, slab);
	/* Against os_barrier() of seize.c, which makes it a full fence. */
	a_signal_fence();
}

/*
 * Whether the heap holds the slab; nobody else touches that until the next call or heap_leave(). A
 * mark is taken away, and its maker, who may be stopped for ever, gets nothing then.
 */
static inline bool heap_touch(struct heap *heap, struct slab *slab)
{
	heap_name(heap, slab);
	uintptr_t owner = a_load_rlx(&slab->owner);
	while (owner_is_mark(owner, heap->id))
		if (a_cas_weak_rlx(&slab->owner, &owner, (uintptr_t)heap))
			return true;
	return (owner & ~OWNER_KEPT) == (uintptr_t)heap;
}

/* Opens all slabs of a heap that the caller holds, and puts it into the pool. */
void heap_release(struct heap *heap);
/* The first half of it: the heap stays the caller's. False: another thread is taking one. */
bool heap_open_slabs(struct heap *heap);
/* From the start: one of the first keys, so that setting it allocates nothing. */
void heap_thread_init(void);
/* Empties the pending stack of a heap that is no longer active (listed.c). */
void heap_reroute_pending(struct heap *heap);
/*
 * Lists the slabs that were taken from a heap with their class, if they were listed with the heap.
 */
void heap_reroute_seized(struct heap *heap, uint32_t id);
