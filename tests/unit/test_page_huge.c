/* SPDX-License-Identifier: MIT */
/* Huge pages for what is filled and reused: who earns them, and how they are given back. */
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <errno.h>
#include <string.h>

/* The private state: the bytes of the chunks. */
#include "arena.h"

#define SECOND_NS ((uint64_t)1000000000)
#define CHUNK ((size_t)ARENA_CHUNK_GRANULES)
#define CHUNK_BYTES (CHUNK << PAGE_GRANULE_SHIFT)

/* What happens in the middle of a collapse. */
static void (*amid)(void);

int __real_os_collapse(void *base, size_t bytes);
int __wrap_os_collapse(void *base, size_t bytes);

int __wrap_os_collapse(void *base, size_t bytes)
{
	if (amid)
		amid();
	return __real_os_collapse(base, bytes);
}

static struct arena *start(const char *setting)
{
	struct page_run run;

	mock_reset();
	mock_clock_set(1000 * SECOND_NS);
	mock_file_set("/sys/kernel/mm/transparent_hugepage/enabled", setting);
	options.background = OPTION_BACKGROUND_OFF;
	options.decay_ms = 500;
	CHECK_EQ(page_init(), 0);
	huge_start(arena_get());
	/* Room enough, so that the same run is handed out each time. */
	CHECK_EQ(page_alloc(8 * CHUNK, CHUNK_BYTES, &run), 0);
	page_free(run.base, 8 * CHUNK);
	CHECK(page_trim());
	return arena_get();
}

/* Hands out two whole chunks so many times, and writes to every page of the first `filled` bytes. */
static char *reuse(int times, size_t filled)
{
	struct page_run run = { 0 };

	for (int i = 0; i < times; i++) {
		CHECK_EQ(page_alloc(2 * CHUNK, CHUNK_BYTES, &run), 0);
		for (size_t at = 0; at < filled; at += os_facts()->page_bytes)
			run.base[at] = 1;
		page_free(run.base, 2 * CHUNK);
	}
	return run.base;
}

static size_t chunk_of(const struct arena *a, const char *base)
{
	return ((uintptr_t)base - a->base) / CHUNK_BYTES;
}

TEST(what_is_filled_and_reused_is_backed)
{
	struct arena *a = start("always [madvise] never\n");
	char *base = reuse(9, CHUNK_BYTES);
	size_t chunk = chunk_of(a, base);

	huge_round(a);
	if (!huge_is(a, chunk * CHUNK))
		SKIP("MADV_COLLAPSE is not supported, or there is no free huge page");
	CHECK_EQ(mock_count(OS_CALL_COLLAPSE), 1);
	/* The second chunk was handed out as often and nobody wrote to it. */
	CHECK(!huge_is(a, (chunk + 1) * CHUNK));
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 1);
	CHECK_EQ(base[CHUNK_BYTES - os_facts()->page_bytes], 1);
	CHECK(page_check());
}

TEST(what_was_used_once_is_not)
{
	struct arena *a = start("[always] madvise never\n");

	reuse(8, 2 * CHUNK_BYTES);
	huge_round(a);
	CHECK_EQ(mock_count(OS_CALL_COLLAPSE), 0);
}

TEST(a_host_that_says_never_is_obeyed)
{
	struct arena *a = start("always madvise [never]\n");

	reuse(20, 2 * CHUNK_BYTES);
	huge_round(a);
	CHECK_EQ(mock_count(OS_CALL_COLLAPSE), 0);
}

TEST(a_refusal_is_not_repeated_at_once)
{
	struct arena *a = start("[always] madvise never\n");

	reuse(9, CHUNK_BYTES);
	mock_fail_all_after(OS_CALL_COLLAPSE, 0);
	huge_round(a);
	huge_round(a);
	CHECK_EQ(mock_count(OS_CALL_COLLAPSE), 1);
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 0);
}

/* Populates three and a half chunks that have no pages. */
static struct page_run populate(void)
{
	struct page_run run;

	CHECK_EQ(page_alloc(7 * CHUNK / 2, CHUNK_BYTES, &run), 0);
	page_prepare(&run, false, run.granules << PAGE_GRANULE_SHIFT);
	return run;
}

TEST(what_is_populated_is_backed_at_once)
{
	struct arena *a = start("always [madvise] never\n");
	unsigned before = mock_count(OS_CALL_HUGE);
	struct page_run run = populate();
	size_t pos = chunk_of(a, run.base) * CHUNK;

	CHECK_EQ(mock_count(OS_CALL_HUGE), before + 1);
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 3);
	for (size_t chunk = 0; chunk < 4; chunk++)
		CHECK_EQ(huge_is(a, pos + chunk * CHUNK), chunk < 3);
	/* Not again, for it has its pages. */
	page_free(run.base, run.granules);
	run = populate();
	CHECK_EQ(mock_count(OS_CALL_HUGE), before + 1);
	page_free(run.base, run.granules);
	CHECK(page_trim());
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 0);
	CHECK(page_check());
}

TEST(what_is_populated_is_not_backed_where_the_host_says_never)
{
	struct arena *a = start("always madvise [never]\n");
	unsigned before = mock_count(OS_CALL_HUGE);

	(void)populate();
	CHECK_EQ(mock_count(OS_CALL_HUGE), before);
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 0);
}

TEST(what_is_populated_has_its_pages_if_huge_ones_are_refused)
{
	struct arena *a = start("always [madvise] never\n");
	struct page_run run;

	mock_fail_all_after(OS_CALL_HUGE, 0);
	run = populate();
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 0);
	CHECK(!huge_is(a, chunk_of(a, run.base) * CHUNK));
	run.base[CHUNK_BYTES] = 1;
	CHECK(page_check());
}

/* A run of half a chunk is taken from it, and the rest falls due. */
TEST(a_huge_page_is_given_back_whole_or_late)
{
	struct arena *a = start("always [madvise] never\n");
	char *base = reuse(9, 2 * CHUNK_BYTES);
	size_t pos = chunk_of(a, base) * CHUNK;
	struct page_run run;

	huge_round(a);
	if (!huge_is(a, pos))
		SKIP("MADV_COLLAPSE is not supported, or there is no free huge page");
	CHECK_EQ(page_alloc(CHUNK / 2, CHUNK_BYTES, &run), 0);
	CHECK_EQ(run.base, base);
	mock_clock_advance(SECOND_NS + SECOND_NS / 10);
	for (int i = 0; i < 100; i++)
		page_tick();
	/* The second chunk has gone; of the first its free half stays. */
	CHECK(huge_is(a, pos));
	CHECK(!huge_is(a, pos + CHUNK));
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 1);
	for (int second = 0; second < 4; second++) {
		mock_clock_advance(SECOND_NS);
		for (int i = 0; i < 100; i++)
			page_tick();
	}
	CHECK(!huge_is(a, pos));
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 0);
	CHECK_EQ(run.base[0], 1);
	CHECK(page_check());
}

static void trim_all(void)
{
	(void)page_trim();
}

static size_t present(char *base)
{
	size_t pages;

	CHECK_EQ(os_present(base, CHUNK_BYTES, &pages), 0);
	return pages;
}

/* Given back just before it was collapsed: it is resident, and nobody counts it. */
TEST(what_went_amid_a_collapse_does_not_stay)
{
	struct arena *a = start("always [madvise] never\n");
	char *base = reuse(9, CHUNK_BYTES);

	amid = trim_all;
	if (!huge_round(a))
		SKIP("MADV_COLLAPSE is not supported, or there is no free huge page");
	CHECK_EQ(mock_count(OS_CALL_COLLAPSE), 1);
	CHECK(!huge_is(a, chunk_of(a, base) * CHUNK));
	CHECK(present(base) > 0);
	CHECK(!huge_round(a));
	CHECK_EQ(present(base), 0);
	CHECK_EQ(a_load_rlx(&a->huge_chunks), 0);
	CHECK(page_check());
	/* It may earn one anew. */
	amid = NULL;
	CHECK_EQ(reuse(9, CHUNK_BYTES), base);
	CHECK(!huge_round(a));
	CHECK(huge_is(a, chunk_of(a, base) * CHUNK));
}

static struct page_run half;

static void trim_and_use(void)
{
	(void)page_trim();
	CHECK_EQ(page_alloc(CHUNK / 2, CHUNK_BYTES, &half), 0);
	memset(half.base, 7, CHUNK_BYTES / 2);
}

/* Half of it is in use again by then. */
TEST(what_is_in_use_after_a_late_collapse_is_left)
{
	struct arena *a = start("always [madvise] never\n");
	char *base = reuse(9, CHUNK_BYTES);

	amid = trim_and_use;
	if (!huge_round(a))
		SKIP("MADV_COLLAPSE is not supported, or there is no free huge page");
	CHECK_EQ(half.base, base);
	CHECK(!huge_round(a));
	CHECK_EQ(present(base), CHUNK_BYTES / 2 / os_facts()->page_bytes);
	for (size_t i = 0; i < CHUNK_BYTES / 2; i++)
		CHECK_EQ(half.base[i], 7);
	CHECK(page_check());
}
