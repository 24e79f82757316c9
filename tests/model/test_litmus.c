/* SPDX-License-Identifier: MIT */
/*
 * The modelled memory: litmus tests, each with exactly the outcomes that the model at the top of
 * explore_memory.c allows, no more and no fewer.
 */
#include <string.h>

#include "explore.h"
#include "harness.h"

static _Atomic(uint64_t) x, y;
static uint64_t saw[4];
static uint64_t data;
static unsigned outcomes; /* a bit for each number that finish() made of what was seen */

static void zero(void)
{
	x = y = 0;
	data = 0;
	memset(saw, 0, sizeof(saw));
}

/* Up to four values of 0 and 1 as one number, the first in the lowest bit. */
static void note_outcome(void)
{
	outcomes |= 1u << (saw[0] | saw[1] << 1 | saw[2] << 2 | saw[3] << 3);
}

static struct explore_result run_litmus(const char *name, int threads, void (*run)(int),
	void (*finish)(void))
{
	struct explore_scenario s = {
		.name = name, .threads = threads, .set_up = zero, .run = run, .finish = finish
	};
	struct explore_limits limits = { 0 };
	struct explore_result r;

	outcomes = 0;
	r = explore_search(&s, &limits);
	test_note("%s: %llu executions, %llu cut short, outcomes 0x%x", name,
		(unsigned long long)r.executions, (unsigned long long)r.pruned, outcomes);
	return r;
}

/* Runs it and requires exactly these outcomes. */
#define LITMUS(run, threads, wanted)                                                     \
	do {                                                                             \
		struct explore_result r_ = run_litmus(#run, threads, run, note_outcome); \
		CHECK_STR_EQ(r_.message, "");                                            \
		CHECK(r_.complete);                                                      \
		CHECK_EQ(outcomes, wanted);                                              \
	} while (0)

#define SEEN(a, b) (1u << ((a) | (b) << 1))

static void store_buffering(int t)
{
	a_store_rlx(t ? &y : &x, 1);
	saw[t] = a_load_rlx(t ? &x : &y);
}

static void store_buffering_acquire(int t)
{
	a_store_rel(t ? &y : &x, 1);
	saw[t] = a_load_acq(t ? &x : &y);
}

static void store_buffering_seq(int t)
{
	a_store_seq(t ? &y : &x, 1);
	saw[t] = a_load_seq(t ? &x : &y);
}

static void store_buffering_fence(int t)
{
	a_store_rlx(t ? &y : &x, 1);
	a_fence_seq();
	saw[t] = a_load_rlx(t ? &x : &y);
}

static void store_buffering_exchange(int t)
{
	a_xchg_acqrel(t ? &y : &x, 1);
	saw[t] = a_load_acq(t ? &x : &y);
}

TEST(store_buffering)
{
	LITMUS(store_buffering, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 0) | SEEN(1, 1));
	LITMUS(store_buffering_acquire, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 0) | SEEN(1, 1));
	LITMUS(store_buffering_exchange, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 0) | SEEN(1, 1));
	LITMUS(store_buffering_seq, 2, SEEN(0, 1) | SEEN(1, 0) | SEEN(1, 1));
	LITMUS(store_buffering_fence, 2, SEEN(0, 1) | SEEN(1, 0) | SEEN(1, 1));
}

static void load_buffering(int t)
{
	saw[t] = a_load_rlx(t ? &x : &y);
	a_store_rlx(t ? &y : &x, 1);
}

TEST(load_buffering_is_not_modelled)
{
	LITMUS(load_buffering, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 0));
}

static void message_relaxed(int t)
{
	if (t == 0) {
		a_store_rlx(&x, 1);
		a_store_rlx(&y, 1);
	} else {
		saw[0] = a_load_rlx(&y);
		saw[1] = a_load_rlx(&x);
	}
}

static void message_release(int t)
{
	if (t == 0) {
		a_store_rlx(&x, 1);
		a_store_rel(&y, 1);
	} else {
		saw[0] = a_load_acq(&y);
		saw[1] = a_load_rlx(&x);
	}
}

static void message_release_only(int t)
{
	if (t == 0) {
		a_store_rlx(&x, 1);
		a_store_rel(&y, 1);
	} else {
		saw[0] = a_load_rlx(&y);
		saw[1] = a_load_rlx(&x);
	}
}

static void message_fences(int t)
{
	if (t == 0) {
		a_store_rlx(&x, 1);
		a_fence_rel();
		a_store_rlx(&y, 1);
	} else {
		saw[0] = a_load_rlx(&y);
		a_fence_acq();
		saw[1] = a_load_rlx(&x);
	}
}

TEST(message_passing)
{
	LITMUS(message_relaxed, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 0) | SEEN(1, 1));
	LITMUS(message_release_only, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 0) | SEEN(1, 1));
	LITMUS(message_release, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 1));
	LITMUS(message_fences, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 1));
}

static void read_twice(int t)
{
	if (t == 0) {
		a_store_rlx(&x, 1);
	} else {
		saw[0] = a_load_rlx(&x);
		saw[1] = a_load_rlx(&x);
	}
}

static void write_both_ways(int t)
{
	a_store_rlx(t ? &y : &x, 1);
	a_store_rlx(t ? &x : &y, 2);
}

static void note_first_writes(void)
{
	saw[0] = x == 1;
	saw[1] = y == 1;
	note_outcome();
}

TEST(modification_order)
{
	LITMUS(read_twice, 2, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 1));
	/* Both first writes last, which no interleaving of whole operations gives. */
	CHECK(run_litmus("write_both_ways", 2, write_both_ways, note_first_writes).complete);
	CHECK_EQ(outcomes, SEEN(0, 0) | SEEN(0, 1) | SEEN(1, 0) | SEEN(1, 1));
}

static void independent_reads(int t, uint64_t (*load)(_Atomic(uint64_t) *))
{
	if (t >= 2) {
		saw[t - 2] = load(t == 2 ? &x : &y);
		saw[t] = load(t == 2 ? &y : &x);
	}
}

static uint64_t load_acq(_Atomic(uint64_t) *p)
{
	return a_load_acq(p);
}

static uint64_t load_seq(_Atomic(uint64_t) *p)
{
	return a_load_seq(p);
}

static void reads_acquire(int t)
{
	if (t < 2)
		a_store_rel(t ? &y : &x, 1);
	independent_reads(t, load_acq);
}

static void reads_seq(int t)
{
	if (t < 2)
		a_store_seq(t ? &y : &x, 1);
	independent_reads(t, load_seq);
}

TEST(independent_reads)
{
	unsigned disagree = 1u << 3; /* each saw the other's second store missing */

	LITMUS(reads_acquire, 4, 0xffff);
	LITMUS(reads_seq, 4, 0xffff & ~disagree);
}

static void causality(int t)
{
	if (t == 0)
		a_store_rlx(&x, 1);
	if (t == 1) {
		saw[0] = a_load_rlx(&x);
		a_store_rel(&y, saw[0]);
	}
	if (t == 2) {
		saw[1] = a_load_acq(&y);
		saw[2] = a_load_rlx(&x);
	}
}

/* The exchange between release and acquire carries the release on; another's store doesn't. */
static void release_sequence(int t)
{
	if (t == 0) {
		a_data_write(&data, 1);
		a_store_rel(&x, 1);
	}
	if (t == 1)
		a_add_rlx(&x, 2);
	if (t == 2 && a_load_acq(&x) & 1)
		saw[0] = a_data_read(&data);
}

/* A later plain store of the same thread carries it on, too. */
static void own_sequence(int t)
{
	if (t == 0) {
		a_data_write(&data, 1);
		a_store_rel(&x, 1);
		a_store_rlx(&x, 2);
	} else if (a_load_acq(&x) != 0) {
		saw[0] = a_data_read(&data);
	}
}

static void broken_sequence(int t)
{
	if (t == 0) {
		a_data_write(&data, 1);
		a_store_rel(&x, 1);
	}
	if (t == 1 && a_load_rlx(&x) == 1)
		a_store_rlx(&x, 3);
	if (t == 2 && a_load_acq(&x) == 3)
		saw[0] = a_data_read(&data);
}

TEST(causality)
{
	/* Who learns of x from the second thread sees x. */
	LITMUS(causality, 3, 0xff & ~(1u << 2) & ~(1u << 6) & ~(1u << 3));
	CHECK_STR_EQ(run_litmus("release_sequence", 3, release_sequence, note_outcome).message, "");
	CHECK_STR_EQ(run_litmus("own_sequence", 2, own_sequence, note_outcome).message, "");
	CHECK(strstr(run_litmus("broken_sequence", 3, broken_sequence, note_outcome).message,
		"data race"));
}

static void add_twice(int t)
{
	a_add_rlx(&x, 1);
	a_add_rlx(&x, 1);
}

static void check_sum(void)
{
	EXPLORE_CHECK(x == 4);
}

static void add_in_two_steps(int t)
{
	a_store_rlx(&x, a_load_rlx(&x) + 1);
	a_store_rlx(&x, a_load_rlx(&x) + 1);
}

TEST(read_modify_write_is_indivisible)
{
	CHECK(run_litmus("add_twice", 2, add_twice, check_sum).complete);
	CHECK(run_litmus("add_in_two_steps", 2, add_in_two_steps, check_sum).failed);
}
