/* SPDX-License-Identifier: MIT */
/*
 * Thread heaps: what one thread holds for itself, the pool that heaps come from, and the protocol by
 * which a thread enters its heap.
 *
 * A heap is type-stable memory named by an id. It is FREE in the pool, or ACTIVE and then private to the
 * thread (or to the one operation) that took it, except for `pending`, which anyone pushes to.
 *
 * Entering: `state` is the heap's rest value while the thread is outside its heap, and HEAP_BUSY while it
 * is inside. It is stored and read by its own thread only, so a compiler fence orders it. A signal
 * handler that finds its thread inside uses another heap from the pool for that one operation, and so does
 * a destructor that runs after the thread gave its heap back. A handler that never returns (longjmp)
 * leaves its heap busy, and the thread goes on by the pool: slower, and correct. In the child of a fork
 * the mark tells which heaps of vanished threads were at rest: fork's snapshot holds each
 * thread's stores up to some point in program order, and none later.
 *
 * The rest value holds the limit of fine classes that the fast path serves: HEAP_BUSY's is 1, so that one
 * comparison on the fast path covers the size, the mark and a thread that has no heap yet.
 */
#pragma once

#include "base/stack.h"
#include "heap/slab.h"

#define HEAP_BUSY ((uint64_t)1)
#define HEAP_ID_BITS 20
#define HEAP_BYTES ((size_t)4096)

/*
 * Slabs beside the current one that a heap keeps per class, to free into them without an atomic
 * operation. The bound is on what an idle or stopped thread keeps from the others.
 */
#define HEAP_ATTACHED_MAX 16

struct slab_list {
	struct slab *first;
	struct slab *last;
};

struct heap {
	_Atomic(uint64_t) state; /* own thread only, and fork's child */
	struct block
		*bin[CLASS_FINE_COUNT];    /* own thread only: blocks of current[i]; bin[0] empty */
	struct slab *current[CLASS_COUNT]; /* own thread only, as all that follows */
	struct slab_list attached[CLASS_COUNT]; /* slabs worth taking from first */
	uint16_t attached_count[CLASS_COUNT];
	struct slab *spare; /* hint: the one current slab above a granule kept empty */
	uint64_t rest;
	uint32_t id;              /* const once made; never 0 */
	_Atomic(uint32_t) active; /* held by a thread or an operation */
	_Atomic(uint32_t) pool_link;
	struct stack pending; /* anyone: slabs of this heap with frees to collect */
};

_Static_assert(sizeof(struct heap) <= HEAP_BYTES, "heaps lie at multiples of HEAP_BYTES");

/* The calling thread's heap; heap_none before its first call, heap_gone after its last. */
extern __thread _Atomic(struct heap *) heap_self;
extern struct heap heap_none;
extern struct heap heap_gone;

/* Whether the heap, which the caller is inside of, holds the slab. */
static inline bool heap_holds(const struct heap *heap, const struct slab *slab)
{
	return (uint32_t)(a_load_rlx(&slab->owner) >> 32) == heap->id;
}

/* Pool (pool.c). A heap from it is busy and active; NULL when there is no memory. */
struct heap *heap_pool_take(void);
/* The heap must hold no slabs; it may still get pending links. */
void heap_pool_put(struct heap *heap);
/* The heap with an id that was given out. */
struct heap *heap_at(uint32_t id);
/* Ids run from 1 to this. */
uint32_t heap_pool_count(void);

/* Threads (thread.c). The calling thread's heap, or another for one operation; busy. NULL: no memory. */
struct heap *heap_enter(void);
void heap_leave(struct heap *heap);
/* The calling thread's heap if it is at rest, now busy; else NULL. */
struct heap *heap_enter_own(void);
/* Opens all slabs of a heap that the caller holds, and puts it into the pool. */
void heap_release(struct heap *heap);
/* The first half of it: the heap stays the caller's, without slabs. */
void heap_open_slabs(struct heap *heap);
/* From the library's constructor, while few keys are taken, so that setting one allocates nothing. */
void heap_thread_init(void);
/* Empties the pending stack of a heap that is no longer active (listed.c). */
void heap_reroute_pending(struct heap *heap);
