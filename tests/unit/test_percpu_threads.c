/* SPDX-License-Identifier: MIT */
/* Several threads on one pool: elements go from thread to thread, and none is two threads'. */
#include "allod/percpu.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "harness.h"
#include "percpu/percpu.h"

enum { THREADS = 4, CPUS = 4, SLOTS = 256 };

static struct allod_percpu_pool *pool;
static _Atomic(uintptr_t) slots[SLOTS];
static unsigned rounds;
static uint64_t seed;

/* A stamp in the element that its owner alone knows. */
static void use(uint64_t *element, int cpu, uint64_t stamp)
{
	volatile uint64_t *at = allod_percpu_ptr(element, cpu);

	*at = stamp;
	for (volatile unsigned i = 0; i < 5; i++)
		;
	CHECK_EQ(*at, stamp);
}

static void *work(void *arg)
{
	uint64_t self = (uintptr_t)arg;
	uint64_t random = seed + self;

	for (unsigned i = 0; i < rounds; i++) {
		size_t bytes = 8 + test_random(&random) % 200;
		bool is_zero = test_random(&random) % 2;
		uint64_t *element = is_zero ? allod_percpu_zalloc(pool, bytes, 8)
					    : allod_percpu_alloc(pool, bytes, 8);
		int cpu = (int)(self % CPUS);

		CHECK(element);
		if (is_zero)
			CHECK_EQ(*allod_percpu_ptr(element, cpu), 0);
		use(element, cpu, self << 32 | i);
		/* The release of one thread's element to another is the exchange's. */
		uintptr_t old =
			a_xchg_acqrel(&slots[test_random(&random) % SLOTS], (uintptr_t)element);
		if (old) {
			use((uint64_t *)old, cpu, self << 32 | i);
			allod_percpu_free((void *)old);
		}
	}
	return NULL;
}

static void run(unsigned flags)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_stats stats = { .size = sizeof(stats) };
	pthread_t threads[THREADS];
	unsigned left = 0;

	options.max_cpus = CPUS;
	options.flags = flags;
	pool = allod_percpu_pool_create("threads", &options);
	rounds = test_count(20000, 1000000);
	seed = test_seed();
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, work, (void *)i), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < SLOTS; i++)
		left += a_load_rlx(&slots[i]) != 0;
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK_EQ(stats.live, left);
	CHECK_EQ(stats.allocs - stats.frees, left);
	CHECK_EQ(stats.allocs, (uint64_t)rounds * THREADS);
	for (unsigned i = 0; i < SLOTS; i++)
		allod_percpu_free((void *)a_xchg_acqrel(&slots[i], 0));
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST_TIMEOUT(elements_go_from_thread_to_thread, 60)
{
	run(0);
}

TEST_TIMEOUT(in_a_robust_pool_too, 60)
{
	run(ALLOD_PERCPU_ROBUST);
}

/* Threads whose elements share a word of the maps hinder each other at every call. */

enum { TAKERS = 3, TAKEN = 100 };

static uintptr_t taken[TAKERS][TAKEN];
static unsigned takers;
static size_t taken_bytes;
static _Atomic(unsigned) turn;

/* Each in turn takes an element, from a pool that has room for all apart. */
static void *take_in_turn(void *arg)
{
	unsigned self = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < TAKEN; i++) {
		/* Orders the calls only; pairs with the store below. */
		while (a_load_acq(&turn) != i * takers + self)
			sched_yield();
		taken[self][i] = (uintptr_t)allod_percpu_alloc(pool, taken_bytes, 0);
		a_store_rel(&turn, i * takers + self + 1);
	}
	return NULL;
}

static void take_by_threads(unsigned count, size_t bytes, size_t unit_bytes, size_t max_chunks)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	pthread_t threads[TAKERS];

	takers = count;
	taken_bytes = bytes;
	options.max_cpus = CPUS;
	options.unit_bytes = unit_bytes;
	options.max_chunks = max_chunks;
	pool = allod_percpu_pool_create("turns", &options);
	a_store_rlx(&turn, 0);
	for (uintptr_t i = 0; i < takers; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, take_in_turn, (void *)i), 0);
	for (unsigned i = 0; i < takers; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
}

/* No two threads took from the same `apart` bytes. */
static void apart_check(size_t apart)
{
	for (unsigned i = 0; i < TAKEN * takers; i++) {
		for (unsigned j = 0; j < TAKEN * takers; j++) {
			uintptr_t a = taken[i % takers][i / takers];
			uintptr_t b = taken[j % takers][j / takers];
			CHECK(a && (i % takers == j % takers || a / apart != b / apart));
		}
	}
}

TEST(threads_take_from_blocks_of_their_own)
{
	take_by_threads(TAKERS, 64, 0, 0);
	apart_check(BLOCK_BYTES);
	allod_percpu_pool_destroy(pool);
}

TEST(in_coarse_chunks_from_blocks_whose_maps_share_no_line)
{
	take_by_threads(2, 192, 0, 0);
	apart_check(COARSE_LINE_BLOCKS * BLOCK_BYTES);
	allod_percpu_pool_destroy(pool);
}

TEST(and_from_each_others_when_there_is_nothing_else)
{
	unsigned got = 0;

	/* Room for 320 elements, of which 300 are wanted and some are left at hand. */
	take_by_threads(TAKERS, 64, 5 * BLOCK_BYTES, 1);
	for (unsigned i = 0; i < TAKEN * takers; i++)
		got += taken[i % takers][i / takers] != 0;
	CHECK(got > 250);
	allod_percpu_pool_destroy(pool);
}

/* A thread that took one element and then does nothing does not hold up the others' searches. */

static _Atomic(bool) may_end;

static void *take_one(void *arg)
{
	CHECK(allod_percpu_alloc(pool, 64, 0));
	a_store_rel(&turn, 1);
	while (!a_load_rlx(&may_end))
		sched_yield();
	return arg;
}

static void *take_all(void *arg)
{
	enum { COUNT = 600000 };
	struct timespec from;
	struct timespec to;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (unsigned i = 0; i < COUNT; i++)
		CHECK(allod_percpu_alloc(pool, 64, 0));
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	*(int64_t *)arg = (to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec - from.tv_nsec;
	return NULL;
}

static int64_t time_to_take(bool is_alone)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	pthread_t idle;
	pthread_t busy;
	int64_t ns = 0;

	options.unit_bytes = (size_t)64 << 20; /* room for a million */
	pool = allod_percpu_pool_create("idle", &options);
	a_store_rlx(&turn, 0);
	a_store_rlx(&may_end, is_alone);
	CHECK_EQ(pthread_create(&idle, NULL, take_one, NULL), 0);
	if (is_alone)
		pthread_join(idle, NULL);
	while (!a_load_acq(&turn))
		sched_yield();
	CHECK_EQ(pthread_create(&busy, NULL, take_all, &ns), 0);
	pthread_join(busy, NULL);
	a_store_rlx(&may_end, true);
	if (!is_alone)
		pthread_join(idle, NULL);
	allod_percpu_pool_destroy(pool);
	return ns;
}

/* What is held up is so each time; a machine that was busy with others is not. */
TEST_TIMEOUT(an_idle_thread_does_not_hold_up_searches, 60)
{
	int64_t alone;
	int64_t beside;
	unsigned tries = 0;

	do {
		alone = time_to_take(true);
		beside = time_to_take(false);
		test_note("%lld us alone, %lld us beside an idle thread", (long long)alone / 1000,
			(long long)beside / 1000);
	} while (beside >= 5 * alone && ++tries < 5);
	CHECK(beside < 5 * alone);
}

/* What a thread's bins count of a pool that is gone is not the next pool's in its place. */
static void *use_and_wait(void *arg)
{
	for (unsigned i = 0; i < 1000; i++)
		allod_percpu_free(allod_percpu_alloc(pool, 64, 0));
	a_store_rel(&turn, 1);
	while (!a_load_rlx(&may_end))
		sched_yield();
	return arg;
}

TEST(a_new_pool_counts_its_own)
{
	struct allod_percpu_stats stats = { .size = sizeof(stats) };
	struct allod_percpu_pool *old;
	pthread_t thread;

	pool = old = allod_percpu_pool_create("old", NULL);
	CHECK_EQ(pthread_create(&thread, NULL, use_and_wait, NULL), 0);
	while (!a_load_acq(&turn))
		sched_yield();
	allod_percpu_pool_destroy(pool);
	pool = allod_percpu_pool_create("new", NULL);
	CHECK_EQ(pool, old);
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK_EQ(stats.allocs, 0);
	CHECK_EQ(stats.frees, 0);
	a_store_rlx(&may_end, true);
	pthread_join(thread, NULL);
	allod_percpu_pool_destroy(pool);
}

/* An idle thread keeps little, also of large elements that were zeroed. */
static void *zero_and_wait(void *arg)
{
	enum { COUNT = 600 };
	void *had[COUNT];

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < COUNT; i++) {
			had[i] = allod_percpu_zalloc(pool, 1024, 0);
			memset(allod_percpu_ptr(had[i], 0), 1, 1024);
		}
		for (unsigned i = 0; i < COUNT; i++)
			allod_percpu_free(had[i]);
	}
	a_store_rel(&turn, 1);
	while (!a_load_rlx(&may_end))
		sched_yield();
	return arg;
}

TEST(an_idle_thread_keeps_little)
{
	struct allod_percpu_stats stats = { .size = sizeof(stats) };
	pthread_t thread;

	pool = allod_percpu_pool_create("idle", NULL);
	CHECK_EQ(pthread_create(&thread, NULL, zero_and_wait, NULL), 0);
	while (!a_load_acq(&turn))
		sched_yield();
	allod_percpu_pool_trim(pool);
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	test_note("an idle thread keeps %llu KiB", (unsigned long long)stats.touched_bytes >> 10);
	CHECK(stats.touched_bytes <= 96 << 10);
	a_store_rlx(&may_end, true);
	pthread_join(thread, NULL);
	allod_percpu_pool_destroy(pool);
}
