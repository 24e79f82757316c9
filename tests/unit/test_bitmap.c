/* SPDX-License-Identifier: MIT */
/*
 * The bitmap on one thread: against a naive model bit by bit, at the edges of words and blocks, and
 * on storage that must not be touched. test_bitmap_threads.c has the rest.
 */
#include <string.h>
#include <sys/mman.h>

#include "base/bitmap.h"
#include "harness.h"

enum { MAX_BITS = 6000 };

static uint64_t storage[(MAX_BITS / 512 + 1) * 9 + 8] __attribute__((aligned(64)));
static bool model[MAX_BITS]; /* true = free */

static void fresh(struct bitmap *b, size_t bits)
{
	CHECK(bitmap_storage_bytes(bits) <= sizeof storage);
	memset(storage, 0, sizeof storage);
	memset(model, 0, sizeof model);
	bitmap_init(b, storage, bits);
}

static void put_all(struct bitmap *b)
{
	CHECK(bitmap_put(b, 0, b->bits));
	memset(model, true, b->bits);
}

static bool model_run_is(size_t bits, size_t pos, size_t n, bool free)
{
	if (pos + n > bits)
		return false;
	for (size_t i = pos; i < pos + n; i++) {
		if (model[i] != free)
			return false;
	}
	return true;
}

/* The first fit in [from, end) by trying every position. */
static size_t model_first(size_t bits, size_t n, size_t align, size_t offset, size_t from,
	size_t end)
{
	for (size_t pos = from; pos < end; pos++) {
		if ((pos + offset) % align == 0 && model_run_is(bits, pos, n, true))
			return pos;
	}
	return BITMAP_NONE;
}

static size_t model_take(size_t bits, size_t n, size_t align, size_t offset, size_t start)
{
	size_t pos = model_first(bits, n, align, offset, start, bits);

	if (pos == BITMAP_NONE)
		pos = model_first(bits, n, align, offset, 0, start);
	if (pos != BITMAP_NONE)
		memset(model + pos, false, n);
	return pos;
}

static void check_same(const struct bitmap *b)
{
	size_t count = 0;

	CHECK(bitmap_check(b));
	for (size_t i = 0; i < b->bits; i++) {
		count += model[i];
		if (bitmap_is_free(b, i) != model[i])
			test_fail(__FILE__, __LINE__, "bit %zu differs from the model", i);
	}
	CHECK_EQ(bitmap_free_count(b), count);
}

/* Mostly short runs, some around a word, some around a block, few beyond. */
static size_t random_run(uint64_t *seed, size_t bits)
{
	static const size_t around[] = { 4, 8, 70, 200, 520, 1600 };
	size_t n = test_random(seed) % around[test_random(seed) % 6] + 1;

	return n < bits ? n : bits;
}

static void random_take(struct bitmap *b, uint64_t *seed)
{
	size_t n = random_run(seed, b->bits);
	size_t align = (size_t)1 << (test_random(seed) % 3 ? 0 : test_random(seed) % 11);
	size_t offset = test_random(seed) % 2 ? 0 : test_random(seed) % align;
	size_t start = test_random(seed) % b->bits;
	size_t want = model_take(b->bits, n, align, offset, start);

	CHECK_EQ(bitmap_take(b, n, align, offset, start), want);
}

static void random_put(struct bitmap *b, uint64_t *seed)
{
	size_t pos = test_random(seed) % b->bits;
	size_t n = random_run(seed, b->bits - pos);
	bool want = model_run_is(b->bits, pos, n, false);

	CHECK_EQ(bitmap_put(b, pos, n), want);
	if (want)
		memset(model + pos, true, n);
}

static void random_take_at(struct bitmap *b, uint64_t *seed)
{
	size_t pos = test_random(seed) % b->bits;
	size_t n = random_run(seed, b->bits);
	bool want = model_run_is(b->bits, pos, n, true);

	CHECK_EQ(bitmap_take_at(b, pos, n), want);
	if (want)
		memset(model + pos, false, n);
}

static void random_next_free(struct bitmap *b, uint64_t *seed)
{
	size_t from = test_random(seed) % b->bits;
	size_t limit = from + test_random(seed) % (b->bits - from + 9);
	size_t end = limit < b->bits ? limit : b->bits;
	size_t want = model_first(b->bits, 1, 1, 0, from, end);
	size_t run = 0, want_run = 0;

	CHECK_EQ(bitmap_next_free(b, from, limit, &run), want);
	while (want != BITMAP_NONE && want + want_run < end && model[want + want_run])
		want_run++;
	CHECK_EQ(run, want_run);
}

static void random_operations(size_t bits, unsigned count, uint64_t *seed)
{
	struct bitmap b;

	fresh(&b, bits);
	if (test_random(seed) % 2)
		put_all(&b);
	for (unsigned i = 0; i < count; i++) {
		unsigned kind = test_random(seed) % 16;
		if (kind < 6)
			random_take(&b, seed);
		else if (kind < 12)
			random_put(&b, seed);
		else if (kind < 14)
			random_take_at(&b, seed);
		else
			random_next_free(&b, seed);
		if (bits <= 1100 || i % 32 == 0)
			check_same(&b);
		else
			CHECK(bitmap_check(&b));
	}
	check_same(&b);
}

TEST_TIMEOUT(random_operations_agree_with_a_naive_model, 60)
{
	static const size_t sizes[] = { 1, 2, 63, 64, 65, 127, 130, 511, 512, 513, 576, 1000, 1024,
		1025, 1536, 2100, 4096, 5999 };
	uint64_t seed = test_seed();

	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
			random_operations(sizes[i], sizes[i] < 64 ? 300 : 2000, &seed);
	}
}

TEST(a_new_map_has_nothing_free)
{
	struct bitmap b;
	size_t run;

	fresh(&b, 1000);
	CHECK_EQ(bitmap_take(&b, 1, 1, 0, 0), BITMAP_NONE);
	CHECK_EQ(bitmap_take(&b, 1, 1, 0, 999), BITMAP_NONE);
	CHECK_EQ(bitmap_next_free(&b, 0, 1000, &run), BITMAP_NONE);
	CHECK_EQ(bitmap_free_count(&b), 0);
	CHECK(!bitmap_take_at(&b, 0, 1));
	CHECK(!bitmap_is_free(&b, 1000));
	CHECK(bitmap_check(&b));
}

TEST(a_run_as_long_as_the_map)
{
	struct bitmap b;

	fresh(&b, MAX_BITS);
	put_all(&b);
	CHECK_EQ(bitmap_take(&b, MAX_BITS + 1, 1, 0, 0), BITMAP_NONE);
	CHECK_EQ(bitmap_take(&b, MAX_BITS, 1, 0, 77), 0);
	CHECK_EQ(bitmap_free_count(&b), 0);
	CHECK(bitmap_put(&b, 1, MAX_BITS - 1));
	CHECK_EQ(bitmap_take(&b, MAX_BITS, 1, 0, 0), BITMAP_NONE);
	CHECK_EQ(bitmap_take(&b, MAX_BITS - 1, 1, 0, 0), 1);
	CHECK(!bitmap_take_at(&b, MAX_BITS - 1, 2));
	CHECK(!bitmap_take_at(&b, SIZE_MAX, 2));
	CHECK(!bitmap_take_at(&b, 0, SIZE_MAX));
}

/* Each run of each of these lengths at each place around a word and a block edge. */
TEST(runs_across_word_and_block_edges)
{
	static const size_t lengths[] = { 1, 2, 3, 63, 64, 65, 66, 127, 128, 129, 511, 512, 513,
		640, 1025 };
	static const size_t edges[] = { 64, 128, 512, 1024 };
	struct bitmap b;

	for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++) {
		for (size_t back = 0; back < 3 * 16; back++) {
			size_t n = lengths[l];
			size_t pos = edges[back % 4] - back / 4;
			fresh(&b, MAX_BITS);
			CHECK(bitmap_put(&b, pos, n));
			CHECK(bitmap_check(&b));
			CHECK_EQ(bitmap_take(&b, n + 1, 1, 0, 0), BITMAP_NONE);
			CHECK(bitmap_check(&b));
			CHECK_EQ(bitmap_take(&b, n, 1, 0, back * 113), pos);
			CHECK_EQ(bitmap_free_count(&b), 0);
		}
	}
}

/* Bits are put one by one from both sides, so that the last put joins two runs. */
TEST(a_put_that_joins_two_runs_is_found)
{
	struct bitmap b;

	for (size_t gap = 505; gap < 520; gap++) {
		fresh(&b, MAX_BITS);
		CHECK(bitmap_put(&b, 400, gap - 400));
		CHECK(bitmap_put(&b, gap + 1, 800 - gap - 1));
		CHECK_EQ(bitmap_take(&b, 400, 1, 0, 0), BITMAP_NONE);
		CHECK_EQ(bitmap_take(&b, 399, 1, 0, 0), BITMAP_NONE);
		CHECK(bitmap_put(&b, gap, 1));
		CHECK_EQ(bitmap_take(&b, 400, 1, 0, 0), 400);
	}
}

/* [from, to) is free but for one bit, whose put tells of all of it, as far as its reach. */
static void check_joined(struct bitmap *b, size_t from, size_t to, size_t bit)
{
	const size_t reach = 200;
	size_t ret_from = 0;
	size_t ret_to = 0;

	fresh(b, MAX_BITS);
	if (bit > from)
		CHECK(bitmap_put(b, from, bit - from));
	if (to > bit + 1)
		CHECK(bitmap_put(b, bit + 1, to - bit - 1));
	CHECK(to - from == 1 || !bitmap_put_joined(b, from, to - from, reach, &ret_from, &ret_to));
	CHECK(bitmap_put_joined(b, bit, 1, reach, &ret_from, &ret_to));
	if (bit - from <= reach)
		CHECK_EQ(ret_from, from);
	else
		CHECK(ret_from >= from && bit - ret_from >= reach);
	if (to - bit - 1 <= reach)
		CHECK_EQ(ret_to, to);
	else
		CHECK(ret_to <= to && ret_to - bit - 1 >= reach);
	CHECK(bitmap_check(b));
}

TEST(a_put_tells_what_it_joined)
{
	static const size_t ends[] = { 0, 1, 63, 64, 65, 127, 128, 200, 320, 447, 448, 511, 512 };
	const size_t count = sizeof ends / sizeof *ends;
	struct bitmap b;

	for (size_t i = 0; i < count; i++) {
		for (size_t j = i + 1; j < count; j++) {
			check_joined(&b, ends[i], ends[j], ends[i]);
			check_joined(&b, ends[i], ends[j], ends[j] - 1);
			check_joined(&b, ends[i], ends[j], (ends[i] + ends[j]) / 2);
		}
	}
}

/* What follows is told as far as the word in which the run ends. */
TEST(a_take_tells_what_follows)
{
	struct bitmap b;
	size_t end;

	for (size_t n = 1; n < 200; n++) {
		const size_t stop = (30 + n + 63) / 64 * 64;
		fresh(&b, MAX_BITS);
		CHECK(bitmap_put(&b, 30, 210));
		CHECK(!bitmap_take_front(&b, 29, n, &end));
		CHECK(!bitmap_take_front(&b, 30, 211, &end));
		CHECK(bitmap_take_front(&b, 30, n, &end));
		CHECK_EQ(end, stop < 240 ? stop : 240);
		CHECK_EQ(bitmap_free_count(&b), 210 - n);
	}
}

TEST(a_free_bit_makes_put_refuse_and_change_nothing)
{
	struct bitmap b;

	fresh(&b, 2000);
	CHECK(bitmap_put(&b, 700, 1));
	model[700] = true;
	CHECK(!bitmap_put(&b, 700, 1));
	CHECK(!bitmap_put(&b, 690, 20));
	CHECK(!bitmap_put(&b, 100, 1000));
	CHECK(!bitmap_put(&b, 100, 601));
	CHECK(!bitmap_put(&b, 700, 601));
	check_same(&b);
	CHECK(bitmap_put(&b, 100, 600));
	CHECK_EQ(bitmap_free_count(&b), 601);
}

TEST(aligned_takes_respect_alignment_and_offset)
{
	struct bitmap b;

	fresh(&b, 4096);
	put_all(&b);
	CHECK_EQ(bitmap_take(&b, 3, 32, 0, 1), 32);
	CHECK_EQ(bitmap_take(&b, 3, 32, 1, 1), 63);
	CHECK_EQ(bitmap_take(&b, 1, 128, 0, 1), 128);
	CHECK_EQ(bitmap_take(&b, 1, 128, 127, 1), 1);
	CHECK_EQ(bitmap_take(&b, 600, 1024, 0, 1), 1024);
	CHECK_EQ(bitmap_take(&b, 600, 1024, 0, 1), 2048);
	CHECK_EQ(bitmap_take(&b, 1, 4096, 4000, 0), 96);
	CHECK_EQ(bitmap_take(&b, 1, 8192, 0, 5), 0);
	CHECK_EQ(bitmap_take(&b, 1, 8192, 0, 5), BITMAP_NONE);
	CHECK_EQ(bitmap_take(&b, 1025, 1024, 0, 3000), BITMAP_NONE);
	CHECK(bitmap_check(&b));
}

TEST(a_failed_search_lowers_hints_and_a_put_raises_them)
{
	struct bitmap b;

	fresh(&b, 5120);
	for (size_t pos = 0; pos < 5120; pos += 8)
		CHECK(bitmap_put(&b, pos, 4));
	CHECK_EQ(bitmap_take(&b, 5, 1, 0, 0), BITMAP_NONE);
	for (size_t block = 0; block < b.blocks; block++)
		CHECK_EQ(512 - a_load_rlx(&b.hints[block]) % 1024, 4);
	CHECK_EQ(bitmap_take(&b, 4, 1, 0, 5119), 0);
	CHECK(bitmap_put(&b, 2052, 1));
	CHECK_EQ(bitmap_take(&b, 5, 1, 0, 0), 2048);
	CHECK(bitmap_check(&b));
}

/* A map of a million million bytes' granules of which the front is in use: only two pages of its
 * storage are there, and touching another one kills the test. */
TEST(nothing_beyond_the_highest_block_in_use_is_touched)
{
	size_t bits = (size_t)1 << 24, page = 4096, used = 32000, run;
	size_t bytes = bitmap_storage_bytes(bits);
	char *map =
		mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct bitmap b;

	CHECK(map != MAP_FAILED);
	bitmap_init(&b, map, bits);
	CHECK_EQ(bitmap_take(&b, 1, 1, 0, 0), BITMAP_NONE);
	CHECK_EQ(bitmap_take(&b, 1, 1, 0, bits - 1), BITMAP_NONE);
	CHECK_EQ(mprotect(map, page, PROT_READ | PROT_WRITE), 0);
	CHECK_EQ(mprotect((char *)b.hints, page, PROT_READ | PROT_WRITE), 0);
	CHECK(bitmap_put(&b, 0, used));
	CHECK_EQ(bitmap_take(&b, used + 1, 1, 0, 0), BITMAP_NONE);
	CHECK_EQ(bitmap_take(&b, used, 1, 0, bits / 2), 0);
	CHECK_EQ(bitmap_take(&b, 1, 1, 0, 100), BITMAP_NONE);
	CHECK_EQ(bitmap_take(&b, 100, 64, 3, bits - 1), BITMAP_NONE);
	CHECK_EQ(bitmap_next_free(&b, 0, bits, &run), BITMAP_NONE);
	CHECK_EQ(bitmap_free_count(&b), 0);
}
