/* SPDX-License-Identifier: MIT */
/*
 * The end, when what was given is no live block. A second free is told from a first one of nonsense
 * as long as the place is free; later it is the place of something else.
 */
#include "core.h"

static bool was_freed(const char *p)
{
	const struct unit *unit = unit_of(p);
	uint64_t word;

	if ((uintptr_t)p & (page_bytes() - 1))
		return false;
	if (!unit)
		return slot_was_freed(p) || loose_was_freed(p);
	word = a_load_rlx(&unit->word);
	if (unit_kind(word) == UNIT_PIECES)
		return piece_was_freed(word, p);
	if (unit_kind(word) == UNIT_IDLE)
		return !((uintptr_t)p & (PAGE_GRANULE_BYTES - 1));
	return unit_kind(word) == UNIT_FREED && page_is_free(p);
}

_Noreturn void block_fatal(const void *p)
{
	os_fatal(was_freed(p) ? "allod: double page free\n" : "allod: invalid page free\n");
}
