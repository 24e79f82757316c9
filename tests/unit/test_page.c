/* SPDX-License-Identifier: MIT */
/*
 * Runs of the page layer over the mock OS: handing out, taking back, growing, looking up, and what
 * is true of their contents. Each subtest is a fresh process, hence a fresh arena.
 */
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

static size_t os_calls(void)
{
	const struct mock_record *records;

	return mock_calls(&records);
}

static struct page_run take(size_t granules, size_t align_bytes)
{
	struct page_run run = { 0 };

	CHECK_EQ(page_alloc(granules, align_bytes, &run), 0);
	CHECK_EQ(run.granules, granules);
	return run;
}

static bool is_zero(const char *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 512)
		if (p[i])
			return false;
	return true;
}

static void fill(char *p, size_t granules, int value)
{
	memset(p, value, granules << PAGE_GRANULE_SHIFT);
}

TEST(before_init_nothing_is_known)
{
	int object = 0;

	CHECK_EQ(page_record_of(&object), NULL);
	CHECK_EQ(page_record_of(NULL), NULL);
	CHECK_EQ(page_record_of((void *)test_seed), NULL);
	CHECK(!page_in_arena(&object));
	CHECK_EQ(page_trim(), 0);
	page_tick();
	CHECK_EQ(stats().arena_bytes, 0);
}

TEST(first_allocation_is_cheap)
{
	struct page_run run;
	size_t calls;

	mock_reset();
	CHECK_EQ(page_init(), 0);
	run = take(1, 0);
	run.base[0] = 1;
	calls = os_calls();
	test_note("system calls for the first allocation: %zu", calls);
	CHECK(calls <= 4);
	CHECK_EQ(mock_count(OS_CALL_UNMAP), 0);
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(os_calls(), calls);
	CHECK(page_check());
}

TEST(arena_is_sized_from_ram)
{
	mock_reset();
	mock_facts()->ram_bytes = (uint64_t)20 << 30;
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(stats().arena_bytes, (size_t)128 << 30);
	CHECK_EQ(a_load_rlx(&page_arena.base) % ((size_t)2 << 20), 0);
}

TEST(arena_has_a_least_size)
{
	mock_reset();
	mock_facts()->ram_bytes = (uint64_t)1 << 30;
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(stats().arena_bytes, (size_t)64 << 30);
}

TEST(arena_is_small_under_strict_overcommit)
{
	mock_reset();
	mock_facts()->ram_bytes = (uint64_t)3 << 30;
	mock_facts()->overcommit_mode = 2;
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(stats().arena_bytes, (size_t)4 << 30);
}

TEST(arena_takes_half_of_what_a_limit_leaves)
{
	mock_reset();
	mock_facts()->address_limit_bytes = (uint64_t)1 << 30;
	/* 256 MiB are in use, in pages of 4 KiB. */
	mock_file_set("/proc/self/statm", mock_facts()->page_bytes == 4096 ? "65536 1 1" : "0 1");
	CHECK_EQ(page_init(), 0);
	CHECK(stats().arena_bytes <= (size_t)384 << 20);
	CHECK(stats().arena_bytes >= (size_t)320 << 20);
	CHECK_EQ(take(16, 0).granules, 16);
}

TEST(arena_option_overrides)
{
	mock_reset();
	options.arena_bytes = (uint64_t)96 << 20;
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(stats().arena_bytes, (size_t)96 << 20);
}

TEST(runs_do_not_overlap_and_are_found)
{
	struct page_run a = take(1, 0);
	struct page_run b = take(7, 0);
	struct page_run c = take(1000, 0);

	CHECK(a.zeroed && b.zeroed && c.zeroed);
	fill(a.base, 1, 'a');
	fill(b.base, 7, 'b');
	fill(c.base, 1000, 'c');
	CHECK_EQ(a.base[PAGE_GRANULE_BYTES - 1], 'a');
	CHECK_EQ(b.base[7 * PAGE_GRANULE_BYTES - 1], 'b');
	for (size_t i = 0; i < 1000; i++) {
		char *p = c.base + (i << PAGE_GRANULE_SHIFT);
		void *record = page_record_of(p + 17);
		CHECK(record != NULL);
		CHECK_EQ(page_record_at(page_record_index(record)), record);
		/* Records are zero at first, and writable. */
		CHECK(is_zero(record, PAGE_RECORD_BYTES));
		memset(record, 1, PAGE_RECORD_BYTES);
	}
	CHECK(page_record_index(page_record_of(a.base)) < 1u << PAGE_RECORD_INDEX_BITS);
	page_free(b.base, 7);
	page_free(a.base, 1);
	page_free(c.base, 1000);
	CHECK_EQ(stats().used_bytes, 0);
	CHECK_EQ(stats().used_peak_bytes, 1008 * PAGE_GRANULE_BYTES);
	CHECK_EQ(stats().dirty_bytes, 1008 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
}

TEST(freed_runs_are_reused_without_system_calls)
{
	struct page_run runs[50];
	size_t calls;

	for (size_t i = 0; i < 50; i++)
		runs[i] = take(i % 5 + 1, 0);
	for (size_t i = 0; i < 50; i++)
		page_free(runs[i].base, runs[i].granules);
	mock_reset();
	for (size_t round = 0; round < 20; round++) {
		for (size_t i = 0; i < 50; i++)
			runs[i] = take(i % 5 + 1, 0);
		for (size_t i = 0; i < 50; i++)
			page_free(runs[i].base, runs[i].granules);
	}
	calls = os_calls();
	CHECK_EQ(calls, 0);
	CHECK(page_check());
}

/* Warm memory is handed out in one piece, whatever clean memory lies before and behind it. */
TEST(warm_runs)
{
	struct page_run clean = take(20, 0);
	struct page_run warm = take(100, 0);
	struct page_run hole = take(4, 0);
	struct page_run run = { 0 };
	struct page_run wall = take(1, 0);

	CHECK_EQ(page_alloc_warm(4, 8, &run), 0);
	page_free_clean(clean.base, 20);
	CHECK_EQ(page_alloc_warm(4, 8, &run), 0);
	page_free(warm.base, 100);
	page_free(hole.base, 4);
	const size_t calls = os_calls();
	CHECK_EQ(page_alloc_warm(4, 8, &run), 8);
	CHECK_EQ(run.base, warm.base);
	CHECK(run.granules == 32 && run.fresh == 0 && !run.zeroed);
	/* As many as there is room for. */
	CHECK_EQ(page_alloc_warm(10, 50, &run), 7);
	CHECK_EQ(run.base, warm.base + (32 << PAGE_GRANULE_SHIFT));
	CHECK_EQ(page_alloc_warm(1, 2, &run), 2);
	CHECK_EQ(page_alloc_warm(1, 2, &run), 0);
	CHECK_EQ(os_calls(), calls);
	CHECK_EQ(take(20, 0).base, clean.base);
	(void)wall;
	CHECK(page_check());
}

TEST(what_is_in_use_stays_dense)
{
	struct page_run first = take(4, 0);
	struct page_run second = take(4, 0);
	struct page_run third = take(4, 0);

	(void)second;
	page_free(first.base, 4);
	page_free(third.base, 4);
	CHECK_EQ(take(4, 0).base, first.base);
	CHECK_EQ(take(4, 0).base, third.base);
}

/*
 * A large run is found in what a small one left of a hole, and in the hole that fits best; the arena
 * does not grow for it.
 */
TEST(large_runs_fit_in_what_is_left)
{
	struct page_run small[2];
	struct page_run holes[3];
	struct page_run walls[3];
	struct page_run run;
	static const size_t sizes[] = { 40, 20, 100 };

	CHECK_EQ(page_alloc(1, 0, &small[0]), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(page_alloc(sizes[i], 0, &holes[i]), 0);
		CHECK_EQ(page_alloc(1, 0, &walls[i]), 0);
	}
	for (int i = 0; i < 3; i++)
		page_free(holes[i].base, sizes[i]);
	CHECK_EQ(page_alloc(19, 0, &run), 0);
	CHECK_EQ(run.base, holes[1].base);
	CHECK_EQ(page_alloc(4, 0, &small[1]), 0);
	CHECK_EQ(small[1].base, holes[0].base);
	CHECK_EQ(page_alloc(36, 0, &run), 0);
	CHECK_EQ(run.base, holes[0].base + 4 * PAGE_GRANULE_BYTES);
	CHECK_EQ(page_alloc(30, 0, &run), 0);
	CHECK_EQ(run.base, holes[2].base);
	CHECK_EQ(page_alloc(70, 0, &run), 0);
	CHECK_EQ(run.base, holes[2].base + 30 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
}

TEST(neighbours_join)
{
	struct page_run runs[16];

	for (size_t i = 0; i < 16; i++)
		runs[i] = take(2, 0);
	for (size_t i = 0; i < 16; i++)
		page_free(runs[(i * 5) % 16].base, 2);
	CHECK_EQ(take(32, 0).base, runs[0].base);
}

TEST(zeroed_is_the_truth)
{
	struct page_run a = take(4, 0);
	struct page_run b;

	CHECK(a.zeroed && is_zero(a.base, 4 << PAGE_GRANULE_SHIFT));
	fill(a.base, 4, 1);
	page_free(a.base, 4);
	b = take(4, 0);
	CHECK_EQ(b.base, a.base);
	CHECK(!b.zeroed);
	page_free(b.base, 4);
	CHECK_EQ(page_trim(), 4 * PAGE_GRANULE_BYTES);
	b = take(4, 0);
	CHECK_EQ(b.base, a.base);
	CHECK(b.zeroed && is_zero(b.base, 4 << PAGE_GRANULE_SHIFT));
	/* One dirty granule among clean ones spoils the run. */
	page_free(b.base, 1);
	page_free(b.base + PAGE_GRANULE_BYTES, 3);
	CHECK_EQ(page_trim(), 4 * PAGE_GRANULE_BYTES);
	a = take(2, 0);
	page_free(a.base + PAGE_GRANULE_BYTES, 1);
	page_free(a.base, 1);
	b = take(4, 0);
	CHECK(!b.zeroed);
	CHECK(page_check());
}

TEST(growth_by_steps)
{
	size_t committed = 0;
	unsigned steps = 0;

	mock_reset();
	for (size_t i = 0; i < 4000; i++) {
		take(1, 0);
		if (stats().committed_bytes != committed) {
			steps++;
			committed = stats().committed_bytes;
		}
	}
	CHECK(committed >= 4000 * PAGE_GRANULE_BYTES);
	CHECK(committed <= 5100 * PAGE_GRANULE_BYTES);
	test_note("%u steps to 4000 granules", steps);
	CHECK(steps < 25);
	CHECK(page_check());
}

TEST(growth_joins_the_free_tail)
{
	struct page_run small = take(1, 0);
	size_t committed = stats().committed_bytes;
	struct page_run large = take(committed >> PAGE_GRANULE_SHIFT, 0);

	CHECK_EQ(large.base, small.base + PAGE_GRANULE_BYTES);
	CHECK(page_check());
}

TEST(growth_takes_the_exact_need_when_a_step_is_refused)
{
	size_t committed;

	take(1024, 0);
	committed = stats().committed_bytes;
	for (size_t i = 1024; i < committed >> PAGE_GRANULE_SHIFT; i++)
		take(1, 0);
	mock_reset();
	mock_fail(OS_CALL_COMMIT, 1, ENOMEM);
	take(3, 0);
	CHECK_EQ(stats().committed_bytes, committed + 3 * PAGE_GRANULE_BYTES);
	CHECK_EQ(stats().direct_runs, 0);
	CHECK(page_check());
}

TEST(aligned_runs)
{
	static const size_t aligns[] = { 0, 4096, 65536, 1 << 17, 1 << 20, 1 << 21, 1 << 22,
		1 << 25, 1 << 26, 1 << 27, 1 << 30 };

	for (size_t i = 0; i < sizeof(aligns) / sizeof(aligns[0]); i++) {
		struct page_run run = take(3, aligns[i]);
		size_t align = aligns[i] > PAGE_GRANULE_BYTES ? aligns[i] : PAGE_GRANULE_BYTES;
		CHECK_EQ((uintptr_t)run.base & (align - 1), 0);
		fill(run.base, 3, 7);
		CHECK(page_record_of(run.base) != NULL);
		if (i % 2)
			page_free(run.base, 3);
	}
	CHECK(page_check());
}

TEST(extend_in_place)
{
	struct page_run run = take(4, 0);
	struct page_run other;
	bool zeroed = false;

	fill(run.base, 4, 1);
	CHECK(page_extend(run.base, 4, 9, &zeroed));
	CHECK(zeroed);
	CHECK(is_zero(run.base + 4 * PAGE_GRANULE_BYTES, 5 * PAGE_GRANULE_BYTES));
	fill(run.base, 9, 2);
	page_shrink(run.base, 9, 2);
	CHECK_EQ(stats().used_bytes, 2 * PAGE_GRANULE_BYTES);
	zeroed = true;
	CHECK(page_extend(run.base, 2, 4, &zeroed));
	CHECK(!zeroed);
	other = take(1, 0);
	CHECK_EQ(other.base, run.base + 4 * PAGE_GRANULE_BYTES);
	CHECK(!page_extend(run.base, 4, 5, &zeroed));
	page_free(other.base, 1);
	/* Beyond the frontier. */
	CHECK(page_extend(run.base, 4, 5000, &zeroed));
	CHECK(!zeroed);
	fill(run.base, 5000, 3);
	page_free(run.base, 5000);
	CHECK_EQ(stats().used_bytes, 0);
	CHECK(page_check());
}

TEST(extend_stops_at_the_end)
{
	struct page_run run;
	bool zeroed;

	options.arena_bytes = (uint64_t)4 << 20;
	run = take(1, 0);
	CHECK(!page_extend(run.base, 1, 65, &zeroed));
	CHECK(!page_extend(run.base, 1, SIZE_MAX / 2, &zeroed));
	CHECK(page_extend(run.base, 1, 64, &zeroed));
	CHECK(zeroed);
	CHECK(page_check());
}

TEST(impossible_sizes_are_refused)
{
	struct page_run run = { 0 };

	CHECK_EQ(page_alloc(SIZE_MAX, 0, &run), -ENOMEM);
	CHECK_EQ(page_alloc(SIZE_MAX >> PAGE_GRANULE_SHIFT, 0, &run), -ENOMEM);
	CHECK_EQ(page_alloc((size_t)1 << 47, 0, &run), -ENOMEM);
	CHECK_EQ(page_alloc(1, (size_t)1 << 62, &run), -ENOMEM);
	CHECK_EQ(run.base, NULL);
	CHECK_EQ(stats().used_bytes, 0);
	CHECK(page_check());
}

TEST(double_free_dies)
{
	struct page_run run = take(2, 0);

	page_free(run.base, 2);
	mock_fatal_catch(NULL);
	{
		jmp_buf caught;
		if (!setjmp(caught)) {
			mock_fatal_catch(&caught);
			page_free(run.base, 2);
			CHECK(false);
		}
	}
	CHECK_STR_EQ(mock_written(), "allod: double free\n");
}

/* A fixed mix of everything; whatever fails, nothing is lost and all can be taken back. */
static unsigned mix(void)
{
	struct page_run runs[24] = { 0 };
	unsigned failed = 0;
	bool zeroed;

	for (size_t i = 0; i < 24; i++) {
		size_t n = i % 7 == 6 ? 300 : i % 5 + 1;
		if (page_alloc(n, i % 4 ? 0 : 1 << 20, &runs[i])) {
			failed++;
			continue;
		}
		runs[i].base[0] = 1;
		if (page_extend(runs[i].base, n, n + 40, &zeroed))
			runs[i].granules = n + 40;
	}
	for (size_t i = 0; i < 24; i += 2) {
		struct page_run moved;
		if (!runs[i].base)
			continue;
		if (!page_move(runs[i].base, runs[i].granules, runs[i].granules + 9, &moved)) {
			CHECK_EQ(moved.base[0], 1);
			runs[i] = moved;
		}
	}
	for (size_t i = 0; i < 24; i++) {
		if (!runs[i].base)
			continue;
		CHECK_EQ(runs[i].base[0], 1);
		if (runs[i].granules > 3) {
			page_shrink(runs[i].base, runs[i].granules, 3);
			runs[i].granules = 3;
		}
		page_free(runs[i].base, runs[i].granules);
	}
	page_trim();
	return failed;
}

/* One run; false when the call to be refused was never made. */
static bool sweep_one(enum os_call kind, unsigned nth, bool all_after)
{
	struct page_stats s;
	bool refused;

	mock_reset();
	if (all_after)
		mock_fail_all_after(kind, nth - 1);
	else
		mock_fail(kind, nth, kind == OS_CALL_DECOMMIT ? EINVAL : ENOMEM);
	/* Without any reservation not even the metadata exists. */
	if (page_init())
		CHECK(kind == OS_CALL_RESERVE || kind == OS_CALL_COMMIT);
	mix();
	refused = mock_count(kind) >= nth;
	mock_reset();
	CHECK_EQ(mix(), 0);
	page_trim();
	s = stats();
	CHECK_EQ(s.used_bytes, s.lost_bytes);
	CHECK_EQ(s.dirty_bytes, 0);
	CHECK_EQ(s.direct_runs, 0);
	/* Only a refused move may cost addresses, and not for ever. */
	CHECK(s.lost_bytes == 0 || kind == OS_CALL_MOVE || kind == OS_CALL_MAP_FIXED);
	CHECK(page_check());
	return refused;
}

/* How a run says that the call was never made; a failed check ends it with 1. */
enum { NEVER_MADE = 2 };

/* In a process of its own; whether the call was refused. */
static bool sweep_apart(enum os_call kind, unsigned nth, bool all_after)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(sweep_one(kind, nth, all_after) ? 0 : NEVER_MADE);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (status && status != NEVER_MADE << 8)
		test_fail(__FILE__, __LINE__, "%s, call %u%s: status %d", mock_call_name(kind), nth,
			all_after ? " and all after" : "", status);
	return status == 0;
}

/* Every call in turn is refused, once and from then on, until it is made no more. */
static void sweep(size_t arena_bytes)
{
	unsigned runs = 0;

	mock_reset();
	options.arena_bytes = arena_bytes;
	for (int kind = 0; kind < OS_CALL_KINDS; kind++) {
		bool refused = true;
		for (unsigned nth = 1; refused && nth <= 12; nth++) {
			refused = sweep_apart((enum os_call)kind, nth, false);
			refused |= sweep_apart((enum os_call)kind, nth, true);
			runs += 2;
		}
	}
	test_note("%u runs", runs);
	CHECK(runs > 2 * OS_CALL_KINDS + 20);
}

TEST_TIMEOUT(sweep_with_room, 50)
{
	sweep(0);
}

TEST_TIMEOUT(sweep_with_a_full_arena, 50)
{
	sweep((size_t)4 << 20);
}

TEST_TIMEOUT(sweep_without_an_arena, 50)
{
	options.page = OPTION_PAGE_MMAP;
	sweep(0);
}
