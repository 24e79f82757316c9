/* SPDX-License-Identifier: MIT */
/*
 * The lock of the per-CPU pools under the explorer: one at a time, what it guards is handed on, nobody
 * sleeps for ever, and in a forked child a lock that a thread of the parent holds is free.
 *
 * The explorer knows no waiting. So a thread that goes to sleep ends there, and has to be woken; what
 * it would do then others do, who come later. The kernel here forgets no sleeper after a time, as the
 * real one would.
 */
#include <errno.h>
#include <setjmp.h>
#include <string.h>

#include "explore.h"
#include "harness.h"
#include "os/os.h"
#include "percpu/lock.h"
#include "suite.h"

static struct percpu_lock lock;
static _Atomic(uint32_t) epoch;
static _Atomic(uint32_t) me; /* of each fiber its own */
static uint64_t guarded;
static unsigned inside;
static unsigned entered;
static bool sleeps[EXPLORE_THREADS];
static jmp_buf bed[EXPLORE_THREADS];

/* Looks and falls asleep in one step: a read-modify-write sees what is there. */
void os_wait_while(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns)
{
	const uint32_t t = a_load_rlx(&me);

	(void)ns;
	if (a_add_rlx(word, 0) != value)
		return;
	sleeps[t] = true;
	longjmp(bed[t], 1);
}

void os_wake(_Atomic(uint32_t) *word)
{
	(void)word;
	memset(sleeps, 0, sizeof(sleeps));
}

void *os_map(size_t bytes, size_t align)
{
	(void)bytes, (void)align;
	return NULL;
}

int os_wipe_on_fork(void *base, size_t bytes)
{
	(void)base, (void)bytes;
	return -EINVAL;
}

const struct os_facts *os_facts(void)
{
	static const struct os_facts facts = { .page_bytes = 4096 };

	return &facts;
}

static void set_up_at(uint32_t word, uint32_t process)
{
	guarded = 0;
	inside = entered = 0;
	memset(sleeps, 0, sizeof(sleeps));
	explore_private(&me, sizeof(me));
	explore_private(&percpu_locks_held, sizeof(percpu_locks_held));
	percpu_epoch_word = &epoch;
	a_store_rlx(&epoch, process);
	a_store_rlx(&lock.word, word);
}

static void set_up(void)
{
	set_up_at(0, 1);
}

/* A thread of the parent held it, and another waited; the child has not looked who it is. */
static void set_up_child(void)
{
	set_up_at(1 << 2 | 2, 0);
}

static void enter(void)
{
	percpu_lock(&lock);
	EXPLORE_CHECK(inside++ == 0);
	a_data_write(&guarded, a_data_read(&guarded) + 1);
	entered++;
	inside--;
	percpu_unlock(&lock);
}

static void run_once(int t)
{
	a_store_rlx(&me, (uint32_t)t);
	if (!setjmp(bed[t]))
		enter();
}

static void run_twice(int t)
{
	a_store_rlx(&me, (uint32_t)t);
	if (setjmp(bed[t]))
		return;
	enter();
	enter();
}

/* Whoever sleeps, sleeps because of somebody who is to wake them: here nobody is left. */
static void finish(void)
{
	EXPLORE_CHECK(guarded == entered && entered > 0);
	EXPLORE_CHECK((a_load_rlx(&lock.word) & 3) == 0);
	for (int t = 0; t < EXPLORE_THREADS; t++)
		EXPLORE_CHECK(!sleeps[t]);
}

static void finish_child(void)
{
	finish();
	EXPLORE_CHECK(a_load_rlx(&epoch) > 1);
	EXPLORE_CHECK(a_load_rlx(&lock.word) >> 2 == a_load_rlx(&epoch));
}

static const struct explore_scenario scenarios[] = {
	{ .name = "lock_once", .threads = 2, .set_up = set_up, .run = run_once, .finish = finish },
	{ .name = "lock_twice",
		.threads = 2,
		.set_up = set_up,
		.run = run_twice,
		.finish = finish },
	{ .name = "lock_three", .threads = 3, .set_up = set_up, .run = run_once, .finish = finish },
	{ .name = "lock_in_a_child",
		.threads = 2,
		.set_up = set_up_child,
		.run = run_once,
		.finish = finish_child },
};
static const struct suite locks = { scenarios, sizeof scenarios / sizeof scenarios[0],
	{ .executions = 100000, .steps = 400 } };

TEST_TIMEOUT(the_lock_under_every_interleaving, 60)
{
	suite_search(&locks);
}

TEST_TIMEOUT(orders_of_the_lock_are_needed, 60)
{
	suite_weaken(&locks, "percpu/lock", NULL);
}
