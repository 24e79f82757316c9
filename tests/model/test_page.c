/* SPDX-License-Identifier: MIT */
/*
 * The page layer's growth under the explorer: the frontier and the reservation (grow.c, reserve.c),
 * the slots of direct runs (direct.c) and what a janitor leaves when it is killed (background.c,
 * purge.c). The kernel is a fake that orders nothing.
 */
#include <string.h>

#include "fake_kernel.h"
#include "harness.h"
#include "suite.h"

enum { RUNS = 8 };

static bool somebody_is_stopped(void)
{
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (explore_is_stopped(t))
			return true;
	return false;
}

/* What threads hold, to be looked at in the end: each its own entries. */
static struct {
	size_t pos, n;
} held[EXPLORE_THREADS][RUNS];

static void hold(int t, size_t pos, size_t n)
{
	for (int i = 0; i < RUNS; i++)
		if (!held[t][i].n) {
			held[t][i].pos = pos;
			held[t][i].n = n;
			return;
		}
	explore_fail("too many runs");
}

/* Takes a run and touches its ends; whether there was one. */
static bool take(int t, size_t n)
{
	size_t pos = run_take(&fake_arena, n, 1, 0);

	if (pos == BITMAP_NONE)
		return false;
	fake_touch(pos, 1);
	fake_touch(pos + n - 1, 1);
	hold(t, pos, n);
	return true;
}

/* Nobody's runs overlap, and what is free or held or left out is all up to the frontier. */
static void finish(void)
{
	struct arena *a = &fake_arena;
	size_t sum = balance_used(a_load_rlx(&a->balance)) + a_load_rlx(&a->skipped) +
		bitmap_free_count(&a->map);

	for (int i = 0; i < EXPLORE_THREADS * RUNS; i++) {
		size_t pos = held[i / RUNS][i % RUNS].pos;
		size_t n = held[i / RUNS][i % RUNS].n;
		EXPLORE_CHECK(n == 0 || pos + n <= arena_frontier(a));
		for (int j = 0; n && j < i; j++) {
			size_t other = held[j / RUNS][j % RUNS].pos;
			EXPLORE_CHECK(pos >= other + held[j / RUNS][j % RUNS].n ||
				pos + n <= other);
		}
		sum += n;
	}
	EXPLORE_CHECK(sum <= arena_frontier(a));
	if (!somebody_is_stopped())
		EXPLORE_CHECK(sum == arena_frontier(a) && bitmap_check(&a->map));
}

/* ---- Growth ---- */

static void set_up(size_t frontier)
{
	fake_kernel_reset(frontier);
	memset(held, 0, sizeof(held));
}

/* The last chunk of the first unit is reserved, but not accessible. */
static void set_up_chunk_left(void)
{
	set_up(FAKE_UNIT - ARENA_CHUNK_GRANULES);
}

static void set_up_full(void)
{
	set_up(FAKE_UNIT);
}

static void set_up_stranger(void)
{
	set_up(FAKE_UNIT);
	fake_stranger_granules(1);
}

static void set_up_records_ahead(void)
{
	set_up(FAKE_UNIT);
	fake_records_ahead();
}

static void set_up_stranger_records_ahead(void)
{
	set_up_stranger();
	fake_records_ahead();
}

static void set_up_stranger_below(void)
{
	set_up(FAKE_UNIT);
	fake_stranger_records(1);
}

/*
 * There is room, but who finds records mapped and not told of yet, by a thread that is slow or
 * stopped, does without the arena. One thread at least gets its run.
 */
static void run_take_one(int t)
{
	(void)take(t, 1);
}

/* The second, too large for the chunk, needs the reservation to grow. */
static void run_take_unequal(int t)
{
	(void)take(t, t == 0 ? 1 : 40);
}

/* Grows where it stands while another takes what is there. */
static void run_extend(int t)
{
	size_t frontier = FAKE_UNIT - ARENA_CHUNK_GRANULES;

	if (t == 1) {
		(void)take(t, 2);
	} else if (arena_grow_to(&fake_arena, frontier + 4) &&
		bitmap_take_at(&fake_arena.map, frontier, 4)) {
		fake_touch(frontier, 4);
		hold(t, frontier, 4);
	}
}

static void finish_some(void)
{
	bool any = somebody_is_stopped();

	finish();
	for (int t = 0; t < EXPLORE_THREADS; t++)
		any = any || held[t][0].n;
	EXPLORE_CHECK(any);
}

static void finish_none(void)
{
	finish();
	EXPLORE_CHECK(arena_frontier(&fake_arena) == FAKE_UNIT);
}

#define PAGE_SCENARIO(run_, threads_, set_up_, finish_)                                          \
	{                                                                                        \
		.name = #run_ "-" #set_up_, .threads = threads_, .set_up = set_up_, .run = run_, \
		.finish = finish_                                                                \
	}
static const struct explore_scenario growth[] = {
	PAGE_SCENARIO(run_take_one, 2, set_up_chunk_left, finish_some),
	PAGE_SCENARIO(run_take_unequal, 2, set_up_chunk_left, finish_some),
	PAGE_SCENARIO(run_extend, 2, set_up_chunk_left, finish_some),
	PAGE_SCENARIO(run_take_one, 2, set_up_full, finish_some),
	PAGE_SCENARIO(run_take_one, 3, set_up_full, finish_some),
	PAGE_SCENARIO(run_take_one, 2, set_up_stranger, finish),
	PAGE_SCENARIO(run_take_one, 2, set_up_records_ahead, finish_some),
	PAGE_SCENARIO(run_take_one, 2, set_up_stranger_records_ahead, finish),
	PAGE_SCENARIO(run_take_one, 2, set_up_stranger_below, finish_none),
};
static const struct suite growth_suite = { growth, sizeof(growth) / sizeof(growth[0]),
	{ .executions = 5000, .stale_reads = 3 } };

TEST_TIMEOUT(growth_under_interleavings, 60)
{
	suite_search(&growth_suite);
}

TEST_TIMEOUT(growth_at_random, 60)
{
	for (int i = 0; i < growth_suite.count; i++)
		suite_random(&growth[i], 2000);
}

TEST_TIMEOUT(growth_beside_a_stopped_thread, 60)
{
	struct suite few = growth_suite;

	few.limits.executions = 20;
	suite_stopped(&few);
}

static void weaken(const struct suite *suite, const char *file, const char *const *unnoticed)
{
	struct suite few = *suite;

	few.limits.executions = 500;
	suite_weaken(&few, file, unnoticed);
}

TEST_TIMEOUT(orders_of_the_frontier_are_needed, 60)
{
	weaken(&growth_suite, "page/grow.c", NULL);
	weaken(&growth_suite, "page/reserve.c", NULL);
}

/* ---- Slots of direct runs ---- */

static void set_up_slots(void)
{
	set_up(FAKE_UNIT);
}

static void set_up_slots_last(void)
{
	set_up(FAKE_UNIT);
	fake_slots_used(ARENA_RECORD_STEP - 1);
}

static void set_up_slots_stranger(void)
{
	set_up(FAKE_UNIT);
	fake_stranger_records(FAKE_UNITS);
}

static void run_direct(int t)
{
	struct page_run run;

	(void)direct_alloc(&fake_arena, 1, 0, &run);
}

static void run_direct_twice(int t)
{
	run_direct(t);
	run_direct(t);
}

static void finish_slots(void)
{
	EXPLORE_CHECK(somebody_is_stopped() || a_load_rlx(&fake_arena.direct_runs) > 0);
}

static const struct explore_scenario slots[] = {
	PAGE_SCENARIO(run_direct_twice, 2, set_up_slots, finish_slots),
	PAGE_SCENARIO(run_direct_twice, 2, set_up_slots_last, finish_slots),
	PAGE_SCENARIO(run_direct, 2, set_up_slots_stranger, finish_slots),
	PAGE_SCENARIO(run_direct, 3, set_up_slots_last, finish_slots),
};
static const struct suite slots_suite = { slots, sizeof(slots) / sizeof(slots[0]),
	{ .executions = 5000 } };

TEST_TIMEOUT(slots_under_interleavings, 60)
{
	suite_search(&slots_suite);
	for (int i = 0; i < slots_suite.count; i++)
		suite_random(&slots[i], 2000);
}

TEST_TIMEOUT(slots_beside_a_stopped_thread, 60)
{
	struct suite few = slots_suite;

	few.limits.executions = 100;
	suite_stopped(&few);
}

TEST_TIMEOUT(orders_of_the_slots_are_needed, 60)
{
	weaken(&slots_suite, "page/direct.c", NULL);
}

/* ---- What a janitor had in work ---- */

enum { DIRTY = 2 };

/* Two granules are free, and due for long. */
static void set_up_dirty(void)
{
	struct arena *a = &fake_arena;

	set_up(FAKE_UNIT);
	for (size_t i = 0; i < DIRTY; i++)
		a_store_rlx(&a->stamps[i], purge_stamp(purge_now(a) - 10));
	a_store_rlx(&a->balance, (uint64_t)DIRTY << 32 | (FAKE_UNIT - DIRTY));
	(void)bitmap_put(&a->map, 0, DIRTY);
}

static const struct purge due = { .epoch = FAKE_EPOCH, .age = 2, .is_janitor = true };

/* The janitor goes round once; the others put back what it had if it is gone, and purge. */
static void run_janitor(int t)
{
	size_t pos = 0;

	if (t == 0)
		(void)purge_some(&fake_arena, &pos, SIZE_MAX, &due);
	else if (t == 1)
		(void)page_trim();
	else
		(void)page_trim_by(1);
}

static void set_up_killed(void)
{
	set_up_dirty();
	fake_kill_janitor();
}

/* The janitor is killed with a chunk in its hands. */
static void run_killed(int t)
{
	size_t pos = 0;

	if (t == 1)
		background_recover(&fake_arena);
	else if (!setjmp(fake_killed))
		(void)purge_some(&fake_arena, &pos, SIZE_MAX, &due);
}

/* Put back once, and as dirty as it was. */
static void finish_killed(void)
{
	struct arena *a = &fake_arena;

	background_recover(a);
	EXPLORE_CHECK(somebody_is_stopped() || bitmap_free_count(&a->map) == DIRTY);
	EXPLORE_CHECK(balance_dirty(a_load_rlx(&a->balance)) == DIRTY);
}

/* And one who takes the run, and gives it back. */
static void run_janitor_and_user(int t)
{
	if (t < 2) {
		run_janitor(t);
	} else if (bitmap_take_at(&fake_arena.map, 0, DIRTY)) {
		(void)run_account_take(&fake_arena, 0, DIRTY);
		run_give(&fake_arena, 0, DIRTY);
	}
}

/* The janitor is gone, or has finished: who comes now finds all but what no claim tells of. */
static void finish_claims(void)
{
	struct arena *a = &fake_arena;
	size_t dirty = 0;
	size_t cold = 0;

	background_recover(a);
	EXPLORE_CHECK(a_load_rlx(&a->janitor.claim) == 0);
	finish();
	for (size_t i = 0; i < DIRTY; i++) {
		dirty += bitmap_is_free(&a->map, i) && (stamp_get(a, i) & STAMP_EPOCH);
		cold += bitmap_is_free(&a->map, i) && (stamp_get(a, i) & STAMP_COLD);
	}
	if (somebody_is_stopped())
		return;
	EXPLORE_CHECK(balance_dirty(a_load_rlx(&a->balance)) == dirty);
	EXPLORE_CHECK(a_load_rlx(&a->cold) == cold);
}

static const struct explore_scenario claims[] = {
	PAGE_SCENARIO(run_janitor, 2, set_up_dirty, finish_claims),
	PAGE_SCENARIO(run_janitor, 3, set_up_dirty, finish_claims),
	PAGE_SCENARIO(run_janitor_and_user, 3, set_up_dirty, finish_claims),
	PAGE_SCENARIO(run_killed, 2, set_up_killed, finish_killed),
};
static const struct suite claims_suite = { claims, sizeof(claims) / sizeof(claims[0]),
	{ .executions = 5000, .stale_reads = 3 } };

TEST_TIMEOUT(claims_under_interleavings, 60)
{
	suite_search(&claims_suite);
	for (int i = 0; i < claims_suite.count; i++)
		suite_random(&claims[i], 2000);
}

TEST_TIMEOUT(orders_of_claims_are_needed, 60)
{
	/*
	 * Each of the two covers the other here: background_recover() needs its order against the
	 * look whether the janitor lives, lest it take the next one's claim for a dead one's, and
	 * claim_recover() has callers that read the claim without.
	 */
	static const char *const unnoticed[] = { "background_recover:a_load_acq>rlx",
		"claim_recover:a_cas_strong_acq>rlx", NULL };

	weaken(&claims_suite, "page/purge.c", NULL);
	weaken(&claims_suite, "page/background.c", unnoticed);
}

TEST_TIMEOUT(claims_of_a_janitor_that_is_killed, 60)
{
	struct suite few = claims_suite;

	few.limits.executions = 300;
	suite_stopped(&few);
}
