/* SPDX-License-Identifier: MIT */
/*
 * Exchanging what lies in slots: three moves, by way of a slot that nobody has. slot_move.c tells
 * what a move does, and docs/design/block.md what each refusal leaves.
 */
#include "slot.h"

#include <errno.h>
#include <string.h>

static size_t min_size(size_t x, size_t y)
{
	return x < y ? x : y;
}

static size_t max_size(size_t x, size_t y)
{
	return x > y ? x : y;
}

/* A clean slot for the middle of an exchange, or BITMAP_NONE. */
static size_t park_take(struct zone *z)
{
	for (int i = 0; i < SLOT_PARKED; i++) {
		uint32_t slot = a_load_rlx(&z->parked[i]);
		/* [slot.3] acq: its record, which others have written; pairs with park_put(). */
		if (slot && a_cas_strong_acq(&z->parked[i], &slot, 0))
			return slot - 1;
	}
	return zone_take_empty(z, 1, 1, ZONE_CLEAN);
}

static void park_put(struct zone *z, size_t pos)
{
	for (int i = 0; i < SLOT_PARKED && !a_load_rlx(&z->table[pos].dirty); i++) {
		uint32_t none = 0;
		/* [slot.3] rel: its record is written; pairs with park_take(). */
		if (a_cas_strong_rel(&z->parked[i], &none, (uint32_t)pos + 1))
			return;
	}
	if (slot_refresh_if_crowded(z, pos))
		zone_put(z, pos, 1);
}

/*
 * A move into a live block's slot was refused: gets the contents there by copying from the slot
 * where they are, which is left clean.
 */
static void rescue(struct zone *z, enum slot_hung hung, size_t from, size_t to)
{
	struct slot *s = &z->table[from];
	size_t bytes = a_load_rlx(&s->dirty);

	if (hung == SLOT_HUNG_LOST)
		os_fatal("allod: addresses lost in a refused exchange\n");
	memcpy(slot_address(z, to), slot_address(z, from), bytes);
	a_store_rlx(&z->table[to].dirty, bytes);
	if (!os_decommit(slot_address(z, from), bytes))
		a_store_rlx(&s->dirty, 0);
}

/* Exchanges what two slots hold, by way of a third. False: refused, and nothing has changed. */
static bool exchange_moving(struct zone *z, size_t a, size_t b, size_t *park)
{
	enum slot_hung hung;

	if (*park == BITMAP_NONE)
		return false;
	hung = slot_hang(z, a, *park, false);
	if (hung != SLOT_HUNG) {
		if (hung == SLOT_HUNG_LOST) {
			slot_lose(z);
			*park = BITMAP_NONE;
		}
		return false;
	}
	hung = slot_hang(z, b, a, true);
	if (hung != SLOT_HUNG) {
		rescue(z, hung, *park, a);
		return false;
	}
	hung = slot_hang(z, *park, b, true);
	if (hung != SLOT_HUNG)
		rescue(z, hung, *park, b);
	return true;
}

static void exchange_copying(struct zone *z, size_t a, size_t b)
{
	size_t x = a_load_rlx(&z->table[a].dirty);
	size_t y = a_load_rlx(&z->table[b].dirty);
	char *p = slot_address(z, a);
	char *q = slot_address(z, b);
	size_t both = min_size(x, y);

	swap_bytes(p, q, both);
	if (x > y)
		memcpy(q + both, p + both, x - both);
	else
		memcpy(p + both, q + both, y - both);
	/* Where both had pages they still have them. */
	a_store_rlx(&z->table[a].dirty, max_size(x, y));
	a_store_rlx(&z->table[b].dirty, max_size(x, y));
}

/* Makes sure that the block has so many slots. */
static bool need_slots(const struct slot_ref *ref, size_t count)
{
	return count <= ref->count || !slot_take_behind(ref, count, 0);
}

static void set_bytes(const struct slot_ref *ref, size_t bytes)
{
	a_store_rlx(&ref->zone->table[ref->pos].bytes, bytes);
}

int slot_exchange(const struct slot_ref *a, const struct slot_ref *b)
{
	struct zone *z = a->zone;
	size_t n = slots_for(z, a->offset + max_size(a->bytes, b->bytes));
	bool moves = true;
	size_t park;

	if (z != b->zone || a->offset != b->offset || !slot_may_move(z) || !need_slots(a, n) ||
		!need_slots(b, n))
		return -ENOTSUP;
	park = park_take(z);
	for (size_t i = 0; i < n && moves; i++) {
		if (exchange_moving(z, a->pos + i, b->pos + i, &park))
			continue;
		/* Where half of it is done the rest is copied, which cannot be refused. */
		moves = i > 0;
		if (moves)
			exchange_copying(z, a->pos + i, b->pos + i);
	}
	if (park != BITMAP_NONE)
		park_put(z, park);
	if (!moves)
		return -ENOTSUP;
	set_bytes(a, b->bytes);
	set_bytes(b, a->bytes);
	return 0;
}
