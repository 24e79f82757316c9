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
 * Operations        page_compose, compose_settle, compose_touches, compose_edge
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
	/* 16 MiB: so much a stopped thread may keep. By one call 2 us a chunk, and one by one 7. */
	SPAN_MOST = 8,
	/* Mappings that a chunk costs. */
	MAPPINGS_EACH = 2,
	/* Chunks whose presence is looked at for one run, 3 us each. */
	LOOKS_MOST = 64,
	/* So few pages in 512 may be missing: they cost a fault each. */
	MISSING_SHARE = 16,
	/* Refusals in a row after which it is tried only now and then. */
	REFUSALS_MOST = 4,
	RETRY_EACH = 64,
};

#define CHUNK_BYTES ((size_t)ARENA_CHUNK_GRANULES << PAGE_GRANULE_SHIFT)

/* Chunks side by side. */
struct span {
	size_t first;
	size_t n;
};

/* The search for sources, of one run. */
struct search {
	size_t below; /* chunks from there on have been looked at */
	unsigned looks;
};

static bool is_composed(const struct arena *a, size_t chunk)
{
	return a_load_rlx(&a->composed[chunk]) != 0;
}

static char *chunk_address(const struct arena *a, size_t chunk)
{
	return arena_address(a, chunk * ARENA_CHUNK_GRANULES);
}

static bool span_take(struct arena *a, const struct span *s)
{
	return bitmap_take_at(&a->map, s->first * ARENA_CHUNK_GRANULES,
		s->n * ARENA_CHUNK_GRANULES);
}

static void span_put(struct arena *a, const struct span *s)
{
	if (!bitmap_put(&a->map, s->first * ARENA_CHUNK_GRANULES, s->n * ARENA_CHUNK_GRANULES))
		os_fatal("allod: corrupted page map\n");
}

/* Stamps of all granules of the span, in a hurry: how many are dirty, and of these cold. */
static void span_count(const struct arena *a, const struct span *s, size_t *ret_dirty,
	size_t *ret_cold)
{
	stamps_count(a, s->first * ARENA_CHUNK_GRANULES, s->n * ARENA_CHUNK_GRANULES, ret_dirty,
		ret_cold);
}

static bool is_warm(const struct arena *a, const struct span *s)
{
	size_t dirty;
	size_t cold;

	span_count(a, s, &dirty, &cold);
	return dirty == s->n * ARENA_CHUNK_GRANULES && !cold;
}

static bool is_clean(const struct arena *a, size_t chunk)
{
	const struct span s = { chunk, 1 };
	size_t dirty;
	size_t cold;

	span_count(a, &s, &dirty, &cold);
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

	for (size_t i = 0; i < s->n; i++)
		changed += a_xchg_rlx(&a->composed[s->first + i], mark) != mark;
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
	a_add_rlx(&a->balance, s->n * ARENA_CHUNK_GRANULES);
	a_add_rlx(&a->lost, s->n * ARENA_CHUNK_GRANULES);
}

/* Puts a fresh mapping in place of a composed chunk that has no pages and is free. */
static bool settle(struct arena *a, size_t chunk)
{
	const struct span s = { chunk, 1 };
	bool done = false;

	if (!span_take(a, &s))
		return false;
	if (is_composed(a, chunk) && is_clean(a, chunk)) {
		if (!move_fresh(chunk_address(a, chunk), CHUNK_BYTES)) {
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
	for (size_t i = 0; i < chunks && a_load_rlx(&a->composed_chunks); i++)
		if (is_composed(a, i) && is_clean(a, i))
			done = settle(a, i) || done;
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

/* Whether the chunk is free and warm at this moment, all of it present but for a few pages. */
static bool is_source(struct arena *a, size_t chunk, struct search *search)
{
	const struct span s = { chunk, 1 };
	const size_t pos = chunk * ARENA_CHUNK_GRANULES;
	const size_t pages = CHUNK_BYTES / os_facts()->page_bytes;
	size_t present;

	if (bitmap_free_end(&a->map, pos, pos + ARENA_CHUNK_GRANULES) !=
			pos + ARENA_CHUNK_GRANULES ||
		!is_warm(a, &s) || !search->looks)
		return false;
	search->looks--;
	return !os_present(chunk_address(a, chunk), CHUNK_BYTES, &present) &&
		present >= pages - pages / MISSING_SHARE;
}

/* Whether it is part of the arena's large mapping, and nobody is about to change that. */
static bool is_plain(const struct arena *a, size_t chunk)
{
	return !is_composed(a, chunk) && huge_is_plain(a, chunk);
}

/* Takes up to `most` chunks whose pages are free to be moved; false: there are no more. */
static bool source_take(struct arena *a, struct search *search, size_t most, struct span *ret_span)
{
	while (search->below && search->looks) {
		struct span s = { --search->below, 1 };
		if (!is_source(a, s.first, search))
			continue;
		while (is_plain(a, s.first) && s.n < most && s.first && is_plain(a, s.first - 1) &&
			is_source(a, s.first - 1, search)) {
			s.first--;
			s.n++;
		}
		search->below = s.first;
		if (!span_take(a, &s))
			continue;
		/* They may have been used and freed again, or have gone cold. */
		if (is_warm(a, &s) &&
			(s.n == 1 ||
				!compose_touches(a, s.first * ARENA_CHUNK_GRANULES,
					s.n * ARENA_CHUNK_GRANULES))) {
			*ret_span = s;
			return true;
		}
		span_put(a, &s);
	}
	return false;
}

static void span_stamp(struct arena *a, const struct span *s, uint16_t stamp)
{
	const size_t end = (s->first + s->n) * ARENA_CHUNK_GRANULES;

	for (size_t i = s->first * ARENA_CHUNK_GRANULES; i < end; i++)
		stamp_set(a, i, stamp);
}

/* The pages of a span are elsewhere: it reads as zero. */
static void source_empty(struct arena *a, const struct span *s)
{
	span_stamp(a, s, 0);
	a_sub_rlx(&a->balance, (uint64_t)(s->n * ARENA_CHUNK_GRANULES) << 32);
}

/* After a refused move: whether the destination is ours still, or again. */
static bool mend(struct arena *a, const struct span *to)
{
	char *base = chunk_address(a, to->first);
	const size_t bytes = to->n * CHUNK_BYTES;
	const int ret = os_reserve_at(base, bytes);

	/* A stranger that took the gap within this moment would have to have filled it exactly. */
	if (ret)
		return ret == -EEXIST && os_is_mapped(base, bytes);
	if (!move_fresh(base, bytes))
		return false;
	marks_clear(a, to);
	return true;
}

enum moved { MOVED, REFUSED, CROWDED, LOST };

/* Moves the pages of one span to another; the caller holds both. */
static enum moved span_move(struct arena *a, const struct span *from, const struct span *to)
{
	const size_t pos = to->first * ARENA_CHUNK_GRANULES;
	const size_t n = to->n * ARENA_CHUNK_GRANULES;
	const size_t bytes = to->n * CHUNK_BYTES;
	char *dst = chunk_address(a, to->first);
	const bool is_huge = from->n == 1 && huge_is(a, from->first * ARENA_CHUNK_GRANULES);

	/* Those that are composed already are counted; then some are given back below. */
	if (!page_mappings_take(to->n * MAPPINGS_EACH))
		return CROWDED;
	huge_forget(a, pos, n);
	/* Before its pages go: what the janitor collapses after that is seen to be empty. */
	huge_forget(a, from->first * ARENA_CHUNK_GRANULES, n);
	if (os_move(chunk_address(a, from->first), bytes, dst, bytes, true) != dst) {
		page_mappings_give(to->n * MAPPINGS_EACH);
		a_add_rlx(&a->compose_refusals, 1);
		return mend(a, to) ? REFUSED : LOST;
	}
	if (a_load_rlx(&a->compose_refusals))
		a_store_rlx(&a->compose_refusals, 0);
	page_mappings_give((to->n - marks_set(a, to)) * MAPPINGS_EACH);
	if (is_huge)
		huge_adopt(a, to->first);
	span_stamp(a, to, purge_stamp(purge_now(a)));
	source_empty(a, from);
	return MOVED;
}

/* Chunks of [first, end) that have no pages, SPAN_MOST at most, from the first such on. */
static struct span fresh_span(const struct arena *a, size_t first, size_t end)
{
	struct span s = { first, 0 };

	while (s.first < end && !is_clean(a, s.first))
		s.first++;
	while (s.first + s.n < end && s.n < SPAN_MOST && is_clean(a, s.first + s.n))
		s.n++;
	return s;
}

/* What a call of page_compose() has done. */
struct done {
	size_t chunks;
	struct span lost; /* n is 0 as a rule */
};

/* Composes chunks [first, end) of a run that the caller holds, as far as it goes. */
static struct done compose(struct arena *a, size_t first, size_t end)
{
	struct search search = { arena_frontier(a) / ARENA_CHUNK_GRANULES, LOOKS_MOST };
	struct done done = { 0, { 0, 0 } };
	struct span from;

	while (first < end) {
		struct span to = fresh_span(a, first, end);
		enum moved moved;
		if (!to.n || !source_take(a, &search, to.n, &from))
			break;
		to.n = from.n;
		moved = span_move(a, &from, &to);
		span_put(a, &from);
		if (moved == LOST)
			done.lost = to;
		if (moved != MOVED)
			break;
		done.chunks += to.n;
		first = to.first + to.n;
	}
	return done;
}

/* A stranger has the chunks in the middle of a run that nobody knows yet: what is left goes back. */
static void run_abandon(struct arena *a, size_t pos, size_t n, const struct span *lost)
{
	const size_t hole = lost->first * ARENA_CHUNK_GRANULES;
	const size_t hole_end = hole + lost->n * ARENA_CHUNK_GRANULES;

	a_add_rlx(&a->lost, hole_end - hole);
	if (hole > pos)
		run_give(a, pos, hole - pos);
	if (pos + n > hole_end)
		run_give(a, hole_end, pos + n - hole_end);
}

static void note(struct arena *a, struct page_run *run, size_t chunks)
{
	a_add_rlx(&a->composed_runs, 1);
	a_add_rlx(&a->composed_granules, chunks * ARENA_CHUNK_GRANULES);
	run->fresh -= min_size(run->fresh, chunks * ARENA_CHUNK_GRANULES);
	run->zeroed = false;
}

int page_compose(struct page_run *run, size_t granules)
{
	struct arena *a = arena_get();
	const uint64_t warm = balance_dirty(a_load_rlx(&a->balance));
	struct done done;
	uint64_t begin;
	size_t pos;

	if (run->fresh < PAGE_COMPOSE_LEAST || warm < a_load_rlx(&a->cold) + ARENA_CHUNK_GRANULES ||
		!arena_position(a, run->base, &pos) || !may_compose(a))
		return 0;
	begin = os_fine_ns();
	done = compose(a, (pos + ARENA_CHUNK_GRANULES - 1) / ARENA_CHUNK_GRANULES,
		(pos + granules) / ARENA_CHUNK_GRANULES);
	if (done.chunks) {
		cost_note(&a->cost_compose_ns, os_fine_ns() - begin, done.chunks);
		note(a, run, done.chunks);
	}
	if (!done.lost.n)
		return 0;
	run_abandon(a, pos, run->granules, &done.lost);
	return -ENOMEM;
}
