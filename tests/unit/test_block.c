/* SPDX-License-Identifier: MIT */
/* Blocks of each kind: what they are told to be, what they hold, and what becomes of their memory. */
#include "allod/page.h"
#include "base/options.h"
#include "block/block.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const struct block_want plain;

static void *take(size_t bytes, unsigned flags)
{
	const struct block_want want = { .flags = flags };
	void *p = NULL;

	CHECK_EQ(block_alloc(bytes, &want, &p), 0);
	CHECK_EQ((uintptr_t)p % os_facts()->page_bytes, 0);
	return p;
}

static struct block told(const void *p)
{
	struct block b;

	CHECK(block_find(p, &b));
	CHECK_EQ(b.base, p);
	CHECK(b.room_bytes >= b.bytes);
	return b;
}

static bool is_zero(const char *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (p[i])
			return false;
	return true;
}

TEST(kinds_by_size)
{
	CHECK_EQ(told(take(1, 0)).kind, BLOCK_PIECE);
	CHECK_EQ(told(take(4 * KIB + 1, 0)).bytes, 8 * KIB);
	CHECK_EQ(told(take(60 * KIB, 0)).kind, BLOCK_PIECE);
	CHECK_EQ(told(take(61 * KIB, 0)).kind, BLOCK_RUN);
	CHECK_EQ(told(take(8 * MIB, 0)).kind, BLOCK_RUN);
	CHECK_EQ(told(take(8 * MIB, 0)).bytes, 8 * MIB);
	CHECK(page_check());
}

TEST(pieces_of_a_granule)
{
	char *p[32];
	struct block b;

	for (size_t i = 0; i < 32; i++) {
		p[i] = take(2 * 4096, 0);
		memset(p[i], (int)i + 1, 8192);
	}
	for (size_t i = 0; i < 32; i++) {
		CHECK(p[i][0] == (char)(i + 1) && p[i][8191] == (char)(i + 1));
		CHECK_EQ(told(p[i]).bytes, 8192);
		CHECK(block_holding(p[i] + 8191, &b));
		CHECK_EQ(b.base, p[i]);
		CHECK(!block_find(p[i] + 4096, &b));
	}
	/* Eight of them fill a granule. */
	CHECK_EQ((uintptr_t)p[0] >> 16, (uintptr_t)p[7] >> 16);
	CHECK((uintptr_t)p[0] >> 16 != (uintptr_t)p[8] >> 16);
	for (size_t i = 0; i < 32; i++)
		block_free(p[i]);
	CHECK(page_check());
}

/* All memory comes back once caches are emptied, in whatever order it was freed. */
TEST(nothing_is_left)
{
	uint64_t random = test_seed();
	struct page_stats stats;
	void *p[1000];

	for (size_t i = 0; i < 1000; i++)
		p[i] = take(1 + test_random(&random) % (100 * KIB), 0);
	for (size_t i = 1000; i > 1; i--) {
		size_t j = test_random(&random) % i;
		void *q = p[i - 1];
		p[i - 1] = p[j];
		p[j] = q;
	}
	for (size_t i = 0; i < 1000; i++)
		block_free(p[i]);
	block_trim();
	page_stats(&stats);
	CHECK_EQ(stats.used_bytes, 0);
	CHECK(page_check());
}

TEST(zeroed)
{
	static const size_t sizes[] = { 1, 40 * KIB, 70 * KIB, 3 * MIB };

	for (size_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < 4; i++) {
			char *p = take(sizes[i], ALLOD_PAGE_ZEROED);
			size_t bytes = told(p).bytes;
			CHECK(is_zero(p, bytes));
			memset(p, 0x5a, bytes);
			block_free(p);
		}
		/* A run of which a part is fresh and a part is not. */
		char *p = take((3 + round) * MIB, ALLOD_PAGE_ZEROED);
		CHECK(is_zero(p, (3 + round) * MIB));
		memset(p, 0x5a, MIB);
		block_free(p);
	}
}

/* Fresh memory comes in one call, and only where it is wanted. */
TEST(populates_in_one_call)
{
	unsigned before;
	void *p;

	block_free(take(4096, 0));
	before = mock_count(OS_CALL_POPULATE);
	p = take(MIB, 0);
	CHECK_EQ(mock_count(OS_CALL_POPULATE), before + 1);
	block_free(p);
	(void)take(MIB, 0);
	CHECK_EQ(mock_count(OS_CALL_POPULATE), before + 1);
	(void)take(MIB, ALLOD_PAGE_NO_COMMIT);
	CHECK_EQ(mock_count(OS_CALL_POPULATE), before + 1);
}

enum { SCATTERED = 24 };

/* Every other block of 2 MiB is free: a larger one gets their pages. */
static char *scatter_and_compose(char **blocks)
{
	struct page_stats before;
	struct page_stats after;
	char *p;

	mock_reset();
	mock_facts()->overcommit_mode = 0;
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	options.background = OPTION_BACKGROUND_OFF;
	for (int i = 0; i < SCATTERED; i++)
		memset(blocks[i] = take(2 * MIB, 0), i, 2 * MIB);
	for (int i = 1; i < SCATTERED; i += 2)
		block_free(blocks[i]);
	page_stats(&before);
	p = take(16 * MIB, 0);
	page_stats(&after);
	if (after.composed_runs == before.composed_runs && mock_count(OS_CALL_MOVE))
		SKIP("mremap without MREMAP_DONTUNMAP (Linux 5.7)");
	CHECK_EQ(after.composed_runs, before.composed_runs + 1);
	CHECK(after.composed_bytes - before.composed_bytes >= 14 * MIB);
	CHECK(before.dirty_bytes - after.dirty_bytes >=
		after.composed_bytes - before.composed_bytes);
	for (size_t i = 0; i < 16 * MIB; i += 512)
		*(uint64_t *)(void *)(p + i) = i + 77;
	return p;
}

static void check_composed(const char *p, char *const *blocks)
{
	for (size_t i = 0; i < 16 * MIB; i += 512)
		CHECK_EQ(*(const uint64_t *)(const void *)(p + i), i + 77);
	for (int i = 0; i < SCATTERED; i += 2)
		for (size_t at = 0; at < 2 * MIB; at += 512)
			CHECK_EQ(blocks[i][at], i);
}

/* It is a block like any other, but lies in several mappings. It goes to a slot by as many moves. */
TEST(scattered_memory_becomes_one_block)
{
	char *blocks[SCATTERED];
	struct page_stats before;
	struct page_stats after;
	unsigned moves;
	void *grown;
	char *p;

	if (os_facts()->overcommit_mode == 2)
		SKIP("strict overcommit: there is no slot to go to");
	p = scatter_and_compose(blocks);
	moves = mock_count(OS_CALL_MOVE);
	CHECK_EQ(block_resize(p, 40 * MIB, 0, &grown), 0);
	CHECK(mock_count(OS_CALL_MOVE) - moves >= 7);
	CHECK(mock_count(OS_CALL_MOVE) - moves <= 9);
	check_composed(grown, blocks);
	/* There it is in too many pieces to move on. */
	moves = mock_count(OS_CALL_MOVE);
	CHECK_EQ(block_resize(grown, 5000 * MIB, 0, &grown), 0);
	check_composed(grown, blocks);
	CHECK_EQ(mock_count(OS_CALL_MOVE), moves);
	block_free(grown);
	p = take(16 * MIB, ALLOD_PAGE_ZEROED);
	CHECK(is_zero(p, 16 * MIB));
	block_free(p);
	/* Not where nothing is to be committed, and not where the system may not be called. */
	page_stats(&before);
	(void)take(20 * MIB, ALLOD_PAGE_NO_COMMIT);
	page_stats(&after);
	CHECK_EQ(after.composed_runs, before.composed_runs);
	CHECK(page_check());
	(void)block_trim();
	CHECK(page_check());
}

/*
 * One of the moves is refused: it is copied, from where it was. Each in a process of its own, for
 * whether it pays to compose is measured, and decided by, from the second time on.
 */
static void refused_composed(unsigned nth)
{
	char *blocks[SCATTERED];
	void *grown;
	char *p = scatter_and_compose(blocks);

	mock_fail(OS_CALL_MOVE, nth, ENOMEM);
	CHECK_EQ(block_resize(p, 40 * MIB, 0, &grown), 0);
	check_composed(grown, blocks);
	block_free(grown);
	for (int i = 0; i < SCATTERED; i += 2)
		block_free(blocks[i]);
	(void)block_trim();
	CHECK(page_check());
}

TEST(scattered_memory_refused_first)
{
	refused_composed(1);
}

TEST(scattered_memory_refused_midway)
{
	refused_composed(4);
}

TEST(scattered_memory_refused_late)
{
	refused_composed(7);
}

TEST(constant_time)
{
	const struct block_want want = { .flags = ALLOD_PAGE_CONSTANT_TIME };
	void *p;
	void *q;

	CHECK_EQ(block_alloc(4096, &want, &p), -EAGAIN);
	CHECK_EQ(block_alloc(MIB, &want, &p), -EAGAIN);
	block_free(take(MIB, 0));
	CHECK_EQ(block_alloc(MIB, &want, &p), 0);
	CHECK_EQ(block_alloc(64 * MIB, &want, &q), -EAGAIN);
	block_free(take(4096, 0));
	CHECK_EQ(block_alloc(4096, &want, &p), 0);
}

TEST(alignment)
{
	for (size_t align = 4096; align <= 256 * MIB; align *= 2) {
		const struct block_want want = { .align_bytes = align,
			.flags = ALLOD_PAGE_NO_COMMIT };
		void *p;
		CHECK_EQ(block_alloc(10000, &want, &p), 0);
		CHECK_EQ((uintptr_t)p & (align - 1), 0);
		CHECK(told(p).bytes >= 10000);
		block_free(p);
	}
}

TEST(room)
{
	const struct block_want want = { .reserve_bytes = MIB };
	struct block b;
	void *p;

	CHECK_EQ(block_alloc(4096, &want, &p), 0);
	b = told(p);
	CHECK(b.room_bytes >= MIB);
	block_free(p);
	block_trim();
}

/* The table of granules is made accessible by whole pages, but ends with the arena. */
TEST(loose_behind_a_small_arena)
{
	const struct block_want want = { .flags = ALLOD_PAGE_NODE };
	char *hole;
	char *run;
	char *p;

	options.arena_bytes = 16 * MIB;
	/* Addresses above the arena, which the kernel fills first, from the top. */
	hole = mmap(NULL, 64 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(hole != MAP_FAILED);
	mock_reset();
	mock_fail_all_after(OS_CALL_RESERVE_AT, 0);
	run = take(MIB, 0);
	mock_reset();
	CHECK_EQ(munmap(hole, 64 * MIB), 0);
	CHECK_EQ(block_alloc(MIB, &want, (void **)&p), 0);
	CHECK(p > run && p < run + 256 * MIB);
	CHECK_EQ(told(p).kind, BLOCK_LOOSE);
	block_free(p);
	block_free(run);
}

TEST(loose)
{
	const struct block_want want = { .flags = ALLOD_PAGE_NODE };
	struct block b;
	char *p;

	CHECK(block_node_exists(0));
	CHECK(!block_node_exists(1000));
	CHECK_EQ(block_alloc(10 * MIB, &want, (void **)&p), 0);
	b = told(p);
	CHECK_EQ(b.kind, BLOCK_LOOSE);
	CHECK_EQ(b.flags, ALLOD_PAGE_NODE);
	memset(p, 1, b.bytes);
	CHECK(block_holding(p + 9 * MIB, &b));
	CHECK_EQ(b.base, p);
	block_free(p);
	CHECK(!block_holding(p + 9 * MIB, &b));
}

/* Its owner has protected a part: an error, where to touch it would end the process. */
TEST(commit_of_what_may_not_be_written)
{
	char *p = take(MIB, 0);

	p[64 * KIB] = 7;
	CHECK_EQ(mprotect(p + 64 * KIB, 64 * KIB, PROT_READ), 0);
	CHECK_EQ(block_commit(p, MIB), -EINVAL);
	CHECK_EQ(p[64 * KIB], 7);
	CHECK_EQ(mprotect(p + 64 * KIB, 64 * KIB, PROT_READ | PROT_WRITE), 0);
	CHECK_EQ(block_commit(p, MIB), 0);
	block_free(p);
}

TEST(commit_and_release)
{
	static const size_t sizes[] = { 32 * KIB, 256 * KIB };

	for (size_t i = 0; i < 2; i++) {
		char *p = take(sizes[i], 0);
		memset(p, 1, sizes[i]);
		CHECK_EQ(block_commit(p, sizes[i]), 0);
		CHECK_EQ(block_release(p + 100, 8192), 0);
		CHECK(p[4095] == 1 && p[4096] == 0 && p[8191] == 0 && p[8192] == 1);
		CHECK_EQ(block_release(p, 100), 0);
		CHECK_EQ(p[0], 1);
		CHECK_EQ(block_commit(p, sizes[i] + 1), -EINVAL);
		CHECK_EQ(block_release(p + sizes[i] - 1, 2), -EINVAL);
		CHECK_EQ(block_commit(p, 0), -EINVAL);
		block_free(p);
		CHECK_EQ(block_commit(p, 4096), -EINVAL);
	}
}

TEST(no_arena)
{
	char *p;

	options.page = OPTION_PAGE_MMAP;
	p = take(4096, 0);
	CHECK_EQ(told(p).kind, BLOCK_LOOSE);
	p[4095] = 1;
	block_free(p);
	p = take(3 * MIB, ALLOD_PAGE_ZEROED);
	CHECK(is_zero(p, 3 * MIB));
	block_free(p);
	CHECK(page_check());
}

TEST(large_pages)
{
	mock_facts()->page_bytes = 65536;
	CHECK_EQ(told(take(1, 0)).kind, BLOCK_RUN);
	CHECK_EQ(told(take(1, 0)).bytes, 65536);
}

TEST(pages_of_16k)
{
	mock_facts()->page_bytes = 16384;
	char *a = take(1, 0);
	char *b = take(32768, 0);
	CHECK_EQ(told(a).kind, BLOCK_PIECE);
	CHECK_EQ(told(a).bytes, 16384);
	CHECK_EQ(told(b).bytes, 32768);
	CHECK_EQ(told(take(3 * 16384, 0)).kind, BLOCK_PIECE);
	CHECK_EQ(told(take(4 * 16384, 0)).kind, BLOCK_RUN);
	block_free(a);
	block_free(b);
	CHECK(page_check());
}

/* What block_stats_read() says of a kind. */
static void check_kind(enum block_kind kind, size_t blocks, size_t bytes)
{
	struct block_stats stats;

	block_stats_read(&stats);
	CHECK_EQ(stats.blocks[kind], blocks);
	CHECK_EQ(stats.bytes[kind], bytes);
}

TEST(statistics)
{
	static const struct block_want node = { .flags = ALLOD_PAGE_NODE };
	struct block_stats stats;
	void *piece[3];
	void *run;
	void *slot;
	void *loose;

	if (os_facts()->overcommit_mode == 2)
		SKIP("strict overcommit: there are no slots to count");
	for (size_t i = 0; i < 3; i++)
		piece[i] = take((i + 1) * 4096, 0);
	run = take(3 * MIB, 0);
	slot = take(5 * MIB, ALLOD_PAGE_SWAPPABLE);
	CHECK_EQ(block_alloc(MIB, &node, &loose), 0);
	check_kind(BLOCK_PIECE, 3, 6 * 4096);
	check_kind(BLOCK_RUN, 1, 3 * MIB);
	check_kind(BLOCK_SLOT, 1, 5 * MIB);
	check_kind(BLOCK_LOOSE, 1, MIB);
	memset(piece[1], 1, 8192);
	block_free(piece[1]);
	block_free(slot);
	block_free(loose);
	check_kind(BLOCK_PIECE, 2, 4 * 4096);
	check_kind(BLOCK_SLOT, 0, 0);
	check_kind(BLOCK_LOOSE, 0, 0);
	block_stats_read(&stats);
	CHECK(stats.waiting_bytes >= 8192);
	block_free(run);
	check_kind(BLOCK_RUN, 0, 0);
}

TEST(too_large)
{
	void *p;

	CHECK_EQ(block_alloc(SIZE_MAX, &plain, &p), -ENOMEM);
	CHECK_EQ(block_alloc(PTRDIFF_MAX, &plain, &p), -ENOMEM);
	CHECK_EQ(block_alloc((size_t)1 << 46, &plain, &p), -ENOMEM);
}
