/* SPDX-License-Identifier: MIT */
/* The thread that waits for pressure: who may count on it, and when it ends. Nothing is waited for. */
#include <errno.h>

#include "allod/pressure.h"
#include "harness.h"
#include "helper.h"
#include "page/pressure.h"

static struct os_pressure no_sources;

int __wrap_pressure_sources(struct os_pressure **ret_sources);
int __wrap_pressure_sources(struct os_pressure **ret_sources)
{
	*ret_sources = &no_sources;
	return 0;
}

static void told(const struct allod_page_pressure *pressure, void *arg)
{
}

static bool refuses;
static unsigned made;
static void *(*made_run)(void *arg);
static int second;

/* While one thread is refused its helper, another one subscribes. */
bool helper_make(void *(*run)(void *arg), void *arg)
{
	if (refuses) {
		refuses = false;
		second = allod_page_pressure_subscribe(told, NULL, 1, ALLOD_PAGE_PRESSURE_THREAD);
		return false;
	}
	made++;
	made_run = run;
	return true;
}

TEST(a_thread_that_could_not_be_made_is_not_counted_on)
{
	refuses = true;
	CHECK_EQ(allod_page_pressure_subscribe(told, NULL, 1, ALLOD_PAGE_PRESSURE_THREAD), -EAGAIN);
	CHECK(second > 0);
	CHECK_EQ(made, 1);
}

/* It would wait for ever where it did. */
TEST(a_thread_that_nobody_wants_any_more_ends)
{
	const int number = allod_page_pressure_subscribe(told, NULL, 1, ALLOD_PAGE_PRESSURE_THREAD);

	CHECK(number > 0);
	CHECK_EQ(made, 1);
	CHECK_EQ(allod_page_pressure_unsubscribe(number), 0);
	CHECK(made_run(&no_sources) == NULL);
	/* The next one gets a thread again. */
	CHECK(allod_page_pressure_subscribe(told, NULL, 1, ALLOD_PAGE_PRESSURE_THREAD) > 0);
	CHECK_EQ(made, 2);
}

static unsigned wakes;
static int number;

void __wrap_os_pressure_wake(const struct os_pressure *p);
void __wrap_os_pressure_wake(const struct os_pressure *p)
{
	wakes++;
}

/* Where the thread waits the last subscription ends; and another thread dispatches. */
bool __wrap_os_pressure_wait(struct os_pressure *p, int timeout_ms,
	struct os_pressure_event *ret_event);
bool __wrap_os_pressure_wait(struct os_pressure *p, int timeout_ms,
	struct os_pressure_event *ret_event)
{
	if (timeout_ms == 0)
		return false;
	CHECK_EQ(allod_page_pressure_unsubscribe(number), 0);
	CHECK_EQ(wakes, 1);
	CHECK_EQ(allod_page_pressure_dispatch(), 0);
	CHECK_EQ(wakes, 2);
	return false;
}

TEST(who_dispatches_keeps_no_wake_up_from_the_thread)
{
	number = allod_page_pressure_subscribe(told, NULL, 1, ALLOD_PAGE_PRESSURE_THREAD);
	CHECK(number > 0);
	CHECK(made_run(&no_sources) == NULL);
	CHECK_EQ(allod_page_pressure_dispatch(), 0);
	CHECK_EQ(wakes, 2);
}
