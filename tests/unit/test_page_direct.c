/* SPDX-License-Identifier: MIT */
/* Direct runs, over the mock OS: with page:mmap, and where the arena cannot serve. */
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <errno.h>
#include <string.h>

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

static struct page_run take(size_t granules, size_t align_bytes)
{
	struct page_run run;

	CHECK_EQ(page_alloc(granules, align_bytes, &run), 0);
	CHECK_EQ((uintptr_t)run.base % PAGE_GRANULE_BYTES, 0);
	return run;
}

static void start_without_arena(void)
{
	mock_reset();
	options.page = OPTION_PAGE_MMAP;
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(stats().arena_bytes, 0);
}

TEST(each_run_is_a_mapping)
{
	struct page_run run;

	start_without_arena();
	run = take(10, 0);
	CHECK(run.zeroed);
	CHECK(!page_in_arena(run.base));
	memset(run.base, 1, 10 << PAGE_GRANULE_SHIFT);
	CHECK(mock_count(OS_CALL_MAP) >= 1);
	page_free(run.base, 10);
	CHECK_EQ(mock_count(OS_CALL_UNMAP), 1);
	CHECK_EQ(page_record_of(run.base), NULL);
	CHECK_EQ(stats().used_bytes, 0);
	CHECK_EQ(stats().committed_bytes, 0);
	CHECK_EQ(stats().used_peak_bytes, 10 * PAGE_GRANULE_BYTES);
}

TEST(one_record_from_the_first_granules)
{
	struct page_run run, other;
	char *record;

	start_without_arena();
	run = take(100, 0);
	other = take(1, 0);
	record = page_record_of(run.base);
	CHECK(record != NULL);
	CHECK(page_record_of(other.base) != record);
	CHECK_EQ(page_record_at(page_record_index(record)), record);
	for (size_t i = 0; i < 100; i++)
		CHECK_EQ(page_record_of(run.base + (i << PAGE_GRANULE_SHIFT) + 5),
			i < PAGE_DIRECT_SPAN ? record : NULL);
	memset(record, 7, PAGE_RECORD_BYTES);
	memset(page_record_of(other.base), 8, PAGE_RECORD_BYTES);
	CHECK_EQ(record[PAGE_RECORD_BYTES - 1], 7);
}

TEST(extend_and_shrink)
{
	struct page_run run;
	bool zeroed = false;
	void *record;

	start_without_arena();
	run = take(100, 0);
	memset(run.base, 1, 100 << PAGE_GRANULE_SHIFT);
	record = page_record_of(run.base);
	page_shrink(run.base, 100, 10);
	CHECK_EQ(page_record_of(run.base + 9 * PAGE_GRANULE_BYTES), record);
	CHECK_EQ(page_record_of(run.base + 10 * PAGE_GRANULE_BYTES), NULL);
	CHECK_EQ(stats().used_bytes, 10 * PAGE_GRANULE_BYTES);
	/* What was unmapped behind it is free, so this succeeds unless the kernel joined more. */
	if (page_extend(run.base, 10, 20, &zeroed)) {
		CHECK(zeroed);
		CHECK_EQ(run.base[15 * PAGE_GRANULE_BYTES], 0);
		CHECK_EQ(page_record_of(run.base + 19 * PAGE_GRANULE_BYTES), record);
		page_shrink(run.base, 20, 1);
	} else {
		page_shrink(run.base, 10, 1);
	}
	page_free(run.base, 1);
	CHECK_EQ(stats().used_bytes, 0);
}

TEST(aligned)
{
	start_without_arena();
	for (size_t align = 1; align <= (size_t)1 << 32; align *= 4)
		CHECK_EQ((uintptr_t)take(2, align).base & (align - 1), 0);
}

TEST(records_are_reused)
{
	struct page_run run;
	uint32_t index;

	start_without_arena();
	run = take(1, 0);
	index = page_record_index(page_record_of(run.base));
	for (int i = 0; i < 5000; i++) {
		page_free(run.base, 1);
		run = take(1, 0);
		CHECK_EQ(page_record_index(page_record_of(run.base)), index);
	}
}

TEST(many_at_once)
{
	static char *bases[3000];

	start_without_arena();
	for (size_t i = 0; i < 3000; i++) {
		bases[i] = take(1, 0).base;
		memcpy(page_record_of(bases[i]), &i, sizeof(i));
	}
	for (size_t i = 0; i < 3000; i++) {
		CHECK_EQ(memcmp(page_record_of(bases[i]), &i, sizeof(i)), 0);
		page_free(bases[i], 1);
	}
	CHECK_EQ(stats().direct_runs, 0);
}

TEST(a_full_arena_is_helped_out)
{
	struct page_run runs[80];
	size_t direct = 0;

	mock_reset();
	options.arena_bytes = (uint64_t)4 << 20;
	for (size_t i = 0; i < 80; i++) {
		runs[i] = take(1, 0);
		direct += !page_in_arena(runs[i].base);
		CHECK(page_record_of(runs[i].base) != NULL);
		memset(runs[i].base, (int)i, PAGE_GRANULE_BYTES);
	}
	CHECK_EQ(direct, 16);
	for (size_t i = 0; i < 80; i++) {
		CHECK_EQ((unsigned char)runs[i].base[100], i);
		page_free(runs[i].base, 1);
	}
	CHECK_EQ(stats().used_bytes, 0);
	CHECK(page_check());
}

TEST(blocks_larger_than_the_arena)
{
	struct page_run run;

	mock_reset();
	options.arena_bytes = (uint64_t)64 << 20;
	run = take(4096, 0);
	CHECK(!page_in_arena(run.base));
	run.base[(4096 << PAGE_GRANULE_SHIFT) - 1] = 1;
	page_free(run.base, 4096);
	CHECK(page_check());
}

TEST(double_free_dies)
{
	struct page_run run;
	jmp_buf caught;

	start_without_arena();
	run = take(2, 0);
	page_free(run.base, 2);
	if (!setjmp(caught)) {
		mock_fatal_catch(&caught);
		page_free(run.base, 2);
		CHECK(false);
	}
	CHECK_STR_EQ(mock_written(), "allod: double free\n");
}

TEST(a_mapping_that_cannot_be_cut_costs_addresses_only)
{
	struct page_run run;

	start_without_arena();
	run = take(4, 0);
	memset(run.base, 1, 4 << PAGE_GRANULE_SHIFT);
	mock_fail(OS_CALL_UNMAP, 1, ENOMEM);
	page_free(run.base, 4);
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), 1);
	CHECK_EQ(stats().used_bytes, 0);
	CHECK_EQ(page_record_of(run.base), NULL);
}

TEST(foreign_addresses_are_in_no_run)
{
	char on_stack = 0;

	start_without_arena();
	take(1, 0);
	CHECK_EQ(page_record_of(&on_stack), NULL);
	CHECK_EQ(page_record_of(NULL), NULL);
	CHECK_EQ(page_record_of((void *)UINTPTR_MAX), NULL);
	CHECK_EQ(page_record_of((void *)((uintptr_t)1 << 48)), NULL);
	CHECK_EQ(page_record_of((void *)((uintptr_t)1 << 63)), NULL);
}
