/* SPDX-License-Identifier: MIT */
/*
 * Blocks that were freed, and the janitor: caches, slots and free pages beside pieces are given back
 * while nobody calls; over the mock OS, whose janitor the test runs itself.
 */
#include "allod/page.h"
#include "arena.h"
#include "base/options.h"
#include "block/block.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>

#define SECOND_NS ((uint64_t)1000000000)
#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static void start(enum option_background background)
{
	mock_reset();
	mock_clock_set(1000 * SECOND_NS);
	mock_facts()->overcommit_mode = 0;
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	options.background = background;
	options.decay_ms = 500;
	CHECK_EQ(page_init(), 0);
	a_store_rlx(&arena_get()->cost_state, 1);
}

static char *take(size_t bytes, unsigned flags)
{
	const struct block_want want = { .flags = flags };
	void *p = NULL;

	CHECK_EQ(block_alloc(bytes, &want, &p), 0);
	memset(p, 5, bytes);
	return p;
}

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

/* Whether the page is present. */
static bool is_present(char *p)
{
	unsigned char present = 0;

	CHECK_EQ(mincore(p, 4096, &present), 0);
	return present & 1;
}

static void rounds(unsigned n)
{
	mock_task_run(&arena_get()->janitor.task, n);
}

TEST(idle_caches_empty_themselves)
{
	char *piece;
	char *run;
	char *large;

	start(OPTION_BACKGROUND_AUTO);
	large = take(16 * MIB, 0);
	piece = take(4 * KIB, 0);
	run = take(128 * KIB, 0);
	block_free(piece);
	block_free(run);
	CHECK(is_present(piece) && is_present(run));
	CHECK(stats().kept_bytes >= 132 * KIB);
	/* This starts the janitor. */
	block_free(large);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	rounds(7);
	CHECK(!is_present(piece) && !is_present(run));
	CHECK_EQ(stats().dirty_bytes, 0);
	CHECK_EQ(stats().kept_bytes, 0);
	CHECK(page_check());
}

TEST(free_pages_beside_pieces_go_back)
{
	char *p[8];
	char *large;

	start(OPTION_BACKGROUND_AUTO);
	large = take(16 * MIB, 0);
	/* More than the caches hold, so that some are free in their granules. */
	for (int i = 0; i < 8; i++)
		p[i] = take(28 * KIB, 0);
	for (int i = 1; i < 8; i++)
		block_free(p[i]);
	block_free(large);
	rounds(12);
	for (int i = 1; i < 8; i++)
		CHECK(!is_present(p[i]));
	CHECK_EQ(p[0][28 * KIB - 1], 5);
	/* They are known to be zero. */
	const struct block_want zeroed = { .flags = ALLOD_PAGE_ZEROED };
	void *again;
	CHECK_EQ(block_alloc(28 * KIB, &zeroed, &again), 0);
	for (size_t i = 0; i < 28 * KIB; i++)
		CHECK_EQ(((char *)again)[i], 0);
	CHECK(page_check());
}

/* By the janitor, which a slot alone is worth. */
TEST(free_slots_go_back)
{
	char *p;

	start(OPTION_BACKGROUND_AUTO);
	p = take(100 * MIB, 0);
	block_free(p);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 1);
	CHECK_EQ(stats().kept_bytes, 100 * MIB);
	rounds(1);
	CHECK(is_present(p));
	rounds(3);
	CHECK(!is_present(p) && !is_present(p + 99 * MIB));
	CHECK_EQ(stats().kept_bytes, 0);
	/* In parts, so that no step takes long. */
	test_note("%u system calls", mock_count(OS_CALL_DECOMMIT));
	CHECK(mock_count(OS_CALL_DECOMMIT) >= 6);
}

TEST(free_slots_go_cold_first_where_that_pays)
{
	unsigned dropped;
	char *p;

	start(OPTION_BACKGROUND_AUTO);
	a_store_rlx(&arena_get()->cold_epochs, 1);
	options.decay_ms = 5000;
	p = take(100 * MIB, 0);
	dropped = mock_count(OS_CALL_DECOMMIT);
	block_free(p);
	rounds(3);
	CHECK_EQ(stats().kept_bytes, 0);
	CHECK(mock_count(OS_CALL_LAZYFREE) >= 1);
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), dropped);
	CHECK(is_present(p));
	/* It is used again, and then warm. */
	CHECK_EQ((uintptr_t)take(100 * MIB, 0), (uintptr_t)p);
	block_free(p);
	CHECK_EQ(stats().kept_bytes, 100 * MIB);
}

TEST(slots_that_are_locked_stay)
{
	char *p;

	start(OPTION_BACKGROUND_AUTO);
	p = take(100 * MIB, 0);
	block_free(p);
	mock_fail_all_after(OS_CALL_DECOMMIT, 0);
	rounds(4);
	CHECK(is_present(p));
	CHECK(mock_count(OS_CALL_DECOMMIT) < 20);
	CHECK_EQ((uintptr_t)take(100 * MIB, 0), (uintptr_t)p);
}

/* Without a janitor calls give them back in passing. */
TEST(free_slots_go_back_by_ticks)
{
	char *p;

	start(OPTION_BACKGROUND_OFF);
	p = take(100 * MIB, 0);
	block_free(p);
	CHECK(page_wants_ticks());
	mock_clock_advance(5 * SECOND_NS);
	/* 64 MiB, and the rest an epoch later. */
	page_tick();
	CHECK(!is_present(p + 99 * MIB) && is_present(p));
	mock_clock_advance(SECOND_NS);
	block_free(take(1 * MIB, 0));
	CHECK(!is_present(p));
	CHECK_EQ(stats().dirty_bytes, MIB);
	page_tick();
	CHECK(!page_wants_ticks());
}

TEST(trim_takes_part_by_severity)
{
	unsigned dropped;
	char *slot;
	char *piece;

	start(OPTION_BACKGROUND_OFF);
	slot = take(40 * MIB, 0);
	dropped = mock_count(OS_CALL_DECOMMIT);
	piece = take(4 * KIB, 0);
	block_free(slot);
	block_free(piece);
	CHECK_EQ(page_trim_by(0), 0);
	CHECK(page_trim_by(1) >= 40 * MIB);
	CHECK_EQ(stats().kept_bytes, 0);
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), dropped);
	CHECK_EQ(page_trim_by(1), 0);
	CHECK(page_trim_by(2) >= 40 * MIB);
	CHECK(!is_present(slot) && !is_present(piece));
	slot = take(40 * MIB, 0);
	block_free(slot);
	CHECK(page_trim_by(3) >= 40 * MIB);
	CHECK(!is_present(slot));
	CHECK(page_check());
}

/* A slot that is used again does not wait: pairs of calls look at the headroom once, if at all. */
TEST(slots_in_turns_are_counted_once)
{
	unsigned files = 0;

	start(OPTION_BACKGROUND_OFF);
	mock_facts()->ram_bytes = (uint64_t)4 << 30;
	for (int i = 0; i < 40; i++) {
		char *p = take(64 * MIB, i % 2 ? ALLOD_PAGE_ZEROED : 0);
		CHECK(a_load_rlx(&arena_get()->kept) <= 64 * MIB >> PAGE_GRANULE_SHIFT);
		block_free(p);
		CHECK_EQ(a_load_rlx(&arena_get()->kept), 64 * MIB >> PAGE_GRANULE_SHIFT);
		if (i == 2)
			files = mock_count(OS_CALL_FILE_READ);
	}
	CHECK_EQ(mock_count(OS_CALL_FILE_READ), files);
}

/* In a small group: half of the headroom at most stays warm, whichever kind was freed. */
static void held_in_a_group(size_t piece)
{
	static char *p[32768];
	size_t count = 128 * MIB / piece;

	start(OPTION_BACKGROUND_OFF);
	mock_file_set("/proc/self/cgroup", "4:memory:/g\n");
	mock_file_set("/sys/fs/cgroup/memory/g/memory.limit_in_bytes", "209715200\n");
	mock_file_set("/sys/fs/cgroup/memory/g/memory.usage_in_bytes", "140000000\n");
	for (size_t i = 0; i < count; i++)
		p[i] = take(piece, 0);
	for (size_t i = 0; i < count; i++)
		block_free(p[i]);
	struct page_stats s = stats();
	test_note("%zu KiB: %zu MiB warm, %u files read", piece / KIB,
		(s.dirty_bytes - s.cold_bytes + s.kept_bytes) / MIB, mock_count(OS_CALL_FILE_READ));
	CHECK(s.dirty_bytes - s.cold_bytes + s.kept_bytes <= 34 * MIB);
}

TEST(pieces_are_held_to_the_headroom)
{
	held_in_a_group(4 * KIB);
}

TEST(runs_are_held_to_the_headroom)
{
	held_in_a_group(4 * MIB);
}

TEST(slots_are_held_to_the_headroom)
{
	held_in_a_group(64 * MIB);
}

static jmp_buf *killed_at;

int __real_os_decommit(void *base, size_t bytes);
int __wrap_os_decommit(void *base, size_t bytes);

/* Ends whoever calls, if a test says so. */
int __wrap_os_decommit(void *base, size_t bytes)
{
	if (killed_at)
		longjmp(*killed_at, 1);
	return __real_os_decommit(base, bytes);
}

/* The janitor is gone with a slot in its hands; the next one puts it back. */
TEST(slot_of_a_killed_janitor_is_put_back)
{
	static jmp_buf killed;
	char *volatile p;

	start(OPTION_BACKGROUND_AUTO);
	p = take(100 * MIB, 0);
	block_free(p);
	mock_clock_advance(5 * SECOND_NS);
	if (!setjmp(killed)) {
		killed_at = &killed;
		rounds(3);
		CHECK(false);
	}
	killed_at = NULL;
	os_task_fork_child(&arena_get()->janitor.task);
	mock_clock_advance(3 * SECOND_NS);
	/* It is out of use... */
	CHECK((uintptr_t)take(100 * MIB, 0) != (uintptr_t)p);
	block_free(take(16 * MIB, 0));
	CHECK_EQ(mock_count(OS_CALL_TASK_START), 2);
	rounds(1);
	/* ...and is there again. */
	CHECK_EQ((uintptr_t)take(100 * MIB, 0), (uintptr_t)p);
}
