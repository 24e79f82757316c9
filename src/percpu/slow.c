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

static _Atomic(uint64_t) *word64(struct allod_percpu_view view, const void ALLOD_PERCPU *p)
{
	return (_Atomic(uint64_t) *)percpu_atomic_copy(view, p);
}

static _Atomic(uint32_t) *word32(struct allod_percpu_view view, const void ALLOD_PERCPU *p)
{
	return (_Atomic(uint32_t) *)percpu_atomic_copy(view, p);
}

PERCPU_EXPORT uint64_t allod_percpu_read_slow_(struct allod_percpu_view view,
	const uint64_t ALLOD_PERCPU *p)
{
	int32_t i;

	if (percpu_enter(view, &i))
		return allod_cs_load_(allod_percpu_copy_(view, p, i));
	/* [rseq.3] acq: what the value announces; pairs with allod_percpu_xchg_slow_() */
	return a_load_acq(word64(view, p));
}

PERCPU_EXPORT uint32_t allod_percpu_read32_slow_(struct allod_percpu_view view,
	const uint32_t ALLOD_PERCPU *p)
{
	int32_t i;

	if (percpu_enter(view, &i))
		return allod_cs_load32_(allod_percpu_copy_(view, p, i));
	/* [rseq.3] acq: what the value announces; pairs with allod_percpu_add32_slow_() */
	return a_load_acq(word32(view, p));
}

PERCPU_EXPORT void allod_percpu_add_slow_(struct allod_percpu_view view, uint64_t ALLOD_PERCPU *p,
	uint64_t value)
{
	int32_t i;

	while (percpu_enter(view, &i)) {
		if (allod_cs_add_(view.by, i, allod_percpu_copy_(view, p, i), value) == 0)
			return;
	}
	/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
	a_add_acqrel(word64(view, p), value);
}

PERCPU_EXPORT void allod_percpu_add32_slow_(struct allod_percpu_view view, uint32_t ALLOD_PERCPU *p,
	uint32_t value)
{
	int32_t i;

	while (percpu_enter(view, &i)) {
		if (allod_cs_add32_(view.by, i, allod_percpu_copy_(view, p, i), value) == 0)
			return;
	}
	/* [rseq.3] acqrel: pairs with allod_percpu_read32_slow_() */
	a_add_acqrel(word32(view, p), value);
}

PERCPU_EXPORT uint64_t allod_percpu_add_return_slow_(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t value)
{
	uint64_t sum;
	int32_t i;

	while (percpu_enter(view, &i)) {
		void *copy = allod_percpu_copy_(view, p, i);

		if (allod_cs_add_return_(view.by, i, copy, value, &sum) == 0)
			return sum;
	}
	/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
	return a_add_acqrel(word64(view, p), value) + value;
}

PERCPU_EXPORT uint64_t allod_percpu_xchg_slow_(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t value)
{
	uint64_t old;
	int32_t i;

	while (percpu_enter(view, &i)) {
		if (allod_cs_xchg_(view.by, i, allod_percpu_copy_(view, p, i), value, &old) == 0)
			return old;
	}
	/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
	return a_xchg_acqrel(word64(view, p), value);
}

PERCPU_EXPORT uint64_t allod_percpu_cmpxchg_slow_(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t expected, uint64_t value)
{
	uint64_t old;
	int32_t i;

	while (percpu_enter(view, &i)) {
		void *copy = allod_percpu_copy_(view, p, i);

		if (allod_cs_cmpxchg_(view.by, i, copy, expected, value, &old) == 0)
			return old;
	}
	/* [rseq.3] acqrel: pairs with allod_percpu_read_slow_() */
	a_cas_strong_acqrel(word64(view, p), &expected, value);
	return expected;
}

PERCPU_EXPORT void allod_percpu_pair_add_slow_(struct allod_percpu_view view,
	struct allod_percpu_pair ALLOD_PERCPU *p, uint64_t first, uint64_t second)
{
	int32_t i;

	while (percpu_enter(view, &i)) {
		void *copy = allod_percpu_copy_(view, p, i);

		if (allod_cs_pair_add_(view.by, i, copy, first, second) == 0)
			return;
	}

	struct pair *pair = percpu_atomic_copy(view, p);
	struct pair seen = pair_peek(pair);
	while (!pair_cas(pair, &seen, (struct pair){ seen.first + first, seen.second + second }))
		a_pause();
}

PERCPU_EXPORT int allod_percpu_list_push_slow_(struct allod_percpu_view view,
	struct allod_percpu_list ALLOD_PERCPU *list, struct allod_percpu_node *node)
{
	int32_t i;

	while (percpu_enter(view, &i)) {
		const int ret = allod_cs_push_(view.by, i, allod_percpu_copy_(view, list, i), node);

		if (ret != 1)
			return ret == 0;
	}

	struct pair *copy = percpu_atomic_copy(view, list);
	struct pair seen = pair_peek(copy);
	do {
		a_store_rlx((_Atomic(uintptr_t) *)&node->next, (uintptr_t)seen.first);
		ALLOD_TSAN_RELEASE_(node);
	} while (!pair_cas(copy, &seen, (struct pair){ (uintptr_t)node, seen.second + 1 }));
	return 1;
}

static struct allod_percpu_node *pop_atomic(struct pair *copy)
{
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

PERCPU_EXPORT struct allod_percpu_node *allod_percpu_list_pop_slow_(struct allod_percpu_view view,
	struct allod_percpu_list ALLOD_PERCPU *list)
{
	void *node;
	int32_t i;

	while (percpu_enter(view, &i)) {
		const int ret = allod_cs_pop_(view.by, i, allod_percpu_copy_(view, list, i), &node);

		if (ret == 2)
			return NULL;
		if (ret == 0) {
			ALLOD_TSAN_ACQUIRE_(node);
			return node;
		}
	}
	return pop_atomic(percpu_atomic_copy(view, list));
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

/* Where copy `number` of some memory is, from where that of the word is. */
static void *beside(const void *word_copy, const void ALLOD_PERCPU *p,
	const uint64_t ALLOD_PERCPU *word)
{
	return (void *)((uintptr_t)word_copy + (uintptr_t)(ALLOD_PERCPU_FORCE const void *)p -
		(uintptr_t)(ALLOD_PERCPU_FORCE const void *)word);
}

PERCPU_EXPORT int allod_percpu_copy_to_slow_(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *word, uint64_t expected, uint64_t value, void ALLOD_PERCPU *to,
	const void *from, size_t bytes)
{
	uint64_t *copy;
	int32_t i;

	while (percpu_enter(view, &i)) {
		copy = allod_percpu_copy_(view, word, i);
		const int ret = allod_cs_copy_store_(view.by, i, copy, expected, value,
			beside(copy, to, word), from, bytes);

		if (ret != 1)
			return ret == 0;
	}
	copy = percpu_atomic_copy(view, word);
	return copy_store((_Atomic(uint64_t) *)copy, expected, value, beside(copy, to, word), from,
		bytes);
}

PERCPU_EXPORT int allod_percpu_copy_from_slow_(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *word, uint64_t expected, uint64_t value, void *to,
	const void ALLOD_PERCPU *from, size_t bytes)
{
	uint64_t *copy;
	int32_t i;

	while (percpu_enter(view, &i)) {
		copy = allod_percpu_copy_(view, word, i);
		const int ret = allod_cs_copy_store_(view.by, i, copy, expected, value, to,
			beside(copy, from, word), bytes);

		if (ret != 1)
			return ret == 0;
	}
	copy = percpu_atomic_copy(view, word);
	return copy_store((_Atomic(uint64_t) *)copy, expected, value, to, beside(copy, from, word),
		bytes);
}
