/* SPDX-License-Identifier: MIT */
/*
 * The bugs of earlier designs, as small faithful structures, which the explorer must find; beside
 * each the same scenario on the product's own source, which must pass. The product's slabs have
 * their counterpart of the delayed free in test_remote.c.
 */
#include <string.h>

#include "base/stack.h"
#include "explore.h"
#include "harness.h"
#include "suite.h"

enum { NODES = 4, CLOSED = 1 };

/* ---- A remote free that is delayed past the owner's exit ---- */

/*
 * The slab's remote list is CLOSED while a heap owns it: a freer that sees this loads the heap and
 * pushes to the heap's list. An exiting owner opens the slab, drains its list and is unmapped.
 */
struct old_heap {
	_Atomic(uint64_t) remote;
};

static struct old_heap old_heap;
static _Atomic(struct old_heap *) old_owner;
static _Atomic(uint64_t) old_slab;

static void set_up_exit(void)
{
	old_heap.remote = 0;
	old_owner = &old_heap;
	old_slab = CLOSED;
}

static void old_push(_Atomic(uint64_t) *list, uint64_t block)
{
	uint64_t head = a_load_rlx(list);

	while (!a_cas_weak_acqrel(list, &head, (head & CLOSED) + block))
		;
}

static void old_remote_free(uint64_t block)
{
	if (a_load_acq(&old_slab) & CLOSED)
		old_push(&a_load_acq(&old_owner)->remote, block);
	else
		old_push(&old_slab, block);
}

static void run_exit(int t)
{
	if (t == 0) {
		old_remote_free(2);
	} else {
		a_and_acqrel(&old_slab, ~(uint64_t)CLOSED);
		a_xchg_acqrel(&old_heap.remote, 0);
		explore_unmap(&old_heap, sizeof(old_heap));
	}
}

TEST(delayed_remote_free)
{
	static const struct explore_scenario s = {
		.name = "delayed_remote_free", .threads = 2, .set_up = set_up_exit, .run = run_exit
	};

	suite_must_fail(&s, &(struct explore_limits){ 0 }, "access to unmapped memory");
}

/* ---- A pop that reads the link of a segment which another thread has unmapped ---- */

struct segment {
	_Atomic(uint32_t) next; /* in the segment itself */
	uint64_t payload;
};

static struct segment segments[NODES];
static _Atomic(uint32_t) links[NODES]; /* out of line, never unmapped */
static struct stack orphans;

static _Atomic(uint32_t) *link_inside(uint32_t index)
{
	return &segments[index].next;
}

static _Atomic(uint32_t) *link_outside(uint32_t index)
{
	return &links[index];
}

static void set_up_orphans(stack_link_fn *link)
{
	memset(&orphans, 0, sizeof(orphans));
	memset(segments, 0, sizeof(segments));
	memset(links, 0, sizeof(links));
	stack_push(&orphans, 1, link);
	stack_push(&orphans, 0, link);
}

static void pop_and_unmap(stack_link_fn *link)
{
	uint32_t index = stack_pop(&orphans, link);

	if (index == STACK_EMPTY)
		return;
	a_data_write(&segments[index].payload, 1);
	explore_unmap(&segments[index], sizeof(segments[index]));
}

static void set_up_inside(void)
{
	set_up_orphans(link_inside);
}

static void run_inside(int t)
{
	pop_and_unmap(link_inside);
}

static void set_up_outside(void)
{
	set_up_orphans(link_outside);
}

static void run_outside(int t)
{
	pop_and_unmap(link_outside);
}

TEST(orphan_pop_of_unmapped_segment)
{
	static const struct explore_scenario bad = {
		.name = "link_inside", .threads = 2, .set_up = set_up_inside, .run = run_inside
	};
	static const struct explore_scenario good = {
		.name = "link_outside", .threads = 3, .set_up = set_up_outside, .run = run_outside
	};
	struct explore_limits limits = { 0 };
	struct explore_result r;

	suite_must_fail(&bad, &limits, "access to unmapped memory");
	r = explore_search(&good, &limits);
	suite_require_pass(&good, &r);
	CHECK(r.complete);
}

/* ---- A version of seven bits ---- */

enum { SMALL_VERSION_BITS = 7, CYCLES = ((1 << SMALL_VERSION_BITS) - 4) / 2 };

static bool held[NODES];
static bool is_small;

/* What stack.h would be if its version had seven bits. */
static uint64_t small_next(uint64_t head, uint32_t index)
{
	uint64_t next = stack_head_next(head, index);

	return next & (((uint64_t)1 << (STACK_INDEX_BITS + SMALL_VERSION_BITS)) - 1);
}

static void small_push(uint32_t index)
{
	uint64_t head = a_load_rlx(&orphans.head);

	do
		a_store_rlx(&links[index], stack_head_index(head));
	while (!a_cas_weak_rel(&orphans.head, &head, small_next(head, index)));
}

static uint32_t small_pop(void)
{
	uint64_t head = a_load_acq(&orphans.head);

	for (;;) {
		uint32_t index = stack_head_index(head);
		if (index == STACK_EMPTY)
			return STACK_EMPTY;
		uint32_t next = a_load_rlx(&links[index]);
		if (a_cas_weak_acq(&orphans.head, &head, small_next(head, next)))
			return index;
	}
}

static void set_up_version(void)
{
	set_up_orphans(link_outside);
	memset(held, 0, sizeof(held));
}

static uint32_t take(void)
{
	uint32_t index = is_small ? small_pop() : stack_pop(&orphans, link_outside);

	if (index != STACK_EMPTY) {
		EXPLORE_CHECK(!held[index]);
		held[index] = true;
	}
	return index;
}

static void give(uint32_t index)
{
	held[index] = false;
	if (is_small)
		small_push(index);
	else
		stack_push(&orphans, index, link_outside);
}

/* The second thread changes the head 128 times and leaves the old top on another node. */
static void run_version(int t)
{
	uint32_t top;

	if (t == 0) {
		take();
		return;
	}
	top = take();
	take();
	give(2);
	for (int i = 0; i < CYCLES; i++) {
		give(3);
		take();
	}
	if (top != STACK_EMPTY)
		give(top);
}

static void drain(void)
{
	while (take() != STACK_EMPTY)
		;
}

/* One preemption is enough: in the first thread between its load and its exchange. */
TEST_TIMEOUT(version_wrap, 30)
{
	static const struct explore_scenario s = { .name = "version_wrap",
		.threads = 2,
		.set_up = set_up_version,
		.run = run_version,
		.finish = drain };
	struct explore_limits limits = { .newest_only = true, .switches = 1 };
	struct explore_result r;

	is_small = true;
	suite_must_fail(&s, &limits, "!held[index] is false");
	is_small = false;
	r = explore_search(&s, &limits);
	suite_require_pass(&s, &r);
	CHECK(r.complete);
}

/* ---- A lock: whoever stops inside stops the others ---- */

static _Atomic(uint32_t) lock;
static uint64_t guarded;

static void set_up_lock(void)
{
	lock = 0;
	guarded = 0;
}

static void run_lock(int t)
{
	while (a_xchg_acq(&lock, 1))
		a_pause();
	a_data_write(&guarded, a_data_read(&guarded) + 1);
	a_store_rel(&lock, 0);
}

static void run_unguarded(int t)
{
	a_data_write(&guarded, a_data_read(&guarded) + 1);
	a_add_acqrel(&lock, 1);
}

TEST(lock_stops_others)
{
	static const struct explore_scenario s = {
		.name = "lock", .threads = 2, .set_up = set_up_lock, .run = run_lock
	};
	static const struct explore_scenario none = {
		.name = "no_lock", .threads = 2, .set_up = set_up_lock, .run = run_unguarded
	};
	struct explore_limits limits = { .steps = 100, .newest_only = true };
	struct explore_result r = explore_stopped(&s, &limits), again;

	CHECK(r.failed);
	CHECK(strstr(r.message, "no progress"));
	again = explore_replay(&s, &limits, r.replay);
	CHECK_STR_EQ(again.message, r.message);
	suite_must_fail(&none, &limits, "data race");
}

/* ---- A queue sold as a stack: the judge of histories must notice ---- */

static _Atomic(uint64_t) queue;
static _Atomic(bool) is_filled;

static void set_up_queue(void)
{
	queue = 0;
	is_filled = false;
}

static void queue_put(uint64_t value)
{
	uint64_t old = a_load_acq(&queue);

	explore_begin(0, value);
	while (!a_cas_weak_acqrel(&queue, &old, old ? value << 4 | old : value))
		;
	explore_end(0);
}

static void queue_get(void)
{
	uint64_t old;

	explore_begin(1, 0);
	old = a_load_acq(&queue);
	while (!a_cas_weak_acqrel(&queue, &old, old >> 4))
		;
	explore_end(old & 15);
}

static void run_queue(int t)
{
	if (t == 0) {
		queue_put(1);
		queue_put(2);
		a_store_rel(&is_filled, true);
	} else if (a_load_acq(&is_filled)) {
		queue_get();
		queue_get();
	}
}

static bool step_stack(void *state, const struct explore_operation *op)
{
	uint64_t *s = state, top = *s & 15;

	if (op->kind == 0) {
		*s = *s << 4 | op->argument;
		return true;
	}
	*s >>= 4;
	return op->pending || op->result == top;
}

static bool step_queue(void *state, const struct explore_operation *op)
{
	uint64_t *s = state, first = *s & 15;

	if (op->kind == 0) {
		*s = *s ? op->argument << 4 | *s : op->argument;
		return true;
	}
	*s >>= 4;
	return op->pending || op->result == first;
}

TEST(history_of_a_queue_is_not_of_a_stack)
{
	struct explore_scenario s = { .name = "queue",
		.threads = 2,
		.set_up = set_up_queue,
		.run = run_queue,
		.spec_step = step_queue };
	struct explore_limits limits = { 0 };
	struct explore_result r = explore_search(&s, &limits);

	suite_require_pass(&s, &r);
	s.spec_step = step_stack;
	suite_must_fail(&s, &limits, "no legal order");
	limits.newest_only = true;
	suite_must_fail(&s, &limits, "no legal order");
}
