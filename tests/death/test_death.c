/* SPDX-License-Identifier: MIT */
/*
 * Misuse that is cheap to see ends the process by SIGABRT with one fixed line, in every build. The
 * text is interface: word for word.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "harness.h"
#include "heap/heap.h"
#include "page/page.h"

#define DOUBLE_FREE "allod: double free\n"
#define INVALID_FREE "allod: invalid free\n"

/* The compiler would warn, and rightly. */
static void *again(void *p)
{
	__asm__("" : "+r"(p));
	return p;
}

static void *allocate(size_t size)
{
	heap_register_hooks();
	void *p = heap_alloc(size);
	CHECK(p != NULL);
	return again(p);
}

static void *free_in_thread(void *p)
{
	heap_free(p);
	return NULL;
}

static void free_elsewhere(void *p)
{
	pthread_t thread;
	CHECK_EQ(pthread_create(&thread, NULL, free_in_thread, p), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

static const size_t slab_sizes[] = { 1, 48, 512, 513, 1024, 5000, 20000, 30000, 32768 };
#define SLAB_SIZES (sizeof slab_sizes / sizeof slab_sizes[0])

TEST(double_free_at_once)
{
	for (size_t i = 0; i < SLAB_SIZES; i++) {
		void *p = allocate(slab_sizes[i]);
		void *other = allocate(slab_sizes[i]);
		heap_free(p);
		CHECK_DEATH(heap_free(again(p)), SIGABRT, DOUBLE_FREE);
		heap_free(other);
	}
}

TEST(double_free_with_others_between)
{
	for (size_t i = 0; i < SLAB_SIZES; i++) {
		void *p = allocate(slab_sizes[i]);
		void *q = allocate(slab_sizes[i]);
		void *r = allocate(slab_sizes[i]);
		heap_free(p);
		heap_free(q);
		CHECK_DEATH(heap_free(again(p)), SIGABRT, DOUBLE_FREE);
		heap_free(r);
	}
}

TEST(double_free_by_another_thread)
{
	for (size_t i = 0; i < SLAB_SIZES; i++) {
		void *p = allocate(slab_sizes[i]);
		void *other = allocate(slab_sizes[i]);
		heap_free(p);
		CHECK_DEATH(free_elsewhere(again(p)), SIGABRT, DOUBLE_FREE);
		heap_free(other);
	}
}

TEST(double_free_of_what_another_thread_freed)
{
	for (size_t i = 0; i < SLAB_SIZES; i++) {
		void *p = allocate(slab_sizes[i]);
		void *q = allocate(slab_sizes[i]);
		void *other = allocate(slab_sizes[i]);
		free_elsewhere(q);
		free_elsewhere(p);
		CHECK_DEATH(heap_free(again(p)), SIGABRT, DOUBLE_FREE);
		CHECK_DEATH(heap_free(again(q)), SIGABRT, DOUBLE_FREE);
		CHECK_DEATH(free_elsewhere(again(q)), SIGABRT, DOUBLE_FREE);
		heap_free(other);
	}
}

/* With a large heap a double free may be seen only when the block would be given out again. */
TEST(double_free_in_a_large_heap_is_seen_in_time)
{
	enum { BLOCKS = 40000 };
	static void *blocks[BLOCKS];
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = allocate(480);
	heap_free(blocks[BLOCKS - 1]);
	heap_free(blocks[BLOCKS - 2]);
	CHECK_DEATH(
		{
			heap_free(again(blocks[BLOCKS - 1]));
			void *last = NULL;
			for (unsigned i = 0; i < BLOCKS; i++) {
				void *p = heap_alloc(480);
				CHECK(p != last);
				last = p;
			}
		},
		SIGABRT, "allod: corrupted free list\n");
	/* Or when the list is walked, which has no end then. */
	CHECK_DEATH(
		{
			heap_free(again(blocks[BLOCKS - 1]));
			heap_trim();
		},
		SIGABRT, DOUBLE_FREE);
}

/* What is counted twice must not let a slab go back that has blocks in use. */
TEST(double_free_in_a_large_heap_keeps_other_blocks)
{
	enum { BLOCKS = 4000, FIRST = 500 };
	static char *blocks[BLOCKS];
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = allocate(4096);
	/* The first block of a granule, which is a slab of sixteen of this size. */
	size_t at = FIRST;
	while ((uintptr_t)blocks[at] % (64 << 10) != 0)
		at++;
	for (size_t i = 4; i < 16; i++)
		heap_free(blocks[at + i]);
	CHECK_DEATH(for (size_t i = 0; i < 4; i++) heap_free(again(blocks[at + i % 2])), SIGABRT,
		DOUBLE_FREE);
}

TEST(double_free_of_a_large_block)
{
	static const size_t sizes[] = { 262145, 400000, 5 << 20, 200 << 20 };
	for (size_t i = 0; i < 4; i++) {
		void *p = allocate(sizes[i]);
		heap_free(p);
		CHECK_DEATH(heap_free(again(p)), SIGABRT, DOUBLE_FREE);
		CHECK_DEATH(free_elsewhere(again(p)), SIGABRT, DOUBLE_FREE);
	}
}

TEST(double_free_of_an_aligned_block)
{
	void *p = heap_alloc_aligned(1 << 20, 100);
	heap_free(p);
	CHECK_DEATH(heap_free(again(p)), SIGABRT, DOUBLE_FREE);
}

/* The slab of the block has gone back to the page layer, and its pages to the kernel. */
TEST(double_free_after_the_slab_is_gone)
{
	for (size_t i = 0; i < SLAB_SIZES; i++) {
		void *p = allocate(slab_sizes[i]);
		heap_free(p);
		heap_trim();
		CHECK_DEATH(heap_free(again(p)), SIGABRT, DOUBLE_FREE);
	}
}

TEST(double_free_by_realloc)
{
	void *p = allocate(100);
	void *other = allocate(100);
	heap_free(p);
	CHECK_DEATH(heap_resize(again(p), 5000), SIGABRT, DOUBLE_FREE);
	heap_free(other);
}

TEST(invalid_free_of_an_interior_pointer)
{
	for (size_t i = 1; i < SLAB_SIZES; i++) {
		char *p = allocate(slab_sizes[i]);
		CHECK_DEATH(heap_free(p + 1), SIGABRT, INVALID_FREE);
		CHECK_DEATH(heap_free(p + 16), SIGABRT, INVALID_FREE);
		CHECK_DEATH(heap_free(p + slab_sizes[i] / 2), SIGABRT, INVALID_FREE);
		CHECK_DEATH(heap_free(p + slab_sizes[i] - 1), SIGABRT, INVALID_FREE);
		CHECK_DEATH(free_elsewhere(p + 16), SIGABRT, INVALID_FREE);
		heap_free(p);
	}
}

/* The page behind the first granule of a slab of several. */
TEST(invalid_free_in_the_middle_of_a_slab_of_several_granules)
{
	char *p = allocate(100000);
	CHECK_DEATH(heap_free(p + 65536), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free(p + 65536 + 4096), SIGABRT, INVALID_FREE);
	CHECK_DEATH(free_elsewhere(p + 65536), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_resize(p + 65536, 200000), SIGABRT, INVALID_FREE);
}

TEST(invalid_free_inside_a_large_block)
{
	char *p = allocate(1 << 20);
	CHECK_DEATH(heap_free(p + 16), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free(p + 4096), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free(p + 65536), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free(p + (1 << 20) - 1), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_resize(p + 4096, 5000), SIGABRT, INVALID_FREE);
}

/* A block of a slab that was never given out; of small ones this is not seen. */
TEST(invalid_free_of_a_block_never_allocated)
{
	char *p = allocate(10000);
	CHECK_DEATH(heap_free(p + 10240 * 3), SIGABRT, INVALID_FREE);
}

TEST(invalid_free_of_an_address_never_allocated)
{
	char *p = allocate(48);
	/* In the arena: a granule never used, and addresses far beyond what was ever used. */
	CHECK_DEATH(heap_free(p + 20 * PAGE_GRANULE_BYTES), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free(p + ((size_t)1 << 30)), SIGABRT, INVALID_FREE);
	/* Below it: the page layer's own data. */
	CHECK_DEATH(heap_free((void *)(a_load_rlx(&page_arena.records))), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free((void *)(uintptr_t)16), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free((void *)UINTPTR_MAX), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free((void *)(uintptr_t)0x800000000000), SIGABRT, INVALID_FREE);
}

static char in_data[64];

TEST(invalid_free_of_what_is_not_from_here)
{
	char on_stack[64];
	heap_free(allocate(10));
	void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_DEATH(heap_free(again(on_stack)), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free(again(in_data)), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free(mapped), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_free(__extension__(void *) heap_free), SIGABRT, INVALID_FREE);
	CHECK_DEATH(heap_resize(again(in_data), 10), SIGABRT, INVALID_FREE);
}

/* The first call of a process. */
TEST(invalid_free_before_anything_else)
{
	CHECK_DEATH(heap_free(again(in_data)), SIGABRT, INVALID_FREE);
}

/*
 * A block may look free and not be: realloc copies what the program never wrote, and so do
 * programs. Such a block is looked for in the lists before the program is ended.
 */
static void *looking_free(size_t size)
{
	uintptr_t *p = allocate(size);
	p[1] = -(uintptr_t)p;
	return again(p);
}

TEST(what_looks_free_may_be_freed)
{
	for (size_t i = 0; i < SLAB_SIZES; i++) {
		const size_t size = slab_sizes[i] < 16 ? 16 : slab_sizes[i];
		void *kept = allocate(size);
		heap_free(looking_free(size));
		free_elsewhere(looking_free(size));
		heap_free(kept);
	}
}

TEST(what_looks_free_in_open_slabs_may_be_freed)
{
	enum { COUNT = 20000 };
	static void *blocks[COUNT];
	for (size_t i = 0; i < COUNT; i++)
		blocks[i] = looking_free(48);
	for (size_t i = 0; i < COUNT; i += 2)
		heap_free(blocks[i]);
	for (size_t i = 1; i < COUNT; i += 2000)
		free_elsewhere(blocks[i]);
}
