/* SPDX-License-Identifier: MIT */
/*
 * The hooks: while they are set they see every allocation and every free, and nothing else changes.
 */
#include <errno.h>
#include <string.h>

#include "heap_fixture.h"
#include "os/mock.h"

static void *blocks[2];

/* What the hooks saw. */
static struct {
	uint64_t allocated;
	uint64_t freed;
	void *last;
	size_t last_size;
	void *last_freed;
} seen;

static void see_allocated(void *p, size_t size)
{
	seen.allocated++;
	seen.last = p;
	seen.last_size = size;
}

static void see_freeing(void *p)
{
	seen.freed++;
	seen.last_freed = p;
	/* The block is still the program's. */
	CHECK(heap_usable_size(p) > 0);
}

static const struct heap_hooks hooks = { .allocated = see_allocated, .freeing = see_freeing };

static void check_allocation_seen(void *p, size_t size)
{
	CHECK(p != NULL);
	CHECK_EQ(seen.last, p);
	CHECK_EQ(seen.last_size, size);
}

static void check_every_call_is_seen(void)
{
	for (size_t size = 0; size < 600000; size += 1 + size / 3) {
		const uint64_t before = seen.allocated;
		void *p = heap_alloc(size);
		check_allocation_seen(p, size);
		void *q = heap_alloc_zeroed(size);
		check_allocation_seen(q, size);
		void *r = heap_alloc_aligned(256, size);
		check_allocation_seen(r, size);
		CHECK_EQ(seen.allocated, before + 3);
		heap_free(q);
		CHECK_EQ(seen.last_freed, q);
		heap_free(p);
		CHECK_EQ(seen.last_freed, p);
		heap_free(r);
		CHECK_EQ(seen.last_freed, r);
		CHECK_EQ(seen.freed, seen.allocated);
	}
	heap_check();
}

TEST(hooks_set_from_the_start_see_every_call)
{
	fixture_start();
	heap_hooks_set(&hooks);
	check_every_call_is_seen();
	fixture_check_empty();
}

/* A thread takes notice at its next slow call; an empty request is one. */
static void take_notice(void)
{
	heap_free(heap_alloc(0));
	memset(&seen, 0, sizeof seen);
}

TEST(hooks_set_later_see_every_call)
{
	fixture_start();
	void *old[100];
	for (size_t i = 0; i < 100; i++)
		old[i] = heap_alloc(64);
	heap_free(old[99]);
	heap_hooks_set(&hooks);
	take_notice();
	check_every_call_is_seen();
	/* Old blocks' frees are seen too. */
	for (size_t i = 0; i < 99; i++) {
		heap_free(old[i]);
		CHECK_EQ(seen.last_freed, old[i]);
	}
	fixture_check_empty();
}

TEST(hooks_taken_back_open_the_fast_paths)
{
	fixture_start();
	heap_hooks_set(&hooks);
	heap_free(heap_alloc(64));
	heap_hooks_set(NULL);
	take_notice();
	void *p = heap_alloc(64);
	heap_free(heap_alloc(64));
	const uint32_t calls = a_load_rlx(&fixture_heap()->slow_calls);
	for (int i = 0; i < 10; i++)
		heap_free(heap_alloc(64));
	CHECK_EQ(a_load_rlx(&fixture_heap()->slow_calls), calls);
	CHECK_EQ(seen.allocated + seen.freed, 0);
	heap_free(p);
	fixture_check_empty();
}

/* While hooks are set the thread still works by its own heap. */
TEST(hooks_leave_a_thread_its_heap)
{
	fixture_start();
	heap_hooks_set(&hooks);
	for (int i = 0; i < 1000; i++)
		heap_free(heap_alloc(16 + (size_t)i));
	CHECK_EQ(heap_pool_count(), 1);
	CHECK(heap_is_at_rest(fixture_heap()));
	heap_check();
}

static void use_heap(void *arg)
{
	blocks[0] = heap_alloc(64);
	blocks[1] = heap_alloc(3000);
	heap_free(heap_alloc(100));
	*(struct heap **)arg = fixture_heap();
}

TEST(a_thread_with_hooks_gives_up_its_heap_when_it_ends)
{
	struct peer peer;
	struct heap *heap;
	fixture_start();
	heap_hooks_set(&hooks);
	peer_start(&peer);
	peer_run(&peer, use_heap, &heap);
	peer_end(&peer);
	CHECK_EQ(a_load_rlx(&heap->active), 0);
	heap_free(blocks[0]);
	heap_free(blocks[1]);
	CHECK_EQ(seen.freed, seen.allocated);
	fixture_check_empty();
}

/* A block that is resized is one that goes and one that comes, wherever it moves. */
static void check_resize_is_seen(void)
{
	void *p = heap_alloc((size_t)1 << 20);
	void *wall = heap_alloc((size_t)1 << 20);
	void *q = heap_resize(p, (size_t)4 << 20);
	CHECK(q != NULL && q != p);
	CHECK_EQ(seen.last_freed, p);
	/* Which of the two comes first is left open. */
	CHECK_EQ(seen.allocated, seen.freed + 2);
	void *r = heap_resize(q, 1000);
	CHECK_EQ(seen.last_freed, q);
	check_allocation_seen(r, 1000);
	heap_free(r);
	heap_free(wall);
	CHECK_EQ(seen.freed, seen.allocated);
	fixture_check_empty();
}

TEST(hooks_follow_a_block_whose_pages_move)
{
	struct page_stats page;
	fixture_start();
	heap_hooks_set(&hooks);
	check_resize_is_seen();
	page_stats(&page);
	CHECK_EQ(page.move_calls, 1);
}

TEST(hooks_follow_a_block_whose_pages_cannot_move)
{
	struct page_stats page;
	fixture_start();
	heap_hooks_set(&hooks);
	mock_fail(OS_CALL_MOVE, 1, ENOMEM);
	check_resize_is_seen();
	page_stats(&page);
	CHECK_EQ(page.move_calls, 0);
}
