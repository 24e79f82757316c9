/* SPDX-License-Identifier: MIT */
/* What the layer says of itself: a snapshot for people and tools, and a check for tests. */
#include "arena.h"

#include <string.h>

void page_stats(struct page_stats *ret_stats)
{
	struct arena *a = arena_get();
	uint64_t balance;
	uint64_t skipped;
	uint64_t direct;
	uint64_t ends;
	size_t kept_cold = 0;

	memset(ret_stats, 0, sizeof(*ret_stats));
	if (!a)
		return;
	balance = a_load_rlx(&a->balance);
	direct = a_load_rlx(&a->direct_granules);
	skipped = a_load_rlx(&a->skipped);
	ends = a_load_rlx(&a->ends);
	*ret_stats = (struct page_stats){
		.arena_bytes = a->granules << PAGE_GRANULE_SHIFT,
		.reserved_bytes = (ends_reserved(ends) - skipped) << PAGE_GRANULE_SHIFT,
		.committed_bytes = (ends_frontier(ends) - skipped + direct) << PAGE_GRANULE_SHIFT,
		.metadata_bytes = a->metadata_bytes +
			((ends_frontier(ends) + a_load_rlx(&a->slots_used)) << PAGE_RECORD_SHIFT),
		.used_bytes = (balance_used(balance) + direct) << PAGE_GRANULE_SHIFT,
		.used_peak_bytes = a_load_rlx(&a->peak) << PAGE_GRANULE_SHIFT,
		.dirty_bytes = balance_dirty(balance) << PAGE_GRANULE_SHIFT,
		.cold_bytes = a_load_rlx(&a->cold) << PAGE_GRANULE_SHIFT,
		.kept_bytes = keepers_warm(&kept_cold),
		.headroom_bytes = a_load_rlx(&a->guard_room),
		.limit_bytes = page_limit(),
		.purged_bytes = a_load_rlx(&a->purged) << PAGE_GRANULE_SHIFT,
		.lost_bytes = a_load_rlx(&a->lost) << PAGE_GRANULE_SHIFT,
		.direct_bytes = direct << PAGE_GRANULE_SHIFT,
		.direct_runs = a_load_rlx(&a->direct_runs),
		.moved_runs = a_load_rlx(&a->moved),
		.move_calls = a_load_rlx(&a->move_calls),
		.composed_runs = a_load_rlx(&a->composed_runs),
		.composed_bytes = a_load_rlx(&a->composed_granules) << PAGE_GRANULE_SHIFT,
		.background_running = os_task_alive(&a->janitor.task),
	};
}

static void each_record(size_t from, size_t to, void (*fn)(void *record, void *arg), void *arg)
{
	for (size_t i = from; i < to; i++)
		fn(page_record_at((uint32_t)i), arg);
}

void page_record_each(void (*fn)(void *record, void *arg), void *arg)
{
	struct arena *a = arena_get();
	uint64_t used;

	if (!a)
		return;
	each_record(0, ends_frontier(ends_get(a)), fn, arg);
	used = a_load_rlx(&a->slots_used);
	for (size_t first = 0; first < used; first += ARENA_RECORD_STEP) {
		size_t end = first + ARENA_RECORD_STEP < used ? first + ARENA_RECORD_STEP : used;
		if (direct_slots_open(a, first))
			each_record(a->granules + first, a->granules + end, fn, arg);
	}
}

uint32_t page_record_some(uint32_t from, uint32_t count, void (*fn)(void *record, void *arg),
	void *arg)
{
	struct arena *a = arena_get();
	size_t frontier = a ? ends_frontier(ends_get(a)) : 0;
	size_t end = frontier;

	if (from >= frontier)
		return 0;
	if (count < frontier - from)
		end = from + count;
	each_record(from, end, fn, arg);
	return end < frontier ? (uint32_t)end : 0;
}

bool page_check(void)
{
	struct arena *a = arena_get();
	uint64_t balance;
	uint64_t frontier;
	uint64_t free = 0;
	uint64_t dirty = 0;
	uint64_t heads = 0;
	uint64_t cold = 0;
	uint64_t composed = 0;

	if (!a || !a->granules)
		return true;
	balance = a_load_rlx(&a->balance);
	frontier = arena_frontier(a);
	for (size_t i = 0; i < frontier; i++) {
		bool is_free = bitmap_is_free(&a->map, i);
		free += is_free;
		dirty += is_free && (stamp_get(a, i) & STAMP_EPOCH);
		cold += is_free && (stamp_get(a, i) & STAMP_COLD);
		heads += (stamp_get(a, i) & STAMP_HEAD) != 0;
	}
	for (size_t i = 0; i < frontier / ARENA_CHUNK_GRANULES; i++)
		composed += a_load_rlx(&a->composed[i]) != 0;
	return composed == a_load_rlx(&a->composed_chunks) &&
		free + balance_used(balance) + a_load_rlx(&a->skipped) == frontier &&
		free == bitmap_free_count(&a->map) && dirty == balance_dirty(balance) &&
		heads == a_load_rlx(&a->moved) && cold == a_load_rlx(&a->cold) &&
		bitmap_check(&a->map);
}
