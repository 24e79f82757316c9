/* SPDX-License-Identifier: MIT */
/*
 * What a signal handler finds when it interrupted its thread inside the heap: a busy heap, which
 * may name a slab. Here that heap lies in memory that cannot be written to.
 */
#include <string.h>
#include <sys/mman.h>

#include "heap_fixture.h"

#define SMALL ((size_t)64)
/* Of several granules, so that free's fast path has no use for it. */
#define MEDIUM ((size_t)40000)

/* The thread's heap becomes one that is busy at the slab of p; returns the one before. */
static struct heap *interrupt_at(const void *p)
{
	struct heap *own = fixture_heap();
	struct heap *busy =
		mmap(NULL, HEAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(busy != MAP_FAILED);
	memcpy(busy, own, sizeof(*busy));
	a_store_rlx(&busy->limit, 0);
	a_store_rlx(&busy->named, fixture_slab(p));
	CHECK_EQ(mprotect(busy, HEAP_BYTES, PROT_READ), 0);
	a_store_rlx(&heap_self, busy);
	return own;
}

static void go_on(struct heap *own)
{
	CHECK_EQ(munmap(fixture_heap(), HEAP_BYTES), 0);
	a_store_rlx(&heap_self, own);
}

TEST(a_free_leaves_a_busy_heap_alone)
{
	fixture_start();
	void *at = heap_alloc(SMALL);
	void *same = heap_alloc(SMALL);
	void *other = heap_alloc(2 * SMALL);
	void *medium = heap_alloc(MEDIUM);
	struct heap *own = interrupt_at(at);
	heap_free(same);
	heap_free(other);
	heap_free(medium);
	heap_free(NULL);
	go_on(own);
	heap_free(at);
	heap_check();
	fixture_check_empty();
}

TEST(an_allocation_leaves_a_busy_heap_alone)
{
	static const size_t sizes[] = { 0, 1, SMALL, 513, MEDIUM, SIZE_MAX };
	enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
	void *blocks[COUNT];
	fixture_start();
	void *at = heap_alloc(SMALL);
	struct heap *own = interrupt_at(at);
	for (size_t i = 0; i < COUNT; i++) {
		blocks[i] = heap_alloc(sizes[i]);
		CHECK_EQ(blocks[i] == NULL, sizes[i] == SIZE_MAX);
		heap_free(heap_alloc_zeroed(sizes[i]));
	}
	go_on(own);
	for (size_t i = 0; i < COUNT; i++)
		heap_free(blocks[i]);
	heap_free(at);
	heap_check();
	fixture_check_empty();
}
