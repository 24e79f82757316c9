/* SPDX-License-Identifier: MIT */
/* See heap_world.h. */
#include "heap_world.h"

#include <string.h>

#include "fake_layers.h"

enum { HEAPS = 3 };

static struct heap *heaps[HEAPS];
void *blocks[BLOCKS];
static void *held[BLOCKS * 2];
static struct heap *pooled[2 * PAGE_GRANULE_BYTES / HEAP_BYTES];

static void hold(void *p)
{
	EXPLORE_CHECK(p != NULL);
	for (int i = 0; i < BLOCKS * 2; i++)
		EXPLORE_CHECK(held[i] != p);
	for (int i = 0; i < BLOCKS * 2; i++)
		if (!held[i]) {
			held[i] = p;
			return;
		}
	explore_fail("too many blocks");
}

void *get(size_t size)
{
	uint64_t *p = heap_alloc(size);

	hold(p);
	a_data_write(p, size);
	explore_note("got block", (uintptr_t)p & 0xfffff);
	return p;
}

void give(void *p)
{
	explore_note("frees block", (uintptr_t)p & 0xfffff);
	a_data_write((uint64_t *)p, 0);
	for (int i = 0; i < BLOCKS * 2; i++)
		if (held[i] == p)
			held[i] = NULL;
	heap_free(p);
}

void get_many(size_t size, size_t count)
{
	const struct heap_want want = { .align = HEAP_ALIGN_MIN };
	void *batch[BLOCKS];

	EXPLORE_CHECK(heap_alloc_many(size, &want, count, batch) == count);
	for (size_t i = 0; i < count; i++) {
		hold(batch[i]);
		a_data_write((uint64_t *)batch[i], size);
	}
}

void give_many(void **batch, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		a_data_write((uint64_t *)batch[i], 0);
		for (int j = 0; j < BLOCKS * 2; j++)
			if (held[j] == batch[i])
				held[j] = NULL;
	}
	heap_free_many(batch, count, false);
}

/* From here on the calling fiber, or set_up, is the thread of this heap. */
void become(int i)
{
	a_store_rlx(&heap_self, heaps[i]);
}

void thread_exits(void)
{
	struct heap *heap = heap_enter_own();

	EXPLORE_CHECK(heap != NULL);
	a_store_rlx(&heap_self, &heap_gone);
	heap_release(heap);
}

/* A heap for a thread, at rest. */
static struct heap *take_heap(void)
{
	struct heap *heap = heap_pool_take();

	EXPLORE_CHECK(heap != NULL);
	heap_mark_at_rest(heap, CLASS_FAST_UNITS);
	return heap;
}

static void set_up_heaps(void)
{
	fake_reset();
	memset(held, 0, sizeof(held));
	memset(blocks, 0, sizeof(blocks));
	a_store_rlx(&heap_self, &heap_none);
	heap_init();
	for (int i = 0; i < HEAPS; i++)
		heaps[i] = take_heap();
	explore_private(&heap_self, sizeof(heap_self));
	become(0);
}

/* Heap 0 holds one slab, full. */
void set_up_full(void)
{
	set_up_heaps();
	blocks[0] = get(16);
	blocks[1] = get(16);
}

/* Heap 0 holds a slab of four, of which two are out. */
void set_up_half(void)
{
	set_up_heaps();
	for (int i = 0; i < 4; i++)
		blocks[i] = get(32);
	give(blocks[2]);
	give(blocks[3]);
}

/* The first heap's thread exits and a new thread takes it from the pool. */
static void renew_heap(void)
{
	thread_exits();
	heaps[0] = take_heap();
	become(0);
}

/* A full slab whose owner has exited. */
void set_up_open(void)
{
	set_up_full();
	renew_heap();
}

/* No heap is idle: the barrier that takes its slabs would order more than a scenario is about. */
static void make_busy(void)
{
	for (uint32_t id = 1; id <= heap_pool_count(); id++)
		a_add_rlx(&heap_at(id)->slow_calls, 1);
}

/* Heap 0 holds a slab of four, all out. */
void set_up_four(void)
{
	set_up_heaps();
	for (int i = 0; i < 4; i++)
		blocks[i] = get(32);
	make_busy();
}

/* A slab of four, all out, whose owner has exited. */
void set_up_open_four(void)
{
	set_up_four();
	renew_heap();
}

/* A slab of four whose owner has exited, half free and listed. */
void set_up_open_half(void)
{
	set_up_half();
	renew_heap();
}

/* Heap 0 holds a slab of four, half carved; heap 1 has a slab of this class, too. */
void set_up_wanted(void)
{
	set_up_heaps();
	become(1);
	blocks[2] = get(32);
	become(0);
	blocks[0] = get(32);
	blocks[1] = get(32);
}

/* The same with all four carved and out. */
void set_up_wanted_full(void)
{
	set_up_wanted();
	get(32);
	get(32);
	make_busy();
}

/*
 * Heap 1 looks for idle heaps; those that make no slow call from here on are idle for the next
 * look.
 */
static void look_for_idle(void)
{
	become(1);
	if (heap_enter_own()) {
		heap_seize_idle(heaps[1]);
		heap_leave(heaps[1]);
	}
}

/* Heap 0 holds a slab with one free block beside its current one, and is idle by all looks. */
void set_up_idle(void)
{
	set_up_heaps();
	for (int i = 0; i < 6; i++)
		blocks[i] = get(32);
	give(blocks[0]);
	look_for_idle();
}

void set_up_idle_used(void)
{
	set_up_idle();
	become(0);
	give(blocks[1]); /* no slow call: it is idle still */
}

/* The slab has been taken, and is nobody's. */
void set_up_taken(void)
{
	set_up_idle();
	look_for_idle();
}

/* As set_up_idle(), and heap 1 has a current slab of this class. */
void set_up_idle_wanted(void)
{
	set_up_heaps();
	become(1);
	blocks[6] = get(32);
	become(0);
	for (int i = 0; i < 6; i++)
		blocks[i] = get(32);
	give(blocks[0]);
	look_for_idle();
}

/* Idle heap 0 holds a slab with one free block beside its current one; another is full and open. */
void set_up_two_open(void)
{
	set_up_heaps();
	for (int i = 0; i < 9; i++)
		blocks[i] = get(32);
	give(blocks[0]);
	look_for_idle();
}

/* Idle heap 0 holds two slabs beside its current one, both listed for remote frees. */
void set_up_two_listed(void)
{
	set_up_heaps();
	for (int i = 0; i < 9; i++)
		blocks[i] = get(32);
	give(blocks[0]);
	give(blocks[4]);
	become(2);
	for (int i = 0; i < 2; i++) {
		give(blocks[1 + i]);
		give(blocks[5 + i]);
	}
	look_for_idle();
}

/* A full slab, whose owner has exited, with one block freed; the next heap is of a new chunk. */
void set_up_late_heap(void)
{
	set_up_open();
	give(blocks[0]);
	while (heap_pool_count() % (PAGE_GRANULE_BYTES / HEAP_BYTES) != 0)
		take_heap();
	make_busy();
}

/* A freed slab whose link is still with its class; the next heap is of a new chunk. */
void set_up_stale_link(void)
{
	set_up_heaps();
	blocks[4] = get(16);
	for (int i = 0; i < 4; i++)
		blocks[i] = get(32);
	give(blocks[2]);
	give(blocks[3]);
	renew_heap();
	become(2);
	give(blocks[4]); /* what the new chunk will lie in */
	give(blocks[0]);
	give(blocks[1]);
	while (heap_pool_count() % (PAGE_GRANULE_BYTES / HEAP_BYTES) != 0)
		take_heap();
	make_busy();
}

static bool any_stopped(void)
{
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (explore_is_stopped(t))
			return true;
	return false;
}

/* A heap that nobody holds has no slab waiting for it. */
static void check_no_link_is_stranded(void)
{
	for (uint32_t id = 1; id <= heap_pool_count(); id++) {
		const struct heap *heap = heap_at(id);
		EXPLORE_CHECK(a_load_rlx(&heap->active) || stack_is_empty(&heap->pending));
	}
}

/* Everything is freed and every heap released: then every slab has gone back. */
void finish(void)
{
	const uint32_t in_chunk = PAGE_GRANULE_BYTES / HEAP_BYTES;
	const uint32_t heaps_made = heap_pool_count();
	const uint32_t chunks = (heaps_made + in_chunk - 1) / in_chunk;

	if (any_stopped())
		return;
	heap_check();
	check_no_link_is_stranded();
	become(HEAPS - 1);
	for (int i = 0; i < BLOCKS * 2; i++)
		if (held[i])
			give(held[i]);
	heap_check();
	/* First the threads' heaps end, then those that went to the pool with slabs. */
	for (uint32_t id = 1; id <= heap_pool_count(); id++) {
		a_store_rlx(&heap_self, heap_at(id));
		if (a_load_rlx(&heap_at(id)->active) && heap_enter_own())
			heap_release(heap_at(id));
	}
	for (uint32_t i = 0; i < heaps_made; i++)
		pooled[i] = heap_pool_take();
	for (uint32_t i = heaps_made; i-- > 0;)
		heap_release(pooled[i]);
	heap_check();
	EXPLORE_CHECK(fake_granules_taken() == chunks);
}
