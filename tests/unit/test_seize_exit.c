/* SPDX-License-Identifier: MIT */
/* A thread ends while its attached slabs are being taken; a block of one of them is freed. */
#include "heap_fixture.h"
#include "os/mock.h"

#define MS_NS ((uint64_t)1000000)
#define IDLE_NS (250 * MS_NS)
#define SMALL ((size_t)64)
#define CAPACITY 1024
#define SLABS 8

static void *idle_blocks[SLABS * CAPACITY + 1];
static struct peer peer, third;
static struct heap *idle_heap;
static bool armed;

static void become_holder(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < SLABS * CAPACITY + 1; i++)
		idle_blocks[i] = heap_alloc(SMALL);
	for (size_t i = 0; i < SLABS * CAPACITY; i++) {
		if (i % CAPACITY < 200)
			heap_free(idle_blocks[i]);
	}
	idle_heap = fixture_heap();
}

static void third_frees(void *arg)
{
	(void)arg;
	for (size_t slab = 0; slab < SLABS; slab++) {
		for (size_t i = 200; i < 400; i++)
			heap_free(idle_blocks[slab * CAPACITY + i]);
	}
}

/* The heap comes from the pool. */
static void call_once(void *arg)
{
	(void)arg;
	heap_free(heap_alloc(1000));
	CHECK_EQ(fixture_heap(), idle_heap);
}

void __real_slab_open(struct slab *slab);
void __wrap_slab_open(struct slab *slab);
void __wrap_slab_open(struct slab *slab)
{
	if (armed) {
		armed = false;
		CHECK_EQ(a_load_rlx(&idle_heap->takers), 1);
		peer_end(&peer);
		test_note("the thread has ended; its heap is active: %u",
			a_load_rlx(&idle_heap->active));
		peer_run(&third, third_frees, NULL);
		test_note("its blocks are freed");
	}
	__real_slab_open(slab);
}

TEST(a_thread_ends_while_it_is_taken_from)
{
	fixture_start();
	heap_free(heap_alloc(1000));
	peer_start(&third);
	peer_start(&peer);
	peer_run(&peer, become_holder, NULL);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), SLABS);
	for (int i = 0; i < 2; i++) {
		mock_clock_advance(IDLE_NS);
		armed = i > 0;
		struct heap *heap = heap_enter();
		heap_seize_idle(heap);
		heap_leave(heap);
	}
	CHECK(!armed);
	/* The one slab that was being opened when the thread ended: its heap waits for that. */
	CHECK_EQ(a_load_rlx(&idle_heap->active), 1);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), 1);
	heap_check();
	peer_start(&peer);
	peer_run(&peer, call_once, NULL);
	CHECK_EQ(a_load_rlx(&idle_heap->active), 1);
	peer_end(&peer);
	CHECK_EQ(a_load_rlx(&idle_heap->active), 0);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), 0);
	heap_check();
}
