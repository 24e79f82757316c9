/* SPDX-License-Identifier: MIT */
/*
 * The same for many blocks at once: runs of one search of the bitmap, frees and ranges in the order
 * of their addresses, so that neighbours go together. Each block is changed as a call for it alone
 * would, by the same exchanges; only what is done to page and to the system is done once.
 */
#include "core.h"

#include <errno.h>

enum {
	/* 2 MiB: more in a row would go past holes that are large enough for many. */
	RUNS_MOST_GRANULES = 32,
	/* 32 MiB, of memory that has its pages: so nothing is taken that a hole would have spared. */
	RUNS_WARM_GRANULES = 512,
};

/* Makes runs of equal size of one; without names, and without room. */
static void runs_begin(const struct page_run *run, size_t granules, size_t n, unsigned flags,
	void **ret_blocks)
{
	for (size_t i = 0; i < n; i++) {
		char *base = run->base + (i * granules << PAGE_GRANULE_SHIFT);
		struct unit *unit = unit_of(base);
		a_store_rlx(&unit->room, (uint32_t)granules);
		a_store_rlx(&unit->tag, 0);
		a_store_rlx(&unit->word, unit_run(UNIT_RUN, granules, flags));
		ret_blocks[i] = base;
	}
}

/* At most so many runs at once; 0: not two. */
static size_t runs_in(size_t most, size_t granules, size_t count)
{
	const size_t n = most / granules < count ? most / granules : count;

	return n < 2 ? 0 : n;
}

/* Finds room for some runs side by side, at least two; how many, or 0: not in this way. */
static size_t runs_find(size_t granules, size_t count, unsigned flags, struct page_run *ret_run)
{
	size_t n = runs_in(RUNS_WARM_GRANULES, granules, count);
	int ret;

	n = n ? page_alloc_warm(granules, n, ret_run) : 0;
	if (n)
		return n;
	n = runs_in(RUNS_MOST_GRANULES, granules, count);
	if (!n)
		return 0;
	if (flags & ALLOD_PAGE_CONSTANT_TIME)
		ret = page_alloc_ready(n * granules, 0, ret_run);
	else if (flags & ALLOD_PAGE_NO_COMMIT)
		ret = page_alloc(n * granules, 0, ret_run);
	else
		ret = page_alloc_composed(n * granules, n * granules, 0, ret_run);
	return ret ? 0 : n;
}

/* Up to 32 MiB of runs, at least two; 0: not in this way. */
static size_t runs_alloc(size_t granules, size_t count, unsigned flags, void **ret_blocks)
{
	const bool may_call = !(flags & ALLOD_PAGE_CONSTANT_TIME);
	struct page_run run;
	struct unit *unit;
	const size_t n = runs_find(granules, count, flags, &run);
	const size_t all = n * granules;

	if (!n)
		return 0;
	if (!page_in_arena(run.base) ||
		unit_need(run.base + ((all - 1) << PAGE_GRANULE_SHIFT), may_call, &unit)) {
		page_free(run.base, all);
		return 0;
	}
	runs_begin(&run, granules, n, flags, ret_blocks);
	page_prepare(&run, flags & ALLOD_PAGE_ZEROED,
		may_call && !(flags & ALLOD_PAGE_NO_COMMIT) ? all << PAGE_GRANULE_SHIFT : 0);
	return n;
}

size_t block_alloc_many(size_t bytes, unsigned flags, size_t count, void **ret_blocks)
{
	const size_t rounded = round_pages(bytes);
	size_t done = 0;
	size_t n;

	if (rounded < bytes || rounded == 0)
		return 0;
	if (rounded / page_bytes() <= piece_most())
		return piece_alloc_many(rounded / page_bytes(), flags, count, ret_blocks);
	do {
		n = runs_alloc(granules_for(rounded), count - done, flags, ret_blocks + done);
		done += n;
	} while (n && done < count);
	return done;
}

/* By address; they are mostly in order already. */
static void sort(void **blocks, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		void *p = blocks[i];
		size_t j = i;
		for (; j > 0 && (uintptr_t)blocks[j - 1] > (uintptr_t)p; j--)
			blocks[j] = blocks[j - 1];
		blocks[j] = p;
	}
}

static bool is_aligned(const void *p, size_t bytes)
{
	return !((uintptr_t)p & (bytes - 1));
}

/* Frees the pieces at the front that share a granule; how many. A piece may not come twice. */
static size_t pieces_free(struct unit *unit, void **blocks, size_t count)
{
	const uintptr_t base = (uintptr_t)unit_address(unit);
	uint32_t begins = 0;
	size_t n = 0;

	for (; n < count && (uintptr_t)blocks[n] - base < PAGE_GRANULE_BYTES; n++) {
		const uint32_t begin = 1u << ((uintptr_t)blocks[n] - base) / page_bytes();
		if (!is_aligned(blocks[n], page_bytes()) || begins & begin)
			break;
		begins |= begin;
	}
	if (!begins || !piece_free_many(unit, begins)) {
		/* One of them is none: which, the calls for one tell. */
		block_free(blocks[0]);
		return 1;
	}
	return n;
}

/* Granules side by side that are blocks no more, but not given to page yet. */
struct pending {
	char *base;
	size_t granules;
};

static void pending_give(struct pending *pending)
{
	if (pending->granules)
		page_free(pending->base, pending->granules);
	pending->granules = 0;
}

/* Makes the run at `p` a block no more; false: there is no live one. */
static bool run_end(struct pending *pending, struct unit *unit, char *p)
{
	uint64_t word = a_load_rlx(&unit->word);
	const size_t room = a_load_rlx(&unit->room);

	if (unit_kind(word) != UNIT_RUN || !is_aligned(p, PAGE_GRANULE_BYTES) ||
		!a_cas_strong_rlx(&unit->word, &word, unit_word(UNIT_FREED)))
		return false;
	if (pending->granules &&
		(pending->base + (pending->granules << PAGE_GRANULE_SHIFT) != p ||
			pending->granules + room > RUN_MOST_GRANULES))
		pending_give(pending);
	if (!pending->granules)
		pending->base = p;
	pending->granules += room;
	return true;
}

/* What is of another kind, or no block: then it shows whether it was one just before. */
static void free_alone(struct pending *pending, void *block)
{
	pending_give(pending);
	block_free(block);
}

void block_free_many(void **blocks, size_t count)
{
	struct pending pending = { NULL, 0 };

	sort(blocks, count);
	for (size_t i = 0, n; i < count; i += n) {
		struct unit *unit = unit_of(blocks[i]);
		n = 1;
		if (unit && unit_kind(a_load_rlx(&unit->word)) == UNIT_PIECES)
			n = pieces_free(unit, blocks + i, count - i);
		else if (!unit || !run_end(&pending, unit, blocks[i]))
			free_alone(&pending, blocks[i]);
	}
	pending_give(&pending);
	if (page_wants_ticks())
		page_tick();
}

/* Whole pages of a range; those of which it has a part are in it, or out. */
struct span {
	uintptr_t from;
	uintptr_t to;
	struct block_range *range;
};

static struct span span_of(struct block_range *range, bool widen)
{
	const uintptr_t address = (uintptr_t)range->address;
	const uintptr_t end = address + range->bytes;

	if (widen)
		return (struct span){ address & -page_bytes(), round_pages(end), range };
	return (struct span){ round_pages(address), end & -page_bytes(), range };
}

/* The spans of ranges that lie in blocks, by address; how many. The others' results are set. */
static size_t spans_make(struct block_range *ranges, size_t count, bool widen, struct span *spans)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const bool good = block_has_range(ranges[i].address, ranges[i].bytes);
		const struct span span = span_of(&ranges[i], widen);
		ranges[i].result = good ? 0 : -EINVAL;
		if (!good || span.from >= span.to)
			continue;
		size_t j = n++;
		for (; j > 0 && spans[j - 1].from > span.from; j--)
			spans[j] = spans[j - 1];
		spans[j] = span;
	}
	return n;
}

/* How many spans at the front touch or overlap; *ret_to: where they end. */
static size_t spans_joined(const struct span *spans, size_t count, uintptr_t *ret_to)
{
	size_t n = 1;

	*ret_to = spans[0].to;
	for (; n < count && spans[n].from <= *ret_to; n++)
		*ret_to = spans[n].to > *ret_to ? spans[n].to : *ret_to;
	return n;
}

/* What the system says to all of it at once, or else to each range. */
static void spans_do(struct block_range *ranges, size_t count, bool widen,
	int (*together)(void *base, size_t bytes), int (*alone)(void *address, size_t bytes))
{
	struct span spans[BLOCK_MANY];
	const size_t all = spans_make(ranges, count, widen, spans);

	for (size_t i = 0, n; i < all; i += n) {
		uintptr_t to;
		n = spans_joined(spans + i, all - i, &to);
		if (n > 1 && !together((void *)spans[i].from, to - spans[i].from))
			continue;
		for (size_t j = i; j < i + n; j++)
			spans[j].range->result =
				alone(spans[j].range->address, spans[j].range->bytes);
	}
}

void block_commit_many(struct block_range *ranges, size_t count)
{
	spans_do(ranges, count, true, os_populate, block_commit);
}

void block_release_many(struct block_range *ranges, size_t count)
{
	spans_do(ranges, count, false, os_decommit, block_release);
}
