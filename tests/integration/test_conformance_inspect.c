/* SPDX-License-Identifier: MIT */
/* malloc_usable_size, malloc_trim, mallopt, mallinfo, mallinfo2, malloc_info and malloc_stats. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "conformance.h"

#define MIB ((size_t)1 << 20)

TEST(usable_size_of_null_is_zero)
{
	KEEPS_ERRNO(CHECK_EQ(M(malloc_usable_size)(NULL), 0));
}

TEST(usable_size_may_be_used)
{
	for (size_t size = 0; size < 200000; size = size * 9 / 8 + 1) {
		unsigned char *a = M(malloc)(size);
		unsigned char *b = M(malloc)(size);
		size_t usable = M(malloc_usable_size)(a);

		CHECK(usable >= size);
		stamp(b, size, 1);
		memset(a, 0xcc, usable);
		CHECK(stamp_holds(b, size, 1));
		CHECK_EQ(M(malloc_usable_size)(a), usable);
		M(free)(a);
		M(free)(b);
	}
}

/* Whichever call gave the block, and a resize in place included. */
TEST(usable_size_of_every_kind_of_block)
{
	for (size_t size = 0; size < 2 * MIB; size = size * 5 / 4 + 1) {
		void *blocks[] = { M(calloc)(1, size), M(realloc)(NULL, size), M(valloc)(size),
			M(pvalloc)(size), M(memalign)(4096, size), M(aligned_alloc)(64, size),
			M(realloc)(M(malloc)(size + 100), size + 1),
			M(realloc)(M(malloc)(size), size + 1) };

		for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
			size_t usable = M(malloc_usable_size)(opaque(blocks[i]));

			CHECK(blocks[i] != NULL && usable >= size);
			memset(blocks[i], (int)i, usable);
		}
		for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
			size_t usable = M(malloc_usable_size)(blocks[i]);

			CHECK_EQ(((unsigned char *)blocks[i])[0], i);
			CHECK_EQ(((unsigned char *)blocks[i])[usable - 1], i);
			M(free)(blocks[i]);
		}
	}
}

TEST(usable_size_wastes_at_most_an_eighth)
{
	for (size_t size = 128; size < 4 * MIB; size = size * 17 / 16 + 1) {
		void *p = M(malloc)(size);

		/* Above the slabs, blocks are whole granules of 64 KiB. */
		CHECK(M(malloc_usable_size)(p) <= size + size / 7 + 65536 * (size > 16384));
		M(free)(p);
	}
}

#ifdef FACE_ALLOD
TEST(good_size_is_the_usable_size)
{
	for (size_t size = 0; size < 4 * MIB; size = size * 9 / 8 + 1) {
		size_t good = allod_malloc_good_size(size);
		void *p = M(malloc)(size);

		CHECK(good >= size);
		CHECK_EQ(M(malloc_usable_size)(p), good);
		CHECK_EQ(allod_malloc_good_size(good), good);
		M(free)(p);
	}
	CHECK_EQ(allod_malloc_good_size(SIZE_MAX), SIZE_MAX);
	CHECK_EQ(allod_malloc_good_size(SIZE_MAX - 1), SIZE_MAX - 1);
}
#endif

TEST(mallinfo2_counts_small_blocks)
{
	enum { count = 50000 };
	static void *blocks[count];
	struct mallinfo2 before, with, after;

	M(free)(M(malloc)(1000));
	before = M(mallinfo2)();
	for (size_t i = 0; i < count; i++)
		blocks[i] = opaque(M(malloc)(1000));
	with = M(mallinfo2)();
	for (size_t i = 0; i < count; i++)
		M(free)(blocks[i]);
	after = M(mallinfo2)();
	CHECK(with.uordblks >= before.uordblks + count * 1000);
	CHECK(with.uordblks <= before.uordblks + count * 1000 * 9 / 8 + MIB);
	CHECK(with.arena >= with.uordblks);
	CHECK_EQ(with.arena, with.uordblks + with.fordblks);
	CHECK(after.uordblks <= before.uordblks + MIB / 4);
	CHECK_EQ(after.arena, after.uordblks + after.fordblks);
	CHECK(after.keepcost <= after.fordblks);
}

TEST(mallinfo2_counts_each_single_block)
{
	void *blocks[20];
	size_t total = 0;
	size_t before = held_bytes();

	for (size_t i = 0; i < 20; i++) {
		blocks[i] = opaque(M(malloc)(160 * i));
		total += 160 * i;
	}
	CHECK(held_bytes() >= before + total);
	for (size_t i = 0; i < 20; i++)
		M(free)(blocks[i]);
	CHECK(held_bytes() <= before + total / 2);
}

TEST(mallinfo2_counts_large_blocks)
{
	struct mallinfo2 before = M(mallinfo2)();
	void *a = opaque(M(malloc)(100 * MIB));
	void *b = opaque(M(malloc)(3 * MIB));
	struct mallinfo2 with = M(mallinfo2)();
	struct mallinfo2 after;

	CHECK(a != NULL && b != NULL);
	CHECK_EQ(with.hblks, before.hblks + 2);
	CHECK(with.hblkhd >= before.hblkhd + 103 * MIB);
	CHECK(with.hblkhd <= before.hblkhd + 104 * MIB);
	M(free)(a);
	M(free)(b);
	after = M(mallinfo2)();
	CHECK_EQ(after.hblks, before.hblks);
	CHECK_EQ(after.hblkhd, before.hblkhd);
}

/* The deprecated call is part of the interface. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

TEST(mallinfo_agrees_with_mallinfo2)
{
	void *p = opaque(M(malloc)(5 * MIB));
	struct mallinfo2 wide = M(mallinfo2)();
	struct mallinfo narrow = M(mallinfo)();

	CHECK_EQ(narrow.arena, wide.arena);
	CHECK_EQ(narrow.ordblks, wide.ordblks);
	CHECK_EQ(narrow.hblks, wide.hblks);
	CHECK_EQ(narrow.hblkhd, wide.hblkhd);
	CHECK_EQ(narrow.uordblks, wide.uordblks);
	CHECK_EQ(narrow.fordblks, wide.fordblks);
	M(free)(p);
}

TEST(mallinfo_has_a_ceiling)
{
	void *p = opaque(M(malloc)((size_t)3 << 30));

	if (p == NULL)
		SKIP("no 3 GiB of address space to be committed");
	CHECK(M(mallinfo2)().hblkhd >= (size_t)3 << 30);
	CHECK_EQ(M(mallinfo)().hblkhd, INT_MAX);
	M(free)(p);
}

static size_t resident_bytes(void)
{
	size_t pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f != NULL && fscanf(f, "%*u %zu", &pages) == 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

TEST(trim_gives_memory_back)
{
	enum { count = 64 };
	void *blocks[count];
	size_t before;

	CHECK(resident_bytes() != 0);
	for (size_t i = 0; i < count; i++) {
		blocks[i] = opaque(M(malloc)(MIB));
		memset(blocks[i], 1, MIB);
	}
	before = resident_bytes();
	for (size_t i = 0; i < count; i++)
		M(free)(blocks[i]);
	CHECK_EQ(M(malloc_trim)(0), 1);
	CHECK(resident_bytes() + 60 * MIB < before);
}

TEST(trim_gives_back_small_blocks_of_this_thread)
{
	enum { count = 64 * 1024 };
	static void *blocks[count];
	size_t before;

	CHECK(resident_bytes() != 0);
	for (size_t i = 0; i < count; i++) {
		blocks[i] = opaque(M(malloc)(1000));
		memset(blocks[i], 1, 1000);
	}
	before = resident_bytes();
	for (size_t i = 0; i < count; i++)
		M(free)(blocks[i]);
	M(malloc_trim)(0);
	CHECK(resident_bytes() + 55 * MIB < before);
}

/* Once all is given back there is nothing more, and that is what it says. */
TEST(trim_says_when_there_is_nothing)
{
	int last = 1;

	M(free)(M(malloc)(MIB));
	for (int i = 0; i < 4 && last != 0; i++)
		last = M(malloc_trim)(0);
	CHECK_EQ(last, 0);
}

TEST(mallopt_takes_what_glibc_takes)
{
	static const struct {
		int param, value, result;
	} rows[] = { { M_MXFAST, 0, 1 }, { M_MXFAST, 160, 1 }, { M_MXFAST, 161, 0 },
		{ M_MXFAST, -1, 0 }, { M_MMAP_THRESHOLD, 0, 1 }, { M_MMAP_THRESHOLD, 32 << 20, 1 },
		{ M_MMAP_THRESHOLD, (32 << 20) + 1, 0 }, { M_MMAP_THRESHOLD, -1, 0 },
		{ M_TRIM_THRESHOLD, 0, 1 }, { M_TRIM_THRESHOLD, -1, 1 }, { M_TOP_PAD, 4096, 1 },
		{ M_MMAP_MAX, 0, 1 }, { M_CHECK_ACTION, 3, 1 }, { M_PERTURB, 0x55, 1 },
		{ M_ARENA_TEST, 8, 1 }, { M_ARENA_MAX, 1, 1 }, { 12345, 1, 0 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		test_note("mallopt(%d, %d)", rows[i].param, rows[i].value);
		/* mallopt(3): also an error leaves errno alone. */
		KEEPS_ERRNO(CHECK_EQ(M(mallopt)(rows[i].param, rows[i].value), rows[i].result));
	}
	M(free)(M(malloc)(100));
}

/* Skips one element: returns its name and depth change, checks the attributes' form. */
static const char *xml_element(const char *at, char *name, int *ret_change)
{
	size_t len = 0;

	CHECK(*at++ == '<');
	*ret_change = 1;
	if (*at == '/') {
		*ret_change = -1;
		at++;
	}
	while (isalnum((unsigned char)*at) && len < 30)
		name[len++] = *at++;
	name[len] = '\0';
	CHECK(len > 0);
	while (*at == ' ') {
		at++;
		while (isalnum((unsigned char)*at))
			at++;
		CHECK(at[0] == '=' && at[1] == '"');
		at = strchr(at + 2, '"');
		CHECK(at != NULL);
		at++;
	}
	if (*at == '/') {
		*ret_change = 0;
		at++;
	}
	CHECK(*at == '>');
	return at + 1;
}

/* Checks that the text is one element with matching ends inside. */
static void check_well_formed(const char *at)
{
	char stack[16][32];
	int depth = 0;

	while (*at != '\0') {
		char name[32];
		int change;

		at = xml_element(at, name, &change);
		CHECK(depth > 0 || strcmp(name, "malloc") == 0);
		if (change > 0) {
			CHECK(depth < 16);
			strcpy(stack[depth++], name);
		} else if (change < 0) {
			CHECK(depth > 0);
			CHECK_STR_EQ(stack[--depth], name);
		}
		while (isspace((unsigned char)*at))
			at++;
	}
	CHECK_EQ(depth, 0);
}

static size_t xml_last_number(const char *text, const char *before)
{
	const char *found = NULL;

	for (const char *at = strstr(text, before); at != NULL; at = strstr(at + 1, before))
		found = at;
	CHECK(found != NULL);
	return strtoull(found + strlen(before), NULL, 10);
}

TEST(malloc_info_is_well_formed_and_true)
{
	static char text[65536];
	void *large = opaque(M(malloc)(40 * MIB));
	void *small[100];
	struct mallinfo2 info;
	FILE *f = tmpfile();
	size_t len;

	CHECK(f != NULL);
	for (size_t i = 0; i < 100; i++)
		small[i] = M(malloc)(i * 50);
	KEEPS_ERRNO(CHECK_EQ(M(malloc_info)(0, f), 0));
	info = M(mallinfo2)();
	rewind(f);
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	CHECK(len > 0 && len < sizeof(text) - 1);
	check_well_formed(text);
	CHECK_EQ(xml_last_number(text, "<total type=\"mmap\" count=\"1\" size=\""), info.hblkhd);
	CHECK(xml_last_number(text, "<system type=\"current\" size=\"") <= info.arena + 4 * MIB);
	CHECK(xml_last_number(text, "<system type=\"max\" size=\"") >= info.uordblks);
	for (size_t i = 0; i < 100; i++)
		M(free)(small[i]);
	M(free)(large);
}

TEST(malloc_info_refuses_options)
{
	FILE *f = tmpfile();

	CHECK(f != NULL);
	CHECK_EQ(M(malloc_info)(1, f), EINVAL);
	CHECK_EQ(M(malloc_info)(-1, f), EINVAL);
	CHECK_EQ(ftell(f), 0);
	fclose(f);
}

/* A report that could not be written is no success. */
TEST(malloc_info_tells_of_a_stream_that_fails)
{
	FILE *f = fopen("/dev/full", "w");

	CHECK(f != NULL);
	CHECK_EQ(setvbuf(f, NULL, _IONBF, 0), 0);
	CHECK(M(malloc_info)(0, f) != 0);
	fclose(f);
}

TEST(malloc_stats_writes_to_standard_error)
{
	char text[2048];
	int ends[2];
	int saved = dup(2);
	ssize_t len;

	CHECK_EQ(pipe(ends), 0);
	CHECK_EQ(dup2(ends[1], 2), 2);
	M(malloc_stats)();
	dup2(saved, 2);
	close(ends[1]);
	len = read(ends[0], text, sizeof(text) - 1);
	CHECK(len > 0);
	text[len] = '\0';
	CHECK(strncmp(text, "allod ", 6) == 0);
	CHECK(strstr(text, " in use ") != NULL);
	CHECK(text[len - 1] == '\n');
}
