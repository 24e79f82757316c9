/* SPDX-License-Identifier: MIT */
/*
 * Berths: places made ready for blocks that outgrow their slot.
 *
 * A move unmaps its destination first. Where that is a part of a larger mapping the kernel divides
 * this one at both ends, which takes about as long as hanging the page tables there. The first slot
 * of a berth is a mapping of its own already, so a move into it divides nothing; the others are the
 * room behind. It is kept apart from its surroundings by what else could only be seen in pages that
 * it never has: huge ones are forbidden in it.
 *
 * Making one costs what it saves, but not each call pays: who takes the last one, or finds none, makes
 * some for those who come next when its own block has moved. So only programs whose blocks outgrow
 * their slots have any, from the second time on. They are made of slots that are accessible and clean,
 * and out of the bitmap.
 *
 * Synchronization   berth_take() and berths_fill() beside each other, and in signal handlers
 * Linearization     the compare-and-swap of an entry of z->berths
 * Ordering          [slot.2] in docs/design/memory-orders.md
 * Progress          wait-free; who stops in berths_fill() keeps the slots of one berth
 */
#include "slot.h"

#include <errno.h>

enum {
	/* They take up no more than this part of a zone. */
	BERTHS_PART = 64,
	/* What a mapping of its own costs: slot_cost(). */
	BERTH_MAPPINGS = 2,
};

static bool has_berths(const struct zone *z)
{
	return z->class == SLOT_LARGE && z->slots / BERTHS_PART >= SLOT_BERTHS * SLOT_BERTH_SLOTS;
}

size_t berth_take(struct zone *z, size_t count)
{
	for (int i = 0; i < SLOT_BERTHS; i++) {
		uint32_t slot = a_load_rlx(&z->berths[i]);
		/* [slot.2] acq: what its maker wrote to the records; pairs with berth_put(). */
		if (!slot || !a_cas_strong_acq(&z->berths[i], &slot, 0))
			continue;
		if (count < SLOT_BERTH_SLOTS)
			zone_put(z, slot - 1 + count, SLOT_BERTH_SLOTS - count);
		return slot - 1;
	}
	return BITMAP_NONE;
}

static bool berth_put(struct zone *z, size_t pos)
{
	for (int i = 0; i < SLOT_BERTHS; i++) {
		uint32_t none = 0;
		/* [slot.2] rel: the records are written; pairs with berth_take(). */
		if (a_cas_strong_rel(&z->berths[i], &none, (uint32_t)pos + 1))
			return true;
	}
	return false;
}

/* Makes the first slot a mapping of its own. */
static bool cut_out(struct zone *z, size_t pos)
{
	int ret;

	if (page_mappings_crowded() || !page_mappings_take(BERTH_MAPPINGS))
		return false;
	ret = os_huge(slot_address(z, pos), slot_bytes(z), false);
	/* Of other refusals one of the two cuts may be left. */
	if (ret == -EINVAL)
		page_mappings_give(BERTH_MAPPINGS);
	else
		a_store_rlx(&z->table[pos].origin, SLOT_ORIGIN_ELSEWHERE);
	return !ret;
}

static bool has_any(const struct zone *z)
{
	int i = 0;

	while (i < SLOT_BERTHS && !a_load_rlx(&z->berths[i]))
		i++;
	return i < SLOT_BERTHS;
}

void berths_fill(struct zone *z)
{
	if (!has_berths(z) || has_any(z) || !a_xchg_rlx(&z->outgrown, true))
		return;
	for (int i = 0; i < SLOT_BERTHS; i++) {
		size_t pos = zone_take_clean(z, SLOT_BERTH_SLOTS);

		if (pos == BITMAP_NONE)
			return;
		if (!cut_out(z, pos) || !berth_put(z, pos)) {
			zone_put(z, pos, SLOT_BERTH_SLOTS);
			return;
		}
	}
}
