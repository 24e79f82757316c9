/* SPDX-License-Identifier: MIT */
/*
 * Subscribers to memory pressure under the explorer: who has ended is not called, what a call sees is
 * whole, and a place is not given to another before the calls are over.
 */
#include "page/pressure.h"

#include <errno.h>
#include <string.h>

#include "arena.h"
#include "explore.h"
#include "harness.h"
#include "suite.h"

enum { FIRST = 0, SECOND = 1 };

/* What a subscriber brings along: written before it subscribes and after it has ended. */
static uint64_t belongings[2];
static _Atomic(uint32_t) ended[2];
static _Atomic(int) number;

/* The argument is the subscriber's number here. Its belongings are its own while it is called. */
static void call(void *fn, void *arg, const struct os_pressure_event *event, size_t given_bytes)
{
	const uintptr_t who = (uintptr_t)arg;

	EXPLORE_CHECK(fn == (void *)belongings);
	EXPLORE_CHECK(a_load_rlx(&ended[who]) == 0);
	EXPLORE_CHECK(a_data_read(&belongings[who]) == 7 + who);
}

static int subscribe(uintptr_t who)
{
	a_data_write(&belongings[who], 7 + who);
	return pressure_subscribe(belongings, (void *)who, 1, false);
}

/* Ends it; afterwards the belongings are the caller's again. */
static void end(uintptr_t who, int subscription)
{
	if (pressure_unsubscribe(subscription) != 0)
		return;
	a_store_rlx(&ended[who], 1);
	a_data_write(&belongings[who], 99);
}

static void deliver(void)
{
	const struct os_pressure_event event = { 2, OS_PRESSURE_LEVEL };

	(void)pressure_deliver(&event, 0, call);
}

static void set_up(void)
{
	memset(pressure_places, 0, PRESSURE_SUBSCRIBERS * sizeof(pressure_places[0]));
	memset(belongings, 0, sizeof(belongings));
	a_store_rlx(&ended[FIRST], 0);
	a_store_rlx(&ended[SECOND], 0);
	a_store_rlx(&pressure_calling, 0);
	explore_private(&pressure_calling, sizeof(pressure_calling));
	a_store_rlx(&number, subscribe(FIRST));
}

/* One ends, one calls, and one more subscribes, perhaps to the place of the first. */
static void run(int t)
{
	if (t == 0)
		end(FIRST, a_load_rlx(&number));
	else if (t == 1)
		deliver();
	else
		(void)subscribe(SECOND);
}

static void finish(void)
{
}

int os_pid(void)
{
	return 1;
}

int os_pressure_open(struct os_pressure *ret_pressure)
{
	return -EMFILE;
}

void os_pressure_close(struct os_pressure *pressure)
{
}

static const struct explore_scenario scenarios[] = {
	{ .name = "end-call", .threads = 2, .set_up = set_up, .run = run, .finish = finish },
	{ .name = "end-call-subscribe",
		.threads = 3,
		.set_up = set_up,
		.run = run,
		.finish = finish },
};
static const struct suite all = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 20000, .stale_reads = 2 } };

TEST_TIMEOUT(under_interleavings, 60)
{
	suite_search(&all);
}

TEST_TIMEOUT(with_a_thread_that_stops, 60)
{
	struct suite few = all;

	few.limits.executions = 300;
	suite_stopped(&few);
}

TEST_TIMEOUT(orders_are_needed, 60)
{
	/*
	 * They keep a new subscriber's fields behind the reads of the one before: a read that sees
	 * what is written later is none that the explorer has.
	 */
	static const char *const unnoticed[] = { "pressure_unsubscribe:a_cas_weak_acqrel>acq",
		"leave:a_cas_weak_acqrel>rel", "pressure_subscribe:a_cas_strong_acq>rlx", NULL };

	suite_weaken(&all, "page/pressure.c", unnoticed);
}
