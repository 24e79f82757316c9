/* SPDX-License-Identifier: MIT */
/*
 * Runs: blocks of whole granules of the arena, 32 MiB at most. What page hands out is marked by the
 * word of its first granule; the words of the others say nothing.
 */
#include "core.h"

#include <errno.h>
#include <string.h>

/* Makes a block of granules that are ours; `room` of them, `granules` in use. */
static int run_begin(char *base, size_t granules, size_t room, const struct block_want *want)
{
	bool may_call = !(want->flags & ALLOD_PAGE_CONSTANT_TIME);
	struct unit *unit;
	/* The last, so that all of them are accessible. */
	int ret = unit_need(base + ((room - 1) << PAGE_GRANULE_SHIFT), may_call, &unit);

	if (ret)
		return ret;
	unit = unit_of(base);
	a_store_rlx(&unit->room, (uint32_t)room);
	a_store_rlx(&unit->tag, (uint16_t)(want->tag ? tag_number(want->tag) : 0));
	a_store_rlx(&unit->word,
		unit_run(UNIT_RUN, granules, want->flags | (room > granules ? KEEPS_ROOM : 0)));
	return 0;
}

/* One from a cache; NULL if there is none like it. */
static char *run_cached(size_t granules, size_t room, const struct block_want *want)
{
	char *base;

	if (room > CACHE_RUN_MOST || room != granules || want->align_bytes > PAGE_GRANULE_BYTES)
		return NULL;
	base = cache_take(cache_class_of_granules(granules));
	/* It has been a block, so its unit is accessible. */
	if (base)
		(void)run_begin(base, granules, granules, want);
	if (base)
		page_reused(base, granules);
	if (base && want->flags & ALLOD_PAGE_ZEROED)
		memset(base, 0, granules << PAGE_GRANULE_SHIFT);
	return base;
}

int run_alloc(size_t bytes, const struct block_want *want, char **ret_base)
{
	size_t granules = granules_for(bytes);
	size_t room = granules_for(want->reserve_bytes > bytes ? want->reserve_bytes : bytes);
	bool may_call = !(want->flags & ALLOD_PAGE_CONSTANT_TIME);
	struct page_run run;
	int ret;

	*ret_base = run_cached(granules, room, want);
	if (*ret_base)
		return 0;
	if (!may_call)
		ret = page_alloc_ready(room, want->align_bytes, &run);
	else if (want->flags & ALLOD_PAGE_NO_COMMIT)
		ret = page_alloc(room, want->align_bytes, &run);
	else
		ret = page_alloc_composed(room, granules, want->align_bytes, &run);
	if (ret)
		return ret;
	if (page_in_arena(run.base))
		ret = run_begin(run.base, granules, room, want);
	else
		ret = loose_begin(run.base, granules, room, want);
	if (ret) {
		page_free(run.base, room);
		return ret;
	}
	run.granules = granules;
	page_prepare(&run, want->flags & ALLOD_PAGE_ZEROED,
		may_call && !(want->flags & ALLOD_PAGE_NO_COMMIT) ? bytes : 0);
	*ret_base = run.base;
	return 0;
}

void run_drop(char *base, size_t granules)
{
	a_store_rlx(&unit_of(base)->word, unit_word(UNIT_FREED));
	page_free(base, granules);
}

void run_free_empty(struct unit *unit)
{
	size_t granules = unit_run_granules(a_load_rlx(&unit->word));
	size_t room = a_load_rlx(&unit->room);

	a_store_rlx(&unit->word, unit_word(UNIT_FREED));
	/* What lies behind the block, in its room, stayed as it was. */
	if (room > granules)
		page_shrink(unit_address(unit), room, granules);
	page_free_clean(unit_address(unit), granules);
}

bool run_free(struct unit *unit, uint64_t word, char *p)
{
	const size_t room = a_load_rlx(&unit->room);
	_Atomic(uintptr_t) *way = NULL;

	if (room <= CACHE_RUN_MOST)
		way = cache_room(cache_class_of_granules(room));
	if ((uintptr_t)p & (PAGE_GRANULE_BYTES - 1) ||
		!a_cas_strong_rlx(&unit->word, &word, unit_word(way ? UNIT_IDLE : UNIT_FREED)))
		return false;
	if (!way)
		page_free(p, room);
	else if (!cache_put(way, p))
		run_drop(p, room);
	if (page_wants_ticks())
		page_tick();
	return true;
}

/* The block is of this size now; if it was freed meanwhile, or resized, the program is wrong. */
static void word_set(struct unit *unit, uint64_t word, size_t granules)
{
	uint64_t seen = word;

	if (!a_cas_strong_rlx(&unit->word, &seen,
		    unit_run(UNIT_RUN, granules, unit_run_flags(word))))
		block_fatal(unit_address(unit));
}

/* Takes granules behind the run's own; *ret_zeroed: they read as zero. */
static bool room_grow(struct unit *unit, size_t granules, unsigned flags, bool *ret_zeroed)
{
	size_t room = a_load_rlx(&unit->room);
	char *base = unit_address(unit);
	struct unit *last;

	if (flags & ALLOD_PAGE_CONSTANT_TIME || granules > RUN_MOST_GRANULES ||
		!page_extend(base, room, granules, ret_zeroed))
		return false;
	/* All units of a run are accessible. */
	if (unit_need(base + ((granules - 1) << PAGE_GRANULE_SHIFT), true, &last)) {
		page_shrink(base, granules, room);
		return false;
	}
	a_store_rlx(&unit->room, (uint32_t)granules);
	return true;
}

static int run_grow(struct unit *unit, uint64_t word, size_t granules, unsigned flags)
{
	size_t old = unit_run_granules(word);
	size_t room = a_load_rlx(&unit->room);
	size_t dirty = (granules < room ? granules : room) - old;
	char *behind = unit_address(unit) + (old << PAGE_GRANULE_SHIFT);
	bool zeroed = true;

	if (granules > room && !room_grow(unit, granules, flags, &zeroed))
		return -ENOSPC;
	if (!zeroed)
		dirty = granules - old;
	if (flags & ALLOD_PAGE_ZEROED)
		memset(behind, 0, dirty << PAGE_GRANULE_SHIFT);
	word_set(unit, word, granules);
	return 0;
}

/* Gives the tail back: to page, or, of a block that keeps its room, to the system. */
static void run_shrink(struct unit *unit, uint64_t word, size_t granules, unsigned flags)
{
	size_t old = unit_run_granules(word);
	char *base = unit_address(unit);

	/* The size is written before the tail is let go: nobody may see it as this block's then. */
	word_set(unit, word, granules);
	if (a_load_rlx(&unit->room) == old && !(unit_run_flags(word) & KEEPS_ROOM)) {
		a_store_rlx(&unit->room, (uint32_t)granules);
		page_shrink(base, old, granules);
	} else if (!(flags & ALLOD_PAGE_CONSTANT_TIME)) {
		(void)os_decommit(base + (granules << PAGE_GRANULE_SHIFT),
			(old - granules) << PAGE_GRANULE_SHIFT);
	}
}

int run_resize(struct unit *unit, size_t bytes, unsigned flags)
{
	uint64_t word = a_load_rlx(&unit->word);
	size_t granules = granules_for(bytes);

	if (granules > unit_run_granules(word))
		return run_grow(unit, word, granules, flags);
	if (granules < unit_run_granules(word))
		run_shrink(unit, word, granules, flags);
	return 0;
}

size_t run_room(const struct unit *unit)
{
	size_t room = a_load_rlx(&unit->room);
	size_t most = RUN_MOST_GRANULES > room ? RUN_MOST_GRANULES - room : 0;

	return (room + page_room_behind(unit_address(unit), room, most)) << PAGE_GRANULE_SHIFT;
}

bool run_find(const struct unit *unit, uint64_t word, const char *p, struct block *ret_block)
{
	if (unit_kind(word) != UNIT_RUN || (uintptr_t)p & (PAGE_GRANULE_BYTES - 1))
		return false;
	*ret_block = (struct block){
		.kind = BLOCK_RUN,
		.flags = unit_run_flags(word),
		.base = unit_address(unit),
		.bytes = unit_run_granules(word) << PAGE_GRANULE_SHIFT,
		.room_bytes = (size_t)a_load_rlx(&unit->room) << PAGE_GRANULE_SHIFT,
		.id = unit_position(unit),
	};
	return true;
}

bool run_holding(const struct unit *unit, const char *p, struct block *ret_block)
{
	size_t pos = unit_position(unit);

	for (size_t back = 0; back <= pos && back < RUN_MOST_GRANULES; back++) {
		const struct unit *first = unit_at(pos - back);
		uint64_t word = a_load_rlx(&first->word);
		if (unit_kind(word) == UNIT_RUN && unit_run_granules(word) > back)
			return run_find(first, word, unit_address(first), ret_block);
	}
	return false;
}
