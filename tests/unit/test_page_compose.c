/* SPDX-License-Identifier: MIT */
/*
 * Composing: runs that get the pages of free chunks which lie scattered. The memory under the mock
 * OS is real, and so are the mappings and the pages counted here.
 */
#include "arena.h"
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"
#include "page_fixture.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK ((size_t)ARENA_CHUNK_GRANULES)
#define CHUNK_BYTES (CHUNK << PAGE_GRANULE_SHIFT)
#define SECOND_NS ((uint64_t)1000000000)

enum { CHUNKS = 17 };

/* What a move does, instead of what Linux does. */
static enum { AS_EVER, REFUSE, REFUSE_UNMAPPED, REFUSE_STRANGER, REFUSE_FILLED } move_mode;
static unsigned moves_let; /* so many go well before */

void *__real_os_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old);
void *__wrap_os_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old);

void *__wrap_os_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old)
{
	if (move_mode == AS_EVER || moves_let) {
		moves_let -= moves_let > 0;
		return __real_os_move(old, old_bytes, dst, new_bytes, keep_old);
	}
	if (move_mode != REFUSE)
		CHECK_EQ(munmap(dst, new_bytes), 0);
	if (move_mode == REFUSE_STRANGER || move_mode == REFUSE_FILLED)
		CHECK(mmap(dst, move_mode == REFUSE_FILLED ? new_bytes : 4096,
			      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			      0) == dst);
	return NULL;
}

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

static size_t present(const char *base, size_t chunks)
{
	size_t sum = 0;

	for (size_t i = 0; i < chunks; i++) {
		size_t pages;
		CHECK_EQ(os_present((char *)base + i * CHUNK_BYTES, CHUNK_BYTES, &pages), 0);
		sum += pages * os_facts()->page_bytes;
	}
	return sum;
}

static struct page_run take(size_t granules)
{
	struct page_run run;

	CHECK_EQ(page_alloc(granules, 0, &run), 0);
	return run;
}

static void fill(const char *base, size_t chunks, uint64_t seed)
{
	for (size_t at = 0; at < chunks * CHUNK_BYTES; at += 4096)
		*(uint64_t *)(base + at) = seed + at;
}

static void check_fill(const char *base, size_t chunks, uint64_t seed)
{
	for (size_t at = 0; at < chunks * CHUNK_BYTES; at += 4096)
		CHECK_EQ(*(const uint64_t *)(base + at), seed + at);
}

static void need_move(void)
{
	struct page_run a = take(4);
	struct page_run b;

	a.base[0] = 1;
	if (page_move(a.base, 4, 5, &b) == -ENOTSUP)
		SKIP("mremap without MREMAP_DONTUNMAP (Linux 5.7)");
	page_free(b.base, 5);
	(void)page_trim();
}

static struct page_run scattered[CHUNKS];

/* Takes what is free at the end of the arena, so that what is free before it does not grow. */
static void seal(struct arena *a)
{
	const size_t end = arena_frontier(a);
	size_t n = 0;

	while (bitmap_is_free(&a->map, end - n - 1))
		n++;
	if (n && bitmap_take_at(&a->map, end - n, n))
		(void)run_account_take(a, end - n, n);
}

/* Chunks side by side, of which eight, those of odd number, are free and full of pages. */
static struct arena *start(void)
{
	mock_reset();
	mock_facts()->overcommit_mode = 0;
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	mock_clock_set(1000 * SECOND_NS);
	options.background = OPTION_BACKGROUND_OFF;
	CHECK_EQ(page_init(), 0);
	need_move();
	/* What is before them is in use. */
	(void)page_alloc(CHUNK, CHUNK_BYTES, &scattered[0]);
	for (size_t i = 0; i < CHUNKS; i++) {
		CHECK_EQ(page_alloc(CHUNK, CHUNK_BYTES, &scattered[i]), 0);
		fill(scattered[i].base, 1, i << 40);
	}
	seal(arena_get());
	for (size_t i = 1; i < CHUNKS; i += 2)
		page_free(scattered[i].base, CHUNK);
	CHECK(page_check());
	return arena_get();
}

/* What is in use is as it was, and the books are in order. */
static void check_rest(void)
{
	for (size_t i = 0; i < CHUNKS; i += 2)
		check_fill(scattered[i].base, 1, i << 40);
	CHECK(page_check());
}

/* A run that begins at a chunk, and gets its pages. */
static struct page_run compose(size_t granules, bool zero)
{
	struct page_run run;

	CHECK_EQ(page_alloc(granules, CHUNK_BYTES, &run), 0);
	CHECK_EQ(page_compose(&run, granules), 0);
	page_prepare(&run, zero, granules << PAGE_GRANULE_SHIFT);
	return run;
}

TEST(scattered_chunks_become_a_run)
{
	struct arena *a = start();
	size_t dirty = stats().dirty_bytes;
	size_t before = page_fixture_mappings();
	unsigned populates = mock_count(OS_CALL_POPULATE);
	struct page_run run = compose(8 * CHUNK, false);

	CHECK_EQ(stats().composed_runs, 1);
	CHECK_EQ(stats().composed_bytes, 8 * CHUNK_BYTES);
	CHECK_EQ(mock_count(OS_CALL_POPULATE), populates);
	CHECK(!run.zeroed);
	CHECK_EQ(run.fresh, 0);
	CHECK_EQ(present(run.base, 8), 8 * CHUNK_BYTES);
	CHECK_EQ(stats().dirty_bytes, dirty - 8 * CHUNK_BYTES);
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 8);
	CHECK(page_fixture_mappings() <= before + 16);
	/* What they left reads as zero, and has no pages. */
	for (size_t i = 1; i < CHUNKS; i += 2) {
		struct page_run hole = take(CHUNK);
		CHECK(hole.zeroed);
		CHECK_EQ(present(hole.base, 1), 0);
		CHECK_EQ(hole.base[0] | hole.base[CHUNK_BYTES - 1], 0);
	}
	fill(run.base, 8, 77);
	check_rest();
	check_fill(run.base, 8, 77);
}

/* Two megabytes that lie across two chunks each. */
TEST(what_lies_across_chunks_is_moved_as_well)
{
	struct arena *a = start();
	struct page_run odd[9];
	struct page_run run;

	/* Nothing is left of what start() has freed. */
	(void)page_trim();
	CHECK_EQ(page_alloc(1, CHUNK_BYTES, &run), 0);
	seal(a);
	for (size_t i = 0; i < 9; i++) {
		odd[i] = take(CHUNK + 5);
		fill(odd[i].base, 1, i << 44);
		memset(odd[i].base + CHUNK_BYTES, 1, 5 * PAGE_GRANULE_BYTES);
	}
	seal(a);
	for (size_t i = 1; i < 9; i += 2)
		page_free(odd[i].base, CHUNK + 5);
	run = compose(3 * CHUNK + 9, false);
	CHECK_EQ(stats().composed_bytes, 3 * CHUNK_BYTES);
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 3);
	CHECK_EQ(present(run.base, 3), 3 * CHUNK_BYTES);
	fill(run.base, 3, 5);
	for (size_t i = 0; i < 9; i += 2)
		check_fill(odd[i].base, 1, i << 44);
	check_fill(run.base, 3, 5);
	page_free(run.base, run.granules);
	(void)page_trim();
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 0);
	check_rest();
}

TEST(zeroed_means_zeroed)
{
	struct page_run run;

	(void)start();
	run = compose(8 * CHUNK + 5, true);
	CHECK(run.zeroed);
	CHECK(stats().composed_bytes > 0);
	for (size_t at = 0; at < 8 * CHUNK_BYTES + 5 * PAGE_GRANULE_BYTES; at += 8)
		CHECK_EQ(*(uint64_t *)(run.base + at), 0);
	check_rest();
}

TEST(what_there_is_too_little_of_is_populated)
{
	struct page_run run;
	unsigned populates;

	(void)start();
	populates = mock_count(OS_CALL_POPULATE);
	run = compose(10 * CHUNK + 3, false);
	CHECK_EQ(stats().composed_bytes, 8 * CHUNK_BYTES);
	/* In one call. */
	CHECK_EQ(mock_count(OS_CALL_POPULATE), populates + 1);
	CHECK_EQ(run.fresh, 2 * CHUNK + 3);
	CHECK_EQ(present(run.base, 10), 10 * CHUNK_BYTES);
	check_rest();
}

TEST(a_composed_run_that_is_freed_stays_warm)
{
	struct arena *a = start();
	struct page_run run = compose(8 * CHUNK, false);
	struct page_run small;
	unsigned moves = mock_count(OS_CALL_MOVE);
	unsigned maps = mock_count(OS_CALL_MAP_FIXED);

	fill(run.base, 8, 5);
	page_free(run.base, run.granules);
	CHECK_EQ(stats().dirty_bytes, 8 * CHUNK_BYTES);
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 8);
	/* Whole, and in pieces. */
	run = compose(8 * CHUNK, false);
	CHECK_EQ(run.fresh, 0);
	page_free(run.base, run.granules);
	CHECK_EQ(page_alloc(3, CHUNK_BYTES, &small), 0);
	page_free(small.base, 3);
	CHECK_EQ(mock_count(OS_CALL_MOVE), moves);
	CHECK_EQ(mock_count(OS_CALL_MAP_FIXED), maps);
	CHECK(page_check());
	check_rest();
}

TEST(a_trim_makes_one_mapping_of_them_again)
{
	struct arena *a = start();
	size_t before = page_fixture_mappings();
	struct page_run run = compose(8 * CHUNK, false);

	CHECK(page_fixture_mappings() > before);
	(void)page_trim();
	/* In use: it stays what it is. */
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 8);
	page_free(run.base, run.granules);
	(void)page_trim();
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 0);
	CHECK_EQ(a_load_rlx(&a->moved_above), 0);
	CHECK(page_fixture_mappings() <= before);
	check_rest();
}

TEST(composed_chunks_are_composed_again)
{
	struct arena *a = start();
	struct page_run run = compose(8 * CHUNK, false);
	struct page_run live[4];
	struct page_run again;

	page_free(run.base, run.granules);
	/* Four of them in use, the others free and warm. */
	for (size_t i = 0; i < 8; i++) {
		struct page_run one;
		CHECK_EQ(page_alloc(CHUNK, CHUNK_BYTES, &one), 0);
		while (one.base < run.base || one.base >= run.base + 8 * CHUNK_BYTES)
			CHECK_EQ(page_alloc(CHUNK, CHUNK_BYTES, &one), 0);
		if (i % 2)
			page_free(one.base, CHUNK);
		else
			live[i / 2] = one;
		if (i % 2)
			continue;
		fill(one.base, 1, i);
	}
	again = compose(6 * CHUNK, false);
	CHECK(stats().composed_bytes > 8 * CHUNK_BYTES);
	CHECK_EQ(a_load_rlx(&a->moved_above), 2 * a_load_rlx(&a->composed_chunks));
	fill(again.base, 6, 99);
	for (size_t i = 0; i < 4; i++)
		check_fill(live[i].base, 1, 2 * i);
	page_free(again.base, again.granules);
	for (size_t i = 0; i < 4; i++)
		page_free(live[i].base, CHUNK);
	(void)page_trim();
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 0);
	CHECK_EQ(a_load_rlx(&a->moved_above), 0);
	check_rest();
}

TEST(cold_chunks_and_holes_are_left)
{
	struct page_run run;

	(void)start();
	(void)page_trim_by(1);
	run = compose(8 * CHUNK, false);
	CHECK_EQ(stats().composed_runs, 0);
	page_free(run.base, run.granules);
	(void)page_trim();
	check_rest();
	/* Dirty, for they were in use, but nobody wrote to them. */
	for (size_t i = 1; i < CHUNKS; i += 2)
		CHECK_EQ(page_alloc(CHUNK, CHUNK_BYTES, &scattered[i]), 0);
	for (size_t i = 1; i < CHUNKS; i += 2)
		page_free(scattered[i].base, CHUNK);
	run = compose(12 * CHUNK, false);
	CHECK_EQ(stats().composed_runs, 0);
	check_rest();
}

TEST(the_budget_of_mappings_is_kept)
{
	struct arena *a = start();
	struct page_run run;

	/* Half of a quarter, and a little. */
	mock_facts()->max_map_count = 4 * 10;
	run = compose(8 * CHUNK, false);
	CHECK(a_load_rlx(&a->composed_chunks) <= 5);
	CHECK(a_load_rlx(&a->moved_above) <= 10);
	CHECK_EQ(present(run.base, 8), 8 * CHUNK_BYTES);
	page_free(run.base, run.granules);
	/* Those that are free and empty make room for others. */
	(void)page_trim_by(1);
	check_rest();
}

TEST(mappings_are_made_free_when_others_need_them)
{
	struct arena *a = start();
	struct page_run run = compose(8 * CHUNK, false);
	struct page_run again;

	seal(a);
	page_free(run.base, run.granules);
	again = compose(9 * CHUNK, false);
	/* The first eight are free, empty, and mappings of their own. */
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 16);
	mock_facts()->max_map_count = 4 * 20;
	CHECK(page_mappings_take(4));
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 8);
	page_mappings_give(4);
	CHECK_EQ(present(again.base, 9), 9 * CHUNK_BYTES);
	check_rest();
}

TEST(limits_forbid_composing)
{
	(void)start();
	mock_facts()->data_limit_bytes = (uint64_t)1 << 40;
	(void)compose(8 * CHUNK, false);
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	mock_facts()->address_limit_bytes = (uint64_t)1 << 40;
	(void)compose(8 * CHUNK, false);
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->overcommit_mode = 2;
	(void)compose(8 * CHUNK, false);
	CHECK_EQ(stats().composed_runs, 0);
	check_rest();
}

TEST(what_was_dearer_is_tried_now_and_then)
{
	struct arena *a = start();
	unsigned composed = 0;

	a_store_rlx(&a->compose_skipped, 1);
	for (int i = 0; i < 32; i++) {
		uint64_t before = stats().composed_runs;
		struct page_run run;
		a_store_rlx(&a->cost_compose_ns, 2000);
		a_store_rlx(&a->cost_populate_ns, 1000);
		run = compose(2 * CHUNK, false);
		composed += stats().composed_runs > before;
		fill(run.base, 2, 1);
		if (stats().composed_runs > before)
			CHECK_EQ(i % 16, 15);
	}
	CHECK_EQ(composed, 2);
	check_rest();
}

TEST(means_follow_what_is_measured)
{
	_Atomic(uint32_t) mean = 0;

	cost_note(&mean, 8000, 8);
	CHECK(a_load_rlx(&mean) >= 1000 && a_load_rlx(&mean) <= 1001);
	for (int i = 0; i < 40; i++)
		cost_note(&mean, 16000, 8);
	CHECK(a_load_rlx(&mean) > 1900 && a_load_rlx(&mean) <= 2001);
	/* One that was preempted does not count for more than a few. */
	cost_note(&mean, SECOND_NS, 1);
	CHECK(a_load_rlx(&mean) < 4000);
}

TEST(refused_at_once_nothing_has_changed)
{
	struct arena *a = start();
	struct page_run run;
	size_t dirty = stats().dirty_bytes;

	move_mode = REFUSE;
	run = compose(8 * CHUNK, false);
	CHECK_EQ(stats().composed_runs, 0);
	CHECK_EQ(stats().lost_bytes, 0);
	CHECK_EQ(stats().dirty_bytes, dirty);
	CHECK_EQ(a_load_rlx(&a->moved_above), 0);
	CHECK_EQ(present(run.base, 8), 8 * CHUNK_BYTES);
	check_rest();
	/* After four it is tried now and then, and then as ever. */
	for (int i = 0; i < 3; i++)
		(void)compose(2 * CHUNK, false);
	CHECK_EQ(a_load_rlx(&a->compose_refusals), 4);
	move_mode = AS_EVER;
	for (int i = 0; i < 65 && !stats().composed_runs; i++)
		run = compose(2 * CHUNK, false);
	CHECK_EQ(stats().composed_bytes, 2 * CHUNK_BYTES);
	CHECK_EQ(a_load_rlx(&a->compose_refusals), 0);
}

/* In a process of its own. */
static void refuse_after(unsigned let)
{
	struct arena *a = start();
	struct page_run run;

	move_mode = REFUSE_UNMAPPED;
	moves_let = let;
	run = compose(8 * CHUNK, false);
	move_mode = AS_EVER;
	CHECK_EQ(stats().composed_bytes, let * CHUNK_BYTES);
	CHECK_EQ(present(run.base, 8), 8 * CHUNK_BYTES);
	fill(run.base, 8, 1234);
	check_fill(run.base, 8, 1234);
	check_rest();
	page_free(run.base, run.granules);
	(void)page_trim();
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 0);
	CHECK_EQ(a_load_rlx(&a->moved_above), 0);
	CHECK_EQ(stats().lost_bytes, 0);
}

TEST(refused_in_the_middle_the_gap_is_closed)
{
	for (unsigned let = 0; let < 8; let++) {
		pid_t child = fork();
		int status;
		if (!child) {
			refuse_after(let);
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
}

static void stranger_comes(int mode)
{
	struct arena *a = start();
	struct page_run run;
	size_t used = stats().used_bytes;

	CHECK_EQ(page_alloc(8 * CHUNK + 7, CHUNK_BYTES, &run), 0);
	move_mode = mode;
	moves_let = 3;
	CHECK_EQ(page_compose(&run, 8 * CHUNK), -ENOMEM);
	move_mode = AS_EVER;
	CHECK_EQ(stats().lost_bytes, CHUNK_BYTES);
	CHECK_EQ(stats().used_bytes, used + CHUNK_BYTES);
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 3);
	CHECK_EQ(a_load_rlx(&a->moved_above), 6);
	CHECK(!page_is_free(run.base + 3 * CHUNK_BYTES));
	CHECK(page_is_free(run.base + 4 * CHUNK_BYTES));
	check_rest();
	/* The next one has all that it should. */
	run = compose(8 * CHUNK, false);
	fill(run.base, 8, 3);
	check_fill(run.base, 8, 3);
	check_rest();
}

TEST(a_stranger_in_the_gap_costs_the_run)
{
	stranger_comes(REFUSE_STRANGER);
}

TEST(so_does_one_that_fills_it)
{
	stranger_comes(REFUSE_FILLED);
}

/* page_alloc_composed() takes another one. */
TEST(a_run_that_was_lost_is_replaced)
{
	struct page_run run;

	(void)start();
	move_mode = REFUSE_STRANGER;
	moves_let = 3;
	CHECK_EQ(page_alloc_composed(8 * CHUNK, 8 * CHUNK, CHUNK_BYTES, &run), 0);
	CHECK_EQ(stats().lost_bytes, CHUNK_BYTES);
	fill(run.base, 8, 3);
	check_rest();
}

/* Every call that composing and preparing make, refused one after the other. */
TEST_TIMEOUT(every_refusal_leaves_all_in_order, 60)
{
	static const enum os_call calls[] = { OS_CALL_MOVE, OS_CALL_PRESENT, OS_CALL_HUGE,
		OS_CALL_POPULATE, OS_CALL_RESERVE_AT, OS_CALL_MAP_FIXED, OS_CALL_COMMIT,
		OS_CALL_DECOMMIT, OS_CALL_NAME };

	for (size_t c = 0; c < sizeof(calls) / sizeof(calls[0]); c++) {
		for (unsigned nth = 1; nth <= 9; nth++) {
			pid_t child = fork();
			int status;
			if (!child) {
				struct page_run run;
				(void)start();
				mock_fail(calls[c], nth, ENOMEM);
				if (!page_alloc(11 * CHUNK / 2, CHUNK_BYTES, &run) &&
					!page_compose(&run, run.granules)) {
					page_prepare(&run, false,
						run.granules << PAGE_GRANULE_SHIFT);
					fill(run.base, 5, 6);
					check_rest();
					check_fill(run.base, 5, 6);
					page_free(run.base, run.granules);
				}
				(void)page_trim();
				(void)page_trim();
				check_rest();
				CHECK_EQ(a_load_rlx(&arena_get()->moved_above),
					2 * a_load_rlx(&arena_get()->composed_chunks));
				_exit(0);
			}
			CHECK_EQ(waitpid(child, &status, 0), child);
			CHECK_EQ(status, 0);
		}
	}
}

TEST(composed_runs_are_moved_piece_by_piece)
{
	struct arena *a = start();
	struct page_run run = compose(5 * CHUNK / 2, false);
	struct page_run to;

	CHECK_EQ(stats().composed_bytes, 2 * CHUNK_BYTES);
	fill(run.base, 2, 11);
	CHECK_EQ(page_move(run.base, run.granules, run.granules + 9, &to), 0);
	check_fill(to.base, 2, 11);
	CHECK_EQ(stats().lost_bytes, 0);
	CHECK(page_check());
	page_free(to.base, to.granules);
	(void)page_trim();
	CHECK_EQ(a_load_rlx(&a->composed_chunks), 0);
	CHECK_EQ(stats().moved_runs, 0);
	check_rest();
}

TEST(nothing_is_moved_into_composed_chunks)
{
	struct page_run live[40];
	struct page_run run;
	struct page_run to;
	int ret = 0;
	int n = 0;

	(void)start();
	run = compose(8 * CHUNK, false);
	page_free(run.base, run.granules);
	/* Fills what lies in front of it. */
	do
		live[n] = take(20);
	while (live[n++].base < run.base && n < 40);
	fill(live[0].base, 0, 0);
	live[0].base[5] = 5;
	for (int i = 0; i < 20 && !ret; i++)
		ret = page_move(live[i].base, 20, 24, &to);
	CHECK_EQ(ret, -ENOTSUP);
	CHECK(page_check());
	check_rest();
}

/* The pages of a huge page stay together. */
TEST(huge_pages_move_whole)
{
	struct arena *a = start();
	size_t chunk = ((uintptr_t)scattered[1].base - a->base) / CHUNK_BYTES;
	struct page_run run;

	if (os_huge(scattered[1].base, CHUNK_BYTES, true) ||
		os_collapse(scattered[1].base, CHUNK_BYTES))
		SKIP("MADV_COLLAPSE is not supported, or there is no free huge page");
	a_store_rlx(&a->chunks[chunk], 255);
	a_store_rlx(&a->huge_chunks, 1);
	run = compose(8 * CHUNK, false);
	CHECK_EQ(stats().composed_bytes, 8 * CHUNK_BYTES);
	CHECK(!huge_is(a, chunk * CHUNK));
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 1);
	/* The last one, since they are looked for from the end on. */
	CHECK(huge_is(a, ((uintptr_t)run.base - a->base) / PAGE_GRANULE_BYTES + 7 * CHUNK));
	page_free(run.base, run.granules);
	(void)page_trim();
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 0);
	check_rest();
}

TEST(a_child_has_what_was_composed)
{
	struct page_run run;
	struct page_run more;
	pid_t child;
	int status;

	(void)start();
	run = compose(4 * CHUNK, false);
	fill(run.base, 4, 21);
	child = fork();
	if (!child) {
		page_fork_child();
		check_fill(run.base, 4, 21);
		more = compose(6 * CHUNK, false);
		fill(more.base, 6, 22);
		check_fill(run.base, 4, 21);
		page_free(run.base, run.granules);
		page_free(more.base, more.granules);
		(void)page_trim();
		check_rest();
		_exit(0);
	}
	fill(run.base, 4, 31);
	more = compose(6 * CHUNK, false);
	fill(more.base, 6, 32);
	check_fill(run.base, 4, 31);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	check_rest();
}
