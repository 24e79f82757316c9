/* SPDX-License-Identifier: MIT */
/* The stack of indices: order, limits, versions, and nodes that no two threads may hold at once. */
#include <pthread.h>
#include <string.h>

#include "base/stack.h"
#include "harness.h"

enum { NODES = 64, THREADS = 4, ROUNDS = 2000000 };

struct node {
	_Atomic(uint32_t) link;
	_Atomic(uint32_t) owner; /* 0 = on the stack */
	uint64_t data;           /* guard: whoever holds the node */
};

static struct node nodes[NODES];
static struct stack stack;

/* The highest index has its link elsewhere, so that it can be tested without that many nodes. */
static _Atomic(uint32_t) last_link;

static inline _Atomic(uint32_t) *link_of(uint32_t index)
{
	if (index == STACK_INDEX_LIMIT - 1)
		return &last_link;
	/* A stale link may be read, but not one that was never written. */
	CHECK(index < NODES);
	return &nodes[index].link;
}

TEST(zeroed_memory_is_an_empty_stack)
{
	CHECK(stack_is_empty(&stack));
	CHECK_EQ(stack_pop(&stack, link_of), STACK_EMPTY);
	CHECK_EQ(stack_take_all(&stack), STACK_EMPTY);
	CHECK_EQ(a_load_rlx(&stack.head), 0);
}

TEST(the_last_pushed_is_the_first_popped)
{
	for (uint32_t i = 0; i < NODES; i++)
		stack_push(&stack, i, link_of);
	stack_push(&stack, STACK_INDEX_LIMIT - 1, link_of);
	CHECK(!stack_is_empty(&stack));
	CHECK_EQ(stack_pop(&stack, link_of), STACK_INDEX_LIMIT - 1);
	for (uint32_t i = NODES; i-- > 0;)
		CHECK_EQ(stack_pop(&stack, link_of), i);
	CHECK_EQ(stack_pop(&stack, link_of), STACK_EMPTY);
}

TEST(take_all_gives_a_chain)
{
	for (uint32_t i = 0; i < 5; i++)
		stack_push(&stack, i, link_of);
	uint32_t at = stack_take_all(&stack);
	for (uint32_t i = 5; i-- > 0; at = a_load_rlx(link_of(at)))
		CHECK_EQ(at, i);
	CHECK_EQ(at, STACK_EMPTY);
	CHECK(stack_is_empty(&stack));
}

TEST(a_chain_is_pushed_at_once)
{
	stack_push(&stack, 9, link_of);
	a_store_rlx(link_of(1), 2);
	a_store_rlx(link_of(2), 3);
	stack_push_chain(&stack, 1, 3, link_of);
	CHECK_EQ(stack_pop(&stack, link_of), 1);
	CHECK_EQ(stack_pop(&stack, link_of), 2);
	CHECK_EQ(stack_pop(&stack, link_of), 3);
	CHECK_EQ(stack_pop(&stack, link_of), 9);
	CHECK_EQ(stack_pop(&stack, link_of), STACK_EMPTY);
}

/* A pop that was interrupted before its CAS, while others brought the same top back. */
TEST(the_same_top_again_is_another_head)
{
	stack_push(&stack, 1, link_of);
	stack_push(&stack, 0, link_of);
	uint64_t seen = a_load_rlx(&stack.head);
	uint32_t next = a_load_rlx(link_of(stack_head_index(seen)));
	CHECK_EQ(stack_pop(&stack, link_of), 0);
	CHECK_EQ(stack_pop(&stack, link_of), 1);
	stack_push(&stack, 0, link_of);
	CHECK_EQ(stack_head_index(a_load_rlx(&stack.head)), stack_head_index(seen));
	CHECK(!a_cas_strong_acq(&stack.head, &seen, stack_head_next(seen, next)));
	CHECK_EQ(stack_pop(&stack, link_of), 0);
	CHECK(stack_is_empty(&stack));
}

TEST(the_version_wraps_into_nothing_else)
{
	a_store_rlx(&stack.head, ~(uint64_t)STACK_INDEX_LIMIT);
	CHECK(stack_is_empty(&stack));
	stack_push(&stack, 5, link_of);
	CHECK_EQ(a_load_rlx(&stack.head), 6);
	CHECK_EQ(stack_pop(&stack, link_of), 5);
	CHECK(stack_is_empty(&stack));
}

/* Takes a node off the stack as this thread's own. */
static void own(uint32_t index, uint32_t id)
{
	CHECK_EQ(a_xchg_rlx(&nodes[index].owner, id), 0);
	nodes[index].data++;
}

static void give(uint32_t index, uint32_t id)
{
	nodes[index].data++;
	CHECK_EQ(a_xchg_rlx(&nodes[index].owner, 0), id);
	stack_push(&stack, index, link_of);
}

/* Takes everything, owns the first nodes and pushes the rest back as one chain. */
static uint32_t take_first_of_all(uint32_t id)
{
	uint32_t first = stack_take_all(&stack);

	if (first == STACK_EMPTY)
		return STACK_EMPTY;
	uint32_t rest = a_load_rlx(link_of(first));
	if (rest != STACK_EMPTY) {
		uint32_t last = rest;
		while (a_load_rlx(link_of(last)) != STACK_EMPTY)
			last = a_load_rlx(link_of(last));
		stack_push_chain(&stack, rest, last, link_of);
	}
	own(first, id);
	return first;
}

static void *churn(void *arg)
{
	uint32_t id = (uint32_t)(uintptr_t)arg;
	uint64_t seed = test_seed() + id;
	uint32_t held[8];

	memset(held, 0xff, sizeof held);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t *slot = &held[test_random(&seed) % 8];
		if (*slot != STACK_EMPTY) {
			give(*slot, id);
			*slot = STACK_EMPTY;
		} else if (i % 64 == 0) {
			*slot = take_first_of_all(id);
		} else {
			*slot = stack_pop(&stack, link_of);
			if (*slot != STACK_EMPTY)
				own(*slot, id);
		}
	}
	for (unsigned i = 0; i < 8; i++) {
		if (held[i] != STACK_EMPTY)
			give(held[i], id);
	}
	return NULL;
}

/* Fewer nodes than the threads can hold, so that the stack is often empty or has one node. */
static void churn_nodes(uint32_t count)
{
	pthread_t threads[THREADS];

	test_seed();
	for (uint32_t i = 0; i < count; i++)
		stack_push(&stack, i, link_of);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, (void *)(uintptr_t)(i + 1)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	uint32_t left = 0;
	for (; stack_pop(&stack, link_of) != STACK_EMPTY; left++)
		;
	CHECK_EQ(left, count);
	for (uint32_t i = 0; i < count; i++)
		CHECK_EQ(nodes[i].data % 2, 0);
}

TEST_TIMEOUT(no_node_is_held_twice_and_none_is_lost, 60)
{
	churn_nodes(NODES);
}

TEST_TIMEOUT(no_node_is_held_twice_when_there_are_few, 60)
{
	churn_nodes(3);
}
