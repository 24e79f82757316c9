/* SPDX-License-Identifier: MIT */
/*
 * What is lock-free in the per-CPU operations beside the sequences: rings and counters of a process
 * that works by atomic instructions, under the explorer. All threads work on one copy.
 */
#include <string.h>

#include <allod/counter.h>
#include <allod/percpu-ops.h>

#include "explore.h"
#include "harness.h"
#include "percpu/rseq.h"
#include "suite.h"

enum { RING_BYTES = 64, PAYLOAD_BYTES = 8, RECORD_BYTES = 16, LONG_BYTES = 24, BATCH = 4 };

/* What the rest of the layer is to them. */

unsigned char allod_percpu_active_[ALLOD_PERCPU_CPUS_MAX];

bool percpu_enter(struct allod_percpu_view view, int32_t *ret_number)
{
	return false;
}

void *percpu_atomic_copy(struct allod_percpu_view view, const void *p)
{
	return (void *)(uintptr_t)p;
}

static const struct allod_percpu_view one = { 0, ALLOD_RSEQ_CPU_ID, 1 };

/* Rings. */

static struct {
	struct allod_percpu_ring head;
	uint64_t data[RING_BYTES / 8];
} ring;

static unsigned written; /* by all threads, in finish() */
static unsigned written_by[EXPLORE_THREADS];
static unsigned read_count;
static uint64_t seen; /* a bit for each value */

static void set_up_ring_at(uint64_t at)
{
	memset(&ring, 0, sizeof ring);
	ring.head.head = at;
	ring.head.tail = at;
	memset(written_by, 0, sizeof written_by);
	written = read_count = 0;
	seen = 0;
	allod_percpu_active_[0] = 0;
}

/* Its end comes after two records. */
static void set_up_ring(void)
{
	set_up_ring_at(RING_BYTES - 2 * RECORD_BYTES);
}

/* A long record finds no room in front of the end. */
static void set_up_ring_end(void)
{
	set_up_ring_at(RING_BYTES - RECORD_BYTES);
}

static void write_record(int t, unsigned value, size_t bytes)
{
	uint64_t *record = allod_percpu_ring_reserve_in(one, &ring.head, RING_BYTES, bytes);

	if (record == NULL)
		return;
	a_data_write(record, value);
	allod_percpu_ring_commit(record, bytes);
	written_by[t]++;
}

static void look_at(const void *record, size_t bytes, void *arg)
{
	const uint64_t value = a_data_read((const uint64_t *)record);

	EXPLORE_CHECK(value >= 1 && value < 64 && !(seen >> value & 1));
	seen |= 1ULL << value;
	read_count++;
}

static void consume(void)
{
	allod_percpu_ring_consume(&ring.head, RING_BYTES, look_at, NULL);
}

static void finish_ring(void)
{
	consume();
	for (int t = 0; t < EXPLORE_THREADS; t++)
		written += written_by[t];
	EXPLORE_CHECK(read_count == written);
}

static void run_write_and_read(int t)
{
	if (t == 0) {
		consume();
		consume();
	} else {
		write_record(t, (unsigned)(2 * t), PAYLOAD_BYTES);
		write_record(t, (unsigned)(2 * t + 1), PAYLOAD_BYTES);
	}
}

static void run_write_and_read_three(int t)
{
	if (t == 0)
		consume();
	else
		write_record(t, (unsigned)t, PAYLOAD_BYTES);
}

/* More than there is room for, so that room is used again while others write. */
static void run_full(int t)
{
	if (t == 0) {
		consume();
	} else {
		for (unsigned i = 0; i < 5; i++)
			write_record(t, 8 * (unsigned)t + i, PAYLOAD_BYTES);
	}
}

static void run_long_at_the_end(int t)
{
	if (t == 0)
		consume();
	else
		write_record(t, (unsigned)t, LONG_BYTES);
}

static void run_long_at_the_end_three(int t)
{
	run_long_at_the_end(t);
}

#define RING_SCENARIO(run_, threads_, set_up_)                                      \
	{                                                                           \
		.name = #run_, .threads = threads_, .set_up = set_up_, .run = run_, \
		.finish = finish_ring                                               \
	}
static const struct explore_scenario ring_scenarios[] = {
	RING_SCENARIO(run_write_and_read, 2, set_up_ring),
	RING_SCENARIO(run_write_and_read_three, 3, set_up_ring),
	RING_SCENARIO(run_full, 2, set_up_ring),
	RING_SCENARIO(run_long_at_the_end, 2, set_up_ring_end),
	RING_SCENARIO(run_long_at_the_end_three, 3, set_up_ring_end),
};
static const struct suite rings = { ring_scenarios,
	sizeof ring_scenarios / sizeof ring_scenarios[0], { .executions = 300000 } };

TEST_TIMEOUT(rings_under_every_interleaving, 60)
{
	suite_search(&rings);
}

TEST_TIMEOUT(orders_of_rings_are_needed, 60)
{
	static const char *const exempt[] = {
		/* It orders the filler's word before plain writes there by who reserves the room
		 * next: no scenario goes so far round. ThreadSanitizer saw it in test_percpu_ops. */
		"fill_place:a_store_rel>rlx",
		NULL,
	};

	suite_weaken(&rings, "percpu/ring.c", exempt);
}

/* Counters. */

static struct allod_counter counter;
static struct allod_counter_copy copy;
static int64_t added[EXPLORE_THREADS];
static int64_t taken;
static int64_t slack;

static void set_up_counter(void)
{
	memset(&copy, 0, sizeof copy);
	memset(added, 0, sizeof added);
	taken = slack = 0;
	allod_counter_init(&counter, one, &copy, BATCH);
	allod_percpu_active_[0] = 1;
}

static void add(int t, int64_t value)
{
	allod_counter_add_slow_(&counter, value);
	added[t] += value;
}

static void finish_counter(void)
{
	int64_t all = 0;

	for (int t = 0; t < EXPLORE_THREADS; t++)
		all += added[t];
	EXPLORE_CHECK(allod_counter_sum(&counter) + taken == all);
	/* What two threads added at the same time may come on top. */
	const int64_t off = allod_counter_near(&counter) - allod_counter_sum(&counter);
	EXPLORE_CHECK(off > -BATCH - slack && off < BATCH + slack);
}

static void run_add(int t)
{
	add(t, 3);
	add(t, 2);
}

/* Up and down, so that what was read before is on the other side. */
static void run_up_and_down(int t)
{
	slack = 6;
	add(t, t == 0 ? 6 : -5);
	add(t, t == 0 ? -3 : 3);
}

static void run_add_and_reset(int t)
{
	if (t == 0) {
		taken += allod_counter_reset(&counter);
		taken += allod_counter_reset(&counter);
	} else {
		add(t, 5);
		add(t, -1);
	}
}

static const struct explore_scenario counter_scenarios[] = {
	{ .name = "run_add",
		.threads = 2,
		.set_up = set_up_counter,
		.run = run_add,
		.finish = finish_counter },
	{ .name = "run_add_three",
		.threads = 3,
		.set_up = set_up_counter,
		.run = run_add,
		.finish = finish_counter },
	{ .name = "run_up_and_down",
		.threads = 2,
		.set_up = set_up_counter,
		.run = run_up_and_down,
		.finish = finish_counter },
	{ .name = "run_add_and_reset",
		.threads = 2,
		.set_up = set_up_counter,
		.run = run_add_and_reset,
		.finish = finish_counter },
	{ .name = "run_add_and_reset_three",
		.threads = 3,
		.set_up = set_up_counter,
		.run = run_add_and_reset,
		.finish = finish_counter },
};
static const struct suite counters = { counter_scenarios,
	sizeof counter_scenarios / sizeof counter_scenarios[0], { .executions = 120000 } };

TEST_TIMEOUT(counters_under_every_interleaving, 60)
{
	suite_search(&counters);
}

TEST_TIMEOUT(orders_of_counters_are_needed, 60)
{
	suite_weaken(&counters, "percpu/counter.c", NULL);
}
