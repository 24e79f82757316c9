/* SPDX-License-Identifier: MIT */
/*
 * The operations of base/atomic.h as the sources under test call them. On a fiber each waits for
 * its turn and acts on the modelled memory; in set_up and finish, where nothing runs beside them,
 * they act on memory directly.
 */
#include "explore_memory.h"

static void trace_op(const struct operation *op, const volatile void *p, const char *what,
	uint64_t value, bool is_older)
{
	const struct explore_site *site = op->site;

	if (trace_on)
		trace("T%d %-20s ..%04lx %s 0x%llx%s  (%s:%u)", sched_self, site->name,
			(unsigned long)((uintptr_t)p & 0xffff), what, (unsigned long long)value,
			is_older ? " [not the newest]" : "", site->func, site->line);
}

void explore_load(struct explore_site *site, const volatile void *p, size_t size, void *ret)
{
	struct candidate c[MEMORY_CANDIDATES];
	const volatile void *direct = memory_direct(p, size);
	struct operation op;
	struct store *s;

	if (direct) {
		memory_put(ret, size, memory_get(direct, size));
		return;
	}
	op = memory_operation(site, p, size, false);
	s = memory_choose(c, memory_readable(&op, c)).store;
	memory_see(&op, s);
	memory_put(ret, size, s->value);
	sched_performed(false);
	trace_op(&op, p, "->", s->value, s->newer);
}

void explore_store(struct explore_site *site, volatile void *p, size_t size, const void *value)
{
	struct candidate c[MEMORY_CANDIDATES];
	volatile void *direct = memory_direct(p, size);
	struct operation op;
	struct store *s;

	if (direct) {
		memory_put(direct, size, memory_get(value, size));
		return;
	}
	op = memory_operation(site, p, size, true);
	s = memory_choose(c, memory_writable(&op, c)).store;
	trace_op(&op, p, "<-", memory_get(value, size), s->newer);
	memory_put_behind(&op, s, memory_get(value, size), false);
	sched_performed(true);
}

static uint64_t combine(enum explore_rmw op, uint64_t old, uint64_t operand)
{
	switch (op) {
	case EXPLORE_XCHG: return operand;
	case EXPLORE_ADD: return old + operand;
	case EXPLORE_SUB: return old - operand;
	case EXPLORE_OR: return old | operand;
	case EXPLORE_AND: return old & operand;
	}
	explore_fail("unknown operation");
}

void explore_rmw(struct explore_site *site, enum explore_rmw kind, volatile void *p, size_t size,
	const void *operand, void *ret_old)
{
	uint64_t mask = size == 8 ? UINT64_MAX : ((uint64_t)1 << (size * 8)) - 1;
	struct candidate c[MEMORY_CANDIDATES];
	uint64_t right = memory_get(operand, size), value;
	volatile void *direct = memory_direct(p, size);
	struct operation op;
	struct store *s;

	if (direct) {
		uint64_t old = memory_get(direct, size);
		memory_put(direct, size, combine(kind, old, right));
		memory_put(ret_old, size, old);
		return;
	}
	op = memory_operation(site, p, size, true);
	s = memory_choose(c, memory_writable(&op, c)).store;
	value = combine(kind, s->value, right) & mask;
	trace_op(&op, p, "<-", value, s->newer);
	memory_see(&op, s);
	memory_put_behind(&op, s, value, true);
	memory_put(ret_old, size, s->value);
	sched_performed(true);
}

/* A failure reads with the acquiring part of the order, which is all that memory_see() uses. */
bool explore_cas(struct explore_site *site, bool weak, volatile void *p, size_t size,
	void *expected, const void *desired)
{
	uint64_t want = memory_get(expected, size), value = memory_get(desired, size);
	struct candidate c[MEMORY_CANDIDATES], chosen;
	volatile void *direct = memory_direct(p, size);
	struct operation op;

	if (direct) {
		uint64_t now = memory_get(direct, size);
		memory_put(now == want ? direct : expected, size, now == want ? value : now);
		return now == want;
	}
	op = memory_operation(site, p, size, true);
	chosen = memory_choose(c, memory_swappable(&op, weak, want, c));
	trace_op(&op, p, chosen.fails ? "fails on" : "<-",
		chosen.fails ? chosen.store->value : value, chosen.store->newer);
	memory_see(&op, chosen.store);
	if (chosen.fails)
		memory_put(expected, size, chosen.store->value);
	else
		memory_put_behind(&op, chosen.store, value, true);
	sched_performed(!chosen.fails);
	return !chosen.fails;
}

void explore_fence(struct explore_site *site)
{
	enum explore_order order = site_order(site);

	if (sched_self < 0)
		return;
	if (order == EXPLORE_SEQ)
		sched_point(&(struct explore_access){ .all = true, .write = true });
	memory_fence(order);
	if (order == EXPLORE_SEQ)
		sched_performed(true);
	if (trace_on)
		trace("T%d %s  (%s:%u)", sched_self, site->name, site->func, site->line);
}

void explore_barrier(void)
{
	if (sched_self < 0)
		return;
	sched_point(&(struct explore_access){ .barrier = true, .write = true });
	memory_barrier();
	sched_performed(true);
	trace("T%d barrier for all threads", sched_self);
}

void explore_pause(void)
{
}
