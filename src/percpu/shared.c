/* SPDX-License-Identifier: MIT */
/*
 * Work on another processor's copy: pairs that are read, lists that are taken.
 *
 * Taking a list while sequences work on it. The gate is closed: from the fence on, no sequence that
 * has not seen it closed is under way, so the list is the closer's alone. Then both words are
 * exchanged at once, which takes the nodes and opens the gate. Where the process works by atomic
 * instructions, `gate` is a count and the exchange alone does it. A closer that is stopped leaves
 * the list closed, and nobody waits for it.
 */
#include <allod/percpu-ops.h>

#include "base/atomic.h"
#include "pair.h"
#include "percpu/rseq.h"

static _Atomic(uintptr_t) *gate_of(struct allod_percpu_list *copy)
{
	return (_Atomic(uintptr_t) *)&copy->gate;
}

static bool close_gate(struct allod_percpu_list *copy, int cpu)
{
	uintptr_t open = 0;

	/* [rseq.5] acqrel: alone from here; pairs with take_all() */
	if (!a_cas_strong_acqrel(gate_of(copy), &open, 1))
		return false;
	if (allod_rseq_fence(cpu) == 0)
		return true;
	if (!percpu_is_atomic())
		a_store_rel(gate_of(copy), 0); /* [rseq.5] rel: pairs with close_gate() */
	return false;
}

/* If the process has gone over to atomic instructions meanwhile, the gate is a count by now. */
static struct allod_percpu_node *take_all(struct allod_percpu_list *copy)
{
	struct pair *pair = (struct pair *)(void *)copy;
	struct pair seen = pair_peek(pair);

	while (!pair_cas(pair, &seen, (struct pair){ 0, percpu_is_atomic() ? seen.second + 1 : 0 }))
		a_pause();
	return (struct allod_percpu_node *)(uintptr_t)seen.first;
}

PERCPU_EXPORT struct allod_percpu_node *allod_percpu_list_take(struct allod_percpu_view view,
	struct allod_percpu_list ALLOD_PERCPU *list, unsigned number)
{
	struct allod_percpu_list *copy = allod_percpu_copy_(view, list, (int32_t)number);

	/* Where nobody has pushed, reading would make a page present. */
	if (number >= view.count || allod_cs_is_zero_(&allod_percpu_active_[number]) ||
		allod_cs_load_(&copy->first) == 0)
		return NULL;
	if (!percpu_is_atomic() &&
		!close_gate(copy, view.by == ALLOD_RSEQ_CPU_ID ? (int)number : -1))
		return NULL;

	struct allod_percpu_node *first = take_all(copy);
	for (struct allod_percpu_node *node = first; node != NULL; node = node->next)
		ALLOD_TSAN_ACQUIRE_(node);
	return first;
}

#if defined(__x86_64__)

/* A processor with AVX loads 16 aligned bytes as one. */
static struct pair read_whole(const struct allod_percpu_pair *copy)
{
	struct pair seen;

	if (!__builtin_cpu_supports("avx"))
		return pair_read((struct pair *)(uintptr_t)copy);
	__asm__ volatile("movdqa %1, %%xmm0\n\tmovdqa %%xmm0, %0"
			 : "=m"(seen)
			 : "m"(*copy)
			 : "xmm0");
	return seen;
}

#else

static struct pair read_whole(const struct allod_percpu_pair *copy)
{
	return pair_read((struct pair *)(uintptr_t)copy);
}

#endif

PERCPU_EXPORT struct allod_percpu_pair allod_percpu_pair_read(const struct allod_percpu_pair *copy)
{
	const struct pair seen = read_whole(copy);
	const struct allod_percpu_pair ret = { seen.first, seen.second };

	return ret;
}
