/* SPDX-License-Identifier: MIT */
/* From an address to its block, and freeing it. */
#include "core.h"

static bool find(const char *p, bool begins, struct block *ret_block)
{
	const struct unit *unit = unit_of(p);
	uint64_t word;

	if (!unit)
		return slot_find(p, begins, ret_block) || loose_find(p, begins, ret_block);
	word = a_load_rlx(&unit->word);
	if (unit_kind(word) == UNIT_PIECES)
		return piece_find(unit, word, p, begins, ret_block);
	return begins ? run_find(unit, word, p, ret_block) : run_holding(unit, p, ret_block);
}

bool block_find(const void *block, struct block *ret_block)
{
	return !((uintptr_t)block & (page_bytes() - 1)) && find(block, true, ret_block);
}

bool block_holding(const void *p, struct block *ret_block)
{
	return find(p, false, ret_block);
}

void block_must_find(const void *block, struct block *ret_block)
{
	if (!block_find(block, ret_block))
		block_fatal(block);
}

/* What is large enough for a slot is enough to look at the bounds. */
static bool slot_free_guarded(char *p)
{
	size_t bytes;

	if (!slot_holds(p, &bytes) || !slot_free(p))
		return false;
	page_guard(bytes);
	if (page_wants_ticks())
		page_tick();
	return true;
}

static bool free_any(char *p)
{
	struct unit *unit = unit_of(p);
	uint64_t word;

	if ((uintptr_t)p & (page_bytes() - 1))
		return false;
	if (!unit)
		return slot_free_guarded(p) || loose_free(p);
	word = a_load_rlx(&unit->word);
	if (unit_kind(word) == UNIT_PIECES)
		return piece_free(unit, word, p);
	return unit_kind(word) == UNIT_RUN && run_free(unit, word, p);
}

void block_free(void *block)
{
	if (!free_any(block))
		block_fatal(block);
}
