/* SPDX-License-Identifier: MIT */
/*
 * The arena's reservation over the mock OS: how it begins and grows, what happens when addresses
 * are taken or refused, and when a thread is interrupted between mapping a step and telling of it.
 * For the latter os_huge(), which comes just between, is wrapped by the linker.
 */
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* What is reserved at first. */
#define FIRST_BYTES (64 * MIB)

static void (*interruption)(void);
static unsigned interrupt_at;

int __real_os_huge(void *base, size_t bytes, bool on);
int __wrap_os_huge(void *base, size_t bytes, bool on);

/* Interrupts the caller by `interruption`, once, as a signal handler would. */
int __wrap_os_huge(void *base, size_t bytes, bool on)
{
	int ret = __real_os_huge(base, bytes, on);

	if (interrupt_at && !--interrupt_at)
		interruption();
	return ret;
}

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

static struct page_run take(size_t granules)
{
	struct page_run run = { 0 };

	CHECK_EQ(page_alloc(granules, 0, &run), 0);
	CHECK_EQ(run.granules, granules);
	return run;
}

static char *arena_base(void)
{
	return (char *)a_load_rlx(&page_arena.base);
}

/* Where the records end, from which they count downward. */
static char *records_top(void)
{
	return (char *)a_load_rlx(&page_arena.records) + PAGE_RECORD_BYTES;
}

static void start(void)
{
	mock_reset();
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->overcommit_mode = 0;
	options.arena_bytes = 64 * GIB;
}

/* An arena that has handed out so many bytes in one run, and what is left of its first steps. */
static void start_with(size_t bytes)
{
	start();
	if (bytes)
		take(bytes >> PAGE_GRANULE_SHIFT);
	else
		CHECK_EQ(page_init(), 0);
	if (stats().reserved_bytes == stats().arena_bytes)
		SKIP("a 47-bit address space, which the arena could choose its place in");
}

/* Somebody else's mapping. */
static char *stranger(char *at, size_t bytes)
{
	char *p = mmap(at, bytes, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	CHECK_EQ(p, at);
	return p;
}

static bool is_mapped(char *p)
{
	unsigned char present;

	return !mincore(p, os_facts()->page_bytes, &present);
}

static size_t vm_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	size_t pages = 0;

	CHECK(f != NULL);
	CHECK_EQ(fscanf(f, "%zu", &pages), 1);
	fclose(f);
	return pages * os_facts()->page_bytes;
}

/* Mappings at the arena's present addresses. */
static size_t mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	uintptr_t low = (uintptr_t)records_top() - 128 * MIB;
	uintptr_t high = a_load_rlx(&page_arena.base) + stats().reserved_bytes;
	unsigned long from, to;
	char line[512];
	size_t n = 0;

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && to > low && from < high)
			n++;
	fclose(f);
	return n;
}

TEST(it_begins_small)
{
	size_t before;

	start();
	os_init();
	before = vm_bytes();
	start_with(0);
	CHECK_EQ(stats().arena_bytes, 64 * GIB);
	CHECK_EQ(stats().reserved_bytes, FIRST_BYTES);
	test_note("reserved in all: %zu KiB", (vm_bytes() - before) / 1024);
	CHECK(vm_bytes() - before <= 100 * MIB);
	CHECK_EQ(mock_count(OS_CALL_RESERVE), 0);
}

TEST(it_grows_with_what_is_used)
{
	start_with(0);
	for (size_t i = 0; i < 96; i++) {
		take(64 * MIB >> PAGE_GRANULE_SHIFT);
		CHECK(stats().reserved_bytes >= stats().committed_bytes);
		CHECK(stats().reserved_bytes <= 2 * stats().committed_bytes);
		CHECK(stats().reserved_bytes <= stats().committed_bytes + GIB);
		CHECK(page_check());
	}
	test_note("%u reservations for 6 GiB, %zu mappings", mock_count(OS_CALL_RESERVE_AT),
		mappings());
	CHECK(mock_count(OS_CALL_RESERVE_AT) <= 14);
	/* Each step is one mapping with those before it. */
	CHECK(mappings() <= 3);
	CHECK_EQ(stats().direct_runs, 0);
}

TEST(a_run_may_need_many_steps)
{
	struct page_run run;

	start_with(0);
	run = take(20 * GIB >> PAGE_GRANULE_SHIFT);
	CHECK(page_in_arena(run.base));
	run.base[0] = run.base[20 * GIB - 1] = 1;
	memset(page_record_of(run.base + 20 * GIB - 1), 1, PAGE_RECORD_BYTES);
	CHECK(mappings() <= 3);
	CHECK(page_check());
}

TEST(what_is_not_reserved_is_foreign)
{
	start_with(0);
	CHECK(page_record_of(arena_base()) != NULL);
	CHECK_EQ(page_record_of(arena_base() + 2 * GIB), NULL);
	CHECK_EQ(page_record_of(arena_base() - 1), NULL);
}

TEST(another_place_is_taken_when_the_first_is_not_free)
{
	start();
	mock_fail(OS_CALL_RESERVE_AT, 1, EEXIST);
	start_with(0);
	CHECK_EQ(stats().reserved_bytes, FIRST_BYTES);
	CHECK_EQ(mock_count(OS_CALL_RESERVE), 0);
}

TEST(without_a_place_all_is_reserved_at_once)
{
	struct page_run run;
	unsigned calls;

	start();
	options.arena_bytes = GIB;
	mock_fail_all_after(OS_CALL_RESERVE_AT, 0);
	CHECK_EQ(page_init(), 0);
	calls = mock_count(OS_CALL_RESERVE_AT);
	CHECK(calls <= 1);
	CHECK_EQ(mock_count(OS_CALL_RESERVE), 1);
	CHECK_EQ(stats().reserved_bytes, GIB);
	CHECK_EQ(stats().arena_bytes, GIB);
	run = take(GIB >> PAGE_GRANULE_SHIFT);
	CHECK(page_in_arena(run.base));
	run = take(1);
	CHECK(!page_in_arena(run.base));
	memset(page_record_of(run.base), 1, PAGE_RECORD_BYTES);
	CHECK_EQ(mock_count(OS_CALL_RESERVE_AT), calls);
	CHECK(page_check());
}

TEST(a_refused_step_is_made_smaller)
{
	start_with(FIRST_BYTES);
	mock_fail(OS_CALL_RESERVE_AT, 1, ENOMEM);
	take(3);
	CHECK_EQ(stats().reserved_bytes, FIRST_BYTES + 2 * MIB);
	CHECK_EQ(stats().direct_runs, 0);
	take(100);
	CHECK(stats().reserved_bytes > FIRST_BYTES + 64 * MIB);
	CHECK(mappings() <= 3);
	CHECK(page_check());
}

TEST(a_refusal_is_not_for_ever)
{
	struct page_run run;

	start_with(FIRST_BYTES);
	mock_fail_all_after(OS_CALL_RESERVE_AT, 0);
	/* There is no record for a direct run either. */
	CHECK_EQ(page_alloc(1, 0, &run), -ENOMEM);
	CHECK_EQ(stats().reserved_bytes, FIRST_BYTES);
	CHECK(page_check());
	start();
	CHECK(page_in_arena(take(1).base));
	CHECK(page_check());
}

TEST(a_stranger_is_left_out)
{
	struct page_run runs[100];
	char *p;

	start_with(FIRST_BYTES);
	p = stranger(arena_base() + FIRST_BYTES + 3 * MIB + 4096, PAGE_GRANULE_BYTES);
	CHECK_EQ(mprotect(p, PAGE_GRANULE_BYTES, PROT_READ | PROT_WRITE), 0);
	memset(p, 's', PAGE_GRANULE_BYTES);
	for (size_t i = 0; i < 100; i++) {
		runs[i] = take(20);
		CHECK(page_in_arena(runs[i].base));
		memset(runs[i].base, 1, 20 << PAGE_GRANULE_SHIFT);
		CHECK(page_check());
	}
	CHECK_EQ(stats().direct_runs, 0);
	CHECK(stats().committed_bytes >= FIRST_BYTES + 2000 * PAGE_GRANULE_BYTES);
	CHECK(stats().committed_bytes <= FIRST_BYTES + 2800 * PAGE_GRANULE_BYTES);
	for (size_t i = 0; i < PAGE_GRANULE_BYTES; i++)
		CHECK_EQ(p[i], 's');
	/* Whoever frees a pointer to it by mistake finds a record that nobody has written to. */
	for (size_t i = 0; i < PAGE_RECORD_BYTES; i++)
		CHECK_EQ(((char *)page_record_of(p))[i], 0);
	for (size_t i = 0; i < 100; i++)
		page_free(runs[i].base, 20);
	CHECK_EQ(stats().used_bytes, FIRST_BYTES);
	CHECK_EQ(page_trim(), 2000 * PAGE_GRANULE_BYTES);
	CHECK_EQ(p[0], 's');
	CHECK(page_check());
}

TEST(a_large_run_goes_behind_a_stranger)
{
	struct page_run run;
	char *p;

	start_with(0);
	p = stranger(arena_base() + FIRST_BYTES + 300 * MIB, 400 * MIB);
	run = take(GIB >> PAGE_GRANULE_SHIFT);
	CHECK(run.base >= p + 400 * MIB);
	CHECK(page_in_arena(run.base));
	/* What lies before it is not lost but for the step that could not be made. */
	CHECK(take(FIRST_BYTES >> PAGE_GRANULE_SHIFT).base < p);
	CHECK(page_check());
}

TEST(a_run_does_not_extend_into_a_stranger)
{
	struct page_run run;
	bool zeroed;

	start_with(0);
	stranger(arena_base() + FIRST_BYTES, 4096);
	run = take(1000);
	CHECK(!page_extend(run.base, 1000, 2000, &zeroed));
	CHECK(page_extend(run.base, 1000, 1024, &zeroed));
	CHECK(page_check());
}

TEST(where_the_arena_ends_runs_are_direct)
{
	unsigned calls;
	char *p;

	start_with(FIRST_BYTES);
	p = stranger(arena_base() + FIRST_BYTES, 64 * GIB - FIRST_BYTES);
	CHECK(!page_in_arena(take(1).base));
	CHECK_EQ(stats().direct_runs, 1);
	calls = mock_count(OS_CALL_RESERVE_AT);
	for (size_t i = 0; i < 100; i++)
		CHECK(!page_in_arena(take(1).base));
	/* Nobody asks again and again. */
	CHECK_EQ(mock_count(OS_CALL_RESERVE_AT), calls);
	CHECK(page_check());
	/* But it may have been another thread's step. */
	CHECK_EQ(munmap(p, 64 * GIB - FIRST_BYTES), 0);
	mock_clock_advance((uint64_t)1 << 30);
	CHECK(page_in_arena(take(1).base));
	CHECK(page_check());
}

TEST(a_stranger_below_the_records_ends_the_arena)
{
	struct page_run run;

	start_with(0);
	/* Records of the first 4 GiB are reserved at birth. */
	stranger(records_top() - 8 * MIB - 2 * PAGE_GRANULE_BYTES, PAGE_GRANULE_BYTES);
	for (size_t i = 0; i < 16; i++)
		CHECK(page_in_arena(take(4096).base));
	for (size_t i = 0; i < 10; i++) {
		run = take(100);
		CHECK(!page_in_arena(run.base));
		memset(page_record_of(run.base), 1, PAGE_RECORD_BYTES);
	}
	CHECK(page_check());
}

static struct page_run inner_run;

static void inner_take(void)
{
	inner_run = take(1);
	memset(inner_run.base, 'i', PAGE_GRANULE_BYTES);
	memset(page_record_of(inner_run.base), 'i', PAGE_RECORD_BYTES);
}

static void take_interrupted(unsigned nth_step)
{
	struct page_run run;

	interruption = inner_take;
	interrupt_at = nth_step;
	run = take(1);
	CHECK_EQ(interrupt_at, 0);
	CHECK(run.base != inner_run.base);
	memset(run.base, 'o', PAGE_GRANULE_BYTES);
	memset(page_record_of(run.base), 'o', PAGE_RECORD_BYTES);
	CHECK_EQ(inner_run.base[0], 'i');
	CHECK_EQ(*(char *)page_record_of(inner_run.base), 'i');
	CHECK(page_check());
}

/* Who comes while a step is mapped and not told of goes on behind it; it is unmapped afterwards. */
TEST(interrupted_in_a_step_of_granules)
{
	char *step;

	start_with(FIRST_BYTES);
	step = arena_base() + FIRST_BYTES;
	take_interrupted(1);
	CHECK(inner_run.base > step);
	CHECK(!is_mapped(step));
	CHECK_EQ(stats().direct_runs, 0);
	for (size_t i = 0; i < 40; i++)
		CHECK(page_in_arena(take(100).base));
	CHECK_EQ(stats().used_bytes, FIRST_BYTES + 4002 * PAGE_GRANULE_BYTES);
	CHECK(page_check());
}

/*
 * Records cannot be left out: the one who comes gets a direct run, and the arena goes on growing.
 */
TEST(interrupted_in_a_step_of_records)
{
	start_with(4 * GIB);
	CHECK_EQ(stats().reserved_bytes, stats().used_bytes);
	take_interrupted(2);
	CHECK(!page_in_arena(inner_run.base));
	CHECK(page_in_arena(take(1).base));
	CHECK_EQ(stats().direct_runs, 1);
	CHECK(page_check());
}

static size_t seen;
static size_t seen_used;

static void count_record(void *record, void *arg)
{
	(void)arg;
	seen++;
	seen_used += *(char *)record != 0;
}

TEST(interrupted_in_a_step_of_slots)
{
	start();
	options.page = OPTION_PAGE_MMAP;
	CHECK_EQ(page_init(), 0);
	take_interrupted(1);
	page_record_each(count_record, NULL);
	CHECK_EQ(seen_used, 2);
	for (size_t i = 0; i < 2000; i++)
		memset(page_record_of(take(1).base), 1, PAGE_RECORD_BYTES);
	seen_used = 0;
	page_record_each(count_record, NULL);
	CHECK_EQ(seen_used, 2002);
	CHECK_EQ(stats().direct_runs, 2002);
}

TEST(a_stranger_among_the_records_of_slots)
{
	start();
	options.page = OPTION_PAGE_MMAP;
	CHECK_EQ(page_init(), 0);
	/* In the second step of slots, of 128 KiB each. */
	stranger(records_top() - 3 * PAGE_GRANULE_BYTES, PAGE_GRANULE_BYTES);
	for (size_t i = 0; i < 3000; i++)
		memset(page_record_of(take(1).base), 1, PAGE_RECORD_BYTES);
	page_record_each(count_record, NULL);
	CHECK_EQ(seen_used, 3000);
	CHECK_EQ(seen, 3000);
}

TEST(little_is_reserved_without_an_arena)
{
	size_t before;

	start();
	os_init();
	options.page = OPTION_PAGE_MMAP;
	before = vm_bytes();
	take(1);
	test_note("reserved in all: %zu KiB", (vm_bytes() - before) / 1024);
	CHECK(vm_bytes() - before <= 100 * MIB);
}
