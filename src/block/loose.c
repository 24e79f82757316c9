/* SPDX-License-Identifier: MIT */
/*
 * Loose blocks: direct runs of page, a mapping of its own each. What is known of them stands in a
 * table, at the number of the slot that page has for the run.
 *
 * Synchronization   as of runs: of two frees one changes the base
 */
#include "core.h"

#include <errno.h>
#include <string.h>

/* As many as page has slots, at most. */
#define LOOSE_MOST ((size_t)1 << 20)

struct loose {
	/* The block's address; with FREED, it has been freed; 0: there was none. */
	_Atomic(uintptr_t) base;
	_Atomic(size_t) granules;
	_Atomic(size_t) room;
	_Atomic(uint32_t) flags;
	_Atomic(uint16_t) tag;
};

enum { FREED = 1 };

static struct table table;

static struct loose *loose_at(size_t i)
{
	return (struct loose *)a_load_rlx(&table.base) + i;
}

int loose_begin(char *base, size_t granules, size_t room, const struct block_want *want)
{
	uint32_t slot = page_direct_slot(base);
	bool may_call = !(want->flags & ALLOD_PAGE_CONSTANT_TIME);
	struct loose *l;
	int ret;

	ret = slot == UINT32_MAX ? -ENOMEM
				 : table_need(&table, slot, LOOSE_MOST, sizeof(*l), may_call);
	if (ret)
		return ret;
	l = loose_at(slot);
	a_store_rlx(&l->granules, granules);
	a_store_rlx(&l->room, room);
	a_store_rlx(&l->flags, want->flags | (room > granules ? KEEPS_ROOM : 0));
	a_store_rlx(&l->tag, (uint16_t)tag_number(want->tag));
	/* [block.6] rel: the rest is written; pairs with loose_holding(). */
	a_store_rel(&l->base, (uintptr_t)base);
	return 0;
}

int loose_alloc(size_t bytes, const struct block_want *want, char **ret_base)
{
	size_t granules = granules_for(bytes);
	size_t room = granules_for(want->reserve_bytes > bytes ? want->reserve_bytes : bytes);
	struct page_run run;
	int ret;

	if (want->flags & ALLOD_PAGE_CONSTANT_TIME)
		return -EAGAIN;
	ret = page_alloc_direct(room, want->align_bytes, &run);
	if (ret)
		return ret;
	ret = loose_begin(run.base, granules, room, want);
	if (ret) {
		page_free(run.base, room);
		return ret;
	}
	if (want->flags & ALLOD_PAGE_NODE)
		(void)os_prefer_node(run.base, room << PAGE_GRANULE_SHIFT, want->node);
	/* As in slots: whether all of a larger one is ever touched nobody knows. */
	if (!(want->flags & ALLOD_PAGE_NO_COMMIT) && granules <= RUN_MOST_GRANULES)
		(void)os_populate(run.base, granules << PAGE_GRANULE_SHIFT);
	*ret_base = run.base;
	return 0;
}

static struct loose *loose_of(const char *p)
{
	uint32_t slot = page_direct_slot(p);

	return slot != UINT32_MAX && slot < table_reach(&table) ? loose_at(slot) : NULL;
}

bool loose_free(char *p)
{
	struct loose *l = loose_of(p);
	uintptr_t base = (uintptr_t)p;
	size_t room;

	if (!l)
		return false;
	room = a_load_rlx(&l->room);
	if (!a_cas_strong_rlx(&l->base, &base, base | FREED))
		return false;
	page_free(p, room);
	return true;
}

/* Gives the tail back: addresses and all, or, of a block that keeps its room, the pages. */
static void loose_shrink(struct loose *l, char *p, size_t old, size_t new)
{
	a_store_rlx(&l->granules, new);
	if (a_load_rlx(&l->room) == old && !(a_load_rlx(&l->flags) & KEEPS_ROOM)) {
		a_store_rlx(&l->room, new);
		page_shrink(p, old, new);
	} else {
		(void)os_decommit(p + (new << PAGE_GRANULE_SHIFT),
			(old - new) << PAGE_GRANULE_SHIFT);
	}
}

int loose_resize(char *p, size_t bytes, unsigned flags)
{
	struct loose *l = loose_of(p);
	size_t old = a_load_rlx(&l->granules);
	size_t room = a_load_rlx(&l->room);
	size_t new = granules_for(bytes);
	bool may_call = !(flags & ALLOD_PAGE_CONSTANT_TIME);
	bool zeroed;

	if (new > room && !(may_call && page_extend(p, room, new, &zeroed)))
		return -ENOSPC;
	if (new > room)
		a_store_rlx(&l->room, new);
	if (new > old && flags &ALLOD_PAGE_ZEROED)
		memset(p + (old << PAGE_GRANULE_SHIFT), 0,
			((new < room ? new : room) - old) << PAGE_GRANULE_SHIFT);
	if (new < old && may_call)
		loose_shrink(l, p, old, new);
	else
		a_store_rlx(&l->granules, new);
	return 0;
}

/* The block's pages lie at `base` now: its record, under the number that was taken for it. */
static void loose_settle(uint32_t slot, const struct loose *old, char *base, size_t granules)
{
	struct loose *l = loose_at(slot);

	a_store_rlx(&l->granules, granules);
	a_store_rlx(&l->room, granules);
	a_store_rlx(&l->flags, a_load_rlx(&old->flags) & ~(uint32_t)KEEPS_ROOM);
	a_store_rlx(&l->tag, a_load_rlx(&old->tag));
	/* [block.6] rel: the rest is written; pairs with loose_holding(). */
	a_store_rel(&l->base, (uintptr_t)base);
}

int loose_move(char *p, size_t bytes, bool zeroed, void **ret_block)
{
	struct loose *l = loose_of(p);
	/* Once it has moved, its old number may be another's. */
	struct loose old = *l;
	size_t granules = a_load_rlx(&old.granules);
	size_t room = a_load_rlx(&old.room);
	uint32_t slot = page_direct_take();
	uintptr_t base = (uintptr_t)p;
	struct page_run run;

	if (slot == UINT32_MAX)
		return -ENOTSUP;
	if (table_need(&table, slot, LOOSE_MOST, sizeof(*l), true) ||
		!a_cas_strong_rlx(&l->base, &base, base | FREED))
		goto give_slot;
	if (page_move_direct(p, room, granules_for(bytes), slot, &run)) {
		a_store_rlx(&l->base, base);
		goto give_slot;
	}
	if (zeroed)
		memset(run.base + (granules << PAGE_GRANULE_SHIFT), 0,
			(room - granules) << PAGE_GRANULE_SHIFT);
	loose_settle(slot, &old, run.base, run.granules);
	*ret_block = run.base;
	return 0;
give_slot:
	page_direct_give(slot);
	return -ENOTSUP;
}

_Atomic(uint16_t) *loose_tag(const char *p)
{
	return &loose_of(p)->tag;
}

static bool tell(const struct loose *l, size_t i, uintptr_t base, struct block *ret_block)
{
	*ret_block = (struct block){
		.kind = BLOCK_LOOSE,
		.flags = a_load_rlx(&l->flags),
		.base = (char *)base,
		.bytes = a_load_rlx(&l->granules) << PAGE_GRANULE_SHIFT,
		.room_bytes = a_load_rlx(&l->room) << PAGE_GRANULE_SHIFT,
		.id = i,
	};
	return true;
}

/* page knows the slot of an address in the first granules only: looks at all of them. */
static bool loose_holding(const char *p, struct block *ret_block)
{
	size_t reach = table_reach(&table);

	for (size_t i = 0; i < reach; i++) {
		const struct loose *l = loose_at(i);
		/* [block.6] acq: the size is that of this block; pairs with loose_begin(). */
		uintptr_t base = a_load_acq(&l->base);
		if (base && !(base & FREED) &&
			(uintptr_t)p - base < a_load_rlx(&l->granules) << PAGE_GRANULE_SHIFT)
			return tell(l, i, base, ret_block);
	}
	return false;
}

bool loose_find(const char *p, bool begins, struct block *ret_block)
{
	const struct loose *l = loose_of(p);

	if (l && a_load_rlx(&l->base) == (uintptr_t)p)
		return tell(l, (size_t)(l - loose_at(0)), (uintptr_t)p, ret_block);
	return !begins && loose_holding(p, ret_block);
}

void loose_count(size_t *ret_blocks, size_t *ret_bytes)
{
	size_t reach = table_reach(&table);
	size_t blocks = 0;
	size_t bytes = 0;

	for (size_t i = 0; i < reach; i++) {
		const struct loose *l = loose_at(i);
		uintptr_t base = a_load_rlx(&l->base);
		bool is_live = base && !(base & FREED);
		blocks += is_live;
		bytes += is_live ? a_load_rlx(&l->granules) << PAGE_GRANULE_SHIFT : 0;
	}
	*ret_blocks = blocks;
	*ret_bytes = bytes;
}

bool loose_was_freed(const char *p)
{
	size_t reach = table_reach(&table);

	for (size_t i = 0; i < reach; i++)
		if (a_load_rlx(&loose_at(i)->base) == ((uintptr_t)p | FREED))
			return true;
	return false;
}
