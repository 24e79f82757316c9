/* SPDX-License-Identifier: MIT */
/*
 * The caches of blocks under the explorer (block/cache.c): a block that was put is taken once, with
 * what was written to it, or put back into the store once.
 */
#include <string.h>

#include "core.h"
#include "explore.h"
#include "harness.h"
#include "suite.h"

enum { BLOCKS = 4, CLASS = 0, PAGE_SHIFT = 12 };

_Atomic(uint32_t) block_page_shift;

/* By block: whether anybody has it, and what belongs to who does. */
static _Atomic(uint32_t) held[BLOCKS];
static uint64_t contents[BLOCKS];

static char *address(size_t i)
{
	return (char *)((i + 1) << PAGE_SHIFT);
}

static size_t number(const char *p)
{
	return ((uintptr_t)p >> PAGE_SHIFT) - 1;
}

uint32_t page_shift_ask(void)
{
	return PAGE_SHIFT;
}

unsigned os_cpu(void)
{
	return 0;
}

void os_fatal(const char *line)
{
	explore_fail("%s", line);
}

/* The block is the caller's from here on. */
static void own(const char *p)
{
	EXPLORE_CHECK(a_xchg_rlx(&held[number(p)], 1) == 0);
	EXPLORE_CHECK(a_data_read(&contents[number(p)]) == number(p));
	a_data_write(&contents[number(p)], 100);
}

void piece_drop(char *base)
{
	own(base);
}

void run_drop(char *base, size_t granules)
{
	(void)granules;
	own(base);
}

static void put(size_t i)
{
	_Atomic(uintptr_t) *room;

	a_data_write(&contents[i], i);
	a_store_rlx(&held[i], 0);
	room = cache_room(CLASS);
	if (!room || !cache_put(room, address(i)))
		own(address(i));
}

static void take(void)
{
	char *p = cache_take(CLASS);

	if (p)
		own(p);
}

static void set_up(void)
{
	memset(contents, 0, sizeof(contents));
	for (size_t i = 0; i < BLOCKS; i++)
		a_store_rlx(&held[i], 1);
	a_store_rlx(&block_page_shift, PAGE_SHIFT);
}

static void set_up_two(void)
{
	set_up();
	put(2);
	put(3);
}

static void run_put_take(int t)
{
	put((size_t)t);
	take();
}

static void run_put_flush(int t)
{
	if (t == 0)
		put(0);
	else if (t == 1)
		(void)cache_flush(true);
	else
		take();
}

/* As the janitor does it: seen in one round, gone in the next. */
static void run_rounds(int t)
{
	if (t == 0) {
		(void)cache_flush(false);
		(void)cache_flush(false);
	} else {
		take();
		put(1);
	}
}

/* What is left is there once. */
static void finish(void)
{
	char *p;

	while ((p = cache_take(CLASS)))
		own(p);
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (explore_is_stopped(t))
			return;
	for (size_t i = 0; i < BLOCKS; i++)
		EXPLORE_CHECK(a_load_rlx(&held[i]) == 1);
}

#define CACHE_SCENARIO(run_, threads_, set_up_)                                                  \
	{                                                                                        \
		.name = #run_ "-" #set_up_, .threads = threads_, .set_up = set_up_, .run = run_, \
		.finish = finish                                                                 \
	}
static const struct explore_scenario scenarios[] = {
	CACHE_SCENARIO(run_put_take, 2, set_up),
	CACHE_SCENARIO(run_put_take, 2, set_up_two),
	CACHE_SCENARIO(run_put_flush, 3, set_up),
	CACHE_SCENARIO(run_rounds, 2, set_up_two),
};
static const struct suite suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 4000, .stale_reads = 2, .switches = 3 } };

TEST_TIMEOUT(interleavings, 60)
{
	suite_search(&suite);
}

TEST_TIMEOUT(stopped_thread_stops_nobody, 60)
{
	static const struct suite few = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
		{ .executions = 400, .newest_only = true, .switches = 2 } };

	suite_stopped(&few);
}

TEST_TIMEOUT(every_order_is_needed, 60)
{
	static const char *const exempt[] = { NULL };

	suite_weaken(&suite, "block/cache.c", exempt);
}
