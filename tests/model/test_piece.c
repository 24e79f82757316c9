/* SPDX-License-Identifier: MIT */
/*
 * Pieces under the explorer (block/piece.c): granules of four pages, their words, and the lists of
 * those with free pages. No page has two owners, what was written to it is before what its next
 * owner does, and when all is freed every granule has gone back.
 */
#include <errno.h>
#include <string.h>

#include "explore.h"
#include "harness.h"
#include "piece.h"
#include "suite.h"

enum { GRANULES = 4, PAGES = 4, PAGE_SHIFT = 14, STORAGE = 16384 };

/* No object lies so high. */
#define BASE ((uintptr_t)1 << 60)

struct page_arena page_arena;
struct table block_units;
_Atomic(uint32_t) block_page_shift;

static struct unit units[GRANULES];
static _Alignas(64) char storage[STORAGE];
/* By granule: who has it, page or the layer. */
static _Atomic(uint32_t) taken[GRANULES];
/* By page: belongs to who holds the page. */
static uint64_t contents[GRANULES * PAGES];

uint32_t page_shift_ask(void)
{
	return PAGE_SHIFT;
}

size_t arena_granules(void)
{
	return GRANULES;
}

void *os_map(size_t bytes, size_t align)
{
	(void)align;
	EXPLORE_CHECK(bytes <= STORAGE);
	return storage;
}

int os_unmap(void *base, size_t bytes)
{
	(void)base, (void)bytes;
	explore_fail("nothing is unmapped here");
}

void os_fatal(const char *line)
{
	explore_fail("%s", line);
}

static size_t number(const void *p)
{
	return ((uintptr_t)p - BASE) >> PAGE_SHIFT;
}

/* The kernel drops pages: nobody else may use them then. */
int os_decommit(void *base, size_t bytes)
{
	for (size_t i = 0; i < bytes >> PAGE_SHIFT; i++)
		a_data_write(&contents[number(base) + i], 0);
	return 0;
}

int unit_need(const void *p, bool may_call, struct unit **ret_unit)
{
	(void)may_call;
	*ret_unit = &units[number(p) / PAGES];
	return 0;
}

int page_alloc(size_t granules, size_t align_bytes, struct page_run *ret_run)
{
	(void)align_bytes;
	EXPLORE_CHECK(granules == 1);
	for (size_t i = 0; i < GRANULES; i++) {
		/* page's bitmap orders as much. */
		if (a_xchg_acqrel(&taken[i], 1))
			continue;
		*ret_run =
			(struct page_run){ (char *)BASE + (i << PAGE_GRANULE_SHIFT), 1, 1, true };
		return 0;
	}
	return -ENOMEM;
}

int page_alloc_ready(size_t granules, size_t align_bytes, struct page_run *ret_run)
{
	return page_alloc(granules, align_bytes, ret_run);
}

void page_free(char *base, size_t granules)
{
	EXPLORE_CHECK(granules == 1 && number(base) % PAGES == 0);
	for (size_t i = 0; i < PAGES; i++)
		a_data_write(&contents[number(base) + i], 1);
	EXPLORE_CHECK(a_xchg_acqrel(&taken[number(base) / PAGES], 0) == 1);
}

/* Nothing waits in caches here: see test_cache.c. */
char *cache_take(unsigned class)
{
	(void)class;
	return NULL;
}

_Atomic(uintptr_t) *cache_room(unsigned class)
{
	(void)class;
	return NULL;
}

bool cache_put(_Atomic(uintptr_t) *room, char *base)
{
	(void)room, (void)base;
	return false;
}

static void fill(const char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		a_data_write(&contents[number(p) + i], (uintptr_t)p + i);
}

static void check(const char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		EXPLORE_CHECK(a_data_read(&contents[number(p) + i]) == (uintptr_t)p + i);
}

static char *take(size_t pages)
{
	char *p;

	EXPLORE_CHECK(piece_alloc(pages, 0, &p) == 0);
	fill(p, pages);
	return p;
}

static void give(char *p, size_t pages)
{
	struct unit *unit = unit_of(p);

	check(p, pages);
	EXPLORE_CHECK(piece_free(unit, a_load_rlx(&unit->word), p));
}

static char *held[4];

/* Nothing is in use, but the lists are there. */
static void set_up_empty(void)
{
	memset(storage, 0, sizeof(storage));
	memset(units, 0, sizeof(units));
	memset(contents, 0, sizeof(contents));
	memset(taken, 0, sizeof(taken));
	a_store_rlx(&page_arena.base, BASE);
	a_store_rlx(&page_arena.bytes, (uintptr_t)GRANULES << PAGE_GRANULE_SHIFT);
	a_store_rlx(&block_units.base, (uintptr_t)units);
	a_store_rlx(&block_units.reach, GRANULES);
	a_store_rlx(&block_page_shift, PAGE_SHIFT);
	give(take(1), 1);
}

/* One granule, whose first three pages are pieces. */
static void set_up_three(void)
{
	set_up_empty();
	for (size_t i = 0; i < 3; i++)
		held[i] = take(1);
}

/* A full one. */
static void set_up_full(void)
{
	set_up_empty();
	for (size_t i = 0; i < 4; i++)
		held[i] = take(1);
}

static void run_take_give(int t)
{
	char *p = take(1 + (size_t)t);

	give(p, 1 + (size_t)t);
}

/* Both may be the one that empties the granule. */
static void run_give_both(int t)
{
	give(held[t], 1);
	if (t == 0)
		give(held[2], 1);
}

/* What is freed completes what the other is looking for. */
static void run_give_and_take(int t)
{
	if (t == 0) {
		give(held[1], 1);
		give(held[2], 1);
	} else {
		give(held[0], 1);
		give(take(2), 2);
	}
}

/* Of a full granule, which is in no list. */
static void run_give_full(int t)
{
	give(held[t], 1);
	give(held[t + 2], 1);
}

/* Pages go back to the kernel while a piece in front of them becomes longer. */
static void run_grow_and_drop(int t)
{
	struct piece_cursor cursor = { 0 };
	size_t waiting = 0;
	bool more;

	if (t == 0) {
		(void)piece_giveback(&cursor, true, SIZE_MAX, &more, &waiting);
	} else if (!piece_resize(unit_of(held[2]), held[2], 2, 0)) {
		fill(held[2], 2);
		give(held[2], 2);
	} else {
		give(held[2], 1);
	}
}

/* A piece becomes longer by the page that another one leaves; the granule stays in its list. */
static void run_grow_behind(int t)
{
	if (t == 0) {
		give(held[0], 1);
		give(held[2], 1);
	} else if (!piece_resize(unit_of(held[1]), held[1], 2, 0)) {
		fill(held[1], 2);
	}
}

static void set_up_dirty(void)
{
	set_up_full();
	give(held[3], 1);
}

/* Of what is left all goes back, and then nothing is held. */
static void finish(void)
{
	for (size_t i = 0; i < GRANULES; i++) {
		uint64_t word = a_load_rlx(&units[i].word);
		if (unit_kind(word) != UNIT_PIECES)
			continue;
		for (uint32_t live = live_of(word) & begin_of(word); live; live &= live - 1)
			EXPLORE_CHECK(piece_free(&units[i], a_load_rlx(&units[i].word),
				(char *)BASE + (i << PAGE_GRANULE_SHIFT) +
					((size_t)__builtin_ctz(live) << PAGE_SHIFT)));
	}
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (explore_is_stopped(t))
			return;
	for (size_t i = 0; i < GRANULES; i++)
		EXPLORE_CHECK(a_load_rlx(&taken[i]) == 0);
}

#define PIECE_SCENARIO(run_, threads_, set_up_)                                                  \
	{                                                                                        \
		.name = #run_ "-" #set_up_, .threads = threads_, .set_up = set_up_, .run = run_, \
		.finish = finish                                                                 \
	}
static const struct explore_scenario scenarios[] = {
	PIECE_SCENARIO(run_take_give, 2, set_up_empty),
	PIECE_SCENARIO(run_take_give, 2, set_up_three),
	PIECE_SCENARIO(run_give_both, 2, set_up_three),
	PIECE_SCENARIO(run_give_and_take, 2, set_up_three),
	PIECE_SCENARIO(run_give_full, 2, set_up_full),
	PIECE_SCENARIO(run_grow_and_drop, 2, set_up_dirty),
	PIECE_SCENARIO(run_grow_behind, 2, set_up_full),
};
static const struct suite suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 4000, .stale_reads = 1, .switches = 3 } };

TEST_TIMEOUT(interleavings, 60)
{
	suite_search(&suite);
}

TEST_TIMEOUT(sequentially_consistent, 60)
{
	suite_search_newest(&suite);
}

TEST_TIMEOUT(stopped_thread_stops_nobody, 60)
{
	static const struct suite few = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
		{ .executions = 400, .newest_only = true, .switches = 2 } };

	suite_stopped(&few);
}

TEST_TIMEOUT(random_crowd, 60)
{
	static const struct explore_scenario crowd = PIECE_SCENARIO(run_take_give, 3, set_up_three);

	suite_random(&crowd, 5000);
}

TEST_TIMEOUT(every_order_is_needed, 100)
{
	static const char *const exempt[] = {
		/* The lists are there from the beginning. */
		"lists_get:a_load_acq>rlx",
		/* The bits of the lists, which change hands between, order as much. */
		"take_fresh:a_store_rel>rlx",
		"take_from:a_cas_weak_acqrel>rel",
		"take_from:a_cas_weak_acqrel>acq",
		"relist:a_cas_weak_acqrel>acq",
		"pages_hold:a_cas_weak_acqrel>acq",
		"pages_let:a_cas_weak_acqrel>rel",
		/* Only when all of a full granule is freed at once, by a batch. */
		"make_free:a_cas_weak_acqrel>rel",
		/* What it takes nobody has written to since. */
		"piece_grow:a_cas_weak_acqrel>acq",
		NULL,
	};

	suite_weaken(&suite, "block/piece.c", exempt);
}
