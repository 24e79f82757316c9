/* SPDX-License-Identifier: MIT */
/*
 * Runs of granules: handing out, taking back, growing and shrinking where they stand.
 *
 * A search begins at the lowest place where a run of the wanted size may be, so that what is in use
 * stays dense at the front of the arena and memory behind it falls idle. Accounts are kept so that
 * they never fall below the truth: free granules count as dirty before the bitmap says that they
 * are free, and until after it says that they are not.
 */
#include "arena.h"
#include "stamp.h"

#include <errno.h>

enum {
	/* A search for warm memory looks at so many places, each within 256 MiB of the one before. */
	WARM_LOOKS = 64,
	WARM_REACH = 4096,
	/* Runs of fewer granules are searched for from a hint on, when fit.c knows no place. */
	HINTED_GRANULES = 8,
};

/* Alignments beyond go by a mapping of their own: in the arena they would leave large holes. */
#define RUN_ALIGN_MOST_BYTES ((size_t)64 << 20)

/* Runs of 1, 2, 3 to 4, and 5 to 7 granules; longer ones are searched for from the front. */
static unsigned hint_class(size_t n)
{
	static const uint8_t class[HINTED_GRANULES] = { 0, 0, 1, 2, 2, 3, 3, 3 };

	return class[n];
}

static uint32_t hint_get(const struct arena *a, size_t n, size_t align)
{
	return n < HINTED_GRANULES && align == 1 ? a_load_rlx(&a->hints[hint_class(n)]) : 0;
}

/* A run of n granules was found at pos. */
static void hint_set(struct arena *a, size_t n, size_t align, size_t pos)
{
	if (n < HINTED_GRANULES && align == 1 && pos != BITMAP_NONE)
		a_store_rlx(&a->hints[hint_class(n)], (uint32_t)pos);
}

/*
 * A run at pos is free again: searches that begin behind it begin a little before it, since it may
 * complete a run there.
 */
static void hints_lower(struct arena *a, size_t pos)
{
	/* Granules of the longest run of each class, less one. */
	static const uint8_t reaches[ARENA_HINTS] = { 0, 1, 3, 6 };

	for (unsigned k = 0; k < ARENA_HINTS; k++) {
		const size_t reach = reaches[k];
		if (a_load_rlx(&a->hints[k]) > pos)
			a_store_rlx(&a->hints[k], (uint32_t)(pos > reach ? pos - reach : 0));
	}
}

/* As run_take(), of what is free now. */
static size_t take_ready(struct arena *a, size_t n, size_t align, size_t align_offset)
{
	size_t pos = BITMAP_NONE;

	if (n >= FIT_LEAST_GRANULES && align == 1)
		pos = fit_take(a, n);
	if (pos != BITMAP_NONE || n > a->granules)
		return pos;
	pos = bitmap_take(&a->map, n, align, align_offset, hint_get(a, n, align));
	hint_set(a, n, align, pos);
	return pos;
}

size_t run_take(struct arena *a, size_t n, size_t align, size_t align_offset)
{
	size_t pos = BITMAP_NONE;

	if (n > a->granules)
		return BITMAP_NONE;
	if (n >= FIT_LEAST_GRANULES && align == 1)
		pos = fit_take(a, n);
	if (pos != BITMAP_NONE)
		return pos;
	do {
		uint64_t frontier = arena_frontier(a);
		pos = bitmap_take(&a->map, n, align, align_offset, hint_get(a, n, align));
		if (pos == BITMAP_NONE)
			pos = arena_grow(a, frontier, n, align, align_offset);
	} while (pos == ARENA_AGAIN);
	hint_set(a, n, align, pos);
	if (pos != BITMAP_NONE && n >= FIT_LEAST_GRANULES)
		fit_left(a, pos + n);
	return pos;
}

void run_note_peak(struct arena *a, uint64_t balance)
{
	uint64_t used = balance_used(balance) + a_load_rlx(&a->direct_granules);
	uint64_t peak = a_load_rlx(&a->peak);

	while (used > peak && !a_cas_weak_rlx(&a->peak, &peak, used))
		;
}

size_t run_account_take(struct arena *a, size_t pos, size_t n)
{
	size_t dirty;
	size_t cold;
	uint64_t change;

	stamps_count(a, pos, n, &dirty, &cold);
	if (cold)
		a_sub_rlx(&a->cold, cold);
	change = n - ((uint64_t)dirty << 32);
	run_note_peak(a, a_add_rlx(&a->balance, change) + change);
	if (dirty && n >= HUGE_RUN_GRANULES)
		huge_note_reuse(a, pos, n);
	return dirty;
}

void run_put(struct arena *a, size_t pos, size_t n, size_t dirty)
{
	a_add_rlx(&a->balance, ((uint64_t)dirty << 32) - n);
	if (!fit_put(a, pos, n))
		os_fatal("allod: double free\n");
	hints_lower(a, pos);
}

/* Gives granules none of which was moved in. */
static void give_plain(struct arena *a, size_t pos, size_t n)
{
	int64_t epoch = purge_now(a);
	uint16_t stamp = purge_stamp(epoch);

	stamps_set(a, pos, n, stamp);
	run_put(a, pos, n, n);
	if (__builtin_expect(guard_is_due(a), 0))
		guard_freed(a);
	if (balance_dirty(a_load_rlx(&a->balance)) >= BACKGROUND_DIRTY_GRANULES &&
		!background_fresh(a, epoch)) {
		background_poke(a, epoch);
		purge_watch(a, epoch);
	}
}

/* How many granules from pos on, of n, are like the first: all moved in, or none. */
static size_t like_first(const struct arena *a, size_t pos, size_t n)
{
	uint16_t first = stamp_get(a, pos) & STAMP_MOVED;
	size_t i = 1;

	while (i < n && (stamp_get(a, pos + i) & STAMP_MOVED) == first)
		i++;
	return i;
}

/* Gives granules that read as zero and none of which was moved in. */
static void give_zero(struct arena *a, size_t pos, size_t n)
{
	for (size_t i = 0; i < n; i++)
		stamp_set(a, pos + i, 0);
	run_put(a, pos, n, 0);
}

/* Gives granules of which some may have been moved in: those become ordinary, and read as zero. */
static __attribute__((noinline)) void give_mixed(struct arena *a, size_t pos, size_t n,
	void (*give)(struct arena *a, size_t pos, size_t n))
{
	while (n) {
		size_t run = like_first(a, pos, n);
		if (!(stamp_get(a, pos) & STAMP_MOVED))
			give(a, pos, run);
		else if (move_reset(a, pos, run))
			run_put(a, pos, run, 0);
		else
			a_add_rlx(&a->lost, run);
		pos += run;
		n -= run;
	}
}

void run_give(struct arena *a, size_t pos, size_t n)
{
	if (__builtin_expect(a_load_rlx(&a->moved) != 0, 0))
		give_mixed(a, pos, n, give_plain);
	else
		give_plain(a, pos, n);
}

void run_give_clean(struct arena *a, size_t pos, size_t n)
{
	give_mixed(a, pos, n, give_zero);
}

/* The alignment in granules. */
static size_t align_granules(size_t align_bytes)
{
	return align_bytes <= PAGE_GRANULE_BYTES ? 1 : align_bytes >> PAGE_GRANULE_SHIFT;
}

/* Tells of a run that was just taken. */
static void begin(struct arena *a, size_t pos, size_t granules, struct page_run *ret_run)
{
	size_t dirty = run_account_take(a, pos, granules);

	*ret_run = (struct page_run){
		.base = arena_address(a, pos),
		.granules = granules,
		.fresh = granules - dirty,
		.zeroed = !dirty,
	};
}

int page_alloc(size_t granules, size_t align_bytes, struct page_run *ret_run)
{
	struct arena *a = arena_need();
	size_t pos = BITMAP_NONE;

	ASSERT(granules > 0);
	ASSERT((align_bytes & (align_bytes - 1)) == 0);
	if (!a)
		return -ENOMEM;
	if (align_bytes <= RUN_ALIGN_MOST_BYTES)
		pos = run_take(a, granules, align_granules(align_bytes),
			a->base >> PAGE_GRANULE_SHIFT);
	if (pos == BITMAP_NONE)
		return page_alloc_direct(granules, align_bytes, ret_run);
	begin(a, pos, granules, ret_run);
	return 0;
}

int page_alloc_ready(size_t granules, size_t align_bytes, struct page_run *ret_run)
{
	struct arena *a = arena_get();
	size_t pos = BITMAP_NONE;

	if (a && align_bytes <= RUN_ALIGN_MOST_BYTES)
		pos = take_ready(a, granules, align_granules(align_bytes),
			a->base >> PAGE_GRANULE_SHIFT);
	if (pos == BITMAP_NONE)
		return -EAGAIN;
	begin(a, pos, granules, ret_run);
	return 0;
}

/* The granules at pos of which none is dirty: `most` at most. */
static size_t clean_at(const struct arena *a, size_t pos, size_t most)
{
	size_t i = 0;

	while (i < most && !(stamp_get(a, pos + i) & STAMP_EPOCH))
		i++;
	return i;
}

size_t page_alloc_warm(size_t granules, size_t count, struct page_run *ret_run)
{
	struct arena *a = arena_get();
	const size_t end = a ? arena_frontier(a) : 0;
	size_t from = a ? hint_get(a, granules, 1) : 0;
	bool passed = false;

	/* What is seen of granules that nobody holds is a hint: begin() looks again. */
	for (unsigned i = 0; i < WARM_LOOKS && from < end; i++) {
		const size_t limit = min_size(end, from + WARM_REACH);
		size_t run = 0;
		const size_t pos = bitmap_next_free(&a->map, from, limit, &run);
		if (pos == BITMAP_NONE) {
			from = limit;
			continue;
		}
		const size_t dirty = stamps_dirty(a, pos, min_size(run, granules * count));
		const size_t n = dirty / granules;
		if (n > 1 && bitmap_take_at(&a->map, pos, n * granules)) {
			if (!passed)
				hint_set(a, granules, 1, pos + n * granules);
			begin(a, pos, n * granules, ret_run);
			return n;
		}
		passed |= run >= granules;
		from = pos + dirty;
		from += clean_at(a, from, pos + run - from);
	}
	return 0;
}

int page_alloc_direct(size_t granules, size_t align_bytes, struct page_run *ret_run)
{
	struct arena *a = arena_need();

	return a ? direct_alloc(a, granules, align_bytes, ret_run) : -ENOMEM;
}

size_t page_used_granules(void)
{
	struct arena *a = arena_get();

	return a ? balance_used(a_load_rlx(&a->balance)) : 0;
}

void page_reused(const char *base, size_t granules)
{
	struct arena *a = arena_get();
	size_t pos;

	if (granules >= HUGE_RUN_GRANULES && arena_position(a, base, &pos))
		huge_note_reuse(a, pos, granules);
}

bool page_is_free(const void *p)
{
	struct arena *a = arena_get();
	size_t pos;

	return a && arena_position(a, p, &pos) && bitmap_is_free(&a->map, pos);
}

void page_free(char *base, size_t granules)
{
	struct arena *a = arena_get();
	size_t pos;

	ASSERT(a && granules > 0);
	ASSERT(((uintptr_t)base & (PAGE_GRANULE_BYTES - 1)) == 0);
	if (arena_position(a, base, &pos))
		run_give(a, pos, granules);
	else
		direct_free(a, base, granules);
}

void page_free_clean(char *base, size_t granules)
{
	struct arena *a = arena_get();
	size_t pos;

	if (arena_position(a, base, &pos))
		run_give_clean(a, pos, granules);
	else
		direct_free(a, base, granules);
}

/*
 * Takes [from, end), growing the arena when the range reaches beyond the frontier and is free as
 * far as that.
 */
static bool take_behind(struct arena *a, size_t from, size_t end)
{
	uint64_t frontier = arena_frontier(a);
	size_t run = 0;

	if (bitmap_take_at(&a->map, from, end - from))
		return true;
	if (end <= frontier || end > a->granules)
		return false;
	if (from < frontier &&
		(bitmap_next_free(&a->map, from, frontier, &run) != from || run != frontier - from))
		return false;
	return arena_grow_to(a, end) && bitmap_take_at(&a->map, from, end - from);
}

bool page_extend(char *base, size_t old_granules, size_t new_granules, bool *ret_zeroed)
{
	struct arena *a = arena_get();
	size_t pos;

	ASSERT(a && old_granules > 0 && new_granules > old_granules);
	if (!arena_position(a, base, &pos)) {
		if (!direct_extend(a, base, old_granules, new_granules))
			return false;
		*ret_zeroed = true;
		return true;
	}
	if (new_granules > a->granules - pos ||
		!take_behind(a, pos + old_granules, pos + new_granules))
		return false;
	*ret_zeroed = !run_account_take(a, pos + old_granules, new_granules - old_granules);
	return true;
}

size_t page_room_behind(const char *base, size_t granules, size_t most)
{
	struct arena *a = arena_get();
	size_t run = 0;
	size_t from;
	size_t end;

	if (!a || !arena_position(a, base, &from))
		return 0;
	from += granules;
	end = min_size(arena_frontier(a), from + most);
	if (from >= end || bitmap_next_free(&a->map, from, end, &run) != from)
		return 0;
	return run;
}

void page_shrink(char *base, size_t old_granules, size_t new_granules)
{
	struct arena *a = arena_get();
	size_t pos;

	ASSERT(a && new_granules > 0 && new_granules < old_granules);
	if (arena_position(a, base, &pos))
		run_give(a, pos + new_granules, old_granules - new_granules);
	else
		direct_shrink(a, base, old_granules, new_granules);
}
