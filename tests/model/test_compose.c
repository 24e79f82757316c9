/* SPDX-License-Identifier: MIT */
/*
 * Composing under the explorer (compose.c): chunks whose pages are moved while others take, free,
 * purge and settle the same ones. The kernel is a fake that orders nothing; it says at which pages
 * it is, and so do those who have a run.
 */
#include <string.h>

#include "fake_kernel.h"
#include "harness.h"
#include "suite.h"

enum {
	CHUNK = ARENA_CHUNK_GRANULES,
	/* Free and warm at first, behind one another; what is behind them is the runs'. */
	SOURCES = 2,
	CHUNKS = FAKE_UNIT / CHUNK,
};

/* By chunk: somebody is at its pages. */
static _Atomic(uint32_t) busy[CHUNKS];
/* Plain, so that two who have a chunk with no order between them are seen. */
static int contents[CHUNKS];

static void on_touch(size_t pos, size_t n, bool begins)
{
	for (size_t i = pos / CHUNK; i <= (pos + n - 1) / CHUNK; i++) {
		EXPLORE_CHECK(a_xchg_rlx(&busy[i], begins) == !begins);
		if (begins)
			contents[i]++;
	}
}

static void set_up(void)
{
	struct arena *a = &fake_arena;

	fake_kernel_reset(FAKE_UNIT);
	fake_may_move(on_touch);
	memset(busy, 0, sizeof(busy));
	memset(contents, 0, sizeof(contents));
	for (size_t i = 0; i < SOURCES * CHUNK; i++)
		a_store_rlx(&a->stamps[i], purge_stamp(purge_now(a) - 10));
	a_store_rlx(&a->balance, (uint64_t)(SOURCES * CHUNK) << 32 | (FAKE_UNIT - SOURCES * CHUNK));
	(void)bitmap_put(&a->map, 0, SOURCES * CHUNK);
}

/* The run of thread t, two chunks that have no pages. */
static struct page_run run_of(int t)
{
	return (struct page_run){ .base = arena_address(&fake_arena, (size_t)(10 + 4 * t) * CHUNK),
		.granules = 2 * CHUNK,
		.fresh = 2 * CHUNK };
}

/* Threads that compose: each chunk goes to one of them. */
static void run_compose(int t)
{
	struct page_run run = run_of(t);

	EXPLORE_CHECK(page_compose(&run, run.granules) == 0);
	for (size_t i = 0; i < 2; i++)
		on_touch((10 + 4 * (size_t)t + i) * CHUNK, 1, true);
	for (size_t i = 0; i < 2; i++)
		on_touch((10 + 4 * (size_t)t + i) * CHUNK, 1, false);
}

/* As run_give(), which writes stamps in a way that the explorer does not know. */
static void give(size_t chunk, size_t n)
{
	for (size_t i = chunk * CHUNK; i < (chunk + n) * CHUNK; i++)
		stamp_set(&fake_arena, i, purge_stamp(FAKE_EPOCH));
	run_put(&fake_arena, chunk * CHUNK, n * CHUNK, n * CHUNK);
}

/* One composes, and gives its run back; the other takes a source as a whole, and gives it back. */
static void run_compose_and_use(int t)
{
	struct arena *a = &fake_arena;

	if (t == 0) {
		run_compose(0);
		give(10, 2);
	} else if (bitmap_take_at(&a->map, 0, CHUNK)) {
		(void)run_account_take(a, 0, CHUNK);
		on_touch(0, CHUNK, true);
		on_touch(0, CHUNK, false);
		give(0, 1);
	}
}

static const struct purge all = { .epoch = FAKE_EPOCH };

/* One composes, and gives its run back; another purges and settles. */
static void run_compose_and_settle(int t)
{
	struct arena *a = &fake_arena;
	size_t pos = 0;

	if (t == 0) {
		run_compose(0);
		give(10, 2);
	} else {
		(void)purge_some(a, &pos, SIZE_MAX, &all);
		(void)compose_settle(a);
	}
}

static bool somebody_is_stopped(void)
{
	return explore_is_stopped(0) || explore_is_stopped(1);
}

/* The books agree, or somebody is stopped and keeps no more than it may. */
static void finish(void)
{
	struct arena *a = &fake_arena;
	const size_t free = bitmap_free_count(&a->map);
	const size_t used = balance_used(a_load_rlx(&a->balance));
	size_t dirty = 0;
	size_t chunks = 0;

	EXPLORE_CHECK(free + used <= FAKE_UNIT);
	EXPLORE_CHECK(free + used + (SOURCES + 2) * CHUNK >= FAKE_UNIT);
	if (somebody_is_stopped())
		return;
	for (size_t i = 0; i < FAKE_UNIT; i++)
		dirty += bitmap_is_free(&a->map, i) && (stamp_get(a, i) & STAMP_EPOCH);
	for (size_t i = 0; i < CHUNKS; i++)
		chunks += a_load_rlx(&a->composed[i]);
	EXPLORE_CHECK(free + used == FAKE_UNIT && bitmap_check(&a->map));
	EXPLORE_CHECK(balance_dirty(a_load_rlx(&a->balance)) == dirty);
	EXPLORE_CHECK(a_load_rlx(&a->composed_chunks) == chunks);
	EXPLORE_CHECK(fake_mappings() == 2 * chunks);
}

#define COMPOSE_SCENARIO(run_)                                                               \
	{                                                                                    \
		.name = #run_, .threads = 2, .set_up = set_up, .run = run_, .finish = finish \
	}

static const struct explore_scenario scenarios[] = {
	COMPOSE_SCENARIO(run_compose),
	COMPOSE_SCENARIO(run_compose_and_use),
	COMPOSE_SCENARIO(run_compose_and_settle),
};
static const struct suite compose_suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 4000, .stale_reads = 2, .steps = 20000 } };

TEST_TIMEOUT(composing_under_interleavings, 60)
{
	suite_search(&compose_suite);
	for (int i = 0; i < compose_suite.count; i++)
		suite_random(&scenarios[i], 1000);
}

TEST_TIMEOUT(composing_beside_a_stopped_thread, 60)
{
	struct suite few = compose_suite;

	few.limits.executions = 10;
	suite_stopped(&few);
}
