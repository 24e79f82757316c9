/* SPDX-License-Identifier: MIT */
/*
 * Composing: a run that lies where no pages are gets those of free chunks that lie scattered, by
 * moving page tables, instead of fresh ones. docs/design/page.md tells how, and what a refusal does.
 *
 * A chunk that was moved into is a mapping of its own, because the kernel keeps with each mapping
 * where its pages were first. It stays one when the run is freed, with its pages, until it is free
 * and without pages and somebody needs mappings: a fresh one that merges takes its place then.
 *
 * Equation          two mappings are counted by page_mappings_take() for each chunk whose byte in
 *                   `composed` is set; there are composed_chunks of them
 * Operations        page_alloc_composed, compose_settle, compose_touches, compose_edge
 * Synchronization   all of them beside each other, and beside all else. The byte of a chunk is
 *                   written by who holds all of its granules, and read by who holds one of them;
 *                   others get a hint
 * Ordering          that of the bitmap: a chunk's byte, its stamps and its page tables are changed
 *                   between taking it and putting it back
 * Progress          nobody waits. A thread stopped in the middle keeps the run and SPAN_MOST chunks
 * Reclamation       none
 */
#include "arena.h"
#include "stamp.h"

#include <errno.h>

enum {
	/*
	 * 32 MiB: of more nobody knows whether it will be used; and in so many pieces a block can
	 * still be moved.
	 */
	USED_MOST = 512,
	/* 16 MiB: so much a stopped thread may keep. By one call 2 us a chunk, and one by one 7. */
	SPAN_MOST = 8,
	/* Mappings that a chunk costs. */
	MAPPINGS_EACH = 2,
	/* The arena is searched so: what is handed out next lies at its beginning. */
	PARTS = 8,
	/* Chunks whose presence is looked at for one run, 3 us each. */
	LOOKS_MOST = 64,
	/* Places that are looked at for one run, 10 ns each: 8 GiB of free memory without pages. */
	STEPS_MOST = 4096,
	/* So few pages in 512 may be missing: they cost a fault each. */
	MISSING_SHARE = 16,
	/* Refusals in a row after which it is tried only now and then. */
	REFUSALS_MOST = 4,
	RETRY_EACH = 64,
};

/* Granules side by side, whole chunks' worth of them. */
struct span {
	size_t pos;
	size_t n;
};

/* The search for sources, of one run: from the end of the arena downward, part by part. */
struct search {
	size_t parts;   /* below the present one */
	size_t at;      /* where to go on */
	size_t end;     /* of the present part */
	unsigned looks; /* left, at the presence of pages */
	unsigned steps; /* left, from a free place to the next */
};

static bool is_composed(const struct arena *a, size_t chunk)
{
	return a_load_rlx(&a->composed[chunk]) != 0;
}

static bool span_take(struct arena *a, const struct span *s)
{
	return bitmap_take_at(&a->map, s->pos, s->n);
}

static void span_put(struct arena *a, const struct span *s)
{
	if (!bitmap_put(&a->map, s->pos, s->n))
		os_fatal("allod: corrupted page map\n");
}

static struct span span_of(size_t chunk)
{
	return (struct span){ chunk * ARENA_CHUNK_GRANULES, ARENA_CHUNK_GRANULES };
}

/* Looks from outside as well: whoever holds the granules may be changing their stamps. */
static bool is_warm(const struct arena *a, const struct span *s)
{
	size_t dirty;
	size_t cold;

	stamps_count_each(a, s->pos, s->n, &dirty, &cold);
	return dirty == s->n && !cold;
}

static bool is_clean(const struct arena *a, const struct span *s)
{
	size_t dirty;
	size_t cold;

	stamps_count_each(a, s->pos, s->n, &dirty, &cold);
	return dirty == 0;
}

bool compose_edge(const struct arena *a, size_t pos)
{
	const size_t chunk = pos / ARENA_CHUNK_GRANULES;

	if (pos % ARENA_CHUNK_GRANULES || !a_load_rlx(&a->composed_chunks))
		return false;
	return is_composed(a, chunk) || (chunk && is_composed(a, chunk - 1));
}

bool compose_touches(const struct arena *a, size_t pos, size_t n)
{
	const size_t last = (pos + n - 1) / ARENA_CHUNK_GRANULES;

	if (!a_load_rlx(&a->composed_chunks))
		return false;
	for (size_t i = pos / ARENA_CHUNK_GRANULES; i <= last; i++)
		if (is_composed(a, i))
			return true;
	return false;
}

/* Marks the chunks of a span that the caller holds; returns how many were not so before. */
static size_t marks_change(struct arena *a, const struct span *s, uint8_t mark)
{
	size_t changed = 0;

	for (size_t i = s->pos; i < s->pos + s->n; i += ARENA_CHUNK_GRANULES)
		changed += a_xchg_rlx(&a->composed[i / ARENA_CHUNK_GRANULES], mark) != mark;
	return changed;
}

static size_t marks_set(struct arena *a, const struct span *s)
{
	const size_t n = marks_change(a, s, 1);

	a_add_rlx(&a->composed_chunks, (uint32_t)n);
	return n;
}

/* They are the arena's mapping again. */
static void marks_clear(struct arena *a, const struct span *s)
{
	const size_t n = marks_change(a, s, 0);

	a_sub_rlx(&a->composed_chunks, (uint32_t)n);
	page_mappings_give(n * MAPPINGS_EACH);
}

/* Granules that are in nobody's hands and are never to be used again. */
static void lose(struct arena *a, const struct span *s)
{
	a_add_rlx(&a->balance, s->n);
	a_add_rlx(&a->lost, s->n);
}

/* Puts a fresh mapping in place of a composed chunk that has no pages and is free. */
static bool settle(struct arena *a, size_t chunk)
{
	const struct span s = span_of(chunk);
	bool done = false;

	if (!span_take(a, &s))
		return false;
	if (is_composed(a, chunk) && is_clean(a, &s)) {
		if (!move_fresh(arena_address(a, s.pos), s.n << PAGE_GRANULE_SHIFT)) {
			lose(a, &s);
			return false;
		}
		marks_clear(a, &s);
		done = true;
	}
	span_put(a, &s);
	return done;
}

bool compose_settle(struct arena *a)
{
	const size_t chunks = arena_frontier(a) / ARENA_CHUNK_GRANULES;
	bool done = false;

	if (!a_load_rlx(&a->composed_chunks) || page_in_janitor())
		return false;
	for (size_t i = 0; i < chunks && a_load_rlx(&a->composed_chunks); i++) {
		const struct span s = span_of(i);
		if (is_composed(a, i) && is_clean(a, &s))
			done = settle(a, i) || done;
	}
	return done;
}

/* As move.c: where a refusal is to be expected nothing is moved. */
static bool may_compose(struct arena *a)
{
	const struct os_facts *facts = os_facts();

	if (facts->overcommit_mode == 2 || facts->address_limit_bytes != OS_UNLIMITED ||
		facts->data_limit_bytes != OS_UNLIMITED)
		return false;
	if (a_load_rlx(&a->compose_refusals) >= REFUSALS_MOST &&
		a_add_rlx(&a->compose_refusals, 1) % RETRY_EACH)
		return false;
	if (page_mappings_crowded() && (!compose_settle(a) || page_mappings_crowded()))
		return false;
	return cost_compose_pays(a);
}

/* Whether a chunk's worth from there on is warm, and present but for a few pages. */
static bool is_source(struct arena *a, size_t pos, struct search *search)
{
	const struct span s = { pos, ARENA_CHUNK_GRANULES };
	const size_t pages = ARENA_CHUNK_BYTES / os_facts()->page_bytes;
	size_t present;

	if (!search->looks || !is_warm(a, &s))
		return false;
	search->looks--;
	return !os_present(arena_address(a, pos), ARENA_CHUNK_BYTES, &present) &&
		present >= pages - pages / MISSING_SHARE;
}

/*
 * Whether it is part of the arena's large mapping, has no huge page of which a part would move, and
 * nobody is about to change that.
 */
static bool is_plain(const struct arena *a, size_t pos, size_t n)
{
	const size_t last = (pos + n - 1) / ARENA_CHUNK_GRANULES;

	for (size_t i = pos / ARENA_CHUNK_GRANULES; i <= last; i++)
		if (is_composed(a, i) || !huge_is_plain(a, i))
			return false;
	return true;
}

/*
 * What to move of the free granules [pos, end): whole chunks if there are any, else as much as a
 * chunk has, whose page tables are moved entry by entry. n is 0 if there is nothing, and pos where
 * to go on.
 */
static struct span source_in(struct arena *a, struct search *search, size_t pos, size_t end,
	size_t most)
{
	size_t whole = (pos + ARENA_CHUNK_GRANULES - 1) & -(size_t)ARENA_CHUNK_GRANULES;
	struct span s;

	if (whole + ARENA_CHUNK_GRANULES > end) {
		s = (struct span){ pos, ARENA_CHUNK_GRANULES };
		if (pos + s.n > end || !is_plain(a, pos, s.n) || !is_source(a, pos, search))
			s = (struct span){ end, 0 };
		return s;
	}
	s = (struct span){ whole, 0 };
	while (s.n < most && s.pos + s.n + ARENA_CHUNK_GRANULES <= end &&
		(!s.n || is_plain(a, s.pos, s.n + ARENA_CHUNK_GRANULES)) &&
		is_source(a, s.pos + s.n, search))
		s.n += ARENA_CHUNK_GRANULES;
	if (!s.n)
		s.pos += ARENA_CHUNK_GRANULES;
	return s;
}

/* The next part of the arena to search; false: there is none. */
static bool search_next(const struct arena *a, struct search *search)
{
	const size_t frontier = arena_frontier(a);

	if (!search->parts)
		return false;
	search->at = frontier / PARTS * --search->parts;
	search->end = search->parts + 1 < PARTS ? frontier / PARTS * (search->parts + 1) : frontier;
	return true;
}

/* The next free granules in the part, and those behind as far as they could be of use. */
static bool search_free(const struct arena *a, struct search *search, struct span *ret_free)
{
	const size_t reach = (SPAN_MOST + 2) * ARENA_CHUNK_GRANULES;
	size_t run;

	search->at = bitmap_next_free(&a->map, search->at, search->end, &run);
	if (search->at == BITMAP_NONE || !search->steps)
		return false;
	search->steps--;
	ret_free->pos = search->at;
	ret_free->n = bitmap_free_end(&a->map, search->at,
			      min_size(search->at + reach, arena_frontier(a))) -
		search->at;
	return ret_free->n != 0;
}

/* Takes up to `most` granules whose pages are free to be moved; false: there are no more. */
static bool source_take(struct arena *a, struct search *search, size_t most, struct span *ret_span)
{
	struct span free;

	do {
		while (search_free(a, search, &free)) {
			const struct span s =
				source_in(a, search, free.pos, free.pos + free.n, most);
			search->at = s.pos + s.n;
			if (!s.n || !span_take(a, &s))
				continue;
			/* They may have been used and freed again, or have gone cold. */
			if (is_warm(a, &s) &&
				(s.n == ARENA_CHUNK_GRANULES || is_plain(a, s.pos, s.n))) {
				*ret_span = s;
				return true;
			}
			span_put(a, &s);
		}
	} while (search_next(a, search));
	return false;
}

static void span_stamp(struct arena *a, const struct span *s, uint16_t stamp)
{
	for (size_t i = s->pos; i < s->pos + s->n; i++)
		stamp_set(a, i, stamp);
}

/* The pages of a span are elsewhere: it reads as zero. */
static void source_empty(struct arena *a, const struct span *s)
{
	span_stamp(a, s, 0);
	a_sub_rlx(&a->balance, (uint64_t)s->n << 32);
}

/* After a refused move: whether the destination is ours still, or again. */
static bool mend(struct arena *a, const struct span *to)
{
	char *base = arena_address(a, to->pos);
	const size_t bytes = to->n << PAGE_GRANULE_SHIFT;
	const int ret = os_reserve_at(base, bytes);

	if (ret)
		return ret == -EEXIST && page_move_spared(base, bytes);
	if (!move_fresh(base, bytes))
		return false;
	marks_clear(a, to);
	return true;
}

enum moved { MOVED, REFUSED, CROWDED, LOST };

/* Moves the pages of one span to another, of whole chunks; the caller holds both. */
static enum moved span_move(struct arena *a, const struct span *from, const struct span *to)
{
	const size_t bytes = to->n << PAGE_GRANULE_SHIFT;
	const size_t mappings = to->n / ARENA_CHUNK_GRANULES * MAPPINGS_EACH;
	char *dst = arena_address(a, to->pos);
	const bool is_huge = from->n == ARENA_CHUNK_GRANULES && huge_is(a, from->pos);

	/* Those that are composed already are counted; then some are given back below. */
	if (!page_mappings_take(mappings))
		return CROWDED;
	huge_forget(a, to->pos, to->n);
	/* Before its pages go: what the janitor collapses after that is seen to be empty. */
	huge_forget(a, from->pos, from->n);
	if (os_move(arena_address(a, from->pos), bytes, dst, bytes, true) != dst) {
		page_mappings_give(mappings);
		a_add_rlx(&a->compose_refusals, 1);
		return mend(a, to) ? REFUSED : LOST;
	}
	if (a_load_rlx(&a->compose_refusals))
		a_store_rlx(&a->compose_refusals, 0);
	page_mappings_give(mappings - marks_set(a, to) * MAPPINGS_EACH);
	if (is_huge)
		huge_adopt(a, to->pos / ARENA_CHUNK_GRANULES);
	span_stamp(a, to, purge_stamp(purge_now(a)));
	source_empty(a, from);
	return MOVED;
}

/* Chunks from there on that have no pages, SPAN_MOST at most, from the first such on. */
static struct span fresh_span(const struct arena *a, size_t pos, size_t end)
{
	struct span s = { pos, ARENA_CHUNK_GRANULES };

	while (s.pos + s.n <= end && !is_clean(a, &s))
		s.pos += ARENA_CHUNK_GRANULES;
	if (s.pos + s.n > end)
		return (struct span){ end, 0 };
	while (s.n < SPAN_MOST * ARENA_CHUNK_GRANULES &&
		s.pos + s.n + ARENA_CHUNK_GRANULES <= end) {
		const struct span next = { s.pos + s.n, ARENA_CHUNK_GRANULES };
		if (!is_clean(a, &next))
			break;
		s.n += ARENA_CHUNK_GRANULES;
	}
	return s;
}

/* What a call of page_compose() has done. */
struct done {
	size_t granules;
	struct span lost; /* n is 0 as a rule */
};

/* Composes whole chunks in [pos, end) of a run that the caller holds, as far as it goes. */
static struct done compose(struct arena *a, size_t pos, size_t end)
{
	struct search search = { .parts = PARTS, .looks = LOOKS_MOST, .steps = STEPS_MOST };
	struct done done = { 0, { 0, 0 } };
	enum moved moved = MOVED;
	struct span from;

	(void)search_next(a, &search);
	pos = (pos + ARENA_CHUNK_GRANULES - 1) & -(size_t)ARENA_CHUNK_GRANULES;
	while (moved == MOVED) {
		struct span to = fresh_span(a, pos, end);
		if (!to.n || !source_take(a, &search, to.n, &from))
			break;
		to.n = from.n;
		moved = span_move(a, &from, &to);
		span_put(a, &from);
		if (moved == LOST)
			done.lost = to;
		if (moved == MOVED)
			done.granules += to.n;
		pos = to.pos + to.n;
	}
	return done;
}

/* A stranger has the chunks in the middle of a run that nobody knows yet: what is left goes back. */
static void run_abandon(struct arena *a, size_t pos, size_t n, const struct span *lost)
{
	const size_t hole_end = lost->pos + lost->n;

	a_add_rlx(&a->lost, lost->n);
	if (lost->pos > pos)
		run_give(a, pos, lost->pos - pos);
	if (pos + n > hole_end)
		run_give(a, hole_end, pos + n - hole_end);
}

static void note(struct arena *a, struct page_run *run, size_t granules)
{
	a_add_rlx(&a->composed_runs, 1);
	a_add_rlx(&a->composed_granules, granules);
	run->fresh -= min_size(run->fresh, granules);
	run->zeroed = false;
}

int page_compose(struct page_run *run, size_t granules)
{
	struct arena *a = arena_get();
	const uint64_t warm = balance_dirty(a_load_rlx(&a->balance));
	struct done done;
	uint64_t begin;
	size_t pos;

	if (run->fresh < ARENA_CHUNK_GRANULES ||
		warm < a_load_rlx(&a->cold) + ARENA_CHUNK_GRANULES ||
		!arena_position(a, run->base, &pos) || !may_compose(a))
		return 0;
	begin = os_fine_ns();
	done = compose(a, pos, pos + granules);
	if (done.granules) {
		cost_note(&a->cost_compose_ns, os_fine_ns() - begin,
			done.granules / ARENA_CHUNK_GRANULES);
		note(a, run, done.granules);
	}
	if (!done.lost.n)
		return 0;
	run_abandon(a, pos, run->granules, &done.lost);
	return -ENOMEM;
}

int page_alloc_composed(size_t granules, size_t used, size_t align_bytes, struct page_run *ret_run)
{
	const int ret = page_alloc(granules, align_bytes, ret_run);

	if (ret || used > USED_MOST || !page_compose(ret_run, used))
		return ret;
	return page_alloc(granules, align_bytes, ret_run);
}
