/* SPDX-License-Identifier: MIT */
/*
 * Direct runs: a mapping of their own each, for what the arena cannot serve and, with page:mmap,
 * for everything. Their records come from slots, their pages go back to the kernel when they are
 * freed.
 *
 * Operations        direct_alloc, direct_free, direct_extend, direct_shrink, direct_move
 * Synchronization   all of them beside each other; one run is handled by its owner alone
 * Linearization     a slot is taken by the CAS of `slots_free` or of `slots_used`; a run is born
 *                   and freed by its entry in the map
 * Ordering          [page.3] publishes that the records of slots below `slots_used` are accessible,
 *                   but for steps that were left out
 * Progress          lock-free
 * Reclamation       records of slots are type-stable; slots are reused
 */
#include "arena.h"

#include <errno.h>

enum {
	/* Looks at a step of slots that is taken before it is left out; see reserve.c. */
	SLOTS_TRIES = 16,
};

static _Atomic(uint32_t) *slot_link(uint32_t slot)
{
	return &arena_get()->slot_links[slot];
}

bool direct_slots_open(struct arena *a, size_t slot)
{
	/* [page.3] acq: the records are accessible; pairs with slots_open(). */
	return a_load_acq(&a->slot_steps[slot / ARENA_RECORD_STEP]);
}

/*
 * Makes the records of a step of slots accessible. -EEXIST: something else is mapped there, or
 * another thread is just at it. -ENOMEM: the system refuses.
 */
static int slots_open(struct arena *a, size_t first)
{
	size_t end = a->granules + first + ARENA_RECORD_STEP;
	size_t bytes = (size_t)ARENA_RECORD_STEP << PAGE_RECORD_SHIFT;
	char *low = (char *)a - (end << PAGE_RECORD_SHIFT);
	int ret = a->is_whole ? 0 : reserve_range(low, bytes);

	if (!ret && os_commit(low, bytes)) {
		if (!a->is_whole)
			(void)os_unmap(low, bytes);
		ret = -ENOMEM;
	}
	/*
	 * [page.3] rel: publishes that the records are accessible; pairs with direct_slots_open().
	 */
	if (!ret)
		a_store_rel(&a->slot_steps[first / ARENA_RECORD_STEP], 1);
	if (!ret && !a->is_whole)
		reserve_name(low, bytes);
	return ret == 0 || ret == -EEXIST ? ret : -ENOMEM;
}

/* The same, looking again a few times where another thread may be at it. */
static int slots_need(struct arena *a, size_t first)
{
	int ret = -EEXIST;

	for (unsigned tries = 0; ret == -EEXIST && tries < SLOTS_TRIES; tries++)
		ret = direct_slots_open(a, first) ? 0 : slots_open(a, first);
	return ret;
}

/*
 * A slot that was never used before; UINT32_MAX when there is none or no memory for it. A step of
 * slots whose place is taken is left out.
 */
static uint32_t slot_fresh(struct arena *a)
{
	uint64_t used = a_load_rlx(&a->slots_used);
	uint64_t slot;
	int ret;

	do {
		slot = used;
		ret = -EEXIST;
		while (ret == -EEXIST && slot < a->slots) {
			ret = slot % ARENA_RECORD_STEP ? 0 : slots_need(a, slot);
			if (ret == -EEXIST)
				slot += ARENA_RECORD_STEP;
		}
		if (ret)
			return UINT32_MAX;
		/*
		 * [page.3] acqrel: publishes that the step's records are accessible, or learns it.
		 */
	} while (!a_cas_weak_acqrel(&a->slots_used, &used, slot + 1));
	return (uint32_t)slot;
}

static uint32_t slot_take(struct arena *a)
{
	uint32_t slot = stack_pop(&a->slots_free, slot_link);

	return slot == STACK_EMPTY ? slot_fresh(a) : slot;
}

static void slot_give(struct arena *a, uint32_t slot)
{
	stack_push(&a->slots_free, slot, slot_link);
}

/*
 * Whether a mapping lies where the arena may grow to: as good as impossible, since the arena lies
 * where the kernel does not put mappings. It could not be told from the arena's runs.
 */
static bool in_arenas_way(const struct arena *a, const char *base, size_t n)
{
	uintptr_t end = (uintptr_t)base + (n << PAGE_GRANULE_SHIFT);

	return end > a->base && (uintptr_t)base < a->base + (a->granules << PAGE_GRANULE_SHIFT);
}

static void account(struct arena *a, size_t n)
{
	a_add_rlx(&a->direct_granules, n);
	run_note_peak(a, a_load_rlx(&a->balance));
}

/*
 * Unmaps; where the kernel cannot cut the mapping in two, the addresses are lost, not the memory.
 */
static void unmap(struct arena *a, char *base, size_t n)
{
	if (os_unmap(base, n << PAGE_GRANULE_SHIFT)) {
		(void)os_decommit(base, n << PAGE_GRANULE_SHIFT);
	}
	a_sub_rlx(&a->direct_granules, n);
}

int direct_alloc(struct arena *a, size_t n, size_t align_bytes, struct page_run *ret_run)
{
	size_t align = align_bytes > PAGE_GRANULE_BYTES ? align_bytes : PAGE_GRANULE_BYTES;
	uint32_t slot;
	char *base;

	if (n > SIZE_MAX >> PAGE_GRANULE_SHIFT)
		return -ENOMEM;
	slot = slot_take(a);
	if (slot == UINT32_MAX)
		return -ENOMEM;
	base = os_map(n << PAGE_GRANULE_SHIFT, align);
	if (!base)
		goto give_slot;
	if (in_arenas_way(a, base, n) || map_set(base, 0, n, slot))
		goto give_base;
	account(a, n);
	a_add_rlx(&a->direct_runs, 1);
	*ret_run = (struct page_run){ .base = base, .granules = n, .fresh = n, .zeroed = true };
	return 0;
give_base:
	(void)os_unmap(base, n << PAGE_GRANULE_SHIFT);
give_slot:
	slot_give(a, slot);
	return -ENOMEM;
}

/* Takes a run out of the map; dies if there is none. Returns its slot. */
static uint32_t forget(struct arena *a, char *base, size_t n)
{
	uint32_t slot = map_remove(base);

	if (slot == UINT32_MAX)
		os_fatal("allod: double free\n");
	map_clear(base, 1, n);
	a_sub_rlx(&a->direct_runs, 1);
	return slot;
}

void direct_free(struct arena *a, char *base, size_t n)
{
	uint32_t slot = forget(a, base, n);

	unmap(a, base, n);
	slot_give(a, slot);
}

bool direct_extend(struct arena *a, char *base, size_t old_n, size_t new_n)
{
	uint32_t slot = map_get(base);
	size_t old_bytes = old_n << PAGE_GRANULE_SHIFT;

	ASSERT(slot != UINT32_MAX);
	if (new_n > SIZE_MAX >> PAGE_GRANULE_SHIFT ||
		os_grow(base, old_bytes, new_n << PAGE_GRANULE_SHIFT))
		return false;
	account(a, new_n - old_n);
	if (in_arenas_way(a, base, new_n) || map_set(base, old_n, new_n, slot)) {
		unmap(a, base + old_bytes, new_n - old_n);
		return false;
	}
	return true;
}

void direct_shrink(struct arena *a, char *base, size_t old_n, size_t new_n)
{
	map_clear(base, new_n, old_n);
	unmap(a, base + (new_n << PAGE_GRANULE_SHIFT), old_n - new_n);
}

/* Moves to an address that the caller has reserved, and entered in the map. */
static int move_to(struct arena *a, char *base, size_t old_n, char *to, size_t new_n)
{
	/* Forgotten first: once the pages have left, the old addresses may be anybody's. */
	uint32_t old_slot = forget(a, base, old_n);
	char *moved =
		os_move(base, old_n << PAGE_GRANULE_SHIFT, to, new_n << PAGE_GRANULE_SHIFT, false);

	a_add_rlx(&a->direct_runs, 1);
	if (moved == to) {
		slot_give(a, old_slot);
		account(a, new_n - old_n);
		return 0;
	}
	/* Cannot fail: the leaves are there. */
	(void)map_set(base, 0, old_n, old_slot);
	map_clear(to, 0, new_n);
	/* Unless the addresses are surely ours, they are left as they are. */
	if (move_repair(to, new_n << PAGE_GRANULE_SHIFT))
		(void)os_unmap(to, new_n << PAGE_GRANULE_SHIFT);
	return -ENOMEM;
}

/*
 * Addresses for a run that moves. Where it is large they lie as it does within 2 MiB: then the
 * kernel moves page tables and not their entries.
 */
static char *reserve_like(const char *base, size_t bytes)
{
	const size_t slack = ARENA_CHUNK_BYTES;
	char *low = bytes >= 2 * slack && bytes + slack > bytes
		? os_reserve(bytes + slack, PAGE_GRANULE_BYTES)
		: NULL;
	size_t before = ((uintptr_t)base - (uintptr_t)low) & (slack - 1);

	if (!low)
		return os_reserve(bytes, PAGE_GRANULE_BYTES);
	/* A refusal costs addresses. */
	if (before)
		(void)os_unmap(low, before);
	(void)os_unmap(low + before + bytes, slack - before);
	return low + before;
}

int direct_move(struct arena *a, char *base, size_t old_n, size_t new_n, uint32_t slot,
	struct page_run *ret_run)
{
	char *to;
	int ret;

	if (new_n > SIZE_MAX >> PAGE_GRANULE_SHIFT)
		return -ENOMEM;
	to = reserve_like(base, new_n << PAGE_GRANULE_SHIFT);
	if (!to || in_arenas_way(a, to, new_n) || map_set(to, 0, new_n, slot)) {
		if (to)
			(void)os_unmap(to, new_n << PAGE_GRANULE_SHIFT);
		return -ENOMEM;
	}
	ret = move_to(a, base, old_n, to, new_n);
	if (!ret)
		*ret_run = (struct page_run){
			.base = to,
			.granules = new_n,
			.fresh = new_n - old_n,
			.zeroed = true,
		};
	return ret;
}

uint32_t page_direct_take(void)
{
	struct arena *a = arena_get();

	return a ? slot_take(a) : UINT32_MAX;
}

void page_direct_give(uint32_t slot)
{
	slot_give(arena_get(), slot);
}
