/* SPDX-License-Identifier: MIT */
/*
 * Growing by moving pages instead of copying bytes.
 *
 * The kernel keeps with each mapping the place where its pages were first, so pages that are moved
 * into the arena lie in a mapping of their own, which splits the one around it: two more mappings
 * for each piece that is moved (a run that was moved before consists of several). They are counted
 * by STAMP_HEAD marks against a quarter of vm.max_map_count, and when such a run is freed a fresh
 * mapping, which the kernel merges with its neighbours, takes its place.
 *
 * A move first unmaps its destination. Should the kernel refuse after that, the addresses are open
 * to anybody's mmap() for a moment; so they are used again only if they can be reserved without
 * replacing anything, and are given up otherwise. For the same reason nothing is moved where a
 * refusal is to be expected: under limits on address space or data, and strict overcommit.
 */
#include "arena.h"

#include <errno.h>
#include <string.h>

enum {
	/* 256 KiB: below, copying is cheaper than editing the map. */
	MOVE_LEAST_GRANULES = 4,
	/* 4 MiB: above, a copy takes longer than a caller of realloc should wait. */
	MOVE_ALWAYS_GRANULES = 64,
	/* So many moved runs freed again show a program that grows blocks over and over. */
	MOVE_REGRETS = 8,
	/* Refusals in a row after which nothing is moved any more: this kernel cannot. */
	MOVE_REFUSALS = 4,
	/* A run in more pieces is copied, and is in one again. */
	MOVE_PIECES_MOST = 16,
	/*
	 * A moved piece costs two mappings; they may take up this part of what the kernel allows.
	 */
	MOVE_MAPPINGS_EACH = 2,
	MOVE_MAPPINGS_PART = 4,
	/* So few are made without counting the process's; counting takes 0.3 us for each. */
	MOVE_MAPPINGS_FREELY = 256,
	/* This part of what the kernel allows is left to others. */
	MOVE_MAPPINGS_LEFT = 64,
	/* mremap(2) wants five to be left; and others may just have unmapped something. */
	MOVE_MAPPINGS_NEAR = 16,
};

/* When too few are left, they are counted again a second later. */
#define MOVE_MAPPINGS_RETRY_NS ((uint64_t)1000000000)

bool move_repair(void *base, size_t bytes)
{
	return !os_reserve_at(base, bytes);
}

/*
 * What was not unmapped is part of what it was part of before. If it has been a mapping by itself,
 * only the kernel's allowance of mappings tells, which it looks at before it unmaps anything. A
 * stranger's mapping that fills the gap exactly looks the same as one of ours, but for that.
 */
bool page_move_spared(void *base, size_t bytes)
{
	const uint64_t most = os_facts()->max_map_count;

	return os_is_mapped(base, bytes) &&
		(os_is_joined(base, bytes) || os_map_count(most) + MOVE_MAPPINGS_NEAR >= most);
}

bool move_fresh(char *base, size_t bytes)
{
	if (os_map_fixed(base, bytes)) {
		/* Refused. If all of it is still there, emptying it does as well. */
		if (os_commit(base, bytes) || os_decommit(base, bytes))
			return false;
		return true;
	}
	reserve_dress(base, bytes);
	return true;
}

static void marks_clear(struct arena *a, size_t pos, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (stamp_get(a, pos + i) & STAMP_HEAD)
			a_sub_rlx(&a->moved, 1);
		stamp_set(a, pos + i, 0);
	}
}

bool move_reset(struct arena *a, size_t pos, size_t n)
{
	if (!move_fresh(arena_address(a, pos), n << PAGE_GRANULE_SHIFT))
		return false;
	marks_clear(a, pos, n);
	a_add_rlx(&a->move_regrets, 1);
	return true;
}

/*
 * Whether moving may be tried at all. A moved run costs its pages when it is freed, and the place
 * it left has none either: where that happens again and again, both are faulted in each time, at
 * several times the cost of a copy between pages that stay. So runs of moderate size are copied
 * then.
 */
static bool may_move(struct arena *a, size_t n)
{
	const struct os_facts *facts = os_facts();

	if (n < MOVE_ALWAYS_GRANULES && a_load_rlx(&a->move_regrets) >= MOVE_REGRETS)
		return false;
	return n >= MOVE_LEAST_GRANULES && a_load_rlx(&a->move_refusals) < MOVE_REFUSALS &&
		facts->overcommit_mode != 2 && facts->address_limit_bytes == OS_UNLIMITED &&
		facts->data_limit_bytes == OS_UNLIMITED;
}

/*
 * The granules from pos on, `most` at most, that lie in one mapping as far as we know. The kernel
 * moves one mapping at a time, and a run that was moved and has grown lies in several.
 */
static size_t piece_at(const struct arena *a, size_t pos, size_t most)
{
	uint16_t first = stamp_get(a, pos) & STAMP_MOVED;
	size_t n = 1;

	while (n < most && (stamp_get(a, pos + n) & STAMP_MOVED) == first &&
		!(stamp_get(a, pos + n) & STAMP_HEAD) && !compose_edge(a, pos + n))
		n++;
	return n;
}

size_t page_piece(const char *base, size_t granules)
{
	struct arena *a = arena_get();
	size_t pos;

	return arena_position(a, base, &pos) ? piece_at(a, pos, granules) : granules;
}

static size_t pieces_of(const struct arena *a, size_t pos, size_t n)
{
	size_t pieces = 0;

	for (size_t i = 0; i < n; i += piece_at(a, pos + i, n - i))
		pieces++;
	return pieces;
}

/* Mappings that moving may cost at most. */
static uint64_t budget(void)
{
	return os_facts()->max_map_count / MOVE_MAPPINGS_PART;
}

static uint64_t budget_used(struct arena *a)
{
	return a_load_rlx(&a->moved) * MOVE_MAPPINGS_EACH + a_load_rlx(&a->moved_above);
}

/*
 * A program may have most of the kernel's allowance itself. So the process's mappings are counted
 * now and then, when ours have grown; up to the next time they may take half of what is left.
 */
static bool budget_widen(struct arena *a, uint64_t used)
{
	uint64_t limit = os_facts()->max_map_count;
	uint64_t all;
	uint64_t left;

	if (os_now_ns() < a_load_rlx(&a->mappings_retry_ns))
		return false;
	all = os_map_count(limit);
	left = all < limit ? limit - all : 0;
	if (left < limit / MOVE_MAPPINGS_LEFT) {
		a_store_rlx(&a->mappings_retry_ns, os_now_ns() + MOVE_MAPPINGS_RETRY_NS);
		return false;
	}
	a_store_rlx(&a->mappings_allowed, used + left / 2);
	return true;
}

static bool budget_allows(struct arena *a)
{
	uint64_t used = budget_used(a);

	if (used > budget())
		return false;
	return used <= MOVE_MAPPINGS_FREELY || used <= a_load_rlx(&a->mappings_allowed) ||
		budget_widen(a, used);
}

bool page_mappings_take(size_t n)
{
	struct arena *a = arena_get();

	if (!a)
		return false;
	a_add_rlx(&a->moved_above, n);
	if (budget_allows(a) || (compose_settle(a) && budget_allows(a)))
		return true;
	a_sub_rlx(&a->moved_above, n);
	return false;
}

void page_mappings_give(size_t n)
{
	a_sub_rlx(&arena_get()->moved_above, n);
}

bool page_mappings_crowded(void)
{
	struct arena *a = arena_get();

	return a &&
		(budget_used(a) > budget() / 2 || os_now_ns() < a_load_rlx(&a->mappings_retry_ns));
}

/* Counts so many more moved pieces, if the budget allows. */
static bool budget_take(struct arena *a, size_t pieces)
{
	if (pieces <= MOVE_PIECES_MOST) {
		a_add_rlx(&a->moved, pieces);
		if (budget_allows(a))
			return true;
	}
	if (pieces <= MOVE_PIECES_MOST)
		a_sub_rlx(&a->moved, pieces);
	return false;
}

/*
 * Takes a destination. Where the run is large, at the same place within 2 MiB: then the kernel
 * moves page tables and not their entries.
 */
static size_t destination_take(struct arena *a, size_t pos, size_t old_n, size_t new_n)
{
	size_t to = BITMAP_NONE;

	if (old_n >= ARENA_CHUNK_GRANULES)
		to = run_take(a, new_n, ARENA_CHUNK_GRANULES, -pos % ARENA_CHUNK_GRANULES);
	return to == BITMAP_NONE ? run_take(a, new_n, 1, 0) : to;
}

/* The destination's pages were replaced by those that moved in. */
static void mark_moved(struct arena *a, size_t pos, size_t n)
{
	marks_clear(a, pos, n);
	stamp_set(a, pos, STAMP_MOVED | STAMP_HEAD);
	for (size_t i = 1; i < n; i++)
		stamp_set(a, pos + i, STAMP_MOVED);
}

/* Moves piece by piece; returns how many granules were moved before the kernel refused. */
static size_t move_pieces(struct arena *a, size_t pos, size_t to, size_t n)
{
	size_t done = 0;

	while (done < n) {
		size_t piece = piece_at(a, pos + done, n - done);
		size_t bytes = piece << PAGE_GRANULE_SHIFT;
		char *dst = arena_address(a, to + done);
		if (os_move(arena_address(a, pos + done), bytes, dst, bytes, true) != dst)
			break;
		mark_moved(a, to + done, piece);
		done += piece;
	}
	return done;
}

/*
 * After a refusal: brings back what had been moved, by copying, which cannot be refused, and frees
 * the destination as far as it is surely ours.
 */
static void undo(struct arena *a, size_t pos, size_t to, size_t done, size_t old_n, size_t new_n)
{
	size_t piece = piece_at(a, pos + done, old_n - done);
	char *gap = arena_address(a, to + done);
	size_t gap_bytes = piece << PAGE_GRANULE_SHIFT;

	a_add_rlx(&a->move_refusals, 1);
	a_sub_rlx(&a->moved, pieces_of(a, pos + done, old_n - done));
	if (done) {
		memcpy(arena_address(a, pos), arena_address(a, to), done << PAGE_GRANULE_SHIFT);
		run_give(a, to, done);
	}
	if (move_repair(gap, gap_bytes) && move_fresh(gap, gap_bytes))
		run_give(a, to + done, piece);
	else
		a_add_rlx(&a->lost, piece);
	if (new_n > done + piece)
		run_give(a, to + done + piece, new_n - done - piece);
}

static int arena_move(struct arena *a, size_t pos, size_t old_n, size_t new_n,
	struct page_run *ret_run)
{
	size_t pieces;
	size_t done;
	size_t to;
	size_t dirty;
	size_t fresh;

	if (!may_move(a, old_n))
		return -ENOTSUP;
	pieces = pieces_of(a, pos, old_n);
	if (!budget_take(a, pieces))
		return -ENOTSUP;
	to = destination_take(a, pos, old_n, new_n);
	if (to == BITMAP_NONE) {
		a_sub_rlx(&a->moved, pieces);
		return -ENOMEM;
	}
	dirty = run_account_take(a, to, old_n);
	fresh = new_n - old_n - run_account_take(a, to + old_n, new_n - old_n);
	/* It would leave parts of what was moved in there, and nobody counts those. */
	if (compose_touches(a, to, old_n)) {
		a_sub_rlx(&a->moved, pieces);
		run_put(a, to, new_n, dirty + new_n - old_n - fresh);
		return -ENOTSUP;
	}
	/* A mapping ends where huge pages are allowed, and the kernel moves one at a time. */
	huge_forget(a, pos, old_n);
	huge_forget(a, to, new_n);
	done = move_pieces(a, pos, to, old_n);
	if (done < old_n) {
		undo(a, pos, to, done, old_n, new_n);
		return -ENOTSUP;
	}
	if (a_load_rlx(&a->move_refusals))
		a_store_rlx(&a->move_refusals, 0);
	run_give_clean(a, pos, old_n);
	*ret_run = (struct page_run){ arena_address(a, to), new_n, fresh, fresh == new_n - old_n };
	return 0;
}

int page_move_direct(char *base, size_t old_granules, size_t new_granules, uint32_t slot,
	struct page_run *ret_run)
{
	struct arena *a = arena_get();
	int ret;

	ASSERT(a && old_granules > 0 && new_granules > old_granules);
	ret = direct_move(a, base, old_granules, new_granules, slot, ret_run);
	if (!ret)
		a_add_rlx(&a->move_calls, 1);
	return ret;
}

static int any_direct_move(char *base, size_t old_granules, size_t new_granules,
	struct page_run *ret_run)
{
	uint32_t slot = page_direct_take();
	int ret;

	if (slot == UINT32_MAX)
		return -ENOMEM;
	ret = page_move_direct(base, old_granules, new_granules, slot, ret_run);
	if (ret)
		page_direct_give(slot);
	return ret;
}

int page_move(char *base, size_t old_granules, size_t new_granules, struct page_run *ret_run)
{
	struct arena *a = arena_get();
	size_t pos;
	int ret;

	ASSERT(a && old_granules > 0 && new_granules > old_granules);
	if (!arena_position(a, base, &pos))
		return any_direct_move(base, old_granules, new_granules, ret_run);
	ret = arena_move(a, pos, old_granules, new_granules, ret_run);
	if (!ret)
		a_add_rlx(&a->move_calls, 1);
	return ret;
}
