/* SPDX-License-Identifier: MIT */
/*
 * Growth of the arena: the frontier, below which granules and their records are accessible.
 *
 * Any number of threads may make the same addresses accessible at the same time, which is
 * idempotent. One of them moves the frontier by compare-and-swap, and what it moved over is then
 * its to give away. If it stops before it has, others grow the arena beyond: what is lost is
 * addresses, not memory. Growth goes by steps because RLIMIT_DATA and strict overcommit charge for
 * what is accessible, used or not. The reservation (reserve.c) grows before it, by larger ones.
 */
#include "arena.h"

#include <errno.h>

/* Where the records of granules below `frontier` end; all up to there are accessible. */
static size_t records_end(const struct arena *a, size_t frontier)
{
	size_t end = (frontier + ARENA_RECORD_STEP - 1) & -(size_t)ARENA_RECORD_STEP;

	return min_size(end, a->granules);
}

int arena_commit_records(struct arena *a, size_t from, size_t to)
{
	size_t records_from = records_end(a, from);
	size_t records_to = records_end(a, to);
	int ret;

	if (records_to <= records_from)
		return 0;
	ret = reserve_records(a, records_to);
	if (ret)
		return ret;
	return os_commit((char *)a - (records_to << PAGE_RECORD_SHIFT),
		(records_to - records_from) << PAGE_RECORD_SHIFT);
}

/* Makes the granules [from, to) and their records accessible. */
static int commit_range(struct arena *a, size_t from, size_t to)
{
	int ret = arena_commit_records(a, from, to);

	return ret ? ret : os_commit(arena_address(a, from), (to - from) << PAGE_GRANULE_SHIFT);
}

/* The end of a step from `from` that reaches `need`. */
static size_t step_end(const struct arena *a, size_t from, size_t need)
{
	size_t step = from / 4;
	size_t end;

	if (step > ARENA_STEP_MAX_GRANULES)
		step = ARENA_STEP_MAX_GRANULES;
	if (step < ARENA_CHUNK_GRANULES)
		step = ARENA_CHUNK_GRANULES;
	end = from + step > need ? from + step : need;
	end = (end + ARENA_CHUNK_GRANULES - 1) & -(size_t)ARENA_CHUNK_GRANULES;
	return min_size(end, a->granules);
}

/* Relaxed is enough: who has a pointer into what is new has it from a thread that came by here. */
void arena_note_reach(const struct arena *a, uint64_t frontier)
{
	uintptr_t reach = records_end(a, frontier) << PAGE_GRANULE_SHIFT;
	uintptr_t seen = a_load_rlx(&page_arena.bytes);

	while (seen < reach && !a_cas_weak_rlx(&page_arena.bytes, &seen, reach))
		;
}

/* Publishes the frontier, unless it is no longer at `from`; the reservation may grow meanwhile. */
static bool frontier_publish(struct arena *a, uint64_t ends, size_t to)
{
	uint64_t from = ends_frontier(ends);

	while (ends_frontier(ends) == from)
		/* [page.2] rel: publishes that all below is accessible, records up to
		 * records_end() included; pairs with ends_get(). */
		if (a_cas_weak_rel(&a->ends, &ends, ends_make(to, ends_reserved(ends))))
			return true;
	return false;
}

/*
 * Moves the frontier from `from` to `need` or, if the system grants it, further. 0: what lies
 * between `from` and *ret_to is the caller's to give away. -EAGAIN: the frontier was elsewhere.
 * -EEXIST: something else is mapped there.
 */
static int frontier_move(struct arena *a, uint64_t from, size_t need, size_t *ret_to)
{
	uint64_t ends;
	size_t to;
	int ret;

	if (need > a->granules)
		return -ENOMEM;
	ret = reserve_extend(a, need);
	if (ret)
		return ret;
	ends = ends_get(a);
	if (ends_frontier(ends) != from)
		return -EAGAIN;
	to = min_size(step_end(a, from, need), ends_reserved(ends));
	if (commit_range(a, from, to)) {
		if (to == need || commit_range(a, from, need))
			return -ENOMEM;
		to = need;
	}
	if (!frontier_publish(a, ends, to))
		return -EAGAIN;
	arena_note_reach(a, to);
	*ret_to = to;
	return 0;
}

/* Makes granules free that the caller got by moving the frontier over them. */
static void give_new(struct arena *a, size_t from, size_t to)
{
	if (from < to && !fit_put(a, from, to - from))
		os_fatal("allod: corrupted page map\n");
}

void arena_grow_first(struct arena *a, size_t n)
{
	a_store_rlx(&a->ends, ends_make(n, ends_reserved(a_load_rlx(&a->ends))));
	give_new(a, 0, n);
}

/* 4 MiB: runs from there on begin at a chunk, so that theirs are whole: huge pages, composing. */
enum { WHOLE_LEAST_GRANULES = 2 * ARENA_CHUNK_GRANULES };

/*
 * Takes the free granules that end at the frontier, so that a large run begins there: *ret_n of
 * them, `most` at most. Looking back stops after ARENA_STEP_MAX_GRANULES.
 */
static bool take_tail(struct arena *a, uint64_t frontier, size_t most, size_t *ret_n)
{
	size_t n = 0;

	most = min_size(most, min_size(frontier, ARENA_STEP_MAX_GRANULES));
	while (n < most && bitmap_is_free(&a->map, frontier - n - 1))
		n++;
	/* What is in front of the chunk stays free, for smaller ones. */
	if (most + 1 >= WHOLE_LEAST_GRANULES)
		n -= min_size(n, (n - frontier) % ARENA_CHUNK_GRANULES);
	if (!n || !bitmap_take_at(&a->map, frontier - n, n))
		return false;
	*ret_n = n;
	return true;
}

size_t arena_grow(struct arena *a, uint64_t frontier, size_t n, size_t align, size_t align_offset)
{
	size_t pos = ((frontier + align_offset + align - 1) & -align) - align_offset;
	size_t tail = 0;
	size_t to;
	int ret;

	/* The frontier that the caller saw before it searched is the one to move: if it moved
	 * meanwhile there is something new to search. */
	if (frontier != ends_frontier(ends_get(a)))
		return ARENA_AGAIN;
	if (n > a->granules)
		return BITMAP_NONE;
	if (align == 1 && n > 1 && take_tail(a, frontier, n - 1, &tail))
		pos = frontier - tail;
	ret = frontier_move(a, frontier, pos + n, &to);
	if (!ret) {
		give_new(a, frontier, pos > frontier ? pos : frontier);
		give_new(a, pos + n, to);
		return pos;
	}
	if (tail)
		(void)fit_put(a, pos, tail);
	if (ret == -EEXIST)
		ret = reserve_jump(a);
	return ret == -EAGAIN ? ARENA_AGAIN : BITMAP_NONE;
}

bool arena_grow_to(struct arena *a, uint64_t end)
{
	for (;;) {
		uint64_t frontier = ends_frontier(ends_get(a));
		size_t to;
		int ret;
		if (frontier >= end)
			return true;
		ret = frontier_move(a, frontier, end, &to);
		if (!ret)
			give_new(a, frontier, to);
		else if (ret != -EAGAIN)
			return false;
	}
}
