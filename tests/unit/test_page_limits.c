/* SPDX-License-Identifier: MIT */
/*
 * The page layer on the real kernel: limits, what is resident, huge pages, fork, and idle memory.
 */
#include "base/options.h"
#include "harness.h"
#include "os/os.h"
#include "page/page.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static struct page_stats stats(void)
{
	struct page_stats s;

	page_stats(&s);
	return s;
}

static void limit(int what, size_t bytes)
{
	struct rlimit r = { bytes, bytes };

	CHECK_EQ(setrlimit(what, &r), 0);
}

/* A field of /proc/self/status in bytes. */
static size_t status_bytes(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	size_t kib = 0;

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			kib = strtoul(line + strlen(field) + 1, NULL, 10);
	fclose(f);
	return kib * 1024;
}

static size_t resident(void)
{
	return status_bytes("RssAnon");
}

/* Allocates runs until there are no more; returns how many granules that was. */
static size_t take_all(size_t granules, size_t most)
{
	struct page_run run;
	size_t total = 0;

	while (total < most && !page_alloc(granules, 0, &run)) {
		run.base[0] = 1;
		total += granules;
	}
	return total;
}

/* Resident bytes of the mapping that holds the arena's metadata and its committed granules. */
static size_t arena_resident(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	uintptr_t base = a_load_rlx(&page_arena.base);
	unsigned long from = 0, to = 0;
	size_t kib = 0;
	char line[512];

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		(void)sscanf(line, "%lx-%lx", &from, &to);
		if (from <= base && base < to && !strncmp(line, "Rss:", 4))
			kib = strtoul(line + 4, NULL, 10);
	}
	fclose(f);
	return kib * 1024;
}

TEST(first_allocation_touches_little)
{
	struct rusage before, after;
	struct page_run run;

	getrusage(RUSAGE_SELF, &before);
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(page_alloc(1, 0, &run), 0);
	getrusage(RUSAGE_SELF, &after);
	test_note("%ld page faults, %zu KiB", after.ru_minflt - before.ru_minflt,
		arena_resident() / 1024);
	CHECK(arena_resident() > 0);
	CHECK(arena_resident() <= 8 * os_facts()->page_bytes);
}

TEST(address_space_limit)
{
	struct page_run run;
	size_t arena, got;
	void *p;

	os_init();
	limit(RLIMIT_AS, status_bytes("VmSize") + 256 * MIB);
	/* The facts are read once: ask for them again as a fresh process would. */
	if (os_facts()->address_limit_bytes == OS_UNLIMITED)
		options.arena_bytes = 128 * MIB;
	CHECK_EQ(page_init(), 0);
	arena = stats().arena_bytes;
	CHECK(arena > 0 && arena <= 128 * MIB);
	/* The program's own mappings still have room. */
	p = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	munmap(p, 64 * MIB);
	got = take_all(4, SIZE_MAX) * PAGE_GRANULE_BYTES;
	test_note("arena %zu MiB, got %zu MiB in all", arena / MIB, got / MIB);
	CHECK(got > arena && got <= 256 * MIB);
	CHECK_EQ(page_alloc(64, 0, &run), -ENOMEM);
	CHECK(page_check());
}

/* A limit that the process was born with. */
static void born_with_address_limit(size_t bytes, size_t least)
{
	size_t got;

	limit(RLIMIT_AS, status_bytes("VmSize") + bytes);
	os_init();
	if (page_init()) {
		CHECK_EQ(least, 0);
		return;
	}
	got = take_all(1, SIZE_MAX) * PAGE_GRANULE_BYTES;
	test_note("%zu MiB left: arena %zu KiB, got %zu KiB in all", bytes / MIB,
		stats().arena_bytes / 1024, got / 1024);
	CHECK(got >= least);
	CHECK(page_check());
}

TEST(address_space_limit_at_birth_1g)
{
	born_with_address_limit(1024 * MIB, 900 * MIB);
}

TEST(address_space_limit_at_birth_100m)
{
	born_with_address_limit(100 * MIB, 80 * MIB);
}

TEST(address_space_limit_at_birth_10m)
{
	born_with_address_limit(10 * MIB, 3 * MIB);
}

TEST(address_space_limit_at_birth_1m)
{
	born_with_address_limit(1 * MIB, 0);
}

/* Allocates single granules until there are no more, and frees them. Returns their bytes. */
static size_t fill_and_empty(void)
{
	static struct page_run runs[4096];
	size_t n = 0;

	while (n < 4096 && !page_alloc(1, 0, &runs[n]))
		memset(runs[n++].base, 1, PAGE_GRANULE_BYTES);
	for (size_t i = 0; i < n; i++)
		page_free(runs[i].base, 1);
	page_trim();
	CHECK(page_check());
	return n * PAGE_GRANULE_BYTES;
}

/* A limit that the program sets while it runs: the arena grows as far as that, and no further. */
TEST_PLAIN(address_space_limit_after_the_start)
{
	size_t first, second;
	void *p;

	CHECK_EQ(page_init(), 0);
	if (stats().reserved_bytes == stats().arena_bytes)
		SKIP("a 47-bit address space, which the arena could choose its place in");
	limit(RLIMIT_AS, status_bytes("VmSize") + 100 * MIB);
	p = mmap(NULL, 99 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	munmap(p, 99 * MIB);
	first = fill_and_empty();
	second = fill_and_empty();
	test_note("got %zu KiB, then %zu KiB", first / 1024, second / 1024);
	CHECK(first >= 150 * MIB && first <= 164 * MIB);
	CHECK(second >= 150 * MIB && second <= 164 * MIB);
}

TEST(data_limit)
{
	struct page_run run, to;
	size_t got;

	limit(RLIMIT_DATA, status_bytes("VmData") + 64 * MIB);
	CHECK_EQ(page_init(), 0);
	got = take_all(1, SIZE_MAX) * PAGE_GRANULE_BYTES;
	test_note("got %zu KiB of 64 MiB", got / 1024);
	CHECK(got >= 50 * MIB && got <= 64 * MIB);
	CHECK_EQ(page_alloc(1, 0, &run), -ENOMEM);
	CHECK(page_check());
	(void)to;
}

TEST(what_a_reservation_counts)
{
	size_t before = status_bytes("VmData");

	CHECK_EQ(page_init(), 0);
	test_note("VmData grew by %zu KiB, metadata %zu KiB",
		(status_bytes("VmData") - before) / 1024, stats().metadata_bytes / 1024);
	CHECK(status_bytes("VmData") - before <= stats().metadata_bytes + 4 * MIB);
}

/* Whether every mapping of the arena that has pages is exempt from huge pages. */
TEST(arena_takes_no_huge_pages)
{
	FILE *f;
	struct page_run run, moved;
	char line[512];
	bool inside = false;
	size_t seen = 0;

	CHECK_EQ(page_init(), 0);
	CHECK_EQ(page_alloc(500, 0, &run), 0);
	memset(run.base, 1, 500 << PAGE_GRANULE_SHIFT);
	if (!page_move(run.base, 500, 600, &moved))
		page_free(moved.base, 600);
	f = fopen("/proc/self/smaps", "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx", &from, &to) == 2)
			inside = page_in_arena((void *)from) || page_in_arena((void *)(to - 1));
		if (!inside)
			continue;
		if (!strncmp(line, "AnonHugePages:", 14))
			CHECK_EQ(strtoul(line + 14, NULL, 10), 0);
		if (!strncmp(line, "VmFlags:", 8)) {
			seen++;
			if (!strstr(line, " nh"))
				SKIP("transparent huge pages");
		}
	}
	fclose(f);
	CHECK(seen > 0);
}

TEST_TIMEOUT(idle_memory_goes_back_by_itself, 30)
{
	struct page_run runs[8];
	size_t before = resident();
	int i;

	CHECK_EQ(page_init(), 0);
	for (i = 0; i < 8; i++) {
		CHECK_EQ(page_alloc(128, 0, &runs[i]), 0);
		memset(runs[i].base, 1, 128 << PAGE_GRANULE_SHIFT);
	}
	/* Kernels before 6.2 count a thread's last pages late. */
	CHECK(resident() - before >= 63 * MIB);
	for (i = 0; i < 8; i++)
		page_free(runs[i].base, 128);
	if (!stats().background_running)
		SKIP("no background task here (a sanitizer, valgrind or no /proc)");
	/* A second, as a rule; longer where others have the processors. */
	for (i = 0; i < 200 && (resident() > before + 2 * MIB || stats().dirty_bytes); i++)
		usleep(50000);
	test_note("after %d ms: %zu KiB, %zu before", i * 50, resident() / 1024, before / 1024);
	CHECK(i < 200);
	/* It ends when there is nothing left. */
	for (i = 0; i < 100 && stats().background_running; i++)
		usleep(50000);
	CHECK(i < 100);
	CHECK(page_check());
}

TEST_TIMEOUT(forked_child_has_its_own, 30)
{
	struct page_run run;
	pid_t pid;
	int status;
	int i;

	CHECK_EQ(page_init(), 0);
	CHECK_EQ(page_alloc(256, 0, &run), 0);
	memset(run.base, 1, 256 << PAGE_GRANULE_SHIFT);
	page_free(run.base, 256);
	if (!stats().background_running)
		SKIP("no background task here (a sanitizer, valgrind or no /proc)");
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		page_fork_child();
		CHECK(!stats().background_running);
		CHECK_EQ(page_alloc(256, 0, &run), 0);
		memset(run.base, 1, 256 << PAGE_GRANULE_SHIFT);
		page_free(run.base, 256);
		CHECK(stats().background_running);
		for (i = 0; i < 200 && stats().dirty_bytes; i++)
			usleep(50000);
		CHECK(i < 200);
		page_exit();
		CHECK(page_check());
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

TEST(fork_in_the_middle_of_moves)
{
	struct page_run run, moved;
	pid_t pid;
	int status;

	CHECK_EQ(page_alloc(64, 0, &run), 0);
	memset(run.base, 5, 64 << PAGE_GRANULE_SHIFT);
	if (page_move(run.base, 64, 70, &moved))
		SKIP("mremap without MREMAP_DONTUNMAP (Linux 5.7)");
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		page_fork_child();
	/* Both go on moving what they share. */
	CHECK_EQ(page_move(moved.base, 70, 90, &run), 0);
	for (size_t i = 0; i < 64 << PAGE_GRANULE_SHIFT; i += 4096)
		CHECK_EQ(run.base[i], 5);
	page_free(run.base, 90);
	CHECK(page_check());
	if (!pid)
		_exit(0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}
