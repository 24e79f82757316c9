/* SPDX-License-Identifier: MIT */
/*
 * The reservation: which of the arena's addresses are kept from everybody else's mappings.
 *
 * It begins small and grows in steps, so that what a process reserves is in proportion to what it
 * uses: behind the granules, and below their records. Nothing is ever replaced: a step whose place
 * is not free fails with -EEXIST, be it by another thread's step or by a stranger's mapping.
 *
 * Operations        reserve_extend, reserve_jump, reserve_records
 * Synchronization   all of them beside each other, in any number of threads. Of those that try the
 *                   same step at most one succeeds: the kernel decides. It publishes the new end
 * Linearization     granules: the CAS of `ends`. Records: the store of `records_reserved`, by the
 *                   only thread that can have mapped what begins there
 * Ordering          [page.2] and [page.6]
 * Progress          lock-free. Whoever finds a step taken that nobody has published looks again a
 *                   few times, then takes it for a stranger's: it goes on behind, and the addresses
 *                   between stay out of use. If another thread's step was taken for a stranger's,
 *                   that thread finds `ends` changed and unmaps its step, which nobody else has
 *                   touched. So a thread that stops for ever between mapping and publishing, or
 *                   does not exist in a forked child, costs the addresses of one step. Records
 *                   cannot be left out: there the arena ends, and what is beyond goes by direct
 *                   runs
 * Reclamation       none
 */
#include "arena.h"

#include <errno.h>

enum {
	/* Granules are reserved in steps of 64 MiB up to 1 GiB, doubling what there is. */
	RESERVE_STEP_MOST = 16384,
	/* Their records for up to 32 GiB at a time, likewise: 64 MiB of records. */
	RESERVE_RECORDS_STEP_MOST = 524288,
	/*
	 * Looks at a step that is taken and not published: some microseconds, for another thread's.
	 */
	RESERVE_TRIES = 16,
};

void reserve_name(char *base, size_t bytes)
{
	(void)os_name(base, bytes, "allod");
}

void reserve_dress(char *base, size_t bytes)
{
	/* Hosts whose THP setting is `always` would back the first byte with 2 MiB. */
	(void)os_huge(base, bytes, false);
	reserve_name(base, bytes);
}

int reserve_range(char *base, size_t bytes)
{
	int ret = os_reserve_at(base, bytes);

	if (!ret)
		(void)os_huge(base, bytes, false);
	return ret;
}

/* The end of a step from `from` that reaches `need`, doubling what there is up to `most`. */
static size_t step_end(const struct arena *a, size_t from, size_t need, size_t most)
{
	size_t end = from + min_size(from, most);

	if (end < need)
		end = need;
	end = (end + RESERVE_UNIT_GRANULES - 1) & -(size_t)RESERVE_UNIT_GRANULES;
	return min_size(end, a->granules);
}

/* Reserves the records of [from, to). */
static int records_range(struct arena *a, size_t from, size_t to)
{
	return reserve_range((char *)a - (to << PAGE_RECORD_SHIFT),
		(to - from) << PAGE_RECORD_SHIFT);
}

int reserve_records(struct arena *a, size_t n)
{
	for (unsigned tries = 0; tries < RESERVE_TRIES; tries++) {
		/*
		 * [page.6] acq: the kernel has been asked for those below; pairs with the store
		 * below.
		 */
		size_t from = a_load_acq(&a->records_reserved);
		size_t to = step_end(a, from, n, RESERVE_RECORDS_STEP_MOST);
		int ret;
		if (from >= n)
			return 0;
		ret = records_range(a, from, to);
		if (ret && ret != -EEXIST) {
			to = step_end(a, from, n, 0);
			ret = records_range(a, from, to);
		}
		/* [page.6] rel: the records below are reserved; pairs with the load above. */
		if (!ret)
			a_store_rel(&a->records_reserved, to);
		else if (ret != -EEXIST)
			return -ENOMEM;
		if (!ret)
			reserve_name((char *)a - (to << PAGE_RECORD_SHIFT),
				(to - from) << PAGE_RECORD_SHIFT);
	}
	return -ENOMEM;
}

/* Reserves granules from `from` on, as far as `need` or, if the system grants it, further. */
static int reserve_granules(struct arena *a, size_t from, size_t need, size_t *ret_to)
{
	size_t to = step_end(a, from, need, RESERVE_STEP_MOST);
	char *base = arena_address(a, from);
	int ret = reserve_range(base, (to - from) << PAGE_GRANULE_SHIFT);

	if (ret && ret != -EEXIST) {
		to = (need + arena_unit() - 1) & -arena_unit();
		ret = reserve_range(base, (to - from) << PAGE_GRANULE_SHIFT);
	}
	if (!ret)
		*ret_to = to;
	return ret;
}

/* Tells the others of a step of granules; gives it back if they have gone on behind it. */
static void publish(struct arena *a, size_t from, size_t to)
{
	const size_t bytes = (to - from) << PAGE_GRANULE_SHIFT;
	uint64_t ends = ends_get(a);

	while (ends_reserved(ends) == from)
		/* [page.2] rel: publishes that the kernel has been asked; pairs with ends_get(). */
		if (a_cas_weak_rel(&a->ends, &ends, ends_make(ends_frontier(ends), to))) {
			reserve_name(arena_address(a, from), bytes);
			return;
		}
	(void)os_unmap(arena_address(a, from), bytes);
}

/*
 * Whether there was no room behind this end a moment ago. What was in the way may have been another
 * thread's step that it has given back, so this holds for an epoch.
 */
static bool is_closed(struct arena *a, size_t from)
{
	return a_load_rlx(&a->closed_at) == from && a_load_rlx(&a->closed_epoch) == purge_now(a);
}

int reserve_extend(struct arena *a, size_t need)
{
	unsigned tries = 0;

	for (;;) {
		size_t from = ends_reserved(ends_get(a));
		size_t to;
		int ret;
		if (from >= need)
			return 0;
		if (tries == RESERVE_TRIES)
			return -EEXIST;
		if (is_closed(a, from))
			return -ENOMEM;
		ret = reserve_granules(a, from, need, &to);
		if (!ret)
			publish(a, from, to);
		else if (ret != -EEXIST)
			return -ENOMEM;
		tries += ret != 0;
	}
}

/*
 * Goes on at `at`, leaving out what lies between; both ends are at `from`. The records between are
 * made accessible, since look-ups reach them. -EAGAIN: the ends have moved, by us or by another
 * thread.
 */
static int jump_to(struct arena *a, size_t from, size_t at)
{
	uint64_t ends = ends_make(from, from);
	size_t to;
	int ret = reserve_granules(a, at, at + 1, &to);

	if (ret)
		return ret == -EEXIST ? ret : -ENOMEM;
	ret = arena_commit_records(a, from, at) ? -ENOMEM : -EAGAIN;
	/* [page.2] rel: publishes that the records below are accessible; pairs with ends_get(). */
	if (ret == -EAGAIN && a_cas_strong_rel(&a->ends, &ends, ends_make(at, to))) {
		a_add_rlx(&a->skipped, at - from);
		reserve_name(arena_address(a, at), (to - at) << PAGE_GRANULE_SHIFT);
	} else {
		(void)os_unmap(arena_address(a, at), (to - at) << PAGE_GRANULE_SHIFT);
	}
	return ret;
}

int reserve_jump(struct arena *a)
{
	size_t from = ends_reserved(ends_get(a));

	if (!arena_grow_to(a, from))
		return -ENOMEM;
	if (ends_get(a) != ends_make(from, from))
		return -EAGAIN;
	for (size_t far = RESERVE_UNIT_GRANULES; far < a->granules - from; far *= 2) {
		int ret = jump_to(a, from, from + far);
		if (ret != -EEXIST)
			return ret;
	}
	a_store_rlx(&a->closed_epoch, purge_now(a));
	a_store_rlx(&a->closed_at, from);
	return -ENOMEM;
}
