/* SPDX-License-Identifier: MIT */
/*
 * The heap's sources under the explorer, whole but for large blocks: remote frees beside the owner's
 * calls, the owner's exit, adoption and the last free of an open slab.
 *
 * A block is never given out twice, what its last user wrote is ordered before its next user and before
 * its memory goes back, the heap's invariants hold at rest, and when everything is freed and every heap
 * released, every slab has gone back to page.
 */
#include <string.h>

#include "explore.h"
#include "fake_layers.h"
#include "harness.h"
#include "heap/core.h"
#include "suite.h"

enum { BLOCKS = 12, HEAPS = 3 };

static struct heap *heaps[HEAPS];
static void *blocks[BLOCKS]; /* made in set_up, freed by the threads */
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

static void *get(size_t size)
{
	uint64_t *p = heap_alloc(size);

	hold(p);
	a_data_write(p, size);
	explore_note("got block", (uintptr_t)p & 0xfffff);
	return p;
}

static void give(void *p)
{
	explore_note("frees block", (uintptr_t)p & 0xfffff);
	a_data_write((uint64_t *)p, 0);
	for (int i = 0; i < BLOCKS * 2; i++)
		if (held[i] == p)
			held[i] = NULL;
	heap_free(p);
}

/* From here on the calling fiber, or set_up, is the thread of this heap. */
static void become(int i)
{
	a_store_rlx(&heap_self, heaps[i]);
}

static void thread_exits(void)
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
	heap->rest = (uint64_t)heap->id << 32 | CLASS_FINE_COUNT;
	a_store_rlx(&heap->state, heap->rest);
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
static void set_up_full(void)
{
	set_up_heaps();
	blocks[0] = get(16);
	blocks[1] = get(16);
}

/* Heap 0 holds a slab of four, of which two are out. */
static void set_up_half(void)
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
static void set_up_open(void)
{
	set_up_full();
	renew_heap();
}

/* A slab of four whose owner has exited, half free and listed. */
static void set_up_open_half(void)
{
	set_up_half();
	renew_heap();
}

/* Heap 0 holds a slab of four, half carved; heap 1 has a slab of this class, too. */
static void set_up_wanted(void)
{
	set_up_heaps();
	become(1);
	blocks[2] = get(32);
	become(0);
	blocks[0] = get(32);
	blocks[1] = get(32);
}

/* Heap 1 looks for idle heaps; those that make no slow call from here on are idle for the next look. */
static void look_for_idle(void)
{
	become(1);
	if (heap_enter_own()) {
		heap_seize_idle(heaps[1]);
		heap_leave(heaps[1]);
	}
}

/* Heap 0 holds a slab with one free block beside its current one, and is idle by all looks. */
static void set_up_idle(void)
{
	set_up_heaps();
	for (int i = 0; i < 6; i++)
		blocks[i] = get(32);
	give(blocks[0]);
	look_for_idle();
}

/* Idle heap 0 holds two slabs beside its current one, both listed for remote frees. */
static void set_up_two_listed(void)
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
static void set_up_late_heap(void)
{
	set_up_open();
	give(blocks[0]);
	while (heap_pool_count() % (PAGE_GRANULE_BYTES / HEAP_BYTES) != 0)
		take_heap();
	/* None is idle: the barrier that takes their slabs would order more than this is about. */
	for (uint32_t id = 1; id <= heap_pool_count(); id++)
		a_add_rlx(&heap_at(id)->slow_calls, 1);
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
static void finish(void)
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

/* ---- Scenarios ---- */

/* The owner wants a block while another thread frees one of its full slab. */
static void run_free_beside_owner(int t)
{
	become(t);
	if (t == 0)
		get(16);
	else
		give(blocks[0]);
}

static void run_free_both_beside_owner(int t)
{
	become(t);
	if (t == 0)
		get(16);
	else
		give(blocks[t - 1]);
}

/* A free that is delayed past the owner's exit. */
static void run_exit(int t)
{
	become(t);
	if (t == 0)
		thread_exits();
	else
		give(blocks[0]);
}

static void run_exit_three(int t)
{
	become(t);
	if (t == 0)
		thread_exits();
	else
		give(blocks[t - 1]);
}

/* The two blocks of an open slab are freed while a third thread wants one. */
static void run_open(int t)
{
	become(t);
	if (t == 2)
		get(16);
	else
		give(blocks[t]);
}

static void run_open_two(int t)
{
	become(t);
	if (t == 1)
		get(16);
	else
		give(blocks[0]);
}

/* Each frees what the other's thread allocated, and allocates. */
static void run_exchange(int t)
{
	become(t);
	give(blocks[t]);
	get(16);
}

/* The owner frees and exits beside a remote free. */
static void run_last_frees(int t)
{
	become(t);
	give(blocks[t]);
	if (t == 0)
		thread_exits();
}

/* Two remote frees reach the threshold, so the slab is listed with its owner while that exits. */
static void run_list_and_exit(int t)
{
	become(t);
	if (t == 0) {
		thread_exits();
	} else {
		give(blocks[0]);
		give(blocks[1]);
	}
}

/* The same beside an owner that goes on. */
static void run_list_and_get(int t)
{
	become(t);
	if (t == 0) {
		get(32);
		get(32);
		get(32);
	} else {
		give(blocks[0]);
		give(blocks[1]);
	}
}

/* A block is freed behind the link of a listed slab, which another thread takes. */
static void run_behind_link(int t)
{
	become(t);
	if (t == 0) {
		give(blocks[0]);
	} else {
		get(32);
		get(32);
		get(32);
	}
}

/* The owner carves more and exits; a freer takes the open slab over. */
static void run_exit_and_adopt(int t)
{
	become(t);
	if (t == 0) {
		get(32);
		thread_exits();
	} else {
		give(blocks[0]);
		get(32);
		get(32);
		get(32);
	}
}

/* The owner carves all, finds the slab full and opens it; a freer takes it over. */
static void run_open_full_and_adopt(int t)
{
	become(t);
	if (t == 0) {
		get(32);
		get(32);
		get(32);
	} else {
		give(blocks[0]);
		get(32);
		get(32);
		get(32);
	}
}

/* A heap of a new chunk adopts a slab in which another thread frees. */
static void run_late_heap(int t)
{
	if (t == 0) {
		become(0);
		give(blocks[1]);
	} else {
		a_store_rlx(&heap_self, &heap_none);
		get(16);
	}
}

/* A thread looks for idle heaps while one of a new chunk is made. */
static void run_seize_late_heap(int t)
{
	if (t == 0) {
		become(0);
		get(32);
	} else {
		a_store_rlx(&heap_self, &heap_none);
		get(16);
	}
}

/* A thread that looks for memory takes what the owner, idle so far, frees into at this moment. */
static void run_seize_beside_free(int t)
{
	become(t);
	if (t == 0) {
		give(blocks[1]);
		give(blocks[2]);
	} else {
		get(32);
	}
}

/* The same beside an owner that allocates. */
static void run_seize_beside_get(int t)
{
	become(t);
	get(32);
	if (t == 0)
		get(32);
}

/* The same beside an owner that frees the last blocks of a slab, or exits. */
static void run_seize_beside_last_free(int t)
{
	become(t);
	if (t == 0) {
		give(blocks[1]);
		give(blocks[2]);
		give(blocks[3]);
	} else {
		get(32);
	}
}

static void run_seize_beside_exit(int t)
{
	become(t);
	if (t == 0)
		thread_exits();
	else
		get(32);
}

/* The owner collects from two listed slabs, one after the other. */
static void run_seize_beside_drain(int t)
{
	struct heap *heap;

	become(t);
	heap = heap_enter_own();
	if (t == 0)
		slab_drain_pending(heap);
	else
		heap_seize_idle(heap);
	heap_leave(heap);
}

/* A third thread frees into the slab that changes hands. */
static void run_seize_beside_both(int t)
{
	become(t);
	if (t == 1)
		get(32);
	else
		give(blocks[t == 0 ? 1 : 2]);
}

#define HEAP_SCENARIO(run_, threads_, set_up_)                                      \
	{                                                                           \
		.name = #run_, .threads = threads_, .set_up = set_up_, .run = run_, \
		.finish = finish                                                    \
	}
static const struct explore_scenario scenarios[] = {
	HEAP_SCENARIO(run_free_beside_owner, 2, set_up_full),
	HEAP_SCENARIO(run_exit, 2, set_up_full),
	HEAP_SCENARIO(run_open_two, 2, set_up_open),
	HEAP_SCENARIO(run_exchange, 2, set_up_full),
	HEAP_SCENARIO(run_last_frees, 2, set_up_full),
	HEAP_SCENARIO(run_list_and_exit, 2, set_up_half),
	HEAP_SCENARIO(run_list_and_get, 2, set_up_half),
	HEAP_SCENARIO(run_behind_link, 2, set_up_open_half),
	HEAP_SCENARIO(run_exit_and_adopt, 2, set_up_wanted),
	HEAP_SCENARIO(run_open_full_and_adopt, 2, set_up_wanted),
	HEAP_SCENARIO(run_late_heap, 2, set_up_late_heap),
	HEAP_SCENARIO(run_seize_late_heap, 2, set_up_late_heap),
	HEAP_SCENARIO(run_seize_beside_free, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_get, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_last_free, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_exit, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_drain, 2, set_up_two_listed),
	HEAP_SCENARIO(run_seize_beside_both, 3, set_up_idle),
	HEAP_SCENARIO(run_exit_three, 3, set_up_full),
	HEAP_SCENARIO(run_open, 3, set_up_open),
	HEAP_SCENARIO(run_free_both_beside_owner, 3, set_up_full),
};
static const struct suite suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 3000 } };

TEST_TIMEOUT(every_interleaving, 60)
{
	suite_search(&suite);
}

TEST_TIMEOUT(two_preemptions, 60)
{
	struct suite bounded = suite;

	bounded.limits.switches = 2;
	suite_search_newest(&bounded);
}

TEST_TIMEOUT(stopped_thread_stops_nobody, 60)
{
	struct suite few = suite;

	few.limits.executions = 30;
	suite_stopped(&few);
}

TEST_TIMEOUT(random_schedules, 60)
{
	for (int i = 0; i < suite.count; i++)
		suite_random(&suite.scenarios[i], 1000);
}

TEST_TIMEOUT(every_order_is_needed, 60)
{
	/*
	 * The first two belong to the start of the process and to hooks, which no scenario changes. A
	 * chunk's other contents are zeroed by plain stores, whose order is not modelled; that the
	 * chunk is there at all is ordered by remote_adopt() and by the pool's stack.
	 */
	static const char *const unnoticed[] = { "heap_init:a_load_acq>rlx",
		"hooks_get:a_load_acq>rlx", "heap_at:a_load_acq>rlx",
		"chunk_ready:a_cas_strong_rel>rlx", "heap_make:a_cas_weak_rel>rlx", NULL };
	struct suite few = suite;

	few.limits.executions = 300;
	suite_weaken(&few, "src/heap/", unnoticed);
}
