/* SPDX-License-Identifier: MIT */
/* Compiled twice: see percpu_cases.h. */
#include "percpu_cases.h"

#include <string.h>

/* What stays the same while one operation runs: the first copy, and which nodes are whose. */
#define FIRST (&world.copies[0])

#if defined(ALLOD_PERCPU_REFERENCE)
#define CASES_NAME cases_of_reference

void reference_move(int32_t copy)
{
	allod_cs_reference_index_ = copy;
}

#else
#define CASES_NAME cases_of_sequences
#endif

static void run_read(unsigned by, uint64_t value, struct outcome *ret)
{
	ret->words[0] = allod_percpu_read_in(world_view, &FIRST->word);
}

static void run_read32(unsigned by, uint64_t value, struct outcome *ret)
{
	ret->words[0] = allod_percpu_read32_in(world_view, &FIRST->small[1]);
}

static void run_add(unsigned by, uint64_t value, struct outcome *ret)
{
	allod_percpu_add_in(world_view, &FIRST->word, value);
}

static void run_add32(unsigned by, uint64_t value, struct outcome *ret)
{
	allod_percpu_add32_in(world_view, &FIRST->small[1], (uint32_t)value);
}

static void run_add_return(unsigned by, uint64_t value, struct outcome *ret)
{
	ret->words[0] = allod_percpu_add_return_in(world_view, &FIRST->word, value);
}

static void run_xchg(unsigned by, uint64_t value, struct outcome *ret)
{
	ret->words[0] = allod_percpu_xchg_in(world_view, &FIRST->word, value);
}

static void run_cmpxchg(unsigned by, uint64_t value, struct outcome *ret)
{
	ret->words[0] = allod_percpu_cmpxchg_in(world_view, &FIRST->compared, by, by + value % 2);
}

static void run_pair(unsigned by, uint64_t value, struct outcome *ret)
{
	allod_percpu_pair_add_in(world_view, &FIRST->pair, value, ~value);
}

static void run_push(unsigned by, uint64_t value, struct outcome *ret)
{
	struct allod_percpu_node *node = &world.nodes[WORLD_NODES - 1 - by];

	/* Each node is pushed once. */
	if (node->next == node)
		ret->words[0] = (uint64_t)allod_percpu_list_push_in(world_view, &FIRST->list, node);
}

static void run_pop(unsigned by, uint64_t value, struct outcome *ret)
{
	struct allod_percpu_node *node = allod_percpu_list_pop_in(world_view, &FIRST->list);

	ret->words[0] = (uintptr_t)node;
}

static void run_closed(unsigned by, uint64_t value, struct outcome *ret)
{
	static struct allod_percpu_node node;

	ret->words[0] = (uintptr_t)allod_percpu_list_pop_in(world_view, &FIRST->closed);
	ret->words[1] = (uint64_t)allod_percpu_list_push_in(world_view, &FIRST->closed, &node);
}

static void run_copy_to(unsigned by, uint64_t value, struct outcome *ret)
{
	const uint64_t record[3] = { value, ~value, value + 1 };
	const uint64_t depth = 1 + by;

	/* An odd number of bytes, to meet the loop's end as well. */
	ret->words[0] = (uint64_t)allod_percpu_copy_to_in(world_view, &FIRST->depth, depth,
		depth + 1, FIRST->stack[depth], record, sizeof record - 5);
}

static void run_copy_from(unsigned by, uint64_t value, struct outcome *ret)
{
	uint64_t record[3] = { 0 };
	const uint64_t depth = 1 + by;

	ret->words[0] = (uint64_t)allod_percpu_copy_from_in(world_view, &FIRST->depth, depth,
		depth - 1, record, FIRST->stack[depth - 1], sizeof record - 5);
	if (ret->words[0])
		memcpy(ret->words + 1, record, sizeof record);
}

static void run_ring(unsigned by, uint64_t value, struct outcome *ret)
{
	char *record = allod_percpu_ring_reserve_in(world_view, &FIRST->ring, WORLD_RING_BYTES, 24);

	ret->words[0] = record != NULL;
	if (record == NULL)
		return;
	memset(record, (int)(value & 0xff), 24);
	allod_percpu_ring_commit(record, 24);
}

const struct percpu_case CASES_NAME[CASES] = {
	{ "read", run_read },
	{ "read32", run_read32 },
	{ "add", run_add },
	{ "add32", run_add32 },
	{ "add_return", run_add_return },
	{ "xchg", run_xchg },
	{ "cmpxchg", run_cmpxchg },
	{ "pair_add", run_pair },
	{ "push", run_push },
	{ "pop", run_pop },
	{ "closed", run_closed },
	{ "copy_to", run_copy_to },
	{ "copy_from", run_copy_from },
	{ "ring", run_ring },
};
