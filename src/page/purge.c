/* SPDX-License-Identifier: MIT */
/*
 * Giving back: free granules whose pages nobody has asked for in a while return to the kernel,
 * while their addresses stay committed.
 *
 * A purge takes a chunk of at most 2 MiB out of the bitmap, so that nobody can be using it, has the
 * kernel drop the pages, and puts it back as zero. Whoever is stopped in between costs that chunk.
 * Any number of threads may purge beside each other and beside everything else.
 *
 * Ages are counted in epochs, a quarter of a second or more. A stamp has room for 63 epochs, then
 * ages wrap round: memory that nobody looked at for so long may seem young and stay for one more
 * decay.
 */
#include "arena.h"

enum {
	/* A tick gives back 4 MiB at most: 0.3 ms here, about a millisecond on a slow host... */
	TICK_GRANULES = 2 * ARENA_CHUNK_GRANULES,
	/*
	 * ...and 2 MiB more for each 2^20 ns since the one before, which is a seventh of that time.
	 */
	TICK_GRANULES_SHARE = ARENA_CHUNK_GRANULES,
	TICK_SHARE_SHIFT = 20,
};

/* What a purge looks for. */
struct purge {
	int64_t epoch;
	bool everything;
};

/* Whether a free granule with this stamp is to be given back. */
static bool is_due(const struct arena *a, const struct purge *p, uint8_t stamp)
{
	unsigned freed = stamp & STAMP_EPOCH;
	unsigned age;

	if (!freed)
		return false;
	age = (purge_stamp(p->epoch) + STAMP_EPOCHS - freed) % STAMP_EPOCHS;
	return p->everything || age >= a->decay_epochs;
}

/* How many granules from pos on are due without a gap, `most` at most. */
static size_t due_run(const struct arena *a, const struct purge *p, size_t pos, size_t most)
{
	size_t n = 0;

	while (n < most && is_due(a, p, stamp_get(a, pos + n)))
		n++;
	return n;
}

/* Tells which chunk is in work, for who must put it back when the janitor is killed. */
static void claim_set(struct janitor *j, size_t pos, size_t n)
{
	uint64_t generation = a_load_rlx(&j->generation) << CLAIM_GENERATION_SHIFT;

	/* [page.5] rel: the chunk is out of the bitmap; pairs with claim_recover(). */
	a_store_rel(&j->claim, generation | (uint64_t)n << CLAIM_GRANULES_SHIFT | (pos + 1));
}

/* Has the kernel drop the pages of granules that the caller holds; returns how many were dirty. */
static size_t drop(struct arena *a, size_t pos, size_t n, uint8_t now)
{
	uint8_t left = os_decommit(arena_address(a, pos), n << PAGE_GRANULE_SHIFT) ? now : 0;
	size_t dropped = 0;

	for (size_t i = 0; i < n; i++) {
		uint8_t stamp = stamp_get(a, pos + i);
		dropped += !left && (stamp & STAMP_EPOCH);
		/* Locked memory cannot be given back: it is tried again after another decay. */
		if (!left || (stamp & STAMP_EPOCH))
			stamp_set(a, pos + i, (uint8_t)(stamp & ~STAMP_EPOCH) | left);
	}
	return dropped;
}

/* Gives back the due granules at pos, as many as it can take; returns how many it gave back. */
static size_t purge_chunk(struct arena *a, const struct purge *p, size_t pos, size_t n,
	bool is_janitor)
{
	size_t dropped = 0;

	if (!bitmap_take_at(&a->map, pos, n))
		return 0;
	if (is_janitor)
		claim_set(&a->janitor, pos, n);
	/* They may have been used and freed again since their stamps were read. */
	if (due_run(a, p, pos, n) == n)
		dropped = drop(a, pos, n, purge_stamp(p->epoch));
	a_sub_rlx(&a->balance, (uint64_t)dropped << 32);
	a_add_rlx(&a->purged, dropped);
	/* Before the chunk is put back, lest it be put back twice. */
	if (is_janitor)
		a_store_rlx(&a->janitor.claim, 0);
	if (!bitmap_put(&a->map, pos, n))
		os_fatal("allod: corrupted page map\n");
	return dropped;
}

size_t purge_some(struct arena *a, size_t *pos, size_t budget, int64_t epoch, bool everything,
	bool is_janitor)
{
	const struct purge p = { .epoch = epoch, .everything = everything };
	size_t frontier = arena_frontier(a);
	size_t total = 0;
	size_t run = 0;
	size_t at = *pos;

	while (total < budget &&
		(at = bitmap_next_free(&a->map, at, frontier, &run)) != BITMAP_NONE) {
		size_t end = at + run;
		while (at < end && total < budget) {
			size_t most =
				end - at < ARENA_CHUNK_GRANULES ? end - at : ARENA_CHUNK_GRANULES;
			size_t n = due_run(a, &p, at, most);
			if (n)
				total += purge_chunk(a, &p, at, n, is_janitor);
			at += n ? n : 1;
		}
	}
	*pos = at == BITMAP_NONE || at >= frontier ? 0 : at;
	return total;
}

size_t page_trim(void)
{
	struct arena *a = arena_get();
	size_t pos = 0;

	if (!a || !a->granules)
		return 0;
	background_recover(a);
	return purge_some(a, &pos, SIZE_MAX, purge_now(a), true, false) << PAGE_GRANULE_SHIFT;
}

/*
 * How much a tick may give back, so that no call of a busy program takes long, and the first one
 * after a pause gives back all that fell due in it. Of callers that race each may reckon with the
 * pause.
 */
static size_t tick_budget(struct arena *a, uint64_t now)
{
	uint64_t last = a_load_rlx(&a->tick_ns);

	/* The clock is coarse: the line is written to some hundred times a second at most. */
	if (last != now)
		a_store_rlx(&a->tick_ns, now);
	if (last >= now)
		return TICK_GRANULES;
	return TICK_GRANULES + ((now - last) >> TICK_SHARE_SHIFT) * TICK_GRANULES_SHARE;
}

/* One round of the ticks an epoch, spread over as many ticks as it takes. */
static void tick_round(struct arena *a, int64_t epoch, size_t budget)
{
	uint64_t last = a_load_rlx(&a->purge_epoch);
	size_t from = a_load_rlx(&a->purge_cursor);
	size_t pos = from;
	size_t given;

	/* Whoever sets the epoch does the work; others have nothing to do meanwhile. */
	if (last == (uint64_t)epoch || !a_cas_strong_rlx(&a->purge_epoch, &last, (uint64_t)epoch))
		return;
	given = purge_some(a, &pos, budget, epoch, false, false);
	/* What lies before the place where an earlier round was left has become due since. */
	if (!pos && from && given < budget) {
		from = 0;
		(void)purge_some(a, &pos, budget - given, epoch, false, false);
	}
	a_store_rlx(&a->purge_cursor, pos);
	if (pos || from)
		a_store_rlx(&a->purge_epoch, last);
}

void purge_watch(struct arena *a, int64_t epoch)
{
	uint32_t watch = balance_dirty(a_load_rlx(&a->balance)) >= BACKGROUND_DIRTY_GRANULES &&
		!background_fresh(a, epoch);

	if (a_load_rlx(&page_arena.watch) != watch)
		a_store_rlx(&page_arena.watch, watch);
}

void page_tick(void)
{
	struct arena *a = arena_get();
	uint64_t now;
	int64_t epoch;
	size_t budget;

	if (!a || !balance_dirty(a_load_rlx(&a->balance)))
		return;
	now = os_now_ns();
	epoch = (int64_t)(now >> a->epoch_shift);
	budget = tick_budget(a, now);
	if (a_load_rlx(&a->purge_epoch) == (uint64_t)epoch)
		return;
	if (!background_fresh(a, epoch))
		tick_round(a, epoch, budget);
	purge_watch(a, epoch);
}
