/* SPDX-License-Identifier: MIT */
/*
 * The slow halves of the operations: for a thread that has no number. Each tries the sequence again
 * if the thread could be registered; otherwise the process works by atomic instructions, on the
 * same memory.
 *
 * Lists: {first, gate} is exchanged as a pair, where `gate` counts the changes, so that a node that
 * was taken and put back meanwhile is noticed. Copies: under a lock of the word's own, with signals
 * held back, since no instruction copies and stores at once; an operation of another kind on the
 * word is noticed by a compare-and-swap at the end.
 *
 * Orders are those of a thread's own steps: who hands something on by a list or a word means the
 * receiver to see what it wrote before.
 */
#include <allod/percpu-ops.h>

#include "base/atomic.h"
#include "os/os.h"
#include "pair.h"
#include "percpu/rseq.h"

enum {
	LOCKS = 64,
	LOOK_AGAIN_NS = 100000,
};

/* The process that holds it, 0 for none: a forked child finds its parent's, which is nobody. */
static _Atomic(uint32_t) locks[LOCKS];

static _Atomic(uint64_t) *word64(struct allod_percpu_view view, const void *p)
{
	return (_Atomic(uint64_t) *)percpu_atomic_copy(view, p);
}

static _Atomic(uint32_t) *word32(struct allod_percpu_view view, const void *p)
{
	return (_Atomic(uint32_t) *)percpu_atomic_copy(view, p);
}

PERCPU_EXPORT uint64_t allod_percpu_read_slow_(struct allod_percpu_view view, const uint64_t *p)
{
	if (percpu_enter(view))
		return allod_percpu_read_in(view, p);
	/* [rseq.3] acq: what the value announces; pairs with allod_percpu_xchg_slow_() */
	return a_load_acq(word64(view, p));
}

PERCPU_EXPORT uint32_t allod_percpu_read32_slow_(struct allod_percpu_view view, const uint32_t *p)
{
	if (percpu_enter(view))
		return allod_percpu_read32_in(view, p);
	/* [rseq.3] acq: what the value announces; pairs with allod_percpu_add32_slow_() */
	return a_load_acq(word32(view, p));
}

PERCPU_EXPORT void allod_percpu_add_slow_(struct allod_percpu_view view, uint64_t *p,
	uint64_t value)
{
	if (percpu_enter(view))
		return allod_percpu_add_in(view, p, value);
	/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
	a_add_acqrel(word64(view, p), value);
}

PERCPU_EXPORT void allod_percpu_add32_slow_(struct allod_percpu_view view, uint32_t *p,
	uint32_t value)
{
	if (percpu_enter(view))
		return allod_percpu_add32_in(view, p, value);
	/* [rseq.3] acqrel: pairs with allod_percpu_read32_slow_() */
	a_add_acqrel(word32(view, p), value);
}

PERCPU_EXPORT uint64_t allod_percpu_add_return_slow_(struct allod_percpu_view view, uint64_t *p,
	uint64_t value)
{
	if (percpu_enter(view))
		return allod_percpu_add_return_in(view, p, value);
	/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
	return a_add_acqrel(word64(view, p), value) + value;
}

PERCPU_EXPORT uint64_t allod_percpu_xchg_slow_(struct allod_percpu_view view, uint64_t *p,
	uint64_t value)
{
	if (percpu_enter(view))
		return allod_percpu_xchg_in(view, p, value);
	/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
	return a_xchg_acqrel(word64(view, p), value);
}

PERCPU_EXPORT uint64_t allod_percpu_cmpxchg_slow_(struct allod_percpu_view view, uint64_t *p,
	uint64_t expected, uint64_t value)
{
	if (percpu_enter(view))
		return allod_percpu_cmpxchg_in(view, p, expected, value);
	/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
	a_cas_strong_acqrel(word64(view, p), &expected, value);
	return expected;
}

PERCPU_EXPORT void allod_percpu_pair_add_slow_(struct allod_percpu_view view,
	struct allod_percpu_pair *p, uint64_t first, uint64_t second)
{
	if (percpu_enter(view))
		return allod_percpu_pair_add_in(view, p, first, second);

	struct pair *copy = percpu_atomic_copy(view, p);
	struct pair seen = pair_peek(copy);
	while (!pair_cas(copy, &seen, (struct pair){ seen.first + first, seen.second + second }))
		a_pause();
}

PERCPU_EXPORT int allod_percpu_list_push_slow_(struct allod_percpu_view view,
	struct allod_percpu_list *list, struct allod_percpu_node *node)
{
	if (percpu_enter(view))
		return allod_percpu_list_push_in(view, list, node);

	struct pair *copy = percpu_atomic_copy(view, list);
	struct pair seen = pair_peek(copy);
	do {
		a_store_rlx((_Atomic(uintptr_t) *)&node->next, (uintptr_t)seen.first);
	} while (!pair_cas(copy, &seen, (struct pair){ (uintptr_t)node, seen.second + 1 }));
	return 1;
}

PERCPU_EXPORT struct allod_percpu_node *allod_percpu_list_pop_slow_(struct allod_percpu_view view,
	struct allod_percpu_list *list)
{
	if (percpu_enter(view))
		return allod_percpu_list_pop_in(view, list);

	struct pair *copy = percpu_atomic_copy(view, list);
	struct pair seen = pair_peek(copy);
	struct allod_percpu_node *node;
	uintptr_t next;
	do {
		node = (struct allod_percpu_node *)(uintptr_t)seen.first;
		if (node == NULL)
			return NULL;
		/* Maybe another's by now, who writes there what it likes: the count tells. */
		next = (uintptr_t)allod_cs_load_(&node->next);
	} while (!pair_cas(copy, &seen, (struct pair){ next, seen.second + 1 }));
	ALLOD_TSAN_ACQUIRE_(node);
	return node;
}

static _Atomic(uint32_t) *lock_of(const void *word)
{
	return &locks[((uintptr_t)word >> 3) % LOCKS];
}

static void lock(_Atomic(uint32_t) *at, uint64_t *ret_signals)
{
	const uint32_t here = (uint32_t)os_pid();

	os_signals_block(ret_signals);
	for (;;) {
		uint32_t holder = a_load_rlx(at);

		/* [rseq.4] acq: what the last holder did; pairs with unlock() */
		if (holder != here && a_cas_strong_acq(at, &holder, here))
			return;
		os_wait_while(at, here, LOOK_AGAIN_NS);
	}
}

static void unlock(_Atomic(uint32_t) *at, const uint64_t *signals)
{
	a_store_rel(at, 0); /* [rseq.4] rel: what this holder did; pairs with lock() */
	os_signals_restore(signals);
}

static int copy_store(_Atomic(uint64_t) *word, uint64_t expected, uint64_t value, void *to,
	const void *from, size_t bytes)
{
	_Atomic(uint32_t) *at = lock_of((const void *)word);
	uint64_t signals;
	int done = 0;

	lock(at, &signals);
	/* [rseq.3] acq: pairs with allod_percpu_xchg_slow_() */
	if (a_load_acq(word) == expected) {
		__builtin_memcpy(to, from, bytes);
		/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
		done = a_cas_strong_acqrel(word, &expected, value);
	}
	unlock(at, &signals);
	return done;
}

PERCPU_EXPORT int allod_percpu_copy_to_slow_(struct allod_percpu_view view, uint64_t *word,
	uint64_t expected, uint64_t value, void *to, const void *from, size_t bytes)
{
	if (percpu_enter(view))
		return allod_percpu_copy_to_in(view, word, expected, value, to, from, bytes);

	char *copy = percpu_atomic_copy(view, word);
	return copy_store((_Atomic(uint64_t) *)(void *)copy, expected, value,
		copy + ((char *)to - (char *)word), from, bytes);
}

PERCPU_EXPORT int allod_percpu_copy_from_slow_(struct allod_percpu_view view, uint64_t *word,
	uint64_t expected, uint64_t value, void *to, const void *from, size_t bytes)
{
	if (percpu_enter(view))
		return allod_percpu_copy_from_in(view, word, expected, value, to, from, bytes);

	char *copy = percpu_atomic_copy(view, word);
	return copy_store((_Atomic(uint64_t) *)(void *)copy, expected, value, to,
		copy + ((const char *)from - (char *)word), bytes);
}
