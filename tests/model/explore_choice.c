/* SPDX-License-Identifier: MIT */
/*
 * The choices that make an execution: which thread performs its next operation, and which of
 * several outcomes an operation has. They come from a depth-first search, from random priorities,
 * or from a recorded text.
 *
 * The search keeps the path of choices as nodes. Without a limit on preemptions a thread node tries
 * only what partial-order reduction asks for, and sleep sets cut short what would repeat; with the
 * limit it tries every thread that the limit allows. A node of outcomes tries them all.
 *
 * Random executions follow probabilistic concurrency testing (Burckhardt et al., 2010): the
 * runnable thread of the highest priority runs; at random change points it becomes the lowest.
 *
 * As text a choice is one character: '0' + thread, or 'a' + outcome, and "*N." behind it stands for
 * N more of it. Where there was only one way to go there is none.
 */
#include <stdio.h>
#include <stdlib.h>

#include "explore_internal.h"

enum {
	NODES = 8192,
	CHANGES = 16,
	TEXT_BYTES = EXPLORE_REPLAY_BYTES - 512,
};

struct node {
	bool is_thread;
	uint8_t chosen;
	uint8_t count;    /* outcomes */
	uint8_t runnable; /* masks of threads from here on */
	uint8_t wanted;
	uint8_t done;
	uint8_t asleep;
};

static enum choice_mode mode;
static struct explore_limits limit;
static struct node nodes[NODES];
static int length;      /* nodes of the path */
static int depth;       /* nodes of it that this execution has passed */
static int thread_node; /* where the thread of the next step was chosen, or -1 */
static unsigned asleep; /* threads whose next step was explored already */
static int switches;
static char text[TEXT_BYTES];
static size_t text_length;
static const char *replay; /* what is left of the text */
static unsigned replay_more;
static uint64_t random_state;
static unsigned priorities[EXPLORE_THREADS];
static unsigned change_at[CHANGES], change_count, lowest;

void choice_begin(enum choice_mode new_mode, const struct explore_limits *limits)
{
	mode = new_mode;
	limit = *limits;
	length = 0;
}

void choice_begin_execution(void)
{
	depth = 0;
	thread_node = -1;
	asleep = 0;
	switches = 0;
	text_length = 0;
	order_begin_execution();
}

/* The number of choices from `at` on that are the same. */
static size_t run_length(size_t at)
{
	size_t end = at;

	while (end < text_length && text[end] == text[at])
		end++;
	return end - at;
}

const char *choice_text(void)
{
	static char packed[TEXT_BYTES];
	size_t used = 0;

	for (size_t i = 0; i < text_length && used + 16 < sizeof(packed);) {
		size_t n = run_length(i);
		packed[used++] = text[i];
		if (n < 5)
			n = 1;
		else
			used += (size_t)snprintf(packed + used, 16, "*%zu.", n - 1);
		i += n;
	}
	packed[used] = '\0';
	return packed;
}

static void record(char c)
{
	if (text_length + 1 < sizeof(text))
		text[text_length++] = c;
}

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

void choice_seed(uint64_t seed, unsigned changes, unsigned horizon)
{
	random_state = (seed + 1) * 0x9e3779b97f4a7c15u;
	random_next();
	change_count = changes < CHANGES ? changes : CHANGES;
	lowest = CHANGES;
	for (unsigned i = 0; i < change_count; i++)
		change_at[i] = (unsigned)(random_next() % (horizon + 1));
	for (unsigned t = 0; t < EXPLORE_THREADS; t++) {
		unsigned with = (unsigned)(random_next() % (t + 1));
		priorities[t] = priorities[with];
		priorities[with] = CHANGES + 1 + t;
	}
}

void choice_replay(const char *choices)
{
	replay = choices;
	replay_more = 0;
}

/* The next choice of the text, or 0 at its end. */
static char replay_next(void)
{
	static char last;
	char *end;

	if (replay_more > 0) {
		replay_more--;
		return last;
	}
	if (!*replay)
		return 0;
	last = *replay++;
	if (*replay == '*') {
		replay_more = (unsigned)strtoul(replay + 1, &end, 10);
		replay = end + (*end == '.');
	}
	return last;
}

static int highest_priority(unsigned runnable)
{
	int best = -1;

	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (runnable >> t & 1 && (best < 0 || priorities[t] > priorities[best]))
			best = t;
	return best;
}

static int random_thread(unsigned runnable, int current)
{
	for (unsigned i = 0; i < change_count; i++)
		if (change_at[i] == sched_steps() && current >= 0)
			priorities[current] = lowest--;
	return highest_priority(runnable);
}

static int replayed_thread(unsigned runnable, int current)
{
	char c = replay_next();
	int t = c ? c - '0' : __builtin_ctz(runnable);

	if (!c && current >= 0 && runnable >> current & 1)
		t = current;
	if (t < 0 || t >= EXPLORE_THREADS || !(runnable >> t & 1))
		explore_fail("the replay string does not fit: no thread %d to run here", t);
	return t;
}

static struct node *new_node(void)
{
	if (length == NODES)
		explore_fail("more than %d choices in an execution", NODES);
	nodes[length] = (struct node){ 0 };
	return &nodes[length++];
}

/* The threads that the limit on preemptions leaves to choose from. */
static unsigned allowed_by_switches(unsigned runnable, int current)
{
	if (current < 0 || !(runnable >> current & 1) || switches < limit.switches)
		return runnable;
	return 1u << current;
}

static void want(int node, unsigned threads)
{
	struct node *n = &nodes[node];

	if (!(threads & (n->wanted | n->done | n->asleep)))
		n->wanted |= (uint8_t)(threads & -threads);
}

/* Makes the node for a state that the search has not been in. */
static struct node *new_thread_node(unsigned runnable, int current)
{
	unsigned awake = runnable & ~asleep;
	struct node *n;

	if (awake == 0)
		return NULL;
	n = new_node();
	n->is_thread = true;
	n->runnable = (uint8_t)runnable;
	n->asleep = (uint8_t)asleep;
	n->chosen =
		(uint8_t)(current >= 0 && awake >> current & 1 ? current : __builtin_ctz(awake));
	n->wanted = (uint8_t)(1u << n->chosen);
	if (limit.switches > 0)
		n->wanted = (uint8_t)allowed_by_switches(runnable, current);
	return n;
}

static int searched_thread(unsigned runnable, int current)
{
	struct node *n = depth < length ? &nodes[depth] : new_thread_node(runnable, current);

	if (!n)
		return -1;
	if (!n->is_thread || n->runnable != runnable)
		explore_fail("the scenario does not repeat: other threads than before can run");
	asleep = limit.switches > 0 ? 0 : n->asleep | n->done;
	thread_node = depth++;
	if (current >= 0 && runnable >> current & 1 && n->chosen != current)
		switches++;
	return n->chosen;
}

int choice_thread(unsigned runnable, int current)
{
	int t;

	thread_node = -1;
	if ((runnable & (runnable - 1)) == 0) {
		t = __builtin_ctz(runnable);
		return mode == CHOICE_SEARCH && asleep >> t & 1 ? -1 : t;
	}
	if (mode == CHOICE_SEARCH)
		t = searched_thread(runnable, current);
	else if (mode == CHOICE_RANDOM)
		t = random_thread(runnable, current);
	else
		t = replayed_thread(runnable, current);
	if (t >= 0)
		record((char)('0' + t));
	return t;
}

static unsigned searched_number(unsigned n)
{
	struct node *node = depth < length ? &nodes[depth] : new_node();

	if (depth == length - 1 && node->count == 0)
		node->count = (uint8_t)n;
	if (node->is_thread || node->count != n)
		explore_fail("the scenario does not repeat: other outcomes than before");
	depth++;
	return node->chosen;
}

static unsigned replayed_number(unsigned n)
{
	char c = replay_next();
	unsigned i = c ? (unsigned)(c - 'a') : 0;

	if (i >= n)
		explore_fail("the replay string does not fit: only %u outcomes here", n);
	return i;
}

unsigned choice_number(unsigned n)
{
	unsigned i;

	if (n == 1)
		return 0;
	if (mode == CHOICE_SEARCH)
		i = searched_number(n);
	else if (mode == CHOICE_RANDOM)
		i = random_next() % 2 ? 0 : (unsigned)(random_next() % n);
	else
		i = replayed_number(n);
	record((char)('a' + i));
	return i;
}

/* Wakes the threads whose next step depends on what was just performed. */
void choice_performed(int thread, const struct explore_access *access)
{
	if (mode != CHOICE_SEARCH || limit.switches > 0)
		return;
	order_step(thread, access, thread_node, want);
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (asleep >> t & 1 && order_is_dependent(sched_pending(t), access))
			asleep &= ~(1u << t);
	asleep &= ~(1u << thread);
}

/* The next thread to try at a node, or -1. */
static int next_thread(struct node *n)
{
	unsigned left;

	n->done |= (uint8_t)(1u << n->chosen);
	left = n->wanted & n->runnable & ~(unsigned)n->done & ~(unsigned)n->asleep;
	return left ? __builtin_ctz(left) : -1;
}

bool choice_advance(void)
{
	for (; length > 0; length--) {
		struct node *n = &nodes[length - 1];
		int t;

		if (!n->is_thread && n->chosen + 1 < n->count) {
			n->chosen++;
			return true;
		}
		t = n->is_thread ? next_thread(n) : -1;
		if (t >= 0) {
			n->chosen = (uint8_t)t;
			return true;
		}
	}
	return false;
}
