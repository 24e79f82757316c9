/* SPDX-License-Identifier: MIT */
/*
 * What it costs on this host to have pages again, and the time after which free chunks go cold.
 *
 * Memory is kept as long as keeping it costs no more than having it again would. The program sets
 * the price of keeping: pages that are gone are worth `decay_ms` of it. Pages that went cold cost
 * less to have again, so they are worth less time:
 *
 *	cold after = decay_ms * (cost of cooling a page and writing to it again)
 *	                      / (cost of dropping a page and faulting it in again)
 *
 * in whole epochs, two at least, so that what is used many times a second is left alone. Where
 * cooling costs half as much as dropping, or more, nothing goes cold by age. A host where fresh
 * pages are dear (a virtual machine) lets memory go cold sooner by this, and gains more by it.
 *
 * Both costs are measured once, on a mapping made for that: the less of two rounds, or one where
 * that takes a millisecond. Only the ratio counts, so it does not matter how fast the
 * host is at that moment.
 *
 * What chunks take that are composed and that are populated is measured as they are, in running
 * means.
 */
#include "arena.h"

enum {
	COST_ROUNDS = 2,
	/* 128 KiB: what a call costs beside its pages is small then. */
	COST_BYTES = 2 << PAGE_GRANULE_SHIFT,
	/* 1 ms: no further round is begun after. */
	COST_MOST_NS = 1000000,
	/* Epochs; below, all that is due goes at once. */
	COLD_LEAST_EPOCHS = 2,
	/* The newest of what chunks took counts for so much of their mean. */
	MEAN_PART = 4,
	/* Where composing was dearer than populating, one run of so many is composed to see again. */
	COMPOSE_RETRY_EACH = 16,
};

enum cost_state { COST_UNKNOWN = 0, COST_TAKEN };

static void touch(volatile char *base, size_t page)
{
	for (size_t i = 0; i < COST_BYTES; i += page)
		base[i] = 1;
}

static uint64_t least(uint64_t x, uint64_t y)
{
	return x < y ? x : y;
}

/* One round; all pages are present before and after. False: the kernel has no cold pages. */
static bool round_take(char *base, size_t page, uint64_t *cold_ns, uint64_t *gone_ns)
{
	uint64_t at[3];

	at[0] = os_fine_ns();
	if (os_lazyfree(base, COST_BYTES))
		return false;
	touch(base, page);
	at[1] = os_fine_ns();
	if (os_decommit(base, COST_BYTES))
		return false;
	touch(base, page);
	at[2] = os_fine_ns();
	*cold_ns = least(*cold_ns, at[1] - at[0]);
	*gone_ns = least(*gone_ns, at[2] - at[1]);
	return true;
}

/* The epochs after which a chunk goes cold; 0: it does not pay. */
static unsigned cold_epochs(const struct arena *a, uint64_t cold_ns, uint64_t gone_ns)
{
	uint64_t epochs;

	if (!gone_ns || cold_ns >= gone_ns / 2)
		return 0;
	/* A stamp may be from the end of its epoch: one more, as for the decay. */
	epochs = (a->decay_epochs * cold_ns + gone_ns - 1) / gone_ns + 1;
	if (epochs < COLD_LEAST_EPOCHS)
		epochs = COLD_LEAST_EPOCHS;
	return epochs < a->decay_epochs ? (unsigned)epochs : 0;
}

/* In a mapping of its own; the costs stay 0 if the system refuses. */
static void take(struct arena *a)
{
	size_t page = os_facts()->page_bytes;
	char *base = os_map(COST_BYTES, page);
	uint64_t begin = os_fine_ns();
	uint64_t cold_ns = UINT32_MAX;
	uint64_t gone_ns = UINT32_MAX;
	bool taken = false;

	if (!base)
		return;
	(void)os_huge(base, COST_BYTES, false);
	touch(base, page);
	for (int i = 0; i < COST_ROUNDS && os_fine_ns() - begin < COST_MOST_NS; i++)
		taken = round_take(base, page, &cold_ns, &gone_ns) || taken;
	(void)os_unmap(base, COST_BYTES);
	if (!taken)
		return;
	a_store_rlx(&a->cost_cold_ns, (uint32_t)cold_ns);
	a_store_rlx(&a->cost_gone_ns, (uint32_t)gone_ns);
	a_store_rlx(&a->cold_epochs, cold_epochs(a, cold_ns, gone_ns));
}

void cost_note(_Atomic(uint32_t) *mean, uint64_t ns, size_t chunks)
{
	const uint64_t old = a_load_rlx(mean);
	/* What stood still meanwhile counts for four times the mean at most. */
	const uint64_t one = least(ns / chunks + 1, old ? old * MEAN_PART : UINT32_MAX);

	a_store_rlx(mean, (uint32_t)(old ? old - old / MEAN_PART + one / MEAN_PART : one));
}

bool cost_compose_pays(struct arena *a)
{
	const uint32_t composed = a_load_rlx(&a->cost_compose_ns);
	const uint32_t populated = a_load_rlx(&a->cost_populate_ns);

	return !composed || !populated || composed < populated ||
		a_add_rlx(&a->compose_skipped, 1) % COMPOSE_RETRY_EACH == 0;
}

uint64_t page_cold_after_ns(void)
{
	struct arena *a = arena_get();

	return a ? (uint64_t)a_load_rlx(&a->cold_epochs) << a->epoch_shift : 0;
}

void cost_measure(struct arena *a)
{
	uint32_t unknown = COST_UNKNOWN;

	if (a_load_rlx(&a->cost_state) == COST_UNKNOWN &&
		a_cas_strong_rlx(&a->cost_state, &unknown, COST_TAKEN))
		take(a);
}
