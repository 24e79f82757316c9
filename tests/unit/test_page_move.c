/* SPDX-License-Identifier: MIT */
/*
 * Moving pages instead of copying: contents, zeroes, and how many mappings it costs. The memory
 * under the mock OS is real, and so are the mappings counted here.
 */
#include "arena.h"
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"
#include "page_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

static struct page_run take(size_t granules)
{
	struct page_run run;

	CHECK_EQ(page_alloc(granules, 0, &run), 0);
	return run;
}

/* One number in each granule. */
static void stamp(const struct page_run *run, uint64_t seed)
{
	for (size_t i = 0; i < run->granules; i++)
		*(uint64_t *)(run->base + (i << PAGE_GRANULE_SHIFT) + 8 * (i % 100)) = seed + i;
}

static void check_stamp(const char *base, size_t granules, uint64_t seed)
{
	for (size_t i = 0; i < granules; i++)
		CHECK_EQ(*(const uint64_t *)(base + (i << PAGE_GRANULE_SHIFT) + 8 * (i % 100)),
			seed + i);
}

static void start(void)
{
	mock_reset();
	mock_facts()->overcommit_mode = 0;
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	CHECK_EQ(page_init(), 0);
}

static void need_move(void)
{
	struct page_run a = take(4);
	struct page_run b;

	a.base[0] = 1;
	if (page_move(a.base, 4, 5, &b) == -ENOTSUP)
		SKIP("mremap without MREMAP_DONTUNMAP (Linux 5.7)");
	page_free(b.base, 5);
}

TEST(contents_move_and_the_old_run_is_zero)
{
	struct page_run a, b, c;

	start();
	need_move();
	page_trim();
	a = take(16);
	stamp(&a, 1000);
	CHECK_EQ(page_move(a.base, 16, 40, &b), 0);
	CHECK(b.base != a.base);
	CHECK_EQ(b.granules, 40);
	CHECK(b.zeroed);
	check_stamp(b.base, 16, 1000);
	for (size_t i = 16 << PAGE_GRANULE_SHIFT; i < 40 << PAGE_GRANULE_SHIFT; i += 4096)
		CHECK_EQ(b.base[i], 0);
	stamp(&b, 5000);
	c = take(16);
	CHECK_EQ(c.base, a.base);
	CHECK(c.zeroed);
	for (size_t i = 0; i < 16 << PAGE_GRANULE_SHIFT; i += 8)
		CHECK_EQ(*(uint64_t *)(c.base + i), 0);
	stamp(&c, 9000);
	check_stamp(b.base, 40, 5000);
	CHECK_EQ(stats().moved_runs, 1);
	CHECK_EQ(stats().used_bytes, 56 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
	page_free(b.base, 40);
	check_stamp(c.base, 16, 9000);
	page_free(c.base, 16);
	CHECK_EQ(stats().moved_runs, 0);
	CHECK_EQ(stats().used_bytes, 0);
	CHECK(page_check());
}

TEST(dirty_tail_is_not_called_zeroed)
{
	struct page_run a, b, junk;

	start();
	need_move();
	a = take(8);
	stamp(&a, 1);
	junk = take(64);
	stamp(&junk, 2);
	page_free(junk.base, 64);
	CHECK_EQ(page_move(a.base, 8, 32, &b), 0);
	CHECK(!b.zeroed);
	check_stamp(b.base, 8, 1);
}

TEST(small_runs_are_left_to_copying)
{
	struct page_run a, b;

	start();
	a = take(3);
	CHECK_EQ(page_move(a.base, 3, 9, &b), -ENOTSUP);
	CHECK(page_check());
}

/* What the layer above moves counts against the same budget. */
TEST(budget_is_shared)
{
	struct page_run a;
	struct page_run b;

	start();
	need_move();
	mock_facts()->max_map_count = 80;
	CHECK(!page_mappings_crowded());
	CHECK(!page_mappings_take(21));
	CHECK(page_mappings_take(10));
	CHECK(!page_mappings_crowded());
	CHECK(page_mappings_take(8));
	CHECK(page_mappings_crowded());
	a = take(4);
	CHECK_EQ(page_move(a.base, 4, 5, &b), 0);
	CHECK(!page_mappings_take(1));
	CHECK_EQ(page_move(b.base, 5, 6, &a), -ENOTSUP);
	page_mappings_give(18);
	CHECK_EQ(page_move(b.base, 5, 6, &a), 0);
	CHECK(page_check());
}

/* The program may have most mappings itself: then ours are fewer than the budget. */
TEST(budget_heeds_the_program)
{
	start();
	mock_facts()->max_map_count = 64000;
	mock_map_count_set(60000);
	/* So few are not worth counting. */
	CHECK(page_mappings_take(256));
	/* Half of what is left, then half of that, until a 64th of all is left. */
	CHECK(page_mappings_take(1));
	CHECK(page_mappings_take(1999));
	mock_map_count_set(62000);
	CHECK(page_mappings_take(2));
	CHECK(!page_mappings_crowded());
	mock_map_count_set(63500);
	CHECK(!page_mappings_take(1001));
	CHECK(page_mappings_crowded());
	/* A second later it is looked at again. */
	mock_map_count_set(1000);
	CHECK(!page_mappings_take(1001));
	mock_clock_advance(1100000000);
	CHECK(page_mappings_take(1001));
	page_mappings_give(256 + 1 + 1999 + 2 + 1001);
}

TEST(limits_forbid_moving)
{
	struct page_run a, b;

	start();
	mock_facts()->data_limit_bytes = (uint64_t)1 << 40;
	a = take(8);
	CHECK_EQ(page_move(a.base, 8, 9, &b), -ENOTSUP);
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	mock_facts()->overcommit_mode = 2;
	CHECK_EQ(page_move(a.base, 8, 9, &b), -ENOTSUP);
	CHECK_EQ(mock_count(OS_CALL_MOVE), 0);
}

TEST(refusals_end_the_trying)
{
	struct page_run a, b;

	start();
	a = take(8);
	stamp(&a, 3);
	mock_fail_all_after(OS_CALL_MOVE, 0);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(page_move(a.base, 8, 9, &b), -ENOTSUP);
	CHECK_EQ(mock_count(OS_CALL_MOVE), 4);
	check_stamp(a.base, 8, 3);
	/* The kernel left the destinations alone, but that cannot be known. */
	CHECK_EQ(stats().lost_bytes, 4 * 8 * PAGE_GRANULE_BYTES);
	page_free(a.base, 8);
	CHECK_EQ(stats().used_bytes, stats().lost_bytes);
	CHECK(page_check());
}

TEST_TIMEOUT(mappings_merge_again, 30)
{
	struct page_run runs[16] = { 0 };
	uint64_t seed = test_seed();
	size_t before;

	start();
	need_move();
	for (size_t i = 0; i < 16; i++) {
		runs[i] = take(64);
		stamp(&runs[i], i * 1000);
	}
	before = page_fixture_mappings();
	for (size_t round = 0; round < 4000; round++) {
		size_t i = test_random(&seed) % 16;
		struct page_run *run = &runs[i];
		struct page_run to;
		if (run->granules > 160) {
			page_free(run->base, run->granules);
			*run = take(64);
			stamp(run, i * 1000);
			continue;
		}
		CHECK_EQ(page_move(run->base, run->granules,
				 run->granules + test_random(&seed) % 20 + 12, &to),
			0);
		check_stamp(to.base, run->granules, i * 1000);
		*run = to;
		stamp(run, i * 1000);
	}
	CHECK(stats().move_calls > 3000);
	test_note("mappings: %zu before, %zu with %zu moved runs", before, page_fixture_mappings(),
		stats().moved_runs);
	CHECK(page_fixture_mappings() <= before + 2 * stats().moved_runs + 16);
	for (size_t i = 0; i < 16; i++)
		page_free(runs[i].base, runs[i].granules);
	test_note("mappings after all are free: %zu", page_fixture_mappings());
	/* Growth beside a moved run may leave a seam, a few in all. */
	CHECK(page_fixture_mappings() <= before + 12);
	CHECK_EQ(stats().moved_runs, 0);
	CHECK(page_check());
}

TEST(budget_of_mappings)
{
	enum { MOST = 30 };
	struct page_run runs[MOST + 1];
	struct page_run to;
	struct page_run a;

	start();
	need_move();
	mock_facts()->max_map_count = MOST * 8;
	for (size_t i = 0; i <= MOST; i++) {
		a = take(4);
		stamp(&a, i);
		runs[i] = a;
		if (page_move(a.base, 4, 5, &to))
			CHECK_EQ(i, MOST);
		else
			runs[i] = to;
	}
	CHECK_EQ(stats().moved_runs, MOST);
	CHECK_EQ(page_move(runs[MOST].base, 4, 6, &to), -ENOTSUP);
	page_free(runs[0].base, 5);
	CHECK_EQ(page_move(runs[MOST].base, 4, 6, &to), 0);
	check_stamp(to.base, 4, MOST);
	CHECK(page_check());
}

TEST(moved_runs_extend_shrink_and_move_again)
{
	struct page_run a, b, c;
	bool zeroed;

	start();
	need_move();
	a = take(10);
	stamp(&a, 7);
	CHECK_EQ(page_move(a.base, 10, 60, &b), 0);
	page_shrink(b.base, 60, 5);
	CHECK_EQ(stats().moved_runs, 1);
	check_stamp(b.base, 5, 7);
	CHECK(page_check());
	CHECK(page_extend(b.base, 5, 20, &zeroed));
	/* Two mappings now: moved one by one. */
	b.granules = 20;
	stamp(&b, 8);
	CHECK_EQ(page_move(b.base, 20, 30, &c), 0);
	check_stamp(c.base, 20, 8);
	CHECK_EQ(stats().moved_runs, 2);
	CHECK(page_check());
	page_shrink(c.base, 30, 4);
	CHECK_EQ(page_move(c.base, 4, 30, &b), 0);
	check_stamp(b.base, 4, 8);
	CHECK_EQ(stats().moved_runs, 1);
	page_free(b.base, 30);
	CHECK_EQ(stats().moved_runs, 0);
	CHECK(page_check());
}

TEST(refused_in_the_middle_all_is_as_before)
{
	struct page_run a, b, c;

	start();
	need_move();
	a = take(10);
	stamp(&a, 1);
	CHECK_EQ(page_move(a.base, 10, 30, &b), 0);
	stamp(&b, 100);
	mock_fail(OS_CALL_MOVE, 2, ENOMEM);
	CHECK_EQ(page_move(b.base, 30, 50, &c), -ENOTSUP);
	check_stamp(b.base, 30, 100);
	CHECK_EQ(stats().moved_runs, 1);
	CHECK_EQ(stats().lost_bytes, 20 * PAGE_GRANULE_BYTES);
	CHECK_EQ(stats().used_bytes, 50 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
	CHECK_EQ(page_move(b.base, 30, 50, &c), 0);
	check_stamp(c.base, 30, 100);
	page_free(c.base, 50);
	CHECK_EQ(stats().moved_runs, 0);
	CHECK(page_check());
}

/* A block that grows for ever is copied once in a while, and then it is in one piece again. */
TEST(growing_on_and_on)
{
	struct page_run run, to;
	size_t copies = 0;

	start();
	need_move();
	run = take(64);
	stamp(&run, 1);
	for (size_t i = 0; i < 60; i++) {
		size_t want = run.granules + 3;
		int ret = page_move(run.base, run.granules, want, &to);
		if (ret) {
			CHECK_EQ(ret, -ENOTSUP);
			to = take(want);
			memcpy(to.base, run.base, run.granules << PAGE_GRANULE_SHIFT);
			page_free(run.base, run.granules);
			copies++;
		}
		check_stamp(to.base, run.granules, 1);
		run = to;
		stamp(&run, 1);
		CHECK(stats().moved_runs <= 16);
	}
	test_note("%zu copies in 60 steps", copies);
	CHECK(copies <= 4);
	page_free(run.base, run.granules);
	CHECK_EQ(stats().moved_runs, 0);
	CHECK(page_check());
}

/* Runs of moderate size are copied once it shows that they grow over and over. */
TEST(moderate_runs_are_moved_a_few_times)
{
	struct page_run run, to;
	size_t moves = 0;

	start();
	need_move();
	for (size_t i = 0; i < 40; i++) {
		run = take(8);
		stamp(&run, i);
		if (!page_move(run.base, 8, 16, &to)) {
			check_stamp(to.base, 8, i);
			run = to;
			moves++;
		}
		page_free(run.base, run.granules);
	}
	CHECK(moves > 0 && moves <= 8);
	/* Large ones are moved whatever happens: a copy would take long. */
	run = take(64);
	CHECK_EQ(page_move(run.base, 64, 80, &to), 0);
	page_free(to.base, 80);
	CHECK_EQ(stats().moved_runs, 0);
	CHECK(page_check());
}

TEST(refused_reset_empties_instead)
{
	struct page_run a, b, c;

	start();
	need_move();
	page_trim();
	a = take(8);
	stamp(&a, 1);
	CHECK_EQ(page_move(a.base, 8, 20, &b), 0);
	mock_fail(OS_CALL_MAP_FIXED, 1, ENOMEM);
	page_free(b.base, 20);
	CHECK_EQ(stats().lost_bytes, 0);
	CHECK(page_check());
	page_trim();
	c = take(20);
	CHECK(c.zeroed);
	for (size_t i = 0; i < 20 << PAGE_GRANULE_SHIFT; i += 512)
		CHECK_EQ(c.base[i], 0);
}

TEST(direct_runs_move_with_their_record)
{
	struct page_run a, b;
	void *record;

	options.page = OPTION_PAGE_MMAP;
	start();
	a = take(5);
	stamp(&a, 11);
	record = page_record_of(a.base);
	memset(record, 3, PAGE_RECORD_BYTES);
	CHECK_EQ(page_move(a.base, 5, 5000, &b), 0);
	CHECK(b.zeroed);
	CHECK_EQ((uintptr_t)b.base % PAGE_GRANULE_BYTES, 0);
	check_stamp(b.base, 5, 11);
	CHECK(page_record_of(b.base) != NULL);
	if (a.base != b.base)
		CHECK_EQ(page_record_of(a.base), NULL);
	CHECK_EQ(stats().direct_runs, 1);
	CHECK_EQ(stats().used_bytes, 5000 * PAGE_GRANULE_BYTES);
	mock_fail(OS_CALL_MOVE, 1, ENOMEM);
	CHECK_EQ(page_move(b.base, 5000, 6000, &a), -ENOMEM);
	check_stamp(b.base, 5, 11);
	CHECK(page_record_of(b.base) != NULL);
	CHECK_EQ(stats().direct_runs, 1);
	page_free(b.base, 5000);
	CHECK_EQ(stats().used_bytes, 0);
	CHECK_EQ(page_record_of(b.base), NULL);
}
