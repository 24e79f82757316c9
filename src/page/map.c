/* SPDX-License-Identifier: MIT */
/*
 * The map from addresses to direct runs: a tree of two levels over granules of the address space.
 *
 * Operations        map_set, map_clear, map_get, map_remove
 * Synchronization   any of them may run beside any other. Entries of one run are set and cleared by
 *                   its owner; readers know a run from its owner, or pass a foreign address and
 *                   read an entry of zero
 * Linearization     the store, exchange or load of the entry
 * Ordering          [page.4] publishes the root and a leaf; entries are ordered by however the
 *                   address of the run gets from thread to thread
 * Progress          wait-free but for the kernel: who loses the race for a table unmaps its own
 * Reclamation       none: tables are never unmapped
 */
#include "arena.h"

#include <errno.h>

/* User addresses have 48 bits at most (47 on x86-64), unless a program asks for more by a hint. */
#define MAP_ADDRESS_BITS 48
#define MAP_LEAF_BITS 16
#define MAP_ROOT_BITS (MAP_ADDRESS_BITS - PAGE_GRANULE_SHIFT - MAP_LEAF_BITS)

/* Slot + 1 of the run to which a granule belongs, or 0. */
struct leaf {
	_Atomic(uint32_t) entries[(size_t)1 << MAP_LEAF_BITS];
};

/* Mapped when first needed: among the library's variables half a megabyte would keep them apart. */
struct root {
	_Atomic(struct leaf *) leaves[(size_t)1 << MAP_ROOT_BITS];
};

static _Atomic(struct root *) root;

static struct root *root_get(void)
{
	/* [page.4] acq: the root is mapped; pairs with root_need(). */
	return a_load_acq(&root);
}

static struct root *root_need(void)
{
	struct root *found = root_get();
	struct root *mine;

	if (found)
		return found;
	mine = os_map(sizeof(*mine), os_facts()->page_bytes);
	if (!mine)
		return NULL;
	/* [page.4] acqrel: publishes the mapping, or reads the winner's; pairs with root_get(). */
	if (a_cas_strong_acqrel(&root, &found, mine))
		return mine;
	(void)os_unmap(mine, sizeof(*mine));
	return found;
}

/* The leaf of a granule, or NULL if none was ever needed. */
static struct leaf *leaf_get(uintptr_t granule)
{
	struct root *r = root_get();

	/* [page.4] acq: the leaf is mapped and its entries are; pairs with leaf_need(). */
	return r ? a_load_acq(&r->leaves[granule >> MAP_LEAF_BITS]) : NULL;
}

static struct leaf *leaf_need(uintptr_t granule)
{
	struct leaf *leaf = leaf_get(granule);
	struct root *r = root_need();
	struct leaf *mine;

	if (leaf || !r)
		return leaf;
	mine = os_map(sizeof(*mine), os_facts()->page_bytes);
	if (!mine)
		return NULL;
	/* [page.4] acqrel: publishes the mapping, or reads the winner's; pairs with leaf_get(). */
	if (a_cas_strong_acqrel(&r->leaves[granule >> MAP_LEAF_BITS], &leaf, mine))
		return mine;
	(void)os_unmap(mine, sizeof(*mine));
	return leaf;
}

/* The entry of a granule; NULL if it has no leaf or lies beyond the map. */
static _Atomic(uint32_t) *entry_get(uintptr_t granule)
{
	struct leaf *leaf;

	if (granule >> (MAP_ROOT_BITS + MAP_LEAF_BITS))
		return NULL;
	leaf = leaf_get(granule);
	return leaf ? &leaf->entries[granule & ((1u << MAP_LEAF_BITS) - 1)] : NULL;
}

int map_set(const char *base, size_t from, size_t to, uint32_t slot)
{
	uintptr_t first = (uintptr_t)base >> PAGE_GRANULE_SHIFT;

	if (to > PAGE_DIRECT_SPAN)
		to = PAGE_DIRECT_SPAN;
	for (size_t i = from; i < to; i++) {
		if ((first + i) >> (MAP_ROOT_BITS + MAP_LEAF_BITS) || !leaf_need(first + i)) {
			map_clear(base, from, i);
			return -ENOMEM;
		}
		a_store_rlx(entry_get(first + i), slot + 1);
	}
	return 0;
}

void map_clear(const char *base, size_t from, size_t to)
{
	uintptr_t first = (uintptr_t)base >> PAGE_GRANULE_SHIFT;

	if (to > PAGE_DIRECT_SPAN)
		to = PAGE_DIRECT_SPAN;
	for (size_t i = from; i < to; i++)
		a_store_rlx(entry_get(first + i), 0);
}

uint32_t map_get(const void *p)
{
	_Atomic(uint32_t) *entry = entry_get((uintptr_t)p >> PAGE_GRANULE_SHIFT);

	return entry ? a_load_rlx(entry) - 1 : UINT32_MAX;
}

uint32_t map_remove(const char *base)
{
	_Atomic(uint32_t) *entry = entry_get((uintptr_t)base >> PAGE_GRANULE_SHIFT);

	return entry ? a_xchg_rlx(entry, 0) - 1 : UINT32_MAX;
}

uint32_t page_direct_slot(const void *p)
{
	return map_get(p);
}

void *page_record_lookup(const void *p)
{
	uint32_t slot = map_get(p);
	struct arena *a;

	if (slot == UINT32_MAX)
		return NULL;
	a = arena_get();
	return page_record_at((uint32_t)a->granules + slot);
}
