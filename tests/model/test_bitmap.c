/* SPDX-License-Identifier: MIT */
/*
 * base/bitmap.c under the explorer. Runs are handed out once; what a run carries is seen by who
 * takes it; a take that fails did not miss a run that was free during the whole call; when all is
 * at rest no hint hides a run.
 *
 * The maps have two blocks. Only bits near the borders of words 0 and 1 and of the two blocks are
 * ever free; the others cost steps but no interleavings.
 */
#include "base/bitmap.h"

#include <string.h>

#include "explore.h"
#include "harness.h"
#include "suite.h"

enum { BITS = 2 * BITMAP_BLOCK_BITS, STORAGE_BYTES = BITS / 8 + 64, WINDOW = 16 };
enum { TAKE, TAKE_AT, PUT };

static struct bitmap map;
static _Alignas(64) unsigned char storage[STORAGE_BYTES];
static uint64_t payloads[BITS]; /* a bit's belongs to who holds the bit */
static uint64_t initially_free; /* as slots */

/* The bits that scenarios use, as 32 slots: 56 to 71 and 504 to 519. */
static unsigned slot_of(size_t bit)
{
	unsigned slot = bit < 256 ? (unsigned)(bit - 56) : (unsigned)(bit - 504 + WINDOW);

	EXPLORE_CHECK(slot < 2 * WINDOW);
	return slot;
}

static uint64_t slots_of(size_t pos, size_t n)
{
	return ((1ull << n) - 1) << slot_of(pos);
}

static void set_up_free(size_t pos, size_t n)
{
	bool done = bitmap_put(&map, pos, n);

	EXPLORE_CHECK(done);
	initially_free |= slots_of(pos, n);
}

static void set_up_none(void)
{
	memset(storage, 0, sizeof(storage));
	bitmap_init(&map, storage, BITS);
	initially_free = 0;
}

/* An argument holds a position and a number. */
static uint64_t argument(size_t pos, size_t n)
{
	return pos | (uint64_t)n << 32;
}

static void touch(size_t pos, size_t n)
{
	for (size_t i = pos; i < pos + n; i++)
		a_data_write(&payloads[i], i);
}

static size_t take(size_t n, size_t start)
{
	size_t pos;

	explore_begin(TAKE, argument(start, n));
	pos = bitmap_take(&map, n, 1, 0, start);
	if (pos != BITMAP_NONE)
		touch(pos, n);
	explore_end(pos);
	return pos;
}

static bool take_at(size_t pos, size_t n)
{
	bool done;

	explore_begin(TAKE_AT, argument(pos, n));
	done = bitmap_take_at(&map, pos, n);
	if (done)
		touch(pos, n);
	explore_end(done);
	return done;
}

static bool put(size_t pos, size_t n)
{
	bool done;

	explore_begin(PUT, argument(pos, n));
	touch(pos, n);
	done = bitmap_put(&map, pos, n);
	explore_end(done);
	return done;
}

/* ---- The specification: bits are free or not; failures are for the judge below ---- */

static void spec_init(void *state)
{
	*(uint64_t *)state = initially_free;
}

static bool spec_take(uint64_t *free, uint64_t slots)
{
	bool legal = (*free & slots) == slots;

	*free &= ~slots;
	return legal;
}

static bool spec_step(void *state, const struct explore_operation *op)
{
	size_t pos = (uint32_t)op->argument, n = op->argument >> 32;
	uint64_t *free = state, slots;

	if (op->pending) {
		/* Some bits of a put may be free; those of a take are only missed by others. */
		*free |= op->kind == PUT ? slots_of(pos, n) : 0;
		return true;
	}
	switch (op->kind) {
	case TAKE: return op->result == BITMAP_NONE || spec_take(free, slots_of(op->result, n));
	case TAKE_AT: return !op->result || spec_take(free, slots_of(pos, n));
	default:
		slots = slots_of(pos, n);
		if (!op->result)
			return (*free & slots) != 0;
		if (*free & slots)
			return false;
		*free |= slots;
		return true;
	}
}

/* The slots that a call took or may have held for a while. */
static uint64_t slots_taken(const struct explore_operation *op)
{
	size_t pos = (uint32_t)op->argument, n = op->argument >> 32;

	if (op->kind == TAKE_AT)
		return slots_of(pos, n);
	if (op->kind == TAKE && op->result != BITMAP_NONE && !op->pending)
		return slots_of(op->result, n);
	return op->kind == TAKE ? ~0ull : 0;
}

/* The slots that were surely free from the beginning of the call to its end. */
static uint64_t slots_free_throughout(const struct explore_operation *ops, int count,
	const struct explore_operation *call)
{
	uint64_t free = initially_free;

	for (int i = 0; i < count; i++) {
		const struct explore_operation *op = &ops[i];
		bool failed = op->kind == TAKE ? op->result == BITMAP_NONE : !op->result;

		if (op == call || explore_is_before(call, op))
			continue;
		if (op->kind == PUT && explore_is_before(op, call) && op->result)
			free |= slots_of((uint32_t)op->argument, op->argument >> 32);
		if (op->kind != PUT && !(failed && explore_is_before(op, call)))
			free &= ~slots_taken(op);
	}
	return free;
}

static bool has_run(uint64_t slots, size_t n)
{
	for (unsigned i = 0; i + n <= 2 * WINDOW; i++) {
		uint64_t run = ((1ull << n) - 1) << i;
		if ((slots & run) == run && (i >= WINDOW || i + n <= WINDOW))
			return true;
	}
	return false;
}

/* No call that failed may have had to succeed. Puts stand before takes of the same bits here. */
static void judge(const struct explore_operation *ops, int count)
{
	for (int i = 0; i < count; i++) {
		uint64_t free = slots_free_throughout(ops, count, &ops[i]), slots;
		size_t n = ops[i].argument >> 32;

		if (ops[i].pending)
			continue;
		if (ops[i].kind == TAKE && ops[i].result == BITMAP_NONE && has_run(free, n))
			explore_fail("a take of %zu missed a run", n);
		slots = ops[i].kind == TAKE_AT ? slots_of((uint32_t)ops[i].argument, n) : 0;
		if (slots && !ops[i].result && (free & slots) == slots)
			explore_fail("a take of %zu at %u failed", n, (uint32_t)ops[i].argument);
	}
}

/* At rest no hint hides a run, and what is free can be taken. */
static void finish(void)
{
	size_t pos, run;

	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (explore_is_stopped(t))
			return;
	EXPLORE_CHECK(bitmap_check(&map));
	while ((pos = bitmap_next_free(&map, 0, BITS, &run)) != BITMAP_NONE)
		EXPLORE_CHECK(take(run, 0) != BITMAP_NONE);
}

/* ---- Scenarios ---- */

/* A put completes a run while a search for it fails and lowers the hint. */
static void set_up_single(void)
{
	set_up_none();
	set_up_free(60, 1);
}

static void run_put_or_settle(int t)
{
	if (t == 0)
		put(61, 1);
	else
		take(2, 0);
}

/* The same with a second search in vain, so that a mark meets a mark. */
static void run_settle_twice(int t)
{
	if (t == 0)
		put(61, 1);
	if (t == 1)
		take(2, 0);
	if (t == 2)
		take(3, 0);
}

/* Two puts, of which the later may find the hint as the earlier left it. */
static void run_two_puts(int t)
{
	if (t == 0)
		put(61, 1);
	if (t == 1)
		put(63, 1);
	if (t == 2)
		take(2, 0);
}

/* A run over two words is wanted by two. */
static void set_up_pair(void)
{
	set_up_none();
	set_up_free(62, 4);
}

static void run_same_run(int t)
{
	take(4, 0);
}

/* Claims that overlap: the lower must put back what it claimed first. */
static void run_overlap(int t)
{
	take_at(t ? 64 : 62, t ? 2 : 4);
}

/* A search beside a claim that is put back. */
static void run_rollback(int t)
{
	if (t == 0)
		take_at(62, 4);
	if (t == 1) {
		take_at(64, 1);
		take(1, 60);
	}
}

static void run_rollback_three(int t)
{
	if (t < 2)
		run_rollback(t);
	else
		take(2, 0);
}

/* A bit goes from hand to hand beside changes of its neighbour in the word. */
static void run_hand_over(int t)
{
	if (t == 0)
		put(61, 1);
	if (t == 1)
		take_at(60, 1);
	if (t == 2)
		take_at(61, 1);
}

/* The same bit is put twice: one of them is told. What it carries is of no matter. */
static void run_double_put(int t)
{
	explore_begin(PUT, argument(61, 1));
	explore_end(bitmap_put(&map, 61, 1));
}

static void finish_double_put(void)
{
	EXPLORE_CHECK(bitmap_is_free(&map, 61));
	finish();
}

/* Blocks come into use in any order; a run spans both. */
static void run_blocks(int t)
{
	if (t == 0)
		put(512, 2);
	else
		put(510, 2);
	if (t == 1)
		take(4, 0);
}

/* A run spans both blocks, so both hints count. */
static void set_up_border(void)
{
	set_up_none();
	set_up_free(512, 1);
}

static void run_border(int t)
{
	if (t == 0)
		put(511, 1);
	else
		take(2, 0);
}

#define MAP_SCENARIO(run_, threads_, set_up_, finish_)                                            \
	{                                                                                         \
		.name = #run_, .threads = threads_, .set_up = set_up_, .run = run_,               \
		.finish = finish_, .spec_init = spec_init, .spec_step = spec_step, .judge = judge \
	}
static const struct explore_scenario scenarios[] = {
	MAP_SCENARIO(run_put_or_settle, 2, set_up_single, finish),
	MAP_SCENARIO(run_settle_twice, 3, set_up_single, finish),
	MAP_SCENARIO(run_two_puts, 3, set_up_single, finish),
	MAP_SCENARIO(run_same_run, 2, set_up_pair, finish),
	MAP_SCENARIO(run_overlap, 2, set_up_pair, finish),
	MAP_SCENARIO(run_rollback, 2, set_up_pair, finish),
	MAP_SCENARIO(run_rollback_three, 3, set_up_pair, finish),
	MAP_SCENARIO(run_hand_over, 3, set_up_single, finish),
	MAP_SCENARIO(run_double_put, 2, set_up_none, finish_double_put),
	MAP_SCENARIO(run_blocks, 2, set_up_none, finish),
	MAP_SCENARIO(run_border, 2, set_up_border, finish),
};
static const struct suite suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 100000 } };

TEST_TIMEOUT(every_interleaving, 60)
{
	suite_search(&suite);
}

TEST_TIMEOUT(sequentially_consistent, 60)
{
	suite_search_newest(&suite);
}

TEST_TIMEOUT(stopped_thread_stops_nobody, 60)
{
	struct suite few = suite;

	few.limits.executions = 300;
	suite_stopped(&few);
}

TEST_TIMEOUT(every_order_is_needed, 60)
{
	/*
	 * What [bitmap.3] orders makes a search that fails look again, and find more. No promise
	 * depends on it: while a take puts bits back they count as not free.
	 */
	static const char *const unnoticed[] = { "take_anywhere:a_load_acq>rlx",
		"take_anywhere:a_load_acq>rlx", "claim_undo:a_add_rel>rlx", NULL };
	struct suite few = suite;

	few.limits.executions = 10000;
	suite_weaken(&few, "base/bitmap.c", unnoticed);
}

/* Threads that take and put runs of many lengths beside each other. */
static void run_crowd(int t)
{
	static const size_t lengths[] = { 2, 4, 3, 1 };
	size_t pos = take(lengths[t], 0);

	if (pos != BITMAP_NONE)
		put(pos, lengths[t]);
	take(lengths[t], 60);
}

static void set_up_crowd(void)
{
	set_up_none();
	set_up_free(60, 6);
}

TEST_TIMEOUT(random_crowd, 60)
{
	static const struct explore_scenario crowd = {
		.name = "run_crowd",
		.threads = 4,
		.set_up = set_up_crowd,
		.run = run_crowd,
		.finish = finish,
		.spec_init = spec_init,
		.spec_step = spec_step,
	};

	suite_random(&crowd, 20000);
}
