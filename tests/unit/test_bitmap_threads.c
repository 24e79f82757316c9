/* SPDX-License-Identifier: MIT */
/*
 * The bitmap under several threads. The explorer proves small cases; these run the real machine.
 * Every bit has an owner cell that its taker stamps, so a bit that two hold at once is seen.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/bitmap.h"
#include "harness.h"

enum { BITS = 2600, THREADS = 4, HELD = 24 };

static uint64_t storage[(BITS / 512 + 1) * 9 + 8] __attribute__((aligned(64)));
static struct bitmap map;
static _Atomic(uint32_t) owner[BITS];
static uint64_t data[BITS]; /* guard: whoever holds the bit */
static _Atomic(uint32_t) stop;

struct held {
	size_t pos;
	size_t n;
};

/* Marks a run as this thread's, and writes to its memory with plain stores. */
static void stamp(size_t pos, size_t n, uint32_t id)
{
	for (size_t i = pos; i < pos + n; i++) {
		CHECK_EQ(a_xchg_rlx(&owner[i], id), 0);
		data[i] += id;
	}
}

static void unstamp(size_t pos, size_t n, uint32_t id)
{
	for (size_t i = pos; i < pos + n; i++) {
		data[i] -= id;
		CHECK_EQ(data[i], 0);
		CHECK_EQ(a_xchg_rlx(&owner[i], 0), id);
	}
}

static void give(struct held *h, uint32_t id)
{
	if (!h->n)
		return;
	unstamp(h->pos, h->n, id);
	CHECK(bitmap_put(&map, h->pos, h->n));
	h->n = 0;
}

static void churn_step(struct held *h, uint32_t id, uint64_t *seed)
{
	static const size_t around[] = { 3, 8, 66, 140, 520 };
	size_t n = test_random(seed) % around[test_random(seed) % 5] + 1;
	size_t start = test_random(seed) % 3 ? 0 : test_random(seed) % BITS;
	size_t align = (size_t)1 << (test_random(seed) % 4 ? 0 : test_random(seed) % 8);

	give(h, id);
	if (test_random(seed) % 4 == 0) {
		h->pos = start + n <= BITS ? start : BITS - n;
		h->n = bitmap_take_at(&map, h->pos, n) ? n : 0;
	} else {
		h->pos = bitmap_take(&map, n, align, 0, start);
		h->n = h->pos == BITMAP_NONE ? 0 : n;
	}
	if (h->n)
		stamp(h->pos, h->n, id);
}

static void *churn(void *arg)
{
	uint32_t id = (uint32_t)(uintptr_t)arg;
	uint64_t seed = test_seed() + id;
	struct held held[HELD] = { 0 };

	for (unsigned i = 0; i < 300000; i++)
		churn_step(&held[test_random(&seed) % HELD], id, &seed);
	for (unsigned i = 0; i < HELD; i++)
		give(&held[i], id);
	return NULL;
}

static void run_threads(unsigned count, void *(*fn)(void *))
{
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < count; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, fn, (void *)(uintptr_t)(i + 1)), 0);
	for (unsigned i = 0; i < count; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

TEST_TIMEOUT(no_bit_is_held_twice_and_none_is_lost, 60)
{
	test_seed();
	bitmap_init(&map, storage, BITS);
	CHECK(bitmap_put(&map, 0, BITS));
	run_threads(THREADS, churn);
	test_note("%lu takes met another take and put bits back",
		(unsigned long)a_load_rlx(&map.rollbacks));
	CHECK_EQ(bitmap_free_count(&map), BITS);
	CHECK(bitmap_check(&map));
	CHECK_EQ(bitmap_take(&map, BITS, 1, 0, 0), 0);
}

/* The run that one thread puts and takes, and two others look for. */
static size_t run_pos, run_bits;
static _Atomic(uint32_t) pausing, paused;

/*
 * Searches for any part of the run. In vain, it lowers hints; when it finds something it puts that
 * back, which makes hints right again, so then there is nothing to see for the test.
 */
static void *look(void *arg)
{
	uint64_t seed = test_seed() + (uintptr_t)arg;
	bool in_pause = false;

	while (!a_load_rlx(&stop)) {
		bool pause = a_load_rlx(&pausing);
		if (pause != in_pause)
			a_add_acqrel(&paused, pause ? 1 : -1u);
		in_pause = pause;
		if (pause) {
			sched_yield();
			continue;
		}
		size_t n = run_bits - test_random(&seed) % run_bits % 3;
		size_t pos = bitmap_take(&map, n, 1, 0, 0);
		if (pos != BITMAP_NONE)
			CHECK(bitmap_put(&map, pos, n));
	}
	return NULL;
}

/* The others may have had part of the run; once they rest it must be found. */
static void take_in_pause(void)
{
	a_store_rlx(&pausing, 1);
	while (a_load_acq(&paused) < 2)
		sched_yield();
	CHECK_EQ(bitmap_take(&map, run_bits, 1, 0, 0), run_pos);
	CHECK(bitmap_check(&map));
	a_store_rlx(&pausing, 0);
	while (a_load_acq(&paused) > 0)
		sched_yield();
}

static void *put_and_take(void *arg)
{
	unsigned missed = 0;

	for (unsigned i = 0; i < 150000; i++) {
		CHECK(bitmap_put(&map, run_pos, run_bits));
		if (bitmap_take(&map, run_bits, 1, 0, 0) == BITMAP_NONE) {
			take_in_pause();
			if (++missed == 1000)
				break;
		}
	}
	a_store_rlx(&stop, 1);
	return arg;
}

static void *take_or_look(void *arg)
{
	return (uintptr_t)arg == 3 ? put_and_take(arg) : look(arg);
}

static void never_missed(size_t pos, size_t n)
{
	run_pos = pos;
	run_bits = n;
	test_seed();
	bitmap_init(&map, storage, BITS);
	run_threads(3, take_or_look);
	CHECK(bitmap_check(&map));
	CHECK_EQ(bitmap_free_count(&map), 0);
}

TEST_TIMEOUT(a_free_bit_is_never_missed, 60)
{
	never_missed(100, 1);
}

TEST_TIMEOUT(a_free_run_across_a_word_edge_is_never_missed, 60)
{
	never_missed(120, 20);
}

TEST_TIMEOUT(a_free_run_across_a_block_edge_is_never_missed, 60)
{
	never_missed(900, 300);
}

static _Atomic(uint32_t) refused;

static void *put_same(void *arg)
{
	if (!bitmap_put(&map, 40, 300))
		a_add_rlx(&refused, 1);
	return arg;
}

TEST(of_two_puts_of_one_run_one_is_refused)
{
	bitmap_init(&map, storage, BITS);
	for (unsigned i = 0; i < 500; i++) {
		run_threads(2, put_same);
		CHECK_EQ(a_load_rlx(&refused), i + 1);
		CHECK_EQ(bitmap_take(&map, 300, 1, 0, 0), 40);
		CHECK_EQ(bitmap_free_count(&map), 0);
	}
}
