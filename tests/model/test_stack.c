/* SPDX-License-Identifier: MIT */
/*
 * base/stack.h under the explorer: linearizable as a stack, no race on what a node carries, nobody
 * waits for a stopped thread, and every order in it is needed.
 */
#include "base/stack.h"

#include <string.h>

#include "explore.h"
#include "harness.h"
#include "suite.h"

enum { NODES = 4 };
enum { PUSH, POP, TAKE_ALL };

static struct stack stack;
static _Atomic(uint32_t) links[NODES];
static uint64_t payloads[NODES]; /* belongs to who holds the node */

static _Atomic(uint32_t) *link_of(uint32_t index)
{
	return &links[index];
}

static void set_up_empty(void)
{
	memset(&stack, 0, sizeof(stack));
	memset(links, 0, sizeof(links));
	memset(payloads, 0, sizeof(payloads));
}

static void push(uint32_t node)
{
	explore_begin(PUSH, node);
	a_data_write(&payloads[node], node);
	stack_push(&stack, node, link_of);
	explore_end(0);
}

static uint32_t pop(void)
{
	uint32_t node;

	explore_begin(POP, 0);
	node = stack_pop(&stack, link_of);
	if (node != STACK_EMPTY)
		a_data_write(&payloads[node], 100 + node);
	explore_end(node);
	return node;
}

/* The result of taking all is the nodes in order, four bits each, first lowest, plus one. */
static void take_all(void)
{
	uint64_t all = 0;
	unsigned shift = 0;

	explore_begin(TAKE_ALL, 0);
	for (uint32_t i = stack_take_all(&stack); i != STACK_EMPTY; shift += 4) {
		a_data_write(&payloads[i], 200 + i);
		all |= (uint64_t)(i + 1) << shift;
		i = a_load_rlx(link_of(i));
	}
	explore_end(all);
}

/* The sequential stack: nodes plus one in four bits each, top lowest. */
struct spec {
	uint64_t nodes;
};

static void spec_full(void *state)
{
	((struct spec *)state)->nodes = 0x21; /* node 0 on node 1 */
}

static bool spec_step(void *state, const struct explore_operation *op)
{
	struct spec *s = state;
	uint32_t top = s->nodes ? (uint32_t)(s->nodes & 15) - 1 : STACK_EMPTY;
	uint64_t all = s->nodes;

	switch (op->kind) {
	case PUSH: s->nodes = s->nodes << 4 | (op->argument + 1); return true;
	case POP: s->nodes >>= 4; return op->pending || op->result == top;
	default: s->nodes = 0; return op->pending || op->result == all;
	}
}

static void set_up_full(void)
{
	set_up_empty();
	stack_push(&stack, 1, link_of);
	stack_push(&stack, 0, link_of);
}

/* What is left must come off, each node once. */
static void drain(void)
{
	bool met[NODES] = { false };

	for (int i = 0; i <= NODES; i++) {
		uint32_t node = pop();
		if (node == STACK_EMPTY)
			return;
		EXPLORE_CHECK(node < NODES && !met[node]);
		met[node] = true;
	}
	explore_fail("the stack has a loop");
}

static void run_push_pop(int t)
{
	push((uint32_t)t + 2);
	pop();
}

static void run_push_against_pop(int t)
{
	if (t == 0) {
		push(2);
		push(3);
	} else {
		pop();
		pop();
	}
}

/* The way to ABA: one pops while the other pops two and puts the first back. */
static void run_put_back(int t)
{
	if (t == 0) {
		pop();
	} else {
		uint32_t node = pop();
		pop();
		if (node != STACK_EMPTY)
			push(node);
	}
}

static void run_take_all(int t)
{
	if (t == 0) {
		push(2);
		pop();
	} else {
		take_all();
	}
}

/* A node is passed on by a third thread that reads nothing of it. */
static void run_three(int t)
{
	if (t == 0)
		push(2);
	if (t == 1)
		push(3);
	if (t == 2) {
		pop();
		pop();
	}
}

/* The same with a third that pushes a node of its own. */
static void run_put_back_three(int t)
{
	if (t == 2)
		push(2);
	else
		run_put_back(t);
}

static void run_mixed_three(int t)
{
	if (t == 0)
		take_all();
	if (t == 1)
		pop();
	if (t == 2) {
		push(2);
		pop();
	}
}

#define STACK_SCENARIO(run_, threads_, full)                                                     \
	{                                                                                        \
		.name = #run_, .threads = threads_, .set_up = full ? set_up_full : set_up_empty, \
		.run = run_, .finish = drain, .spec_init = full ? spec_full : NULL,              \
		.spec_step = spec_step                                                           \
	}
static const struct explore_scenario scenarios[] = {
	STACK_SCENARIO(run_push_pop, 2, false),
	STACK_SCENARIO(run_push_against_pop, 2, false),
	STACK_SCENARIO(run_put_back, 2, true),
	STACK_SCENARIO(run_take_all, 2, true),
	STACK_SCENARIO(run_three, 3, false),
	STACK_SCENARIO(run_put_back_three, 3, true),
	STACK_SCENARIO(run_mixed_three, 3, true),
};
static const struct suite suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .weak_failures = 1 } };

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
	suite_stopped(&suite);
}

TEST_TIMEOUT(every_order_is_needed, 60)
{
	suite_weaken(&suite, "base/stack.h", NULL);
}

static void run_crowd(int t)
{
	push((uint32_t)t);
	pop();
	pop();
}

TEST_TIMEOUT(random_crowd, 60)
{
	static const struct explore_scenario crowd = STACK_SCENARIO(run_crowd, 4, false);

	suite_random(&crowd, 20000);
}
