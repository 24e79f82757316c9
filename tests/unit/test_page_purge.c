/* SPDX-License-Identifier: MIT */
/*
 * Giving idle memory back, over the mock OS with its virtual clock: ticks, trims and the janitor,
 * whose task the test runs itself.
 */
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <errno.h>
#include <string.h>

#define SECOND_NS ((uint64_t)1000000000)
#define MIB ((size_t)1 << 20)

/* The private state, to reach the janitor's task. */
#include "arena.h"

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

/* Allocates and frees so many granules, so that they are dirty now. */
static char *dirty(size_t granules)
{
	struct page_run run;

	CHECK_EQ(page_alloc(granules, 0, &run), 0);
	for (size_t i = 0; i < granules; i++)
		run.base[i << PAGE_GRANULE_SHIFT] = 1;
	page_free(run.base, granules);
	return run.base;
}

/* Enough ticks for a round to be finished. */
static void tick(void)
{
	for (int i = 0; i < 100; i++)
		page_tick();
}

static void start(enum option_background background, uint64_t decay_ms)
{
	mock_reset();
	mock_clock_set(1000 * SECOND_NS);
	options.background = background;
	options.decay_ms = decay_ms;
	CHECK_EQ(page_init(), 0);
	/* Nothing is measured, so nothing goes cold by its age: start_cold(). */
	a_store_rlx(&arena_get()->cost_state, 1);
}

TEST(ticks_give_back_after_the_decay)
{
	start(OPTION_BACKGROUND_OFF, 500);
	dirty(20);
	tick();
	CHECK_EQ(stats().dirty_bytes, 20 * PAGE_GRANULE_BYTES);
	mock_clock_advance(SECOND_NS / 4);
	tick();
	CHECK_EQ(stats().dirty_bytes, 20 * PAGE_GRANULE_BYTES);
	mock_clock_advance(SECOND_NS);
	tick();
	CHECK_EQ(stats().dirty_bytes, 0);
	CHECK_EQ(stats().purged_bytes, 20 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
}

/* Never before the decay, and at most two epochs late. */
static void decay_is_kept(uint64_t decay_ms)
{
	uint64_t epoch_ns;
	uint64_t at = 0;

	start(OPTION_BACKGROUND_OFF, decay_ms);
	epoch_ns = (uint64_t)1 << arena_get()->epoch_shift;
	dirty(3);
	while (stats().dirty_bytes) {
		mock_clock_advance(epoch_ns / 8);
		at += epoch_ns / 8;
		tick();
		CHECK(at < decay_ms * 1000000 + 3 * epoch_ns);
	}
	test_note("decay %ju ms: %ju ms", (uintmax_t)decay_ms, (uintmax_t)at / 1000000);
	CHECK(at >= decay_ms * 1000000);
}

TEST(decay_0)
{
	decay_is_kept(0);
}

TEST(decay_1ms)
{
	decay_is_kept(1);
}

TEST(decay_500ms)
{
	decay_is_kept(500);
}

TEST(decay_10s)
{
	decay_is_kept(10000);
}

TEST(decay_1h)
{
	decay_is_kept(3600000);
}

TEST(what_is_used_again_is_young_again)
{
	struct page_run run;

	start(OPTION_BACKGROUND_OFF, 500);
	dirty(8);
	mock_clock_advance(2 * SECOND_NS);
	CHECK_EQ(page_alloc(8, 0, &run), 0);
	page_free(run.base, 8);
	tick();
	CHECK_EQ(stats().dirty_bytes, 8 * PAGE_GRANULE_BYTES);
}

TEST(ages_wrap_without_harm)
{
	start(OPTION_BACKGROUND_OFF, 500);
	dirty(8);
	/* Far beyond what a stamp can tell: at worst it stays for one more decay. */
	mock_clock_advance(10 * 3600 * SECOND_NS);
	tick();
	mock_clock_advance(2 * SECOND_NS);
	tick();
	CHECK_EQ(stats().dirty_bytes, 0);
}

TEST(the_first_tick_after_a_pause_gives_all_back)
{
	start(OPTION_BACKGROUND_OFF, 500);
	page_tick();
	dirty(4096);
	page_tick();
	CHECK_EQ(stats().dirty_bytes, 4096 * PAGE_GRANULE_BYTES);
	mock_clock_advance(5 * SECOND_NS);
	page_tick();
	CHECK_EQ(stats().dirty_bytes, 0);
	CHECK_EQ(stats().purged_bytes, 4096 * PAGE_GRANULE_BYTES);
	/* Whatever a chunk is: no call for each granule. */
	CHECK(mock_count(OS_CALL_DECOMMIT) <= 4096 / 32 + 2);
	CHECK(page_check());
}

TEST(a_tick_of_a_busy_program_gives_little_back)
{
	size_t before;
	size_t most = 0;

	start(OPTION_BACKGROUND_OFF, 500);
	dirty(4000);
	for (int i = 0; i < 2000 && stats().dirty_bytes; i++) {
		mock_clock_advance(SECOND_NS / 1000);
		for (int j = 0; j < 10; j++) {
			before = stats().purged_bytes;
			page_tick();
			if (stats().purged_bytes - before > most)
				most = stats().purged_bytes - before;
		}
	}
	CHECK_EQ(stats().dirty_bytes, 0);
	CHECK_EQ(most, 4 * MIB);
}

/* A round that was left in the middle; then what lies before that place becomes due. */
TEST(a_tick_goes_round)
{
	struct page_run front;

	start(OPTION_BACKGROUND_OFF, 500);
	CHECK_EQ(page_alloc(100, 0, &front), 0);
	dirty(100);
	page_tick();
	/* Due only just now, and a tick was a moment ago: 4 MiB of it. */
	mock_clock_advance(SECOND_NS);
	a_store_rlx(&arena_get()->tick_ns, os_now_ns());
	page_tick();
	CHECK_EQ(stats().dirty_bytes, 36 * PAGE_GRANULE_BYTES);
	page_free(front.base, 100);
	mock_clock_advance(5 * SECOND_NS);
	page_tick();
	CHECK_EQ(stats().dirty_bytes, 0);
	CHECK(page_check());
}

TEST(short_paths_are_asked_to_tick_when_nobody_else_does)
{
	start(OPTION_BACKGROUND_OFF, 500);
	dirty(127);
	CHECK(!page_wants_ticks());
	dirty(128);
	CHECK(page_wants_ticks());
	mock_clock_advance(2 * SECOND_NS);
	page_tick();
	CHECK(!page_wants_ticks());
}

TEST(short_paths_are_not_asked_while_there_is_a_janitor)
{
	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(1024);
	CHECK(!page_wants_ticks());
	/* It is stopped, or was killed. */
	mock_clock_advance(2 * SECOND_NS);
	dirty(1);
	mock_fail_all_after(OS_CALL_TASK_START, 0);
	os_task_fork_child(&arena_get()->janitor.task);
	dirty(1024);
	mock_clock_advance(3 * SECOND_NS);
	dirty(1024);
	CHECK(page_wants_ticks());
	page_tick();
	CHECK(page_wants_ticks());
	mock_clock_advance(2 * SECOND_NS);
	page_tick();
	CHECK(!page_wants_ticks());
}

TEST(trim_gives_all_back_at_once)
{
	struct page_run keep;

	start(OPTION_BACKGROUND_OFF, 500);
	dirty(200);
	CHECK_EQ(page_alloc(5, 0, &keep), 0);
	memset(keep.base, 9, 5 << PAGE_GRANULE_SHIFT);
	CHECK_EQ(page_trim(), 195 * PAGE_GRANULE_BYTES);
	CHECK_EQ(page_trim(), 0);
	CHECK_EQ(keep.base[5 * PAGE_GRANULE_BYTES - 1], 9);
	CHECK_EQ(stats().dirty_bytes, 0);
	CHECK(page_check());
}

TEST(locked_memory_is_tried_again_after_a_decay)
{
	start(OPTION_BACKGROUND_OFF, 500);
	dirty(8);
	mock_fail_all_after(OS_CALL_DECOMMIT, 0);
	mock_clock_advance(2 * SECOND_NS);
	tick();
	tick();
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), 1);
	CHECK_EQ(stats().dirty_bytes, 8 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
	mock_clock_advance(2 * SECOND_NS);
	tick();
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), 2);
}

TEST(janitor_waits_for_8_mib)
{
	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(127);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 0);
	CHECK(!stats().background_running);
	dirty(128);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	CHECK(stats().background_running);
	dirty(300);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
}

TEST(janitor_gives_back_and_ends)
{
	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(1024);
	mock_task_run(&arena_get()->janitor.task, 3);
	CHECK_EQ(stats().dirty_bytes, 0);
	mock_task_run(&arena_get()->janitor.task, 3);
	CHECK(!stats().background_running);
	CHECK_EQ(stats().purged_bytes, 64 * MIB);
	dirty(1024);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 2);
	CHECK(page_check());
}

TEST(janitor_of_background_on_stays)
{
	start(OPTION_BACKGROUND_ON, 500);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	dirty(1);
	mock_task_run(&arena_get()->janitor.task, 20);
	CHECK_EQ(stats().dirty_bytes, 0);
}

TEST(janitor_of_background_off_is_none)
{
	start(OPTION_BACKGROUND_OFF, 500);
	dirty(1024);
	mock_clock_advance(10 * SECOND_NS);
	dirty(1024);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 0);
}

TEST(janitor_refused_is_not_asked_for_all_the_time)
{
	start(OPTION_BACKGROUND_AUTO, 500);
	mock_fail_all_after(OS_CALL_TASK_START, 0);
	for (int i = 0; i < 100; i++) {
		dirty(200);
		mock_clock_advance(SECOND_NS / 10);
	}
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	mock_clock_advance(20 * SECOND_NS);
	dirty(200);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 2);
	/* Ticks do its work. */
	mock_clock_advance(2 * SECOND_NS);
	tick();
	CHECK_EQ(stats().dirty_bytes, 0);
}

TEST(ticks_leave_the_work_to_a_janitor)
{
	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(200);
	mock_clock_advance(SECOND_NS);
	tick();
	CHECK_EQ(stats().dirty_bytes, 200 * PAGE_GRANULE_BYTES);
	/* No heartbeat for two seconds: it is stopped or gone. */
	mock_clock_advance(2 * SECOND_NS);
	tick();
	CHECK_EQ(stats().dirty_bytes, 0);
}

/* It lives, and is woken by whoever frees much, but does not go its rounds. */
TEST(ticks_give_back_while_the_janitor_is_stopped)
{
	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(2048);
	CHECK(stats().background_running);
	for (int i = 0; i < 60; i++) {
		mock_clock_advance(SECOND_NS / 20);
		dirty(200);
		tick();
	}
	CHECK(stats().background_running);
	CHECK_EQ(stats().dirty_bytes, 200 * PAGE_GRANULE_BYTES);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
}

TEST(chunk_of_a_killed_janitor_is_put_back)
{
	struct arena *a;
	size_t committed;

	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(200);
	a = arena_get();
	committed = stats().committed_bytes;
	/* As if it had been killed in the middle. */
	CHECK(bitmap_take_at(&a->map, 32, 32));
	a_store_rlx(&a->janitor.claim, (uint64_t)32 << 32 | 33);
	CHECK(!page_check());
	mock_task_run(&a->janitor.task, 0);
	CHECK(page_check());
	CHECK_EQ(a_load_rlx(&a->janitor.claim), 0);
	CHECK_EQ(stats().committed_bytes, committed);
}

TEST(trim_puts_back_what_a_killed_janitor_had)
{
	struct arena *a;

	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(200);
	a = arena_get();
	CHECK(bitmap_take_at(&a->map, 32, 32));
	a_store_rlx(&a->janitor.claim, (uint64_t)32 << 32 | 33);
	/* It lives, for all that is known. */
	CHECK_EQ(page_trim(), 168 * PAGE_GRANULE_BYTES);
	os_task_fork_child(&a->janitor.task);
	CHECK_EQ(page_trim(), 32 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
}

TEST(forked_child_puts_it_back_and_starts_its_own)
{
	struct arena *a;

	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(200);
	a = arena_get();
	CHECK(bitmap_take_at(&a->map, 32, 32));
	a_store_rlx(&a->janitor.claim, (uint64_t)32 << 32 | 33);
	page_fork_child();
	CHECK(page_check());
	CHECK(!stats().background_running);
	dirty(200);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 2);
	CHECK(stats().background_running);
}

TEST(child_that_nobody_told_does_without_a_janitor)
{
	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(200);
	/*
	 * As it is in the child of a raw clone, or of vfork: the state speaks of another process.
	 */
	a_store_rlx(&arena_get()->janitor.owner_pid, 1);
	mock_clock_advance(5 * SECOND_NS);
	dirty(200);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	CHECK_EQ(a_load_rlx(&arena_get()->janitor.owner_pid), 1);
}

TEST(thread_that_started_the_janitor_cleans_up_when_it_ends)
{
	start(OPTION_BACKGROUND_AUTO, 500);
	dirty(200);
	const void *mine = arena_get()->janitor.task.owner_mark;
	arena_get()->janitor.task.owner_mark = NULL;
	page_thread_exit();
	CHECK_EQ(stats().dirty_bytes, 200 * PAGE_GRANULE_BYTES);
	arena_get()->janitor.task.owner_mark = mine;
	page_thread_exit();
	CHECK_EQ(stats().dirty_bytes, 0);
}

/* ---- Going cold ---- */

/* What cost.c measures: before and after each part of a round, and before a round. */
static void start_cold(uint64_t decay_ms, uint64_t cold_ns, uint64_t gone_ns)
{
	static uint64_t steps[4];

	/* Looks at the clock: at the beginning; and for each round whether there is time, and three. */
	steps[0] = gone_ns;
	steps[3] = cold_ns;
	start(OPTION_BACKGROUND_OFF, decay_ms);
	a_store_rlx(&arena_get()->cost_state, 0);
	mock_fine_set(steps, 4);
}

static size_t cold(void)
{
	return stats().cold_bytes;
}

TEST(whole_chunks_go_cold_when_that_is_cheap)
{
	start_cold(8000, 1000, 10000);
	dirty(100);
	mock_clock_advance(SECOND_NS / 10);
	tick();
	CHECK_EQ(cold(), 0);
	/* A tenth of the decay. */
	mock_clock_advance(2 * SECOND_NS);
	tick();
	CHECK_EQ(cold(), 96 * PAGE_GRANULE_BYTES);
	CHECK_EQ(stats().dirty_bytes, 100 * PAGE_GRANULE_BYTES);
	/* Each chunk by one call, and two on the mapping that was measured. */
	CHECK_EQ(mock_count(OS_CALL_LAZYFREE), 3 + 2);
	CHECK(page_check());
	mock_clock_advance(8 * SECOND_NS);
	tick();
	CHECK_EQ(cold(), 0);
	CHECK_EQ(stats().dirty_bytes, 0);
	CHECK(page_check());
}

TEST(nothing_goes_cold_when_that_is_dear)
{
	start_cold(8000, 1000, 1900);
	dirty(100);
	mock_clock_advance(6 * SECOND_NS);
	tick();
	CHECK_EQ(cold(), 0);
	CHECK_EQ(stats().dirty_bytes, 100 * PAGE_GRANULE_BYTES);
}

TEST(a_short_decay_leaves_no_time_to_go_cold)
{
	start_cold(1, 1000, 10000);
	dirty(100);
	mock_clock_advance(SECOND_NS / 3);
	tick();
	CHECK_EQ(cold(), 0);
}

TEST(costs_are_measured_once)
{
	unsigned calls;

	start_cold(500, 1000, 10000);
	dirty(100);
	mock_clock_advance(SECOND_NS / 3);
	tick();
	calls = mock_count(OS_CALL_MAP);
	CHECK_EQ(a_load_rlx(&arena_get()->cost_cold_ns) + a_load_rlx(&arena_get()->cost_gone_ns),
		11000);
	dirty(100);
	mock_clock_advance(5 * SECOND_NS);
	tick();
	CHECK_EQ(mock_count(OS_CALL_MAP), calls);
}

/* A slow host: the clock passes the bound in the first round. */
TEST(measuring_ends_early_on_a_slow_host)
{
	start_cold(500, 2000000, 9000000);
	dirty(100);
	mock_clock_advance(SECOND_NS / 3);
	tick();
	CHECK(mock_count(OS_CALL_LAZYFREE) <= 1);
}

TEST(what_measuring_needs_may_fail)
{
	static const enum os_call kinds[] = { OS_CALL_MAP, OS_CALL_LAZYFREE, OS_CALL_DECOMMIT,
		OS_CALL_UNMAP, OS_CALL_HUGE };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		start_cold(8000, 1000, 10000);
		a_store_rlx(&arena_get()->cost_state, 0);
		a_store_rlx(&arena_get()->cold_epochs, 0);
		dirty(100);
		mock_fail(kinds[i], 1, EINVAL);
		mock_clock_advance(SECOND_NS / 3);
		tick();
		mock_clock_advance(20 * SECOND_NS);
		tick();
		CHECK_EQ(stats().dirty_bytes, 0);
		CHECK(page_check());
	}
}

TEST(cold_memory_is_used_again)
{
	struct page_run run;

	start(OPTION_BACKGROUND_OFF, 500);
	dirty(64);
	CHECK_EQ(page_trim_by(1), 64 * PAGE_GRANULE_BYTES);
	CHECK_EQ(cold(), 64 * PAGE_GRANULE_BYTES);
	CHECK_EQ(page_alloc(40, 0, &run), 0);
	CHECK(!run.zeroed);
	CHECK_EQ(cold(), 24 * PAGE_GRANULE_BYTES);
	memset(run.base, 7, 40 << PAGE_GRANULE_SHIFT);
	page_free(run.base, 40);
	/* It is warm again. */
	CHECK_EQ(cold(), 24 * PAGE_GRANULE_BYTES);
	CHECK_EQ(stats().dirty_bytes, 64 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
}

TEST(trim_by_severity)
{
	start(OPTION_BACKGROUND_OFF, 500);
	dirty(100);
	CHECK_EQ(page_trim_by(0), 0);
	CHECK_EQ(page_trim_by(1), 100 * PAGE_GRANULE_BYTES);
	CHECK_EQ(page_trim_by(1), 0);
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), 0);
	CHECK_EQ(stats().dirty_bytes, 100 * PAGE_GRANULE_BYTES);
	dirty(50);
	/* 50 are cold and go back; those that were used since go cold. */
	CHECK_EQ(page_trim_by(2), 100 * PAGE_GRANULE_BYTES);
	CHECK_EQ(cold(), 50 * PAGE_GRANULE_BYTES);
	CHECK_EQ(stats().dirty_bytes, 50 * PAGE_GRANULE_BYTES);
	CHECK_EQ(page_trim_by(3), 50 * PAGE_GRANULE_BYTES);
	CHECK_EQ(stats().dirty_bytes, 0);
	CHECK(page_check());
	dirty(100);
	mock_clock_advance(2 * SECOND_NS);
	CHECK_EQ(page_trim_by(0), 100 * PAGE_GRANULE_BYTES);
}

TEST(cold_refused_is_not_tried_all_the_time)
{
	start(OPTION_BACKGROUND_OFF, 500);
	dirty(100);
	mock_fail_all_after(OS_CALL_LAZYFREE, 0);
	CHECK_EQ(page_trim_by(1), 0);
	CHECK_EQ(page_trim_by(1), 0);
	CHECK(mock_count(OS_CALL_LAZYFREE) <= 4);
	CHECK(page_check());
	CHECK_EQ(page_trim_by(3), 100 * PAGE_GRANULE_BYTES);
}

/* ---- Keepers ---- */

static unsigned steps_done;
static unsigned trims_done;
static unsigned trim_severity;

static bool keeper_step(size_t *ret_waiting)
{
	*ret_waiting += 100 * MIB;
	return ++steps_done % 3 != 0;
}

static size_t keeper_warm(size_t *ret_cold)
{
	return 5 * MIB;
}

static size_t keeper_trim(unsigned severity)
{
	trims_done++;
	trim_severity = severity;
	return 7 * MIB;
}

TEST(several_keepers_have_their_part)
{
	static const struct page_keeper one = { .step = keeper_step };
	static const struct page_keeper two = { .warm = keeper_warm, .trim = keeper_trim };
	static const struct page_keeper three = { .step = keeper_step, .warm = keeper_warm };

	page_keeper_add(&one);
	page_keeper_add(&two);
	page_keeper_add(&one);
	page_keeper_add(&three);
	start(OPTION_BACKGROUND_AUTO, 500);
	CHECK_EQ(stats().kept_bytes, 10 * MIB);
	CHECK_EQ(page_trim_by(2), 7 * MIB);
	CHECK_EQ(trims_done, 1);
	CHECK_EQ(trim_severity, 2);
	dirty(200);
	/* The first round is without steps; each of two more has three steps of each. */
	mock_task_run(&arena_get()->janitor.task, 2);
	CHECK_EQ(steps_done, 12);
}
