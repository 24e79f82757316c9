/* SPDX-License-Identifier: MIT */
/*
 * How much free memory is kept: the bound by the headroom of a made-up control group, and the one
 * that the program sets; over the mock OS.
 */
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

/* The private state, to reach the janitor's task. */
#include "arena.h"

#define SECOND_NS ((uint64_t)1000000000)
#define MIB ((size_t)1 << 20)
#define GROUP "/sys/fs/cgroup/memory/g/memory."

static char usage[32];
static char inactive[64];

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

static size_t warm(void)
{
	return stats().dirty_bytes - stats().cold_bytes;
}

/* The group uses so much, of which the kernel could take so much. */
static void group_uses(size_t bytes, size_t takeable)
{
	snprintf(usage, sizeof(usage), "%zu\n", bytes);
	snprintf(inactive, sizeof(inactive), "total_inactive_file %zu\ntotal_cache 0\n", takeable);
	mock_file_set(GROUP "usage_in_bytes", usage);
	mock_file_set(GROUP "stat", inactive);
}

static void start(enum option_background background)
{
	mock_reset();
	mock_clock_set(1000 * SECOND_NS);
	mock_facts()->ram_bytes = (uint64_t)24 << 30;
	options.background = background;
	options.decay_ms = 500;
	CHECK_EQ(page_init(), 0);
	a_store_rlx(&arena_get()->cost_state, 1);
}

static void in_group(enum option_background background, const char *limit)
{
	start(background);
	mock_file_set("/proc/self/cgroup", "4:memory:/g\n");
	mock_file_set(GROUP "limit_in_bytes", limit);
	group_uses(0, 0);
}

/* So much memory in pieces of 1 MiB, all of it touched. */
static void take(char **pieces, size_t mib)
{
	struct page_run run;

	for (size_t i = 0; i < mib; i++) {
		CHECK_EQ(page_alloc(16, 0, &run), 0);
		memset(run.base, 1, MIB);
		pieces[i] = run.base;
	}
}

static void give(char **pieces, size_t mib)
{
	for (size_t i = 0; i < mib; i++)
		page_free(pieces[i], 16);
}

TEST(what_is_warm_stays_under_half_of_the_headroom)
{
	char *pieces[128];

	in_group(OPTION_BACKGROUND_OFF, "209715200\n");
	take(pieces, 128);
	group_uses(140 * MIB, 0);
	for (size_t i = 0; i < 128; i++) {
		page_free(pieces[i], 16);
		/* Up to 1 MiB more is freed before the next look. */
		CHECK(warm() <= (60 * MIB + stats().cold_bytes) / 2 + MIB);
		/* The kernel counts what went cold among what it can take. */
		group_uses(140 * MIB, stats().cold_bytes);
	}
	CHECK_EQ(stats().dirty_bytes, 128 * MIB);
	CHECK(stats().cold_bytes >= 64 * MIB);
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), 0);
	test_note("%zu MiB cold, %u files read, %u system calls for pages",
		stats().cold_bytes / MIB, mock_count(OS_CALL_FILE_READ),
		mock_count(OS_CALL_LAZYFREE));
	CHECK(mock_count(OS_CALL_FILE_READ) < 130);
	CHECK(page_check());
}

TEST(one_large_run_is_held_to_it_too)
{
	struct page_run run;

	in_group(OPTION_BACKGROUND_OFF, "209715200\n");
	CHECK_EQ(page_alloc(2048, 0, &run), 0);
	memset(run.base, 1, 128 * MIB);
	group_uses(140 * MIB, 0);
	page_free(run.base, 2048);
	CHECK(warm() <= 30 * MIB);
	CHECK_EQ(stats().headroom_bytes, 60 * MIB);
}

TEST(with_room_enough_everything_stays_warm)
{
	char *pieces[128];

	in_group(OPTION_BACKGROUND_OFF, "2097152000\n");
	take(pieces, 128);
	group_uses(140 * MIB, 0);
	give(pieces, 128);
	CHECK_EQ(warm(), 128 * MIB);
	CHECK_EQ(mock_count(OS_CALL_LAZYFREE), 0);
	/* The headroom is 1860 MiB: one look at 4 MiB, and the next at 4 + 232. */
	CHECK(mock_count(OS_CALL_FILE_READ) <= 8);
}

TEST(small_frees_read_nothing)
{
	char *pieces[3];
	unsigned calls;

	in_group(OPTION_BACKGROUND_OFF, "20971520\n");
	take(pieces, 2);
	give(pieces, 2);
	calls = mock_count(OS_CALL_FILE_READ);
	for (int i = 0; i < 1000; i++) {
		take(pieces, 2);
		give(pieces, 2);
	}
	CHECK_EQ(mock_count(OS_CALL_FILE_READ), calls);
}

TEST(memory_that_is_used_again_and_again_is_looked_at_once)
{
	char *pieces[20];

	in_group(OPTION_BACKGROUND_OFF, "209715200\n");
	group_uses(40 * MIB, 0);
	for (int i = 0; i < 100; i++) {
		take(pieces, 20);
		give(pieces, 20);
	}
	/* Once at 4 MiB, and once or twice as it lies scattered. */
	test_note("%u files", mock_count(OS_CALL_FILE_READ));
	CHECK(mock_count(OS_CALL_FILE_READ) <= 18);
	CHECK_EQ(mock_count(OS_CALL_LAZYFREE), 0);
}

/* What went cold is used, and so warm again when it is freed: that counts anew. */
TEST(what_went_cold_and_was_used_counts_again)
{
	char *pieces[128];

	in_group(OPTION_BACKGROUND_OFF, "209715200\n");
	take(pieces, 128);
	group_uses(140 * MIB, 0);
	for (int i = 0; i < 3; i++) {
		give(pieces, 128);
		CHECK(warm() <= 31 * MIB);
		take(pieces, 128);
	}
	CHECK(page_check());
}

TEST(where_cold_pages_cannot_be_had_they_go_at_once)
{
	char *pieces[128];

	in_group(OPTION_BACKGROUND_OFF, "209715200\n");
	take(pieces, 128);
	group_uses(140 * MIB, 0);
	mock_fail_all_after(OS_CALL_LAZYFREE, 0);
	give(pieces, 128);
	CHECK(warm() <= 31 * MIB);
	CHECK_EQ(stats().cold_bytes, 0);
	CHECK(stats().purged_bytes > 60 * MIB);
	CHECK(page_check());
}

/* What is cold already does not count: to drop that would bring nothing below the bound. */
TEST(where_some_is_cold_what_is_warm_goes)
{
	char *pieces[128];

	in_group(OPTION_BACKGROUND_OFF, "1073741824\n");
	take(pieces, 128);
	give(pieces + 64, 64);
	CHECK_EQ(page_trim_by(1), 64 * MIB);
	mock_file_set(GROUP "limit_in_bytes", "209715200\n");
	group_uses(140 * MIB, 0);
	mock_fail_all_after(OS_CALL_LAZYFREE, 0);
	a_store_rlx(&arena_get()->guard_at, 64);
	give(pieces, 64);
	CHECK(warm() <= 31 * MIB);
	CHECK_EQ(stats().cold_bytes, 64 * MIB);
	CHECK(page_check());
}

/* Locked memory: nothing helps, and no free takes long for that. */
TEST(where_nothing_helps_it_is_not_tried_at_each_free)
{
	char *pieces[128];

	in_group(OPTION_BACKGROUND_OFF, "209715200\n");
	take(pieces, 128);
	group_uses(190 * MIB, 0);
	mock_fail_all_after(OS_CALL_LAZYFREE, 0);
	mock_fail_all_after(OS_CALL_DECOMMIT, 0);
	give(pieces, 128);
	CHECK_EQ(warm(), 128 * MIB);
	CHECK(mock_count(OS_CALL_DECOMMIT) < 32 * 64);
	CHECK(page_check());
}

/* Others of the group use more: an epoch later that is seen, by a tick or by the janitor. */
static void group_fills(enum option_background background)
{
	char *pieces[40];

	in_group(background, "209715200\n");
	take(pieces, 40);
	group_uses(60 * MIB, 0);
	give(pieces, 40);
	CHECK_EQ(warm(), 40 * MIB);
	group_uses(180 * MIB, 0);
	mock_clock_advance(SECOND_NS * 3 / 10);
	if (background == OPTION_BACKGROUND_OFF)
		page_tick();
	else
		mock_task_run(&arena_get()->janitor.task, 1);
	CHECK(warm() <= 10 * MIB);
	CHECK(stats().cold_bytes >= 30 * MIB);
	CHECK(page_check());
}

TEST(a_tick_sees_that_others_use_more)
{
	group_fills(OPTION_BACKGROUND_OFF);
}

TEST(the_janitor_sees_that_others_use_more)
{
	group_fills(OPTION_BACKGROUND_AUTO);
}

/* ---- The program's own limit ---- */

TEST(a_limit_holds_at_each_free)
{
	char *pieces[64];

	start(OPTION_BACKGROUND_OFF);
	CHECK_EQ(page_limit(), 0);
	CHECK_EQ(page_limit_set(10 * MIB), 0);
	CHECK_EQ(page_limit(), 10 * MIB);
	take(pieces, 64);
	for (size_t i = 0; i < 64; i++) {
		page_free(pieces[i], 16);
		CHECK(stats().dirty_bytes <= 10 * MIB);
	}
	CHECK(stats().dirty_bytes >= 8 * MIB);
	/* Taken and put back within the limit: no system call. */
	unsigned calls = mock_count(OS_CALL_DECOMMIT);
	take(pieces, 8);
	give(pieces, 8);
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), calls);
	CHECK_EQ(page_limit_set(2 * MIB), 0);
	CHECK(stats().dirty_bytes <= 2 * MIB);
	CHECK_EQ(page_limit_set(0), 0);
	take(pieces, 64);
	give(pieces, 64);
	CHECK_EQ(stats().dirty_bytes, 64 * MIB);
	CHECK(page_check());
}

/* A layer above that gives one thing after the other, each of which asks for more at once. */
static char *held[64];
static size_t n_held;
static unsigned depth;
static unsigned deepest;

static size_t held_warm(size_t *ret_cold)
{
	(void)ret_cold;
	return n_held * MIB;
}

static size_t held_trim(unsigned severity)
{
	const size_t before = n_held;

	(void)severity;
	deepest = ++depth > deepest ? depth : deepest;
	while (n_held)
		page_free(held[--n_held], 16);
	depth--;
	return before * MIB;
}

TEST(what_keepers_free_goes_no_deeper)
{
	static const struct page_keeper keeper = { .warm = held_warm, .trim = held_trim };

	start(OPTION_BACKGROUND_OFF);
	take(held, 64);
	n_held = 64;
	page_keeper_add(&keeper);
	CHECK_EQ(page_limit_set(MIB), 0);
	CHECK_EQ(n_held, 0);
	CHECK(stats().dirty_bytes <= MIB);
	CHECK(deepest <= 2);
}

TEST(the_option_sets_the_limit)
{
	char *pieces[64];

	options.page_cache_bytes = 5 * MIB;
	start(OPTION_BACKGROUND_OFF);
	CHECK_EQ(stats().limit_bytes, 5 * MIB);
	take(pieces, 64);
	give(pieces, 64);
	CHECK(stats().dirty_bytes <= 5 * MIB && stats().dirty_bytes >= 3 * MIB);
}

TEST(a_limit_that_cannot_be_held_is_not_tried_at_each_free)
{
	char *pieces[64];

	start(OPTION_BACKGROUND_OFF);
	CHECK_EQ(page_limit_set(5 * MIB), 0);
	take(pieces, 64);
	mock_fail_all_after(OS_CALL_DECOMMIT, 0);
	give(pieces, 64);
	CHECK(mock_count(OS_CALL_DECOMMIT) < 10);
	mock_reset();
	mock_clock_set(1001 * SECOND_NS);
	take(pieces, 1);
	give(pieces, 1);
	CHECK(stats().dirty_bytes <= 5 * MIB);
}

/* ---- Keepers ---- */

static size_t kept;
static unsigned trims;

static size_t keeper_warm(size_t *ret_cold)
{
	return kept;
}

static size_t keeper_trim(unsigned severity)
{
	size_t bytes = severity >= 1 ? kept : 0;

	trims++;
	kept -= bytes;
	return bytes;
}

static const struct page_keeper keeper = { .warm = keeper_warm, .trim = keeper_trim };
static jmp_buf away;

static size_t keeper_leaves(unsigned severity)
{
	trims++;
	longjmp(away, 1);
}

static const struct page_keeper leaving = { .warm = keeper_warm, .trim = keeper_leaves };

static __attribute__((noinline)) void guard_and_leave(size_t bytes)
{
	if (!setjmp(away))
		page_guard(bytes);
}

/* As from a handler of a signal that came in the middle. */
TEST(a_thread_that_left_by_longjmp_holds_to_bounds_again)
{
	in_group(OPTION_BACKGROUND_OFF, "209715200\n");
	page_keeper_add(&leaving);
	kept = 128 * MIB;
	group_uses(140 * MIB, 0);
	guard_and_leave(kept);
	CHECK_EQ(trims, 1);
	/* It is taken for one that is giving back, but not for long. */
	kept = 140 * MIB;
	guard_and_leave(kept);
	CHECK_EQ(trims, 1);
	mock_clock_advance(SECOND_NS * 6 / 10);
	guard_and_leave(kept);
	CHECK_EQ(trims, 2);
}

/* Who frees and takes the same again does not come to a threshold. */
TEST(what_keepers_hand_out_again_does_not_count)
{
	unsigned reads;

	in_group(OPTION_BACKGROUND_OFF, "209715200\n");
	page_keeper_add(&keeper);
	page_guard(0);
	reads = mock_count(OS_CALL_FILE_READ);
	for (int i = 0; i < 1000; i++) {
		page_guard(3 * MIB);
		page_guard_taken(3 * MIB);
	}
	CHECK_EQ(mock_count(OS_CALL_FILE_READ), reads);
	CHECK_EQ(a_load_rlx(&arena_get()->kept), 0);
	page_guard_taken(MIB);
	CHECK_EQ(a_load_rlx(&arena_get()->kept), 0);
}

TEST(what_keepers_have_counts)
{
	in_group(OPTION_BACKGROUND_AUTO, "209715200\n");
	page_keeper_add(&keeper);
	group_uses(140 * MIB, 0);
	kept = 20 * MIB;
	page_guard(20 * MIB);
	CHECK_EQ(kept, 20 * MIB);
	/* It is worth a janitor. */
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	kept = 128 * MIB;
	page_guard(128 * MIB);
	CHECK_EQ(kept, 0);
	CHECK_EQ(trims, 1);
}

TEST(a_limit_counts_what_keepers_have)
{
	in_group(OPTION_BACKGROUND_OFF, "max\n");
	page_keeper_add(&keeper);
	CHECK_EQ(page_limit_set(30 * MIB), 0);
	kept = 20 * MIB;
	page_guard(20 * MIB);
	CHECK_EQ(kept, 20 * MIB);
	kept = 40 * MIB;
	page_guard(40 * MIB);
	CHECK_EQ(kept, 0);
}
