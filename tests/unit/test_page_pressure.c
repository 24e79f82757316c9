/* SPDX-License-Identifier: MIT */
/*
 * Memory pressure, over the mock OS: who is told, and by when no more; what the janitor does by
 * itself when tasks are stalled; and the sources' opening.
 */
#include "page/pressure.h"

#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The private state, to reach the janitor's task. */
#include "arena.h"

#define SECOND_NS ((uint64_t)1000000000)
#define MIB ((size_t)1 << 20)
/* With a decay of an hour a round is 2^37 ns long. */
#define ROUND_US 137438953u

static unsigned told[8];
static unsigned last_severity;
static int to_end; /* a subscription that is ended within its own call */
static int end_result;

static void call(void *fn, void *arg, const struct os_pressure_event *event, size_t given_bytes)
{
	CHECK_EQ(fn, (void *)told);
	CHECK_EQ(given_bytes, 5);
	told[(uintptr_t)arg]++;
	last_severity = event->severity;
	if (to_end)
		end_result = pressure_unsubscribe(to_end);
}

static unsigned deliver(unsigned severity)
{
	const struct os_pressure_event event = { severity, OS_PRESSURE_LEVEL };

	return pressure_deliver(&event, 5, call);
}

static int subscribe(uintptr_t i, unsigned severity)
{
	return pressure_subscribe(told, (void *)i, severity, false);
}

TEST(subscribers_are_told_from_their_severity_on)
{
	CHECK_EQ(deliver(3), 0);
	CHECK(subscribe(1, 1) > 0);
	CHECK(subscribe(2, 2) > 0);
	CHECK(subscribe(3, 3) > 0);
	CHECK_EQ(deliver(1), 1);
	CHECK_EQ(deliver(2), 2);
	CHECK_EQ(last_severity, 2);
	CHECK_EQ(deliver(3), 3);
	CHECK_EQ(told[1], 3);
	CHECK_EQ(told[2], 2);
	CHECK_EQ(told[3], 1);
}

TEST(who_has_ended_is_told_no_more)
{
	int first = subscribe(1, 1);
	int second = subscribe(2, 1);

	CHECK(first > 0 && second > 0 && first != second);
	CHECK_EQ(pressure_unsubscribe(first), 0);
	CHECK_EQ(deliver(1), 1);
	CHECK_EQ(told[1], 0);
	CHECK_EQ(pressure_unsubscribe(first), -ENOENT);
	/* The place is used again; the old number means nobody. */
	CHECK(subscribe(3, 1) != first);
	CHECK_EQ(pressure_unsubscribe(first), -ENOENT);
	CHECK_EQ(deliver(1), 2);
	CHECK_EQ(pressure_unsubscribe(0), -ENOENT);
	CHECK_EQ(pressure_unsubscribe(-3), -ENOENT);
	CHECK_EQ(pressure_unsubscribe(1 << 30), -ENOENT);
}

TEST(a_subscriber_ends_itself)
{
	to_end = subscribe(1, 1);
	CHECK_EQ(deliver(1), 1);
	CHECK_EQ(end_result, 0);
	CHECK_EQ(pressure_unsubscribe(to_end), -ENOENT);
	to_end = 0;
	CHECK_EQ(deliver(1), 0);
	CHECK_EQ(told[1], 1);
}

/* Threads that were calling are not in the child, so nobody is to wait for them. */
TEST(a_child_of_fork_waits_for_no_call)
{
	const int live = pressure_subscribe(told, NULL, 1, false);
	const int ending = pressure_subscribe(told, NULL, 1, false);
	const int own = pressure_subscribe(told, NULL, 1, false);

	/* As if each was being called; the last one by this thread. */
	for (int i = 0; i < 3; i++)
		a_add_rlx(&pressure_places[i].state, 1);
	CHECK_EQ(pressure_unsubscribe(ending), -EBUSY);
	a_add_rlx(&pressure_places[2].state, 1);
	a_store_rlx(&pressure_calling, 3);
	page_fork_child();
	CHECK_EQ(pressure_unsubscribe(ending), -ENOENT);
	CHECK_EQ(pressure_unsubscribe(live), 0);
	CHECK_EQ(pressure_unsubscribe(own), 0);
	a_store_rlx(&pressure_calling, 0);
	CHECK_EQ(pressure_unsubscribe(INT_MIN), -ENOENT);
}

TEST(there_is_room_for_32)
{
	int numbers[PRESSURE_SUBSCRIBERS];

	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < PRESSURE_SUBSCRIBERS; i++) {
			numbers[i] = subscribe(1, 1);
			CHECK(numbers[i] > 0);
		}
		CHECK_EQ(subscribe(1, 1), -ENOSPC);
		CHECK_EQ(deliver(1), PRESSURE_SUBSCRIBERS);
		for (int i = 0; i < PRESSURE_SUBSCRIBERS; i++)
			CHECK_EQ(pressure_unsubscribe(numbers[i]), 0);
	}
	CHECK_EQ(deliver(1), 0);
}

TEST(who_wants_a_thread_is_counted)
{
	int a = pressure_subscribe(told, NULL, 1, true);

	CHECK(subscribe(1, 1) > 0);
	CHECK_EQ(pressure_thread_wanted(), 1);
	CHECK_EQ(pressure_unsubscribe(a), 0);
	CHECK_EQ(pressure_thread_wanted(), 0);
}

TEST(sources_are_opened_once)
{
	struct os_pressure *p = NULL;
	struct os_pressure *q = NULL;
	struct os_pressure_event event;

	mock_reset();
	CHECK_EQ(pressure_sources(&p), 0);
	CHECK_EQ(pressure_sources(&q), 0);
	CHECK_EQ(p, q);
	CHECK_EQ(mock_count(OS_CALL_PRESSURE_OPEN), 1);
	CHECK(!os_pressure_wait(p, 0, &event));
	mock_pressure_set(2, OS_PRESSURE_USAGE);
	CHECK(os_pressure_wait(p, 0, &event));
	CHECK_EQ(event.severity, 2);
	CHECK_EQ(event.sources, OS_PRESSURE_USAGE);
	CHECK(!os_pressure_wait(p, 0, &event));
}

TEST(sources_that_fail_are_tried_again)
{
	struct os_pressure *p = NULL;

	mock_reset();
	mock_fail(OS_CALL_PRESSURE_OPEN, 1, EMFILE);
	CHECK_EQ(pressure_sources(&p), -EMFILE);
	CHECK_EQ(p, NULL);
	CHECK_EQ(pressure_sources(&p), 0);
}

/* ---- The janitor by itself ---- */

static char stalls[128];

static void stalled_for(unsigned some_us, unsigned full_us)
{
	snprintf(stalls, sizeof(stalls),
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=%u\n"
		"full avg10=0.00 avg60=0.00 avg300=0.00 total=%u\n",
		some_us, full_us);
	mock_file_set("/proc/pressure/memory", stalls);
}

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

/* Time passes and tasks are stalled between the janitor's rounds: by a keeper's step, that is. */
static unsigned each_some_us;
static unsigned each_full_us;
static unsigned all_some_us;
static unsigned all_full_us;

static bool stall_step(size_t *ret_waiting)
{
	all_some_us += each_some_us;
	all_full_us += each_full_us;
	stalled_for(all_some_us, all_full_us);
	return false;
}

static const struct page_keeper keeper = { .step = stall_step };

static void run_stalled(unsigned some_us, unsigned full_us)
{
	struct page_run run;

	mock_reset();
	mock_clock_set(1000 * SECOND_NS);
	options.background = OPTION_BACKGROUND_AUTO;
	options.decay_ms = 3600000;
	each_some_us = some_us;
	each_full_us = full_us;
	stalled_for(0, 0);
	page_keeper_add(&keeper);
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(arena_get()->epoch_shift, 37);
	a_store_rlx(&arena_get()->cost_state, 1);
	CHECK_EQ(page_alloc(256, 0, &run), 0);
	memset(run.base, 1, 16 * MIB);
	page_free(run.base, 256);
	mock_task_run(&arena_get()->janitor.task, 3);
	CHECK(page_check());
}

TEST(without_stalls_all_stays_warm)
{
	run_stalled(1000, 100);
	CHECK_EQ(stats().dirty_bytes, 16 * MIB);
	CHECK_EQ(stats().cold_bytes, 0);
}

TEST(some_stalls_make_it_cold)
{
	run_stalled(ROUND_US / 10, 0);
	CHECK_EQ(stats().dirty_bytes, 16 * MIB);
	CHECK_EQ(stats().cold_bytes, 16 * MIB);
}

TEST(more_stalls_drop_what_is_cold)
{
	run_stalled(ROUND_US / 4, 0);
	CHECK_EQ(stats().dirty_bytes, 0);
}

TEST(full_stalls_drop_all)
{
	run_stalled(ROUND_US / 4, ROUND_US / 5);
	CHECK_EQ(stats().dirty_bytes, 0);
}
