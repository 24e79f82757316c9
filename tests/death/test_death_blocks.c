/* SPDX-License-Identifier: MIT */
/*
 * Misuse of blocks of pages ends the process by SIGABRT with one fixed line, for each kind of block
 * and wherever its memory waits after the first free.
 */
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

#include "allod/page.h"
#include "block/block.h"
#include "harness.h"
#include "heap/heap.h"
#include "page/page.h"

#define DOUBLE_FREE "allod: double page free\n"
#define INVALID_FREE "allod: invalid page free\n"
#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* One of each kind: pieces, runs that a cache takes and that it does not, slots, mappings. */
static const struct {
	size_t bytes;
	unsigned flags;
	enum block_kind kind;
} blocks[] = {
	{ 4 * KIB, 0, BLOCK_PIECE },
	{ 36 * KIB, 0, BLOCK_PIECE },
	{ 64 * KIB, 0, BLOCK_RUN },
	{ 5 * MIB, 0, BLOCK_RUN },
	{ 20 * MIB, ALLOD_PAGE_NO_COMMIT, BLOCK_RUN },
	{ 1 * MIB, ALLOD_PAGE_SWAPPABLE, BLOCK_SLOT },
	{ 100 * MIB, ALLOD_PAGE_NO_COMMIT, BLOCK_SLOT },
	{ 100 * KIB, ALLOD_PAGE_NODE, BLOCK_LOOSE },
};
#define KINDS (sizeof(blocks) / sizeof(blocks[0]))

static char *take(size_t i)
{
	const struct block_want want = { .flags = blocks[i].flags };
	struct block b;
	void *p;

	CHECK_EQ(heap_init(), 0);
	CHECK_EQ(block_alloc(blocks[i].bytes, &want, &p), 0);
	CHECK(block_find(p, &b));
	CHECK_EQ(b.kind, blocks[i].kind);
	return p;
}

TEST(double_free_at_once)
{
	for (size_t i = 0; i < KINDS; i++) {
		void *other = take(i);
		void *p = take(i);
		block_free(p);
		CHECK_DEATH(block_free(p), SIGABRT, DOUBLE_FREE);
		block_free(other);
	}
}

TEST(double_free_when_nothing_waits)
{
	for (size_t i = 0; i < KINDS; i++) {
		void *p = take(i);
		block_free(p);
		block_trim();
		page_trim();
		CHECK_DEATH(block_free(p), SIGABRT, DOUBLE_FREE);
	}
}

TEST(double_free_in_full_caches)
{
	static void *p[100];

	for (size_t i = 0; i < 4; i++) {
		for (size_t k = 0; k < 100; k++)
			p[k] = take(i);
		for (size_t k = 0; k < 100; k++)
			block_free(p[k]);
		for (size_t k = 0; k < 100; k += 9)
			CHECK_DEATH(block_free(p[k]), SIGABRT, DOUBLE_FREE);
	}
}

TEST(inside_of_a_block)
{
	for (size_t i = 0; i < KINDS; i++) {
		char *p = take(i);
		CHECK_DEATH(block_free(p + 1), SIGABRT, INVALID_FREE);
		CHECK_DEATH(block_free(p + 16), SIGABRT, INVALID_FREE);
		if (blocks[i].bytes > 4 * KIB)
			CHECK_DEATH(block_free(p + 4 * KIB), SIGABRT, INVALID_FREE);
		CHECK_DEATH(block_free(p + blocks[i].bytes - 4 * KIB + 8), SIGABRT, INVALID_FREE);
		if (blocks[i].bytes > 64 * KIB)
			CHECK_DEATH(block_free(p + 64 * KIB), SIGABRT, INVALID_FREE);
		block_free(p);
	}
}

/* What is inside of a run now began another one before. */
TEST(inside_of_a_block_where_another_was)
{
	char *p[8];
	char *q;

	for (size_t k = 0; k < 8; k++)
		p[k] = take(2);
	for (size_t k = 0; k < 8; k++)
		block_free(p[k]);
	block_trim();
	q = take(3);
	for (size_t k = 0; k < 8; k++)
		if (p[k] > q && p[k] < q + blocks[3].bytes)
			CHECK_DEATH(block_free(p[k]), SIGABRT, INVALID_FREE);
}

TEST(foreign_pointers)
{
	char on_stack[16];
	static char in_data[2 * 4096];
	char *aligned = in_data + (-(uintptr_t)in_data & 4095);
	char *mapped = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < KINDS; i++)
		(void)take(i);
	CHECK_DEATH(block_free(on_stack), SIGABRT, INVALID_FREE);
	CHECK_DEATH(block_free(aligned), SIGABRT, INVALID_FREE);
	CHECK_DEATH(block_free(mapped), SIGABRT, INVALID_FREE);
	CHECK_DEATH(block_free((void *)4096), SIGABRT, INVALID_FREE);
	CHECK_DEATH(block_free((void *)-4096), SIGABRT, INVALID_FREE);
	/* Of the arena, but never a block. */
	CHECK_DEATH(block_free((void *)(a_load_rlx(&page_arena.base) + 60 * MIB)), SIGABRT,
		INVALID_FREE);
}

TEST(before_anything_was_allocated)
{
	CHECK_DEATH(block_free((void *)4096), SIGABRT, INVALID_FREE);
	CHECK_DEATH(block_free((void *)((uintptr_t)1 << 46)), SIGABRT, INVALID_FREE);
}

/* Blocks of the heap are not ours, and ours are not the heap's. */
TEST(heap_and_page)
{
	static const size_t sizes[] = { 16, 4096, 40000, 100000, 3 * MIB };

	for (size_t i = 0; i < 5; i++) {
		void *p = heap_alloc(sizes[i]);
		CHECK(p != NULL);
		CHECK_DEATH(block_free(p), SIGABRT, INVALID_FREE);
		heap_free(p);
	}
}

TEST(blocks_to_the_heap)
{
	for (size_t i = 0; i < KINDS; i++) {
		void *p = take(i);
		CHECK_DEATH(heap_free(p), SIGABRT, "allod: invalid free\n");
	}
}

TEST(other_calls)
{
	struct block b;
	void *p = take(3);
	void *q;

	block_free(p);
	CHECK_DEATH(block_must_find(p, &b), SIGABRT, DOUBLE_FREE);
	CHECK_DEATH((void)block_resize(p, 4096, 0, &q), SIGABRT, DOUBLE_FREE);
	q = take(3);
	CHECK_DEATH((void)block_swap((char *)q + 4096, q, 0), SIGABRT, INVALID_FREE);
}
