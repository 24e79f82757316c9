/* SPDX-License-Identifier: MIT */
/*
 * The explorer itself: that its reductions leave nothing out, that a failure replays, that bad
 * histories are told from good ones, that a thread waiting for a stopped one is found.
 */
#include <stdlib.h>
#include <string.h>

#include "explore.h"
#include "harness.h"

enum {
	PROGRAMS = 400,
	LINES = 3,
	OUTCOMES = 8192,
};

/* A random program: each thread's lines, made of small numbers. */
struct line {
	unsigned kind, location;
};

static struct line program[3][LINES];
static _Atomic(uint64_t) cells[2];
static uint64_t seen[3][LINES];

/* The set of outcomes of one search, as sums of what was seen. */
static uint64_t outcomes[OUTCOMES];
static int outcome_count;

static void reset_cells(void)
{
	cells[0] = cells[1] = 0;
	memset(seen, 0, sizeof(seen));
}

static uint64_t perform(const struct line *l, uint64_t value)
{
	_Atomic(uint64_t) *p = &cells[l->location];
	uint64_t expected = 0;

	switch (l->kind) {
	case 0: return a_load_rlx(p);
	case 1: return a_load_acq(p);
	case 2: return a_load_seq(p);
	case 3: a_store_rlx(p, value); return 0;
	case 4: a_store_rel(p, value); return 0;
	case 5: a_store_seq(p, value); return 0;
	case 6: return a_add_rlx(p, value);
	case 7: return a_xchg_acqrel(p, value);
	case 8: a_fence_seq(); return 0;
	case 9: a_fence_acqrel(); return 0;
	default: return a_cas_strong_acq(p, &expected, value) ? 99 : expected;
	}
}

static void run_program(int t)
{
	for (int i = 0; i < LINES; i++)
		seen[t][i] = perform(&program[t][i], (uint64_t)(1 << (t * LINES + i)));
}

static void note_outcome(void)
{
	uint64_t sum = cells[0] * 31 + cells[1];

	for (int t = 0; t < 3; t++)
		for (int i = 0; i < LINES; i++)
			sum = (sum ^ seen[t][i]) * 0x9e3779b97f4a7c15u + 7;
	for (int i = 0; i < outcome_count; i++)
		if (outcomes[i] == sum)
			return;
	EXPLORE_CHECK(outcome_count < OUTCOMES);
	outcomes[outcome_count++] = sum;
}

static int count_outcomes(int threads, const struct explore_limits *limits, uint64_t *ret_runs)
{
	struct explore_scenario s = { .name = "program",
		.threads = threads,
		.set_up = reset_cells,
		.run = run_program,
		.finish = note_outcome };
	struct explore_result r;

	outcome_count = 0;
	r = explore_search(&s, limits);
	CHECK_STR_EQ(r.message, "");
	*ret_runs += r.executions;
	return r.complete ? outcome_count : -1;
}

static void make_program(uint64_t *random)
{
	for (int t = 0; t < 3; t++)
		for (int i = 0; i < LINES; i++) {
			program[t][i].kind = (unsigned)(test_random(random) % 11);
			program[t][i].location = (unsigned)(test_random(random) % 2);
		}
}

static void print_program(int threads)
{
	static const char *const kinds[] = { "load_rlx", "load_acq", "load_seq", "store_rlx",
		"store_rel", "store_seq", "add_rlx", "xchg_acqrel", "fence_seq", "fence_acqrel",
		"cas_acq" };

	for (int t = 0; t < threads; t++)
		for (int i = 0; i < LINES; i++)
			test_note("thread %d: %s %u", t, kinds[program[t][i].kind],
				program[t][i].location);
}

/* Partial orders and sleep sets give the same outcomes as every interleaving. */
TEST_TIMEOUT(reduction_leaves_nothing_out, 60)
{
	struct explore_limits reduced = { 0 }, whole = { .switches = 100, .executions = 30000 };
	uint64_t random = test_seed(), reduced_runs = 0, whole_runs = 0;
	int compared = 0;

	for (int i = 0; i < PROGRAMS; i++) {
		int threads = i % 4 == 0 ? 3 : 2;
		int want, got;

		make_program(&random);
		want = count_outcomes(threads, &whole, &whole_runs);
		if (want < 0)
			continue;
		got = count_outcomes(threads, &reduced, &reduced_runs);
		if (got != want)
			print_program(threads);
		CHECK_EQ(got, want);
		compared++;
	}
	test_note("%d programs, %llu executions instead of %llu", compared,
		(unsigned long long)reduced_runs, (unsigned long long)whole_runs);
	CHECK(compared > PROGRAMS / 2);
}
