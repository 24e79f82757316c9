/* SPDX-License-Identifier: MIT */
/* Counters: exact sums whoever adds where, the bound of the near value, resets, snapshots. */
#include <allod/counter.h>

#include "harness.h"
#include "percpu_fixture.h"

enum { THREADS = 4, BATCH = 32 };

static struct allod_counter counter;
static unsigned rounds;
static _Atomic(bool) done;
static _Atomic(int64_t) taken;

static void make(uint64_t batch)
{
	allod_counter_init(&counter, by_cpu, percpu_memory(), batch);
	rounds = test_count(50000, 5000000);
	done = false;
	taken = 0;
}

static void add_up(unsigned self)
{
	for (unsigned i = 0; i < rounds; i++) {
		allod_counter_add(&counter, self % 2 ? 3 : -1);
		if (i % 256 == 0)
			hop(i / 256 + self);
	}
}

static void add_five(void)
{
	allod_counter_add(&counter, 5);
	taken += 5;
}

TEST_TIMEOUT(the_sum_is_exact, 30)
{
	for (uint64_t batch = 0; batch <= BATCH; batch += BATCH) {
		make(batch);
		run_threads(THREADS, add_up, 100, add_five);
		CHECK_EQ(allod_counter_sum(&counter), (int64_t)THREADS / 2 * rounds * 2 + taken);
	}
}

TEST(the_near_value_keeps_its_bound)
{
	make(BATCH);
	CHECK_EQ(allod_counter_near(&counter), 0);
	int64_t exact = 0;
	uint64_t random = test_seed();
	for (unsigned i = 0; i < rounds; i++) {
		const int64_t value = (int64_t)(test_random(&random) % 9) - 4 + i % 2;

		allod_counter_add(&counter, value);
		exact += value;
		if (i % 512 == 0)
			hop(i / 512);
		const int64_t off = allod_counter_near(&counter) - exact;
		CHECK((uint64_t)(off < 0 ? -off : off) < allod_counter_bound(&counter));
	}
	CHECK_EQ(allod_counter_sum(&counter), exact);
	/* It is in use: not all that was added is held back. */
	allod_counter_add(&counter, 1000);
	CHECK(allod_counter_near(&counter) > exact + 1000 - 2 * BATCH * COPIES);
	CHECK(allod_counter_near(&counter) != 0);
}

TEST(without_a_batch_near_is_exact)
{
	make(0);
	allod_counter_add(&counter, 7);
	CHECK_EQ(allod_counter_near(&counter), 7);
	CHECK_EQ(allod_counter_bound(&counter), 0);
}

static void add_or_reset(unsigned self)
{
	if (self != 0) {
		for (unsigned i = 0; i < rounds; i++)
			allod_counter_add(&counter, 1);
		done = true;
		return;
	}
	bool last;
	do {
		last = done;
		const int64_t value = allod_counter_reset(&counter);

		CHECK(value >= 0);
		taken += value;
	} while (!last);
}

TEST_TIMEOUT(a_reset_takes_everything_once, 30)
{
	make(BATCH);
	run_threads(THREADS, add_or_reset, 100, NULL);
	CHECK_EQ(taken + allod_counter_sum(&counter), (int64_t)(THREADS - 1) * rounds);
	CHECK(taken > 0);
}

TEST(a_snapshot_says_where)
{
	int64_t values[COPIES + 4];
	int64_t sum = 0;

	make(BATCH);
	CHECK_EQ(allod_counter_snapshot(&counter, values, COPIES), 0);
	for (unsigned i = 0; i < 4; i++) {
		hop(i);
		allod_counter_add(&counter, 10);
	}
	allod_counter_reset(&counter);
	values[COPIES] = 1;
	const unsigned end = allod_counter_snapshot(&counter, values, COPIES + 1);
	CHECK(end > 0 && end <= COPIES);
	CHECK_EQ(values[COPIES], 0);
	for (unsigned i = 0; i < end; i++) {
		CHECK_EQ(values[i], *(uint64_t *)copy_of(counter.copies, i));
		sum += values[i];
	}
	CHECK_EQ(sum, 40);
	CHECK_EQ(allod_counter_snapshot(&counter, NULL, 0), end);
}
