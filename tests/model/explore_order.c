/* SPDX-License-Identifier: MIT */
/*
 * Dynamic partial-order reduction with source sets (Abdulla, Aronis, Jonsson, Sagonas, 2014): two
 * steps depend on each other if they touch the same bytes and one of them writes. Two dependent
 * steps of different threads with no third ordered between them race: the later could as well have
 * come first. Then at the node of the earlier one the search must try a thread with which such an
 * execution can begin, unless it tries one already. No operation ever blocks, so every race can be
 * turned round.
 */
#include "explore_internal.h"

enum { STEPS = 4096 };

struct step {
	struct explore_access access;
	int thread;
	int node; /* of the search, where this thread was chosen; -1 = no choice */
	unsigned seen[EXPLORE_THREADS]; /* number of each thread's last step ordered before, +1 */
};

static struct step steps[STEPS];
static unsigned step_count;
static unsigned seen[EXPLORE_THREADS][EXPLORE_THREADS];

bool order_is_dependent(const struct explore_access *a, const struct explore_access *b)
{
	if (a->barrier || b->barrier)
		return true;
	if (a->all || b->all)
		return (a->all || a->sc) && (b->all || b->sc);
	return (a->write || b->write || (a->sc && b->sc)) && a->addr < b->addr + b->size &&
		b->addr < a->addr + a->size;
}

void order_begin_execution(void)
{
	step_count = 0;
	for (int i = 0; i < EXPLORE_THREADS; i++)
		for (int j = 0; j < EXPLORE_THREADS; j++)
			seen[i][j] = 0;
}

static void join(unsigned *to, const unsigned *from)
{
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (to[t] < from[t])
			to[t] = from[t];
}

static bool is_ordered(unsigned first, unsigned second)
{
	return steps[second].seen[steps[first].thread] > first;
}

/* Whether step j follows another one of those behind i that don't need i. */
static bool has_predecessor(unsigned i, unsigned j)
{
	for (unsigned k = i + 1; k < j; k++)
		if (!is_ordered(i, k) && is_ordered(k, j))
			return true;
	return false;
}

/* The threads with which the steps behind i that don't need i, and then n, can begin. */
static unsigned find_initials(unsigned i, unsigned n)
{
	unsigned initials = 0, met = 0;

	for (unsigned j = i + 1; j <= n; j++) {
		unsigned thread = 1u << steps[j].thread;
		if ((j < n && is_ordered(i, j)) || met & thread)
			continue;
		met |= thread;
		if (!has_predecessor(i, j))
			initials |= thread;
	}
	return initials;
}

void order_step(int thread, const struct explore_access *access, int node, order_race_fn *race)
{
	static unsigned racing[STEPS];
	unsigned n = step_count++, count = 0;
	struct step *step = &steps[n];

	if (n >= STEPS)
		explore_fail("more than %d steps", STEPS);
	*step = (struct step){ .access = *access, .thread = thread, .node = node };
	join(step->seen, seen[thread]);
	for (unsigned i = n; i-- > 0;) {
		if (steps[i].thread == thread || is_ordered(i, n) ||
			!order_is_dependent(&steps[i].access, access))
			continue;
		racing[count++] = i;
		join(step->seen, steps[i].seen);
	}
	step->seen[thread] = n + 1;
	join(seen[thread], step->seen);
	for (unsigned i = 0; i < count; i++)
		if (steps[racing[i]].node >= 0)
			race(steps[racing[i]].node, find_initials(racing[i], n));
}
