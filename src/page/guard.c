/* SPDX-License-Identifier: MIT */
/*
 * How much free memory may be kept, so that it is never the cause of a kill.
 *
 *	warm <= headroom / 2	what is warm stays under half of what the control groups, and the
 *				machine, have left; what is more goes cold, so that the kernel can
 *				take it
 *	dirty <= limit		only if the program set one; what is more goes back at once
 *
 * Both speak of what is free here and in the keeping of layers above. They are looked after where
 * memory is freed, by whoever frees it, and by the janitor in each of its rounds: another library's
 * mmap() after the free must find the memory, and nobody may run in between.
 *
 * A free compares two numbers. Only when 4 MiB or more are warm, and have grown by an eighth of the
 * headroom that was found last or come to the bound, it reads the headroom again, which opens some
 * files: 0.2 ms. What
 * a call lets go cold then costs about what munmap() would have, 75 microseconds a MiB, and never
 * more than was freed since the last look and an eighth of the headroom.
 *
 * Operations        guard_freed, page_guard, guard_round, page_limit_set
 * Synchronization   all of them beside each other. Of threads that come to a threshold one looks,
 *                   and moves the threshold first: if it is stopped, another looks when as much has
 *                   been freed again
 * Ordering          none: every number is a hint, and the purges synchronize by themselves
 * Progress          lock-free; nobody waits
 */
#include "arena.h"

#include <errno.h>

enum {
	/* 4 MiB: below, nobody looks. */
	GUARD_LEAST_GRANULES = 64,
	/* Parts of the headroom: what may be warm, to what it is lowered, and when to look again. */
	WARM_PART = 2,
	LOOK_PART = 8,
	/* Where nothing limits: parts of the machine's memory until the next look. */
	RAM_PART = 64,
	/* 1 MiB: the least growth after which to look again. */
	LOOK_LEAST_GRANULES = 16,
	SLICES = 8,
	INSIDE_EPOCHS = 2,
};

/*
 * The thread is giving back, or in a call that may not, until this epoch: what keepers free meanwhile comes here again, and
 * would go deeper with each block that they have. A signal handler may leave by longjmp(), so the
 * mark counts for half a second at most.
 */
static __thread _Atomic(int64_t) inside;

static uint64_t subtract(uint64_t x, uint64_t y)
{
	return x > y ? x - y : 0;
}

static uint64_t lesser(uint64_t x, uint64_t y)
{
	return x < y ? x : y;
}

static uint64_t greater(uint64_t x, uint64_t y)
{
	return x > y ? x : y;
}

static uint64_t granules_of(uint64_t bytes)
{
	return bytes >> PAGE_GRANULE_SHIFT;
}

/* What is warm, here and above; what is cold is added to *ret_cold, in bytes. */
static uint64_t warm_now(struct arena *a, size_t *ret_cold)
{
	uint64_t cold = a_load_rlx(&a->cold);
	uint64_t warm = subtract(balance_dirty(a_load_rlx(&a->balance)), cold);
	uint64_t kept = granules_of(keepers_warm(ret_cold));

	a_store_rlx(&a->kept, kept);
	*ret_cold += cold << PAGE_GRANULE_SHIFT;
	return warm + kept;
}

/*
 * Gives back about `excess` granules, from the end of the arena downward by eighths: what is handed
 * out next lies at its beginning. Returns how many.
 */
static uint64_t purge_high(struct arena *a, uint64_t excess, const struct purge *p)
{
	const size_t frontier = arena_frontier(a);
	struct purge slice = *p;
	uint64_t done = 0;

	for (size_t i = SLICES; i-- && done < excess;) {
		size_t pos = frontier / SLICES * i;
		if (i + 1 < SLICES)
			slice.end = frontier / SLICES * (i + 1);
		done += purge_some(a, &pos, excess - done, &slice);
	}
	return done;
}

/* Lets so many granules go cold; returns what is left to do. */
static uint64_t cool_some(struct arena *a, uint64_t excess, size_t least, bool is_janitor)
{
	const struct purge p = {
		.epoch = purge_now(a), .least = least, .to_cold = true, .is_janitor = is_janitor
	};

	return subtract(excess, purge_high(a, excess, &p));
}

/* The same for dropping their pages, or only those that the kernel may not take anyway. */
static uint64_t drop_some(struct arena *a, uint64_t excess, bool only_warm, bool is_janitor)
{
	const struct purge p = {
		.epoch = purge_now(a), .only_warm = only_warm, .is_janitor = is_janitor
	};

	return subtract(excess, purge_high(a, excess, &p));
}

/* What could not be given back, because it is locked, is not tried again at each free. */
static void give_up(struct arena *a, uint64_t excess)
{
	if (excess)
		a_store_rlx(&a->guard_retry, purge_now(a) + 1);
}

/* Brings what is warm below its part of the headroom. */
static void warm_lower(struct arena *a, uint64_t warm, uint64_t most, bool is_janitor)
{
	uint64_t excess;

	if (warm <= most)
		return;
	/* Not to the bound, lest the next free be over it. */
	excess = warm - (most - most / (LOOK_PART / WARM_PART));
	excess = cool_some(a, excess, ARENA_CHUNK_GRANULES, is_janitor);
	if (excess)
		excess = subtract(excess, granules_of(keepers_trim(1)));
	if (excess)
		excess = cool_some(a, excess, 1, is_janitor);
	/* Parts of huge pages do not go cold, nor does anything on old kernels: they go. */
	if (excess)
		excess = drop_some(a, excess, true, is_janitor);
	give_up(a, excess);
}

/* How much more is free and has pages than the program's limit allows. */
static uint64_t over_limit(struct arena *a)
{
	size_t cold = 0;
	const size_t kept = keepers_warm(&cold);

	return subtract(balance_dirty(a_load_rlx(&a->balance)) + granules_of(kept + cold),
		a_load_rlx(&a->limit));
}

/* Brings it below that. */
static void limit_hold(struct arena *a, bool is_janitor)
{
	uint64_t excess = over_limit(a);

	if (!excess)
		return;
	excess = drop_some(a, excess, false, is_janitor);
	/* Some of what keepers give comes to the arena, with its pages. */
	if (excess) {
		(void)keepers_trim(3);
		excess = drop_some(a, over_limit(a), false, is_janitor);
	}
	give_up(a, excess);
}

/* Looks at the headroom, holds to it, and says when to look again. */
static void look(struct arena *a, const struct os_headroom_files *files, bool is_janitor)
{
	size_t cold = 0;
	const uint64_t warm = warm_now(a, &cold);
	struct os_headroom headroom;
	uint64_t most = UINT32_MAX;
	uint64_t step = granules_of(os_facts()->ram_bytes) / RAM_PART;
	uint64_t left;

	os_headroom_read(files, cold,
		(warm + GUARD_LEAST_GRANULES) * WARM_PART << PAGE_GRANULE_SHIFT, &headroom);
	if (headroom.bytes != OS_UNLIMITED) {
		most = granules_of(headroom.bytes) / WARM_PART;
		step = granules_of(headroom.bytes) / LOOK_PART;
		warm_lower(a, warm, most, is_janitor);
	}
	left = warm_now(a, &cold);
	a_store_rlx(&a->guard_room, headroom.bytes);
	a_store_rlx(&a->guard_step, step);
	step = lesser(step, subtract(most, left));
	a_store_rlx(&a->guard_at,
		greater(left + greater(step, LOOK_LEAST_GRANULES), GUARD_LEAST_GRANULES));
}

bool guard_is_inside(int64_t epoch)
{
	return epoch < a_load_rlx(&inside);
}

bool guard_begin(int64_t epoch)
{
	if (guard_is_inside(epoch))
		return false;
	a_store_rlx(&inside, epoch + INSIDE_EPOCHS);
	return true;
}

void guard_end(void)
{
	a_store_rlx(&inside, 0);
}

bool page_brief_begin(void)
{
	struct arena *a = arena_get();

	return a && guard_begin(purge_now(a));
}

void page_brief_end(void)
{
	guard_end();
}

__attribute__((cold, noinline)) void guard_freed(struct arena *a)
{
	const int64_t epoch = purge_now(a);
	uint64_t at = a_load_rlx(&a->guard_at);
	size_t cold = 0;
	const uint64_t warm = warm_now(a, &cold);

	/* The janitor may open nothing: it looks at the end of its round. */
	if (epoch < a_load_rlx(&a->guard_retry) || page_in_janitor() || !guard_begin(epoch))
		return;
	if (a_load_rlx(&a->limit) != GUARD_NO_LIMIT)
		limit_hold(a, false);
	/* Others come back when as much has been freed again. */
	if (warm >= at &&
		a_cas_strong_rlx(&a->guard_at, &at,
			warm + greater(a_load_rlx(&a->guard_step), GUARD_LEAST_GRANULES)))
		look(a, NULL, false);
	guard_end();
}

void guard_round(struct arena *a, const struct os_headroom_files *files)
{
	size_t cold = 0;

	if (a_load_rlx(&a->limit) != GUARD_NO_LIMIT)
		limit_hold(a, files != NULL);
	if (warm_now(a, &cold) >= GUARD_LEAST_GRANULES)
		look(a, files, files != NULL);
	else
		a_store_rlx(&a->guard_at, GUARD_LEAST_GRANULES);
}

void guard_init(struct arena *a)
{
	a_store_rlx(&a->guard_at, GUARD_LEAST_GRANULES);
	a_store_rlx(&a->limit,
		options.page_cache_bytes ? granules_of(options.page_cache_bytes) : GUARD_NO_LIMIT);
}

void page_guard(size_t bytes)
{
	struct arena *a = arena_get();
	uint64_t kept;
	int64_t epoch;

	if (!a)
		return;
	kept = a_add_rlx(&a->kept, granules_of(bytes)) + granules_of(bytes);
	if (guard_is_due(a) || kept > a_load_rlx(&a->limit))
		guard_freed(a);
	epoch = purge_now(a);
	if (kept >= BACKGROUND_DIRTY_GRANULES && !background_fresh(a, epoch)) {
		background_poke(a, epoch);
		purge_watch(a, epoch);
	}
}

void page_guard_taken(size_t bytes)
{
	struct arena *a = arena_get();
	uint64_t kept = a ? a_load_rlx(&a->kept) : 0;

	/* Of those that race with another one is counted: it is a hint, made anew at each look. */
	if (kept)
		(void)a_cas_weak_rlx(&a->kept, &kept, subtract(kept, granules_of(bytes)));
}

int page_limit_set(size_t bytes)
{
	struct arena *a = arena_need();

	if (!a)
		return -ENOMEM;
	a_store_rlx(&a->limit, bytes ? granules_of(bytes) : GUARD_NO_LIMIT);
	if (bytes)
		limit_hold(a, false);
	return 0;
}

size_t page_limit(void)
{
	struct arena *a = arena_get();
	uint64_t limit = a ? a_load_rlx(&a->limit) : GUARD_NO_LIMIT;

	return limit == GUARD_NO_LIMIT ? 0 : limit << PAGE_GRANULE_SHIFT;
}
