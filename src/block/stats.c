/* SPDX-License-Identifier: MIT */
/*
 * What there is, counted by a walk over all that is known of granules, slots and mappings: calls
 * that allocate and free keep no accounts. While others go on it is a picture that nobody ever saw
 * at one instant, but each block in it was there.
 */
#include "piece.h"
#include "slot.h"

#include <string.h>

static void count(struct block_stats *s, enum block_kind kind, size_t bytes)
{
	s->blocks[kind]++;
	s->bytes[kind] += bytes;
}

static void count_pieces(struct block_stats *s, uint64_t word)
{
	uint32_t live = live_of(word) & begin_of(word);

	for (; live; live &= live - 1)
		count(s, BLOCK_PIECE,
			length_at(word, (unsigned)__builtin_ctz(live)) * page_bytes());
	/* Free ones that may hold something; those that wait in a cache are counted there. */
	s->waiting_bytes +=
		(size_t)__builtin_popcount(free_of(word) & ~zero_of(word)) * page_bytes();
}

static void count_units(struct block_stats *s)
{
	size_t reach = table_reach(&block_units);

	for (size_t i = 0; i < reach; i++) {
		uint64_t word = a_load_rlx(&unit_at(i)->word);
		if (unit_kind(word) == UNIT_PIECES)
			count_pieces(s, word);
		else if (unit_kind(word) == UNIT_RUN)
			count(s, BLOCK_RUN, unit_run_granules(word) << PAGE_GRANULE_SHIFT);
	}
}

static void count_slots(struct block_stats *s, struct zone *z)
{
	/* The records of all slots are there from the zone's birth on. */
	size_t limit = a_load_rlx(&z->frontier);

	for (size_t i = 0; i < limit; i++) {
		const struct slot *slot = &z->table[i];
		if (a_load_rlx(&slot->head) & SLOT_LIVE)
			count(s, BLOCK_SLOT, a_load_rlx(&slot->bytes));
	}
}

void block_stats_read(struct block_stats *ret_stats)
{
	memset(ret_stats, 0, sizeof(*ret_stats));
	count_units(ret_stats);
	for (int class = 0; class < SLOT_CLASSES; class ++) {
		struct zone *z = zone_peek((enum slot_class) class);
		if (z)
			count_slots(ret_stats, z);
	}
	loose_count(&ret_stats->blocks[BLOCK_LOOSE], &ret_stats->bytes[BLOCK_LOOSE]);
	ret_stats->waiting_bytes += block_waiting();
}
