/* SPDX-License-Identifier: MIT */
/*
 * Giving back what free slots hold. A slot is taken out of the bitmap meanwhile, so that nobody can
 * be using it; who is stopped in between keeps that slot, and no more.
 */
#include "slot.h"

/* A huge page is not to be split. */
#define TAIL_ALIGN_BYTES ((size_t)2 << 20)

static void look(struct slot_idle *it)
{
	const struct slot *s = &it->zone->table[it->pos];

	it->bytes = a_load_rlx(&s->dirty);
	it->freed_ns = a_load_rlx(&s->freed_ns);
	it->lazy = a_load_rlx(&s->lazy) != 0;
}

/* The next free slot of the zone from it->pos on that holds pages. */
static bool next_in_zone(struct slot_idle *it)
{
	size_t limit = a_load_rlx(&it->zone->frontier);
	size_t run;

	for (; it->pos < limit; it->pos++) {
		it->pos = bitmap_next_free(&it->zone->map, it->pos, limit, &run);
		if (it->pos == BITMAP_NONE)
			return false;
		look(it);
		if (it->bytes)
			return true;
	}
	return false;
}

bool slot_idle_next(struct slot_idle *it)
{
	int class = it->zone ? (int)it->zone->class : 0;

	if (it->zone)
		it->pos++;
	for (; class < SLOT_CLASSES; class ++) {
		struct zone *z = zone_peek((enum slot_class) class);
		if (it->zone != z)
			it->pos = 0;
		it->zone = z ? z : it->zone;
		if (z && next_in_zone(it))
			return true;
	}
	return false;
}

bool slot_idle_take(struct slot_idle *it)
{
	if (!bitmap_take_at(&it->zone->map, it->pos, 1))
		return false;
	it->taken = true;
	look(it);
	return true;
}

size_t slot_idle_drop(struct slot_idle *it, bool lazily)
{
	struct slot *s = &it->zone->table[it->pos];
	char *base = slot_address(it->zone, it->pos);

	ASSERT(it->taken);
	if (!it->bytes || (lazily && it->lazy))
		return 0;
	if (lazily) {
		if (os_lazyfree(base, it->bytes))
			return 0;
		a_store_rlx(&s->lazy, 1);
		return it->bytes;
	}
	/* What is in mappings of its own comes back as part of the zone's. */
	if (slot_cost(s)) {
		it->taken = slot_refresh(it->zone, it->pos);
		return it->bytes;
	}
	if (os_decommit(base, it->bytes))
		return 0;
	a_store_rlx(&s->dirty, 0);
	a_store_rlx(&s->lazy, 0);
	return it->bytes;
}

size_t slot_idle_drop_tail(struct slot_idle *it, size_t most)
{
	struct slot *s = &it->zone->table[it->pos];
	char *base = slot_address(it->zone, it->pos);
	size_t from = it->bytes > most ? (it->bytes - most) & -TAIL_ALIGN_BYTES : 0;
	size_t bytes = it->bytes - from;

	if (slot_cost(s) || !from)
		return slot_idle_drop(it, false);
	if (os_decommit(base + from, bytes))
		return 0;
	it->bytes = from;
	a_store_rlx(&s->dirty, from);
	return bytes;
}

void slot_idle_put(struct slot_idle *it)
{
	/* Not as one that was freed just now: others are to be used first. */
	if (it->taken && !bitmap_put(&it->zone->map, it->pos, 1))
		os_fatal("allod: corrupted slot map\n");
	it->taken = false;
}

size_t slot_giveback(uint64_t before_ns, bool lazily, size_t budget, size_t *ret_waiting)
{
	struct slot_idle it = { 0 };
	size_t total = 0;

	while (slot_idle_next(&it)) {
		if (lazily && it.lazy)
			continue;
		if (it.freed_ns >= before_ns || total >= budget) {
			*ret_waiting += it.bytes;
			continue;
		}
		if (!slot_idle_take(&it))
			continue;
		if (it.freed_ns < before_ns)
			total += slot_idle_drop(&it, lazily);
		slot_idle_put(&it);
	}
	return total;
}
