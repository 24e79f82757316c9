/* SPDX-License-Identifier: MIT */
/*
 * Arrays of what is known of granules and of loose blocks. Their addresses are reserved whole at
 * the first use, and made accessible in steps as far as they are used.
 *
 * Operations        table_need
 * Synchronization   any number of threads. Each that comes first reserves for itself; one
 *                   compare-and-swap decides, the others unmap theirs. Steps are made accessible by
 *                   whoever needs them, which is idempotent
 * Ordering          [block.1] publishes that the entries below `reach` are accessible
 * Progress          lock-free
 * Reclamation       none
 */
#include "core.h"

#include <errno.h>

/* Entries become accessible so many bytes at a time: a page of the largest size. */
#define TABLE_STEP_BYTES ((size_t)64 << 10)

struct table block_units;

static size_t round_step(size_t bytes)
{
	return (bytes + TABLE_STEP_BYTES - 1) & -TABLE_STEP_BYTES;
}

/* The array's address; reserves it if nobody has. 0 when the system refuses. */
static uintptr_t table_base(struct table *t, size_t bytes)
{
	/* [block.1] acq: the range is reserved; pairs with the exchange below. */
	uintptr_t base = a_load_acq(&t->base);
	void *mine;

	if (base)
		return base;
	mine = os_reserve(bytes, TABLE_STEP_BYTES);
	if (!mine)
		return 0;
	(void)os_huge(mine, bytes, false);
	block_keep();
	/* [block.1] acqrel: publishes the reservation, or reads the winner's. */
	if (a_cas_strong_acqrel(&t->base, &base, (uintptr_t)mine))
		return (uintptr_t)mine;
	(void)os_unmap(mine, bytes);
	return base;
}

/* Makes the entries up to `end` accessible. */
static int table_grow(struct table *t, uintptr_t base, size_t entry_bytes, size_t end)
{
	size_t seen = table_reach(t);
	size_t from = seen * entry_bytes;

	if (os_commit((char *)base + from, end * entry_bytes - from))
		return -ENOMEM;
	while (seen < end)
		/* [block.1] rel: publishes that all below is accessible; pairs with
		 * table_reach(). */
		if (a_cas_weak_rel(&t->reach, &seen, end))
			break;
	return 0;
}

int table_need(struct table *t, size_t index, size_t count, size_t entry_bytes, bool may_call)
{
	size_t bytes = round_step(count * entry_bytes);
	uintptr_t base;
	size_t end;

	if (__builtin_expect(index < table_reach(t), 1))
		return 0;
	if (!may_call)
		return -EAGAIN;
	base = index < count ? table_base(t, bytes) : 0;
	if (!base)
		return -ENOMEM;
	/* Not beyond the last: what lies behind a small arena is not told to be in it. */
	end = round_step((index + 1) * entry_bytes) / entry_bytes;
	return table_grow(t, base, entry_bytes, end < count ? end : count);
}

size_t arena_granules(void)
{
	static _Atomic(size_t) known;
	size_t count = a_load_rlx(&known);
	struct page_stats stats;

	if (!count && !page_init()) {
		page_stats(&stats);
		count = stats.arena_bytes >> PAGE_GRANULE_SHIFT;
		a_store_rlx(&known, count);
	}
	return count;
}

int unit_need(const void *p, bool may_call, struct unit **ret_unit)
{
	size_t pos = ((uintptr_t)p - a_load_rlx(&page_arena.base)) >> PAGE_GRANULE_SHIFT;
	int ret = 0;

	if (__builtin_expect(pos >= table_reach(&block_units), 0))
		ret = table_need(&block_units, pos, arena_granules(), sizeof(struct unit),
			may_call);
	if (!ret)
		*ret_unit = unit_at(pos);
	return ret;
}
