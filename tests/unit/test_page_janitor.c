/* SPDX-License-Identifier: MIT */
/*
 * The janitor's end, over the mock OS: what is freed at that moment, by whom it is given back, and
 * what it must not be killed amid.
 */
#include "arena.h"
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#define SECOND_NS ((uint64_t)1000000000)
#define MIB ((size_t)1 << 20)

static struct arena *start(void)
{
	mock_reset();
	mock_clock_set(1000 * SECOND_NS);
	options.background = OPTION_BACKGROUND_AUTO;
	options.decay_ms = 500;
	CHECK_EQ(page_init(), 0);
	/* Nothing is measured, so nothing goes cold by its age. */
	a_store_rlx(&arena_get()->cost_state, 1);
	return arena_get();
}

static size_t dirty_bytes(void)
{
	struct page_stats s;

	page_stats(&s);
	return s.dirty_bytes;
}

/* Allocates and frees so many granules, so that they are dirty now. */
static void dirty(size_t granules)
{
	struct page_run run;

	CHECK_EQ(page_alloc(granules, 0, &run), 0);
	for (size_t i = 0; i < granules; i++)
		run.base[i << PAGE_GRANULE_SHIFT] = 1;
	page_free(run.base, granules);
}

/* It ended by itself, but the kernel has not done with it, so that no other can be started. */
TEST(what_is_freed_while_it_ends_goes_at_once)
{
	struct arena *a = start();
	uint32_t tid;

	dirty(200);
	tid = a_load_rlx(&a->janitor.task.tid);
	mock_task_run(&a->janitor.task, 20);
	CHECK_EQ(dirty_bytes(), 0);
	a_store_rlx(&a->janitor.task.tid, tid);
	dirty(200);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	CHECK_EQ(dirty_bytes(), 0);
	dirty(127);
	CHECK_EQ(dirty_bytes(), 127 * PAGE_GRANULE_BYTES);
	/* When it is gone there is another one. */
	a_store_rlx(&a->janitor.task.tid, 0);
	dirty(200);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 2);
	CHECK_EQ(dirty_bytes(), 200 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
}

/* It is to be killed with its thread, but does not come to run and so does not die yet. */
TEST(what_is_freed_while_it_is_being_killed_goes_at_once)
{
	struct arena *a = start();

	dirty(200);
	page_thread_exit();
	CHECK(os_task_alive(&a->janitor.task));
	/* Its round may just have begun. */
	a_store_rlx(&a->janitor.beat, purge_now(a));
	dirty(200);
	CHECK_EQ(dirty_bytes(), 0);
	/* Should its thread be stopped there, it is as if the janitor were. */
	mock_clock_advance(10 * SECOND_NS);
	dirty(200);
	CHECK_EQ(dirty_bytes(), 200 * PAGE_GRANULE_BYTES);
	for (int i = 0; i < 3; i++) {
		mock_clock_advance(SECOND_NS);
		page_tick();
	}
	CHECK_EQ(dirty_bytes(), 0);
	CHECK(page_check());
}

/* It was woken, since it did not get on, and then was killed: the next free starts another. */
TEST(a_wake_up_does_not_put_off_the_next_start)
{
	struct arena *a = start();

	dirty(200);
	a_store_rlx(&a->janitor.beat, INT64_MIN / 2);
	dirty(200);
	CHECK(a_load_rlx(&a->janitor.task.wakes) > 0);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	a_store_rlx(&a->janitor.task.tid, 0);
	dirty(200);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 2);
}

/* The end of other threads gives nothing back, whatever became of an earlier janitor. */
TEST(other_threads_end_without_a_trim)
{
	struct arena *a = start();

	dirty(200);
	page_thread_exit();
	a_store_rlx(&a->janitor.task.tid, 0);
	mock_clock_advance(10 * SECOND_NS);
	dirty(100);
	page_thread_exit();
	CHECK_EQ(dirty_bytes(), 100 * PAGE_GRANULE_BYTES);
}

/* ---- With a keeper ---- */

static size_t kept_bytes;
static bool frees_at_the_end;
static unsigned trims;
static unsigned trims_in_janitor;

static size_t warm(size_t *ret_cold)
{
	struct arena *a = arena_get();

	/* The janitor has counted what is free, for the last time as it thinks. */
	if (frees_at_the_end && page_in_janitor() && a_load_rlx(&a->janitor.beat) < 0) {
		frees_at_the_end = false;
		dirty(200);
	}
	return kept_bytes;
}

static size_t trim(unsigned severity)
{
	trims++;
	if (page_in_janitor()) {
		trims_in_janitor++;
		CHECK(a_load_rlx(&arena_get()->janitor.in_step));
	}
	return 0;
}

static const struct page_keeper keeper = { .warm = warm, .trim = trim };

TEST(what_is_freed_in_its_last_round_is_seen)
{
	struct arena *a;

	page_keeper_add(&keeper);
	frees_at_the_end = true;
	a = start();
	dirty(200);
	mock_task_run(&a->janitor.task, 20);
	CHECK(!frees_at_the_end);
	CHECK_EQ(dirty_bytes(), 0);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
}

TEST(a_thread_that_ends_gives_back_what_keepers_have)
{
	page_keeper_add(&keeper);
	(void)start();
	kept_bytes = 100 * MIB;
	page_guard(kept_bytes);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	trims = 0;
	page_thread_exit();
	CHECK_EQ(trims, 1);
}

/* Who ends waits for it, as for any step: to be killed amid it would lose what is in work. */
TEST(keepers_are_trimmed_within_a_step)
{
	struct arena *a;

	page_keeper_add(&keeper);
	a = start();
	kept_bytes = 5 * MIB;
	dirty(200);
	CHECK_EQ(page_limit_set(MIB), 0);
	a_store_rlx(&a->guard_retry, 0);
	mock_task_run(&a->janitor.task, 3);
	CHECK(trims_in_janitor > 0);
}
