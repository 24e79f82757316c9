/* SPDX-License-Identifier: MIT */
/*
 * A lock-free stack of indices (Treiber, with a version against ABA).
 *
 * The head is one 64-bit word: the index of the top node plus one in the low 28 bits, so that
 * zeroed memory is an empty stack, and a version above it in 36 bits. Nodes are named by an index
 * below STACK_INDEX_LIMIT; the caller's link function maps an index to the node's link word, which
 * the stack owns while the node is on it.
 *
 * Operations        push, pop, take_all
 * Synchronization   any of them may run beside any other, in any number of threads and in signal
 *                   handlers. A node must not be pushed while it is on a stack.
 * Linearization     push: its successful CAS. pop, take_all: their successful CAS, or the load that
 *                   found the stack empty.
 * Ordering          what was written before a push is seen by who pops that node. The CAS of push
 *                   releases [stack.1]; loads of the head acquire. Every change of the head is a
 *                   read-modify-write, so whoever reads the head synchronizes with the pushes
 *                   of all nodes below it too: each heads a release sequence that the later
 *                   changes carry on.
 * Progress          lock-free: a CAS fails only because another call changed the head.
 * Reclamation       none is needed: nodes must be type-stable. A pop may read the link of a node
 *                   that another thread has popped and is using; the version makes its CAS fail
 *                   then. The link word must thus stay an _Atomic(uint32_t) for ever, but may hold
 *                   anything while the node is off the stack.
 * Version           grows by one with each change of the head. A thread would have to sleep in the
 *                   middle of pop through a multiple of 2^36 changes, many minutes of nothing but
 *                   pushes and pops, to take the old top for the new one, and find just that index
 *                   on top at the end.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/atomic.h"

#define STACK_EMPTY UINT32_MAX
#define STACK_INDEX_BITS 28
#define STACK_INDEX_LIMIT ((1u << STACK_INDEX_BITS) - 1) /* indices are below this */

struct stack {
	_Atomic(uint64_t) head; /* 0 = empty */
};

/* The link word of the node with this index. Give a static inline function. */
typedef _Atomic(uint32_t) *stack_link_fn(uint32_t index);

/* The index a head names, or STACK_EMPTY. */
static inline uint32_t stack_head_index(uint64_t head)
{
	uint32_t entry = (uint32_t)(head & STACK_INDEX_LIMIT);

	return entry ? entry - 1 : STACK_EMPTY;
}

/* The head that follows `head` and names `index`, which may be STACK_EMPTY. */
static inline uint64_t stack_head_next(uint64_t head, uint32_t index)
{
	uint64_t version = (head >> STACK_INDEX_BITS) + 1;

	return version << STACK_INDEX_BITS | ((uint64_t)(index + 1) & STACK_INDEX_LIMIT);
}

/* Puts the chain first..last, which the caller has linked and owns, on the stack. */
static inline __attribute__((always_inline)) void stack_push_chain(struct stack *s, uint32_t first,
	uint32_t last, stack_link_fn *link)
{
	uint64_t head = a_load_rlx(&s->head);

	ASSERT(first < STACK_INDEX_LIMIT && last < STACK_INDEX_LIMIT);
	do {
		a_store_rlx(link(last), stack_head_index(head));
		/* [stack.1] rel: publishes the nodes and their links; pairs with stack_pop() and
		 * stack_take_all(). */
	} while (!a_cas_weak_rel(&s->head, &head, stack_head_next(head, first)));
}

/* Puts one node on the stack. */
static inline __attribute__((always_inline)) void stack_push(struct stack *s, uint32_t index,
	stack_link_fn *link)
{
	stack_push_chain(s, index, index, link);
}

/* Takes the top node off and returns its index, or STACK_EMPTY. */
static inline __attribute__((always_inline)) uint32_t stack_pop(struct stack *s,
	stack_link_fn *link)
{
	/* [stack.1] acq: the top node's link is what its push wrote, or the CAS below fails. */
	uint64_t head = a_load_acq(&s->head);

	for (;;) {
		uint32_t index = stack_head_index(head);
		if (index == STACK_EMPTY)
			return STACK_EMPTY;
		uint32_t next = a_load_rlx(link(index));
		/* [stack.1] acq: the node is ours with all that its push published; on failure the
		 * new head is read as above. */
		if (a_cas_weak_acq(&s->head, &head, stack_head_next(head, next)))
			return index;
	}
}

/*
 * Takes everything off. Returns the first index of a chain, now the caller's own, whose links lead
 * on to STACK_EMPTY, or STACK_EMPTY.
 */
static inline uint32_t stack_take_all(struct stack *s)
{
	uint64_t head = a_load_rlx(&s->head);

	do {
		if (stack_head_index(head) == STACK_EMPTY)
			return STACK_EMPTY;
		/* [stack.1] acq: the chain is ours with all that the pushes published. */
	} while (!a_cas_weak_acq(&s->head, &head, stack_head_next(head, STACK_EMPTY)));
	return stack_head_index(head);
}

/* Whether the stack was empty at this moment; a hint for who need not know exactly. */
static inline bool stack_is_empty(const struct stack *s)
{
	return stack_head_index(a_load_rlx(&s->head)) == STACK_EMPTY;
}
