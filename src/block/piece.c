/* SPDX-License-Identifier: MIT */
/*
 * Pieces: blocks of 1 to 15 pages that share a granule.
 *
 * Granules with free pages are listed, by the longest run of pages that is free in them: list i
 * has those with FIT[i] pages or more in a row. A list is a bitmap over granules, searched from the
 * front, so that what is in use stays dense there. The word of a granule says in which list it is.
 * Who takes the bit out of the list owns the listing: it changes the word, and puts the bit where
 * the word then says. A granule whose last piece is freed goes back to page.
 *
 * Operations        piece_alloc, piece_free, piece_drop, piece_revive, piece_find
 * Synchronization   any of them beside any other. Pages change hands by compare-and-swap of the
 *                   word; nobody but who holds a live or waiting piece changes its bits
 * Linearization     the compare-and-swap of the word
 * Ordering          [block.3]: what was written to free pages is before what their next owner does
 * Progress          lock-free. A thread that stops with a bit in its hand keeps the free pages of
 *                   that granule out of use, 64 KiB; pieces in it can be freed
 * Reclamation       words are type-stable
 */
#include "piece.h"

#include <errno.h>
#include <string.h>

/* Granules that a batch takes at once. */
#define FRESH_MOST ((size_t)32)

/* By pages: the first list all of whose granules have so many free in a row. */
static const uint8_t list_for[PIECE_PAGES + 1] = { 0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, LISTS,
	LISTS, LISTS, LISTS };

struct lists {
	struct bitmap map[LISTS];
	/* Where to begin a search; a wrong value costs density, nothing else. */
	_Atomic(uint32_t) hints[LISTS];
};

static _Atomic(struct lists *) lists;

size_t piece_most(void)
{
	return pages_in_granule() - 1;
}

static struct lists *lists_get(void)
{
	/* [block.2] acq: the bitmaps are ready; pairs with lists_make(). */
	return a_load_acq(&lists);
}

static __attribute__((cold, noinline)) struct lists *lists_make(void)
{
	const size_t header = (sizeof(struct lists) + 63) & ~(size_t)63;
	const size_t granules = arena_granules();
	struct lists *winner = NULL;
	struct lists *mine;
	size_t each;
	size_t bytes;

	if (!granules)
		return NULL;
	each = bitmap_storage_bytes(granules);
	bytes = round_pages(header + LISTS * each);
	mine = os_map(bytes, page_bytes());
	if (!mine)
		return NULL;
	for (unsigned i = 0; i < LISTS; i++)
		bitmap_init(&mine->map[i], (char *)mine + header + i * each, granules);
	/* [block.2] acqrel: publishes the bitmaps, or reads the winner's; pairs with lists_get(). */
	if (a_cas_strong_acqrel(&lists, &winner, mine))
		return mine;
	(void)os_unmap(mine, bytes);
	return winner;
}

/* Whether a granule with this word is in the list where it belongs. */
static bool is_listed_well(uint64_t word)
{
	return free_of(word) != all_pages() && listing_for(free_of(word)) == listed_of(word);
}

static bool bit_take(struct unit *unit, unsigned listed)
{
	return bitmap_take_at(&lists_get()->map[listed - 1], unit_position(unit), 1);
}

/*
 * Puts the granule, whose word says so and whose bit is ours, into that list. Pages that were freed
 * since the word said so: their freers found no bit to take, so it is for us to look again. True:
 * the bit is ours once more.
 */
static bool list_put(struct unit *unit, unsigned listed)
{
	struct lists *l = lists_get();
	size_t pos = unit_position(unit);

	if (!bitmap_put(&l->map[listed - 1], pos, 1))
		os_fatal("allod: corrupted page map\n");
	if (a_load_rlx(&l->hints[listed - 1]) > pos)
		a_store_rlx(&l->hints[listed - 1], (uint32_t)pos);
	/*
	 * [block.5] seq: the bit is there before the word is read, for bitmap_put() sets it by an
	 * operation of that order; pairs with make_free().
	 */
	return !is_listed_well(a_load_seq(&unit->word)) && bit_take(unit, listed);
}

/* A granule from the list, whose bit is ours then, or NULL. */
static struct unit *list_take(struct lists *l, unsigned i)
{
	uint32_t hint = a_load_rlx(&l->hints[i]);
	size_t pos = bitmap_take(&l->map[i], 1, 1, 0, hint);

	if (pos == BITMAP_NONE)
		return NULL;
	if (pos != hint)
		a_store_rlx(&l->hints[i], (uint32_t)pos);
	return unit_at(pos);
}

/* The granule has no piece any more and is in no list: it goes back. */
static void give_back(struct unit *unit)
{
	page_free(unit_address(unit), 1);
}

/*
 * The bit of the granule is ours: lists it as its pages are now, or gives it back if none is in
 * use.
 */
static void relist(struct unit *unit)
{
	unsigned listed;

	do {
		uint64_t word = a_load_rlx(&unit->word);
		uint64_t new;
		do {
			listed = listing_for(free_of(word));
			new = (word & ~LISTED_MASK) | (uint64_t)listed << LISTED_SHIFT;
			if (free_of(word) == all_pages())
				new = unit_word(UNIT_FREED);
			/* [block.3] acq: what was done to the pages is before; rel: likewise. */
		} while (!a_cas_weak_acqrel(&unit->word, &word, new));
		if (unit_kind(new) == UNIT_FREED) {
			give_back(unit);
			return;
		}
	} while (listed && list_put(unit, listed));
}

static void list_new(struct unit *unit, unsigned listed)
{
	if (list_put(unit, listed))
		relist(unit);
}

/* Takes n pages out of a granule whose bit is ours, and lists it again. */
static char *take_from(struct unit *unit, size_t n, bool *ret_zeroed)
{
	uint64_t word = a_load_rlx(&unit->word);
	uint64_t new;
	unsigned page;
	unsigned listed;

	do {
		uint32_t free = free_of(word);
		uint32_t starts = starts_of(free, n);
		uint32_t taken;
		if (!starts) {
			relist(unit);
			return NULL;
		}
		page = (unsigned)__builtin_ctz(starts);
		taken = span(page, n);
		listed = listing_for(free & ~taken);
		*ret_zeroed = (zero_of(word) & taken) == taken;
		new = make((live_of(word) & ~taken) | 1u << page, begin_of(word) | 1u << page,
			zero_of(word) & ~taken, listed);
		/* [block.3] acq: the pages are ours with all that was done to them before. */
	} while (!a_cas_weak_acqrel(&unit->word, &word, new));
	if (listed)
		list_new(unit, listed);
	return unit_address(unit) + page * page_bytes();
}

/* Takes n pages from a granule that has some free. */
static char *take_listed(size_t n, bool *ret_zeroed)
{
	struct lists *l = lists_get();

	for (unsigned i = l ? list_for[n] : LISTS; i < LISTS; i++) {
		struct unit *unit;
		while ((unit = list_take(l, i))) {
			char *base = take_from(unit, n, ret_zeroed);
			if (base)
				return base;
		}
	}
	return NULL;
}

/* Divides a fresh granule, whose first n pages are the new piece. */
static int take_fresh(size_t n, bool may_call, char **ret_base, bool *ret_zeroed)
{
	uint32_t free = all_pages() & ~span(0, n);
	unsigned listed = listing_for(free);
	struct page_run run;
	struct unit *unit;
	int ret;

	/* Where there is no arena, all blocks are of other kinds. */
	if (!lists_get() && (!may_call || !lists_make()))
		return may_call ? -ENOTSUP : -EAGAIN;
	ret = may_call ? page_alloc(1, 0, &run) : page_alloc_ready(1, 0, &run);
	if (ret)
		return ret;
	/* A direct run: the caller gets a block of another kind. */
	if (!page_in_arena(run.base))
		ret = -ENOTSUP;
	else
		ret = unit_need(run.base, may_call, &unit);
	if (ret) {
		page_free(run.base, 1);
		return ret;
	}
	/* [block.3] rel: the pages' contents are before; pairs with take_from(). */
	a_store_rel(&unit->word, make(free | 1, 1, run.zeroed ? free : 0, listed));
	list_new(unit, listed);
	*ret_base = run.base;
	*ret_zeroed = run.zeroed;
	return 0;
}

int piece_alloc(size_t pages, unsigned flags, char **ret_base)
{
	char *base = cache_take(cache_class_of_pages(pages));
	bool zeroed = false;
	int ret = 0;

	if (base)
		piece_revive(base);
	else
		base = take_listed(pages, &zeroed);
	if (!base)
		ret = take_fresh(pages, !(flags & ALLOD_PAGE_CONSTANT_TIME), &base, &zeroed);
	if (ret)
		return ret;
	if (flags & ALLOD_PAGE_ZEROED && !zeroed)
		memset(base, 0, pages * page_bytes());
	*ret_base = base;
	return 0;
}

/* Divides fresh granules into pieces, as many as are wanted, or 2 MiB of them; how many. */
static size_t take_fresh_many(size_t n, size_t count, bool may_call, void **ret_blocks,
	bool *ret_zeroed)
{
	const size_t each = pages_in_granule() / n;
	size_t granules = (count + each - 1) / each;
	size_t done = 0;
	struct page_run run;
	struct unit *unit;

	granules = granules < FRESH_MOST ? granules : FRESH_MOST;
	if (!lists_get() ||
		(may_call ? page_alloc(granules, 0, &run) : page_alloc_ready(granules, 0, &run)))
		return 0;
	if (!page_in_arena(run.base) ||
		unit_need(run.base + (granules - 1) * PAGE_GRANULE_BYTES, may_call, &unit)) {
		page_free(run.base, granules);
		return 0;
	}
	for (size_t i = 0; i < granules; i++) {
		char *base = run.base + i * PAGE_GRANULE_BYTES;
		uint32_t begins = 0;
		for (unsigned page = 0; page + n <= pages_in_granule() && done < count;
			page += (unsigned)n) {
			begins |= 1u << page;
			ret_blocks[done++] = base + page * page_bytes();
		}
		const uint32_t free =
			all_pages() & ~span(0, (size_t)__builtin_popcount(begins) * n);
		/* [block.3] rel: the pages' contents are before; pairs with take_from(). */
		a_store_rel(&unit_of(base)->word,
			make(free | begins, begins, run.zeroed ? free : 0, listing_for(free)));
		if (free)
			list_new(unit_of(base), listing_for(free));
	}
	*ret_zeroed = run.zeroed;
	return done;
}

/* A piece that is there already, or NULL. */
static char *take_ready(size_t pages, bool *ret_zeroed)
{
	char *base = cache_take(cache_class_of_pages(pages));

	*ret_zeroed = false;
	if (!base)
		return take_listed(pages, ret_zeroed);
	piece_revive(base);
	return base;
}

size_t piece_alloc_many(size_t pages, unsigned flags, size_t count, void **ret_blocks)
{
	const bool may_call = !(flags & ALLOD_PAGE_CONSTANT_TIME);
	size_t done = 0;

	while (done < count) {
		bool zeroed;
		size_t n = (ret_blocks[done] = take_ready(pages, &zeroed)) != NULL;
		if (!n)
			n = take_fresh_many(pages, count - done, may_call, ret_blocks + done,
				&zeroed);
		if (!n)
			break;
		for (size_t i = 0; i < n && flags & ALLOD_PAGE_ZEROED && !zeroed; i++)
			memset(ret_blocks[done + i], 0, pages * page_bytes());
		done += n;
	}
	return done;
}

/* The granule has more free than its list says; who has its bit sees to that, or we. */
static void move_lists(struct unit *unit, unsigned listed)
{
	/* [block.5] seq: the word is changed before the bit is looked at; pairs with list_put(). */
	a_fence_seq();
	if (bit_take(unit, listed))
		relist(unit);
}

/* The pages of the pieces that begin at these. */
static uint32_t pages_of(uint64_t word, uint32_t begins)
{
	uint32_t pages = 0;

	for (; begins; begins &= begins - 1) {
		unsigned page = (unsigned)__builtin_ctz(begins);
		pages |= span(page, length_at(word, page));
	}
	return pages;
}

/*
 * The pages of the pieces at `begins`, in a granule whose word was `word` just now, become free.
 * `was` are the bits that their first pages must have. False: one has not.
 */
static bool make_free(struct unit *unit, uint64_t word, uint32_t begins, uint64_t was)
{
	const uint64_t bits = begins | (uint64_t)begins << BEGIN_SHIFT;
	uint64_t new;
	unsigned listed;
	unsigned wanted;

	do {
		if (unit_kind(word) != UNIT_PIECES || (word & bits) != was)
			return false;
		listed = listed_of(word);
		new = make(live_of(word) | pages_of(word, begins), begin_of(word) & ~begins,
			zero_of(word), listed);
		wanted = listing_for(free_of(new));
		if (!listed && free_of(new) == all_pages())
			new = unit_word(UNIT_FREED);
		else if (!listed)
			new |= (uint64_t)wanted << LISTED_SHIFT;
		/* [block.3] rel: what was done to the pages is before; pairs with take_from(). */
	} while (!a_cas_weak_acqrel(&unit->word, &word, new));
	if (unit_kind(new) == UNIT_FREED)
		give_back(unit);
	else if (!listed)
		list_new(unit, wanted);
	else if (!is_listed_well(new))
		move_lists(unit, listed);
	return true;
}

/* Changes the page's bits from `was` to `now`; `seen` is the word of a moment ago. */
static bool turn(struct unit *unit, uint64_t seen, unsigned page, uint64_t was, uint64_t now)
{
	const uint64_t bits = (uint64_t)1 << page | (uint64_t)1 << (page + BEGIN_SHIFT);

	do {
		if (unit_kind(seen) != UNIT_PIECES || (seen & bits) != was)
			return false;
	} while (!a_cas_weak_rlx(&unit->word, &seen, (seen & ~bits) | now));
	return true;
}

static uint64_t bits_live(unsigned page)
{
	return (uint64_t)1 << page | (uint64_t)1 << (page + BEGIN_SHIFT);
}

static uint64_t bits_idle(unsigned page)
{
	return (uint64_t)1 << (page + BEGIN_SHIFT);
}

void piece_revive(char *base)
{
	struct unit *unit = unit_of(base);
	unsigned page = page_of(base);

	if (!turn(unit, a_load_rlx(&unit->word), page, bits_idle(page), bits_live(page)))
		os_fatal("allod: corrupted page map\n");
}

void piece_drop(char *base)
{
	struct unit *unit = unit_of(base);
	unsigned page = page_of(base);

	if (!make_free(unit, a_load_rlx(&unit->word), 1u << page, bits_idle(page)))
		os_fatal("allod: corrupted page map\n");
}

bool piece_free(struct unit *unit, uint64_t word, char *p)
{
	unsigned page = page_of(p);
	_Atomic(uintptr_t) *room;

	if ((word & bits_live(page)) != bits_live(page))
		return false;
	room = cache_room(cache_class_of_pages(length_at(word, page)));
	if (!room)
		return make_free(unit, word, 1u << page, bits_live(page));
	if (!turn(unit, word, page, bits_live(page), bits_idle(page)))
		return false;
	if (!cache_put(room, p))
		piece_drop(p);
	return true;
}

/* Puts the granule, whose free pages have changed, into the list where it belongs. */
static void settle(struct unit *unit, uint64_t word, bool was_listed)
{
	if (!was_listed)
		list_new(unit, listed_of(word));
	else if (!is_listed_well(word))
		move_lists(unit, listed_of(word));
}

/* The piece's last pages, which nobody may use any more, become free. */
static void piece_shrink(struct unit *unit, unsigned page, size_t pages)
{
	uint64_t word = a_load_rlx(&unit->word);
	uint64_t new;
	uint32_t tail;

	do {
		size_t old = length_at(word, page);
		tail = span(page, old) & ~span(page, pages);
		new = word | tail;
		if (!listed_of(word))
			new |= (uint64_t)listing_for(free_of(new)) << LISTED_SHIFT;
		/* [block.3] rel: what was done to the pages is before; pairs with take_from(). */
	} while (!a_cas_weak_acqrel(&unit->word, &word, new));
	settle(unit, new, listed_of(word) != 0);
}

/* Takes the pages behind a piece; *ret_zeroed: they read as zero. */
static bool piece_grow(struct unit *unit, unsigned page, size_t pages, bool *ret_zeroed)
{
	uint64_t word = a_load_rlx(&unit->word);
	uint64_t new;
	uint32_t more;

	do {
		more = span(page, pages) & ~span(page, length_at(word, page));
		if (page + pages > pages_in_granule() || (free_of(word) & more) != more)
			return false;
		*ret_zeroed = (zero_of(word) & more) == more;
		new = word & ~((uint64_t)more | (uint64_t)more << ZERO_SHIFT);
		/* [block.3] acq: the pages are ours with all that was done to them before. */
	} while (!a_cas_weak_acqrel(&unit->word, &word, new));
	/* Without free pages it was in no list, and is in none. */
	if (listed_of(new))
		settle(unit, new, true);
	return true;
}

int piece_resize(struct unit *unit, char *p, size_t pages, unsigned flags)
{
	unsigned page = page_of(p);
	size_t old = length_at(a_load_rlx(&unit->word), page);
	bool zeroed = true;

	if (pages > piece_most() || (pages > old && !piece_grow(unit, page, pages, &zeroed)))
		return -ENOSPC;
	if (pages < old)
		piece_shrink(unit, page, pages);
	else if (flags & ALLOD_PAGE_ZEROED && !zeroed)
		memset(p + old * page_bytes(), 0, (pages - old) * page_bytes());
	return 0;
}

size_t piece_room(const struct unit *unit, const char *p)
{
	uint64_t word = a_load_rlx(&unit->word);
	unsigned page = page_of(p);
	size_t pages = length_at(word, page);

	while (pages < piece_most() && page + pages < pages_in_granule() &&
		free_of(word) >> (page + pages) & 1)
		pages++;
	return pages * page_bytes();
}

bool piece_free_many(struct unit *unit, uint32_t begins)
{
	return make_free(unit, a_load_rlx(&unit->word), begins,
		begins | (uint64_t)begins << BEGIN_SHIFT);
}

bool piece_find(const struct unit *unit, uint64_t word, const char *p, bool begins,
	struct block *ret_block)
{
	unsigned page = page_of(p);
	unsigned first = page;

	/* Back to where the page's piece begins. */
	while (!begins && first && !((live_of(word) | begin_of(word)) >> first & 1))
		first--;
	if ((word & bits_live(first)) != bits_live(first))
		return false;
	*ret_block = (struct block){
		.kind = BLOCK_PIECE,
		.base = unit_address(unit) + first * page_bytes(),
		.bytes = length_at(word, first) * page_bytes(),
		.room_bytes = length_at(word, first) * page_bytes(),
		.id = unit_position(unit),
	};
	return true;
}

bool piece_was_freed(uint64_t word, const char *p)
{
	unsigned page = page_of(p);

	return (free_of(word) | (begin_of(word) & ~live_of(word))) >> page & 1;
}

/* The free pages that may hold something. */
static uint32_t used_of(uint64_t word)
{
	return free_of(word) & ~zero_of(word);
}

/* Drops the pages of the mask, whose granule's bit is ours; those that could be dropped. */
static uint32_t pages_drop(struct unit *unit, uint32_t mask)
{
	uint32_t gone = 0;

	while (mask) {
		unsigned page = (unsigned)__builtin_ctz(mask);
		unsigned n = (unsigned)__builtin_ctz(~(mask >> page));
		if (!os_decommit(unit_address(unit) + page * page_bytes(), n * page_bytes()))
			gone |= span(page, n);
		mask &= ~span(page, n);
	}
	return gone;
}

/* The first pages of each run of pages in the mask. */
static uint64_t firsts_of(uint32_t mask)
{
	return mask & ~(mask << 1);
}

/*
 * Makes a waiting piece of each run of free pages that may hold something, so that nobody takes
 * them, be it to make a piece in front of them longer. Returns the pages.
 */
static uint32_t pages_hold(struct unit *unit)
{
	uint64_t word = a_load_rlx(&unit->word);
	uint32_t mask;
	uint64_t new;

	do {
		mask = used_of(word);
		new = (word & ~(uint64_t)mask) | firsts_of(mask) << BEGIN_SHIFT;
		/* [block.3] acq: what was done to the pages is before; pairs with make_free(). */
	} while (!a_cas_weak_acqrel(&unit->word, &word, new));
	return mask;
}

/* Frees them again; those of `gone` read as zero. */
static void pages_let(struct unit *unit, uint32_t mask, uint32_t gone)
{
	uint64_t word = a_load_rlx(&unit->word);
	uint64_t new;

	do {
		new = (word & ~(firsts_of(mask) << BEGIN_SHIFT)) | mask |
			(uint64_t)gone << ZERO_SHIFT;
		/* [block.3] rel: the pages are dropped before; pairs with take_from(). */
	} while (!a_cas_weak_acqrel(&unit->word, &word, new));
}

/* Drops the free pages of a listed granule, whose bit is ours meanwhile. */
static size_t granule_drop(struct unit *unit, unsigned list)
{
	uint32_t mask;
	uint32_t gone;

	if (!bitmap_take_at(&lists_get()->map[list], unit_position(unit), 1))
		return 0;
	mask = pages_hold(unit);
	gone = pages_drop(unit, mask);
	pages_let(unit, mask, gone);
	relist(unit);
	return (size_t)__builtin_popcount(gone) * page_bytes();
}

/* Looks at a listed granule; returns what was dropped of it. */
static size_t granule_look(struct unit *unit, unsigned list, bool everything, size_t *ret_waiting)
{
	uint64_t word = a_load_rlx(&unit->word);
	uint32_t used = unit_kind(word) == UNIT_PIECES ? used_of(word) : 0;

	if (!used)
		return 0;
	if (everything || a_load_rlx(&unit->seen) == used)
		return granule_drop(unit, list);
	a_store_rlx(&unit->seen, (uint16_t)used);
	*ret_waiting += (size_t)__builtin_popcount(used) * page_bytes();
	return 0;
}

size_t piece_giveback(struct piece_cursor *cursor, bool everything, size_t budget, bool *ret_more,
	size_t *ret_waiting)
{
	struct lists *l = lists_get();
	size_t limit = table_reach(&block_units);
	size_t bytes = 0;
	size_t run;

	for (; l && cursor->list < LISTS; cursor->list++, cursor->pos = 0) {
		while ((cursor->pos = bitmap_next_free(&l->map[cursor->list], cursor->pos, limit,
				&run)) != BITMAP_NONE) {
			bytes += granule_look(unit_at(cursor->pos++), cursor->list, everything,
				ret_waiting);
			*ret_more = bytes >= budget;
			if (*ret_more)
				return bytes;
		}
	}
	*ret_more = false;
	*cursor = (struct piece_cursor){ 0 };
	return bytes;
}
