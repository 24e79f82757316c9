/* SPDX-License-Identifier: MIT */
/*
 * What a signal handler finds when it interrupted its thread inside the heap. In a slow path all of
 * the heap is busy, and it names a slab: here such a heap lies in memory that cannot be written to. In a
 * fast path one half of it is, and the other goes on.
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
	a_store_rlx(&busy->freeing, fixture_slab(p));
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

/* malloc's fast path has marked the heap: the bins are its own, a slab's list is not. */
TEST(a_free_works_inside_an_interrupted_malloc)
{
	fixture_start();
	void *first = heap_alloc(SMALL);
	void *second = heap_alloc(SMALL);
	struct heap *heap = fixture_heap();
	struct slab *slab = fixture_slab(first);
	a_store_rlx(&heap->limit, 0);
	heap_free(first);
	CHECK_EQ(slab->free, first);
	CHECK_EQ(a_load_rlx(&heap->limit), 0);
	CHECK_EQ(a_load_rlx(&heap->freeing), NULL);
	void *other = heap_alloc(SMALL);
	CHECK(fixture_slab(other) != slab);
	CHECK_EQ(heap_pool_count(), 2);
	heap_mark_at_rest(heap, false);
	heap_free(second);
	heap_free(other);
	heap_check();
	fixture_check_empty();
}

/* The lists of attached slabs may be the interrupted malloc's: what is due there is for later. */
TEST(a_slab_emptied_inside_an_interrupted_malloc_is_put_in_order_later)
{
	enum { COUNT = 2 * 65536 / SMALL };
	static void *blocks[COUNT];
	fixture_start();
	for (int i = 0; i < COUNT; i++)
		blocks[i] = heap_alloc(SMALL);
	struct heap *heap = fixture_heap();
	struct slab *slab = fixture_slab(blocks[0]);
	heap_free(blocks[0]);
	CHECK(slab->attached);
	a_store_rlx(&heap->limit, 0);
	for (int i = 1; fixture_slab(blocks[i]) == slab; i++) {
		heap_free(blocks[i]);
		blocks[i] = NULL;
	}
	CHECK_EQ(fixture_state(slab), SLAB_OWNED);
	CHECK(heap->recheck);
	heap_mark_at_rest(heap, false);
	heap_check();
	for (int i = 1; i < COUNT; i++)
		heap_free(blocks[i]);
	fixture_check_empty();
}

/* free's fast path has named its slab: no other free may work on any, and the bins are open. */
TEST(a_malloc_works_inside_an_interrupted_free)
{
	fixture_start();
	void *first = heap_alloc(SMALL);
	void *second = heap_alloc(SMALL);
	struct heap *heap = fixture_heap();
	struct slab *slab = fixture_slab(first);
	a_store_rlx(&heap->freeing, slab);
	void *third = heap_alloc(SMALL);
	CHECK_EQ(fixture_slab(third), slab);
	heap_free(third);
	CHECK(slab->free == BLOCK_END);
	CHECK_EQ(word_count(a_load_rlx(&slab->word)), 1);
	CHECK_EQ(a_load_rlx(&heap->freeing), slab);
	CHECK_EQ(heap_pool_count(), 1);
	void *medium = heap_alloc(MEDIUM);
	CHECK_EQ(heap_pool_count(), 2);
	heap_mark_at_rest(heap, false);
	heap_free(first);
	heap_free(second);
	heap_free(medium);
	heap_check();
	fixture_check_empty();
}
