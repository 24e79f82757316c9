/* SPDX-License-Identifier: MIT */
/*
 * Atomics as they were before an execution, and atomics that each fiber has for itself.
 *
 * Sources under test have static atomics that no test can reach; the explorer has seen every change
 * of them and takes them back before the next execution. A thread-local atomic is one object for
 * all fibers; a scenario declares it private, and each fiber works on a copy of its own.
 */
#include "explore_memory.h"

enum {
	CHANGES = 1 << 15,
	PRIVATES = 4,
};

static struct change {
	volatile void *p;
	uint64_t value;
	uint8_t size;
} changes[CHANGES];
static unsigned change_count;

static struct private
{
	volatile void *p;
	uint64_t copies[EXPLORE_THREADS];
}
privates[PRIVATES];
static unsigned private_count;

void undo_remember(volatile void *p, size_t size)
{
	if (change_count > 0 && changes[change_count - 1].p == p)
		return;
	if (change_count == CHANGES)
		explore_fail("more than %d changes outside of fibers", CHANGES);
	changes[change_count++] = (struct change){ p, memory_get(p, size), (uint8_t)size };
}

void undo_execution(void)
{
	while (change_count > 0) {
		const struct change *c = &changes[--change_count];
		memory_put(c->p, c->size, c->value);
	}
	private_count = 0;
}

void explore_private(volatile void *p, size_t size)
{
	struct private *private = &privates[private_count++];

	if (private_count > PRIVATES)
		explore_fail("more than %d private atomics", PRIVATES);
	private->p = p;
	for (int t = 0; t < EXPLORE_THREADS; t++)
		memory_put(&private->copies[t], size, memory_get(p, size));
}

volatile void *memory_direct(const volatile void *p, size_t size)
{
	if (sched_self < 0) {
		undo_remember((volatile void *)p, size);
		return (volatile void *)p;
	}
	for (unsigned i = 0; i < private_count; i++)
		if (privates[i].p == p)
			return &privates[i].copies[sched_self];
	return NULL;
}
