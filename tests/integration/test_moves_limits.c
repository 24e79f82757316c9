/* SPDX-License-Identifier: MIT */
/*
 * Blocks that are moved and exchanged where the kernel allows little: nearly all mappings taken by
 * the program, limits on address space and data, locked memory. All by the public calls.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "allod/page.h"
#include "harness.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { BLOCKS = 3000 };

static char *blocks[BLOCKS];

static size_t map_limit(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	size_t limit = 0;

	if (!f || fscanf(f, "%zu", &limit) != 1)
		SKIP("no vm.max_map_count");
	fclose(f);
	return limit;
}

static size_t map_count(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	size_t lines = 0;
	int c;

	CHECK(f != NULL);
	while ((c = fgetc(f)) != EOF)
		lines += c == '\n';
	fclose(f);
	return lines;
}

/* Makes about so many mappings that the kernel cannot join. */
static void mappings_make(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p =
		mmap(NULL, n * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < n; i += 2)
		CHECK_EQ(mprotect(p + i * page, page, PROT_NONE), 0);
}

static char *resized(char *p, size_t bytes, unsigned flags)
{
	char *q = allod_page_realloc(p, bytes, flags);

	CHECK(q != NULL);
	return q;
}

static void fill(char *p, size_t bytes, char mark)
{
	for (size_t i = 0; i < bytes; i += 64 * KIB)
		p[i] = p[i + 64 * KIB - 1] = (char)(mark + (char)(i >> 16));
}

static void check(const char *p, size_t bytes, char mark)
{
	for (size_t i = 0; i < bytes; i += 64 * KIB) {
		CHECK_EQ(p[i], (char)(mark + (char)(i >> 16)));
		CHECK_EQ(p[i + 64 * KIB - 1], (char)(mark + (char)(i >> 16)));
	}
}

/* Thousands of blocks that want to be moved: those for which there is no mapping are copied. */
static void grow_all(void)
{
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = allod_page_alloc(128 * KIB, NULL);
		CHECK(blocks[i] != NULL);
		fill(blocks[i], 128 * KIB, (char)i);
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		char *q = allod_page_realloc(blocks[i], 320 * KIB, ALLOD_PAGE_NO_COPY);
		if (!q)
			CHECK_EQ(errno, ENOSPC);
		blocks[i] = q ? q : resized(blocks[i], 320 * KIB, 0);
	}
	for (size_t i = 0; i < BLOCKS; i++)
		check(blocks[i], 128 * KIB, (char)i);
}

TEST_TIMEOUT(mappings_are_left_for_the_program, 30)
{
	size_t limit = map_limit();
	size_t before;
	size_t after;

	if (limit > 200000)
		SKIP("vm.max_map_count is too high to come near it");
	mappings_make(limit - 5500);
	before = map_count();
	grow_all();
	after = map_count();
	test_note("%zu mappings allowed, %zu before, %zu with %d blocks grown", limit, before,
		after, BLOCKS);
	/* They are counted until a 64th of all is left, and half of that may go then. */
	CHECK(limit - after + 64 >= limit / 128);
	mappings_make(256);
	for (size_t i = 0; i < BLOCKS; i++)
		allod_page_free(blocks[i]);
	CHECK(map_count() <= after + 260);
}

/* What must hold wherever blocks come to lie. */
static void use_all(void)
{
	struct allod_page_options options = { .struct_bytes = sizeof(options),
		.flags = ALLOD_PAGE_SWAPPABLE };
	char *a = allod_page_alloc(MIB, &options);
	char *b = allod_page_alloc(MIB, &options);
	char *c;

	CHECK(a != NULL && b != NULL);
	fill(a, MIB, 1);
	fill(b, MIB, 2);
	CHECK_EQ(allod_page_swap(a, b, 0), 0);
	check(a, MIB, 2);
	check(b, MIB, 1);
	b = resized(b, 3 * MIB, ALLOD_PAGE_ZEROED);
	check(b, MIB, 1);
	CHECK_EQ(b[MIB], 0);
	CHECK_EQ(b[3 * MIB - 1], 0);
	c = allod_page_alloc(40 * MIB, NULL);
	CHECK(c != NULL);
	fill(c, MIB, 3);
	c = resized(c, 50 * MIB, 0);
	check(c, MIB, 3);
	options.flags = 0;
	options.reserve_bytes = 8 * MIB;
	a = resized(a, 2 * MIB, 0);
	check(a, MIB, 2);
	allod_page_free(a);
	allod_page_free(b);
	allod_page_free(c);
	a = allod_page_alloc(64 * KIB, &options);
	CHECK(a != NULL);
	CHECK(allod_page_room(a) >= 8 * MIB);
	b = resized(a, 8 * MIB, ALLOD_PAGE_IN_PLACE);
	CHECK(b == a);
	b[8 * MIB - 1] = 1;
	allod_page_free(b);
}

static void limit(int what, size_t bytes)
{
	const struct rlimit limit = { bytes, bytes };

	CHECK_EQ(setrlimit((__rlimit_resource_t)what, &limit), 0);
}

TEST_PLAIN(without_limits)
{
	use_all();
}

TEST_PLAIN(limit_on_address_space)
{
	limit(RLIMIT_AS, 1024 * MIB);
	use_all();
}

TEST_PLAIN(limit_on_address_space_while_it_runs)
{
	use_all();
	limit(RLIMIT_AS, 1024 * MIB);
	use_all();
}

TEST_PLAIN(limit_on_data)
{
	limit(RLIMIT_DATA, 512 * MIB);
	use_all();
}

TEST_PLAIN(limit_on_data_while_it_runs)
{
	use_all();
	limit(RLIMIT_DATA, 512 * MIB);
	use_all();
}

static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	size_t total, pages;

	CHECK(f != NULL);
	CHECK_EQ(fscanf(f, "%zu %zu", &total, &pages), 2);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

TEST_PLAIN(locked_memory)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		SKIP("mlockall: %s", strerror(errno));
	use_all();
	CHECK(resident() < 1024 * MIB);
}
