/* SPDX-License-Identifier: MIT */
/*
 * Recorded operations of an execution, and whether they are linearizable: whether there is an order
 * of all of them, each as one indivisible step of the sequential specification with the result it
 * had, that keeps every call before those that began after it returned (Wing and Gong, 1993).
 *
 * "After it returned" means what the later caller can know: happens-before. Where reads see the
 * newest store only, it is the order of performed steps instead: a call spans from its first atomic
 * step to its last. A call whose thread stopped inside may take effect or not. Calls made in finish
 * come after all others.
 */
#include <string.h>

#include "explore_internal.h"

enum { SEEN_SLOTS = 4096 };

/* When a call began and returned. */
struct span {
	uint32_t began[EXPLORE_THREADS]; /* what the caller knew of each thread */
	uint32_t returned;               /* the caller's own clock */
	unsigned first_step, last_step;
	bool has_step;
};

static struct explore_operation operations[EXPLORE_OPERATIONS];
static struct span spans[EXPLORE_OPERATIONS];
static int count;
static int open_operation[EXPLORE_THREADS + 1]; /* by thread + 1; -1 = none */
static bool is_real_time;
static unsigned before[EXPLORE_OPERATIONS]; /* masks of the calls that come before */
static unsigned must_do;
static const struct explore_scenario *scenario;

/* Pairs of (calls done, state) that led nowhere. */
static struct seen {
	uint32_t judgement;
	unsigned done;
	unsigned char state[EXPLORE_STATE_BYTES];
} seen[SEEN_SLOTS];
static uint32_t judgement;

void history_begin_execution(bool real_time)
{
	count = 0;
	is_real_time = real_time;
	for (int t = 0; t <= EXPLORE_THREADS; t++)
		open_operation[t] = -1;
}

void history_step(int thread)
{
	int i = open_operation[thread + 1];

	if (i < 0)
		return;
	if (!spans[i].has_step)
		spans[i].first_step = sched_steps();
	spans[i].has_step = true;
	spans[i].last_step = sched_steps();
}

void explore_begin(int kind, uint64_t argument)
{
	struct span *span = &spans[count];

	if (count == EXPLORE_OPERATIONS)
		explore_fail("more than %d recorded operations", EXPLORE_OPERATIONS);
	operations[count] = (struct explore_operation){
		.thread = sched_self, .kind = kind, .argument = argument, .pending = true
	};
	*span = (struct span){ .first_step = sched_steps(), .last_step = sched_steps() };
	for (int t = 0; t < EXPLORE_THREADS; t++)
		span->began[t] = sched_self < 0 ? UINT32_MAX : memory_clock(sched_self, t);
	open_operation[sched_self + 1] = count++;
	trace("T%d begins operation %d(%llu)", sched_self, kind, (unsigned long long)argument);
}

void explore_end(uint64_t result)
{
	int i = open_operation[sched_self + 1];

	operations[i].result = result;
	operations[i].pending = false;
	if (sched_self >= 0)
		spans[i].returned = memory_clock(sched_self, sched_self);
	open_operation[sched_self + 1] = -1;
	trace("T%d returns %lld", sched_self, (long long)result);
}

bool explore_is_before(const struct explore_operation *a, const struct explore_operation *b)
{
	const struct span *span_a = &spans[a - operations], *span_b = &spans[b - operations];

	if (a->pending || a == b)
		return false;
	if (a->thread == b->thread || b->thread < 0)
		return a < b;
	if (a->thread < 0)
		return false;
	if (is_real_time)
		return span_a->last_step < span_b->first_step;
	return span_b->began[a->thread] >= span_a->returned;
}

static bool was_seen(unsigned done, const void *state)
{
	uint64_t hash = done * 0x9e3779b97f4a7c15u;
	struct seen *s;

	for (size_t i = 0; i < EXPLORE_STATE_BYTES / 8; i++)
		hash = (hash ^ ((const uint64_t *)state)[i]) * 0xff51afd7ed558ccdu;
	s = &seen[(hash >> 40) % SEEN_SLOTS];
	if (s->judgement == judgement && s->done == done &&
		memcmp(s->state, state, sizeof(s->state)) == 0)
		return true;
	s->judgement = judgement;
	s->done = done;
	memcpy(s->state, state, sizeof(s->state));
	return false;
}

/* Whether the calls not yet done can follow in some order. */
static bool has_order(unsigned done, const void *state)
{
	uint64_t next[EXPLORE_STATE_BYTES / 8];

	if ((done & must_do) == must_do)
		return true;
	if (was_seen(done, state))
		return false;
	for (int i = 0; i < count; i++) {
		if (done >> i & 1 || (before[i] & ~done))
			continue;
		memcpy(next, state, sizeof(next));
		if (scenario->spec_step(next, &operations[i]) && has_order(done | 1u << i, next))
			return true;
	}
	return false;
}

static void find_precedence(void)
{
	must_do = 0;
	for (int i = 0; i < count; i++) {
		before[i] = 0;
		for (int j = 0; j < count; j++)
			if (explore_is_before(&operations[j], &operations[i]))
				before[i] |= 1u << j;
		if (!operations[i].pending)
			must_do |= 1u << i;
	}
}

void history_judge(const struct explore_scenario *s)
{
	uint64_t state[EXPLORE_STATE_BYTES / 8] = { 0 };

	scenario = s;
	if (s->judge)
		s->judge(operations, count);
	if (!s->spec_step)
		return;
	judgement++;
	find_precedence();
	if (s->spec_init)
		s->spec_init(state);
	if (!has_order(0, state))
		explore_fail("the operations have no legal order");
}
