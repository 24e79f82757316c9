/* SPDX-License-Identifier: MIT */
/*
 * Giving back: free granules whose pages nobody has asked for in a while return to the kernel,
 * while their addresses stay committed. First whole chunks go cold: the kernel may take the pages
 * when it needs some, and who uses them before pays nearly nothing (cost.c tells after what time).
 * After the decay all pages are dropped.
 *
 * A purge takes a chunk of at most 2 MiB out of the bitmap, so that nobody can be using it, has the
 * kernel drop the pages, and puts it back as zero. Whoever is stopped in between costs that chunk.
 * Any number of threads may purge beside each other and beside everything else.
 *
 * Ages are counted in epochs, a quarter of a second or more. A stamp has room for 8191 epochs, then
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
	/* 17 s: after the kernel would not have pages for taking (locked memory, an old kernel). */
	COLD_RETRY_EPOCHS = 64,
};

/* Whether a free granule with this stamp is what the purge looks for. */
static bool is_due(const struct purge *p, uint16_t stamp)
{
	unsigned freed = stamp & STAMP_EPOCH;

	if (!freed || ((p->to_cold || p->only_warm) && (stamp & STAMP_COLD)) ||
		(p->only_cold && !(stamp & STAMP_COLD)))
		return false;
	return (purge_stamp(p->epoch) + STAMP_EPOCHS - freed) % STAMP_EPOCHS >= p->age;
}

/* How many granules from pos on are due without a gap, `most` at most. */
static size_t due_run(const struct arena *a, const struct purge *p, size_t pos, size_t most)
{
	size_t n = 0;

	while (n < most && is_due(p, stamp_get(a, pos + n)))
		n++;
	return n;
}

/*
 * The same within a huge page: all of it or nothing, since splitting it costs half a millisecond
 * and frees nothing at once. What nobody completes in four decays is given back all the same, and
 * whatever is asked for regardless of its age.
 */
static size_t due_in_huge(const struct arena *a, const struct purge *p, size_t pos, size_t most)
{
	const unsigned age = (unsigned)min_size(4 * (size_t)p->age, STAMP_EPOCHS - 1);
	const struct purge late = {
		.epoch = p->epoch, .age = age, .only_cold = p->only_cold, .only_warm = p->only_warm
	};
	const size_t n = due_run(a, p, pos, most);

	if (n == ARENA_CHUNK_GRANULES)
		return n;
	return p->to_cold ? 0 : due_run(a, &late, pos, n);
}

/* How many of the free granules [pos, end) are to be taken together, a chunk at most; 0: none. */
static size_t due_chunk(const struct arena *a, const struct purge *p, size_t pos, size_t end)
{
	const size_t most = min_size(end - pos, ARENA_CHUNK_GRANULES);
	const size_t rest = ARENA_CHUNK_GRANULES - pos % ARENA_CHUNK_GRANULES;
	size_t n;

	if (huge_is(a, pos))
		return due_in_huge(a, p, pos, min_size(most, rest));
	n = due_run(a, p, pos, most);
	if (n > rest && huge_is(a, pos + rest))
		n = rest;
	return n < p->least ? 0 : n;
}

/* Tells which chunk is in work, for who must put it back when the janitor is killed. */
static void claim_set(struct janitor *j, size_t pos, size_t n)
{
	uint64_t generation = a_load_rlx(&j->generation) << CLAIM_GENERATION_SHIFT;

	/* [page.5] rel: the chunk is out of the bitmap; pairs with claim_recover(). */
	a_store_rel(&j->claim, generation | (uint64_t)n << CLAIM_GRANULES_SHIFT | (pos + 1));
}

/* Has the kernel drop the pages of granules that the caller holds; returns how many were dirty. */
static size_t drop(struct arena *a, size_t pos, size_t n, uint16_t now)
{
	huge_forget(a, pos, n);
	const bool refused = os_decommit(arena_address(a, pos), n << PAGE_GRANULE_SHIFT) != 0;
	const uint16_t gone = STAMP_EPOCH | STAMP_COLD;
	size_t dropped = 0;
	size_t cold = 0;

	for (size_t i = 0; i < n; i++) {
		uint16_t stamp = stamp_get(a, pos + i);
		dropped += !refused && (stamp & STAMP_EPOCH);
		cold += !refused && (stamp & STAMP_COLD);
		/* Locked memory cannot be given back: it is tried again after another decay. */
		if (!refused)
			stamp_set(a, pos + i, stamp & (uint16_t)~gone);
		else if (stamp & STAMP_EPOCH)
			stamp_set(a, pos + i, (uint16_t)(stamp & ~STAMP_EPOCH) | now);
	}
	if (cold)
		a_sub_rlx(&a->cold, cold);
	a_sub_rlx(&a->balance, (uint64_t)dropped << 32);
	a_add_rlx(&a->purged, dropped);
	return dropped;
}

/* Lets the kernel take the pages of granules that the caller holds; returns how many. */
static size_t cool(struct arena *a, size_t pos, size_t n, int64_t epoch)
{
	if (os_lazyfree(arena_address(a, pos), n << PAGE_GRANULE_SHIFT)) {
		/* Locked, or an old kernel: not tried again for a while. */
		a_store_rlx(&a->cold_retry, epoch + COLD_RETRY_EPOCHS);
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		stamp_set(a, pos + i, stamp_get(a, pos + i) | STAMP_COLD);
	a_add_rlx(&a->cold, n);
	return n;
}

/* Takes the due granules at pos and gives them back; returns how many it gave back. */
static size_t purge_chunk(struct arena *a, const struct purge *p, size_t pos, size_t n)
{
	size_t given = 0;

	if (!bitmap_take_at(&a->map, pos, n))
		return 0;
	if (p->is_janitor)
		claim_set(&a->janitor, pos, n);
	/* They may have been used and freed again since their stamps were read. */
	if (due_chunk(a, p, pos, pos + n) == n)
		given = p->to_cold ? cool(a, pos, n, p->epoch)
				   : drop(a, pos, n, purge_stamp(p->epoch));
	/* Before the chunk is put back, lest it be put back twice. */
	if (p->is_janitor)
		a_store_rlx(&a->janitor.claim, 0);
	if (!bitmap_put(&a->map, pos, n))
		os_fatal("allod: corrupted page map\n");
	return given;
}

void purge_tidy(struct arena *a, size_t pos, size_t n)
{
	size_t from = 0;

	if (!bitmap_take_at(&a->map, pos, n))
		return;
	claim_set(&a->janitor, pos, n);
	/* What is dirty has a purge of its own to come. */
	for (size_t i = 0; i <= n; i++) {
		if (i < n && !(stamp_get(a, pos + i) & STAMP_EPOCH))
			continue;
		if (i > from)
			(void)os_decommit(arena_address(a, pos + from),
				(i - from) << PAGE_GRANULE_SHIFT);
		from = i + 1;
	}
	a_store_rlx(&a->janitor.claim, 0);
	if (!bitmap_put(&a->map, pos, n))
		os_fatal("allod: corrupted page map\n");
}

size_t purge_some(struct arena *a, size_t *pos, size_t budget, const struct purge *p)
{
	size_t frontier = p->end ? p->end : arena_frontier(a);
	size_t total = 0;
	size_t run = 0;
	size_t at = *pos;

	/* With page:mmap there is no arena, but others keep free memory. */
	if (!frontier || (p->to_cold && p->epoch < a_load_rlx(&a->cold_retry)))
		budget = 0;
	while (total < budget &&
		(at = bitmap_next_free(&a->map, at, frontier, &run)) != BITMAP_NONE) {
		size_t end = at + run;
		while (at < end && total < budget) {
			size_t n = due_chunk(a, p, at, end);
			if (n)
				total += purge_chunk(a, p, at, n);
			at += n ? n : 1;
		}
	}
	*pos = at == BITMAP_NONE || at >= frontier ? 0 : at;
	return total;
}

size_t purge_cool(struct arena *a, int64_t epoch, size_t budget, bool is_janitor)
{
	const unsigned age = a_load_rlx(&a->cold_epochs);
	const struct purge p = { .epoch = epoch,
		.age = age,
		.least = ARENA_CHUNK_GRANULES,
		.to_cold = true,
		.is_janitor = is_janitor };
	size_t pos = 0;

	return age ? purge_some(a, &pos, budget, &p) : 0;
}

/* What there is without regard to its age; returns bytes. */
static size_t trim_some(struct arena *a, bool to_cold, bool only_cold)
{
	const struct purge p = { .epoch = purge_now(a),
		.to_cold = to_cold,
		.only_cold = only_cold,
		.is_janitor = page_in_janitor() };
	size_t pos = 0;

	return purge_some(a, &pos, SIZE_MAX, &p) << PAGE_GRANULE_SHIFT;
}

/* What is due by its age; returns bytes. */
static size_t trim_due(struct arena *a)
{
	const struct purge p = { .epoch = purge_now(a), .age = a->decay_epochs };
	size_t pos = 0;
	size_t n = purge_some(a, &pos, SIZE_MAX, &p);

	return (n + purge_cool(a, p.epoch, SIZE_MAX, false)) << PAGE_GRANULE_SHIFT;
}

size_t page_trim_by(unsigned severity)
{
	struct arena *a = arena_get();
	size_t bytes = keepers_trim(severity);

	if (!a)
		return bytes;
	background_recover(a);
	if (severity == 0)
		return bytes + trim_due(a);
	if (severity >= 3) {
		bytes += trim_some(a, false, false);
		(void)compose_settle(a);
		return bytes;
	}
	if (severity == 2) {
		bytes += trim_some(a, false, true);
		(void)compose_settle(a);
	}
	return bytes + trim_some(a, true, false);
}

size_t page_trim(void)
{
	return page_trim_by(3);
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
	const struct purge p = { .epoch = epoch, .age = a->decay_epochs };
	uint64_t last = a_load_rlx(&a->purge_epoch);
	size_t from = a_load_rlx(&a->purge_cursor);
	size_t pos = from;
	size_t given;

	/* Whoever sets the epoch does the work; others have nothing to do meanwhile. */
	if (last == (uint64_t)epoch || !a_cas_strong_rlx(&a->purge_epoch, &last, (uint64_t)epoch))
		return;
	given = purge_some(a, &pos, budget, &p);
	/* What lies before the place where an earlier round was left has become due since. */
	if (!pos && from && given < budget) {
		from = 0;
		(void)purge_some(a, &pos, budget - given, &p);
	}
	a_store_rlx(&a->purge_cursor, pos);
	if (pos || from)
		a_store_rlx(&a->purge_epoch, last);
	if (pos || from)
		return;
	(void)purge_cool(a, epoch, budget, false);
	(void)keepers_trim(0);
	guard_round(a, NULL);
}

void purge_watch(struct arena *a, int64_t epoch)
{
	uint64_t dirty = balance_dirty(a_load_rlx(&a->balance)) + a_load_rlx(&a->kept);
	uint32_t watch = dirty >= BACKGROUND_DIRTY_GRANULES && !background_fresh(a, epoch);

	if (a_load_rlx(&page_arena.watch) != watch)
		a_store_rlx(&page_arena.watch, watch);
}

void page_tick(void)
{
	struct arena *a = arena_get();
	uint64_t now;
	int64_t epoch;
	size_t budget;

	if (!a || (!balance_dirty(a_load_rlx(&a->balance)) && !a_load_rlx(&a->kept)))
		return;
	now = os_now_ns();
	epoch = (int64_t)(now >> a->epoch_shift);
	budget = tick_budget(a, now);
	if (a_load_rlx(&a->purge_epoch) == (uint64_t)epoch || guard_is_inside(epoch))
		return;
	if (!background_fresh(a, epoch)) {
		cost_measure(a);
		tick_round(a, epoch, budget);
	}
	purge_watch(a, epoch);
}
