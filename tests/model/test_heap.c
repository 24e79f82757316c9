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

enum { BLOCKS = 8, HEAPS = 3 };

static struct heap *heaps[HEAPS];
static void *blocks[BLOCKS]; /* made in set_up, freed by the threads */
static void *held[BLOCKS * 2];

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

static void set_up_heaps(void)
{
	fake_reset();
	memset(held, 0, sizeof(held));
	memset(blocks, 0, sizeof(blocks));
	a_store_rlx(&heap_self, &heap_none);
	heap_init();
	for (int i = 0; i < HEAPS; i++) {
		heaps[i] = heap_pool_take();
		heaps[i]->rest = (uint64_t)heaps[i]->id << 32 | heap_limit();
		a_store_rlx(&heaps[i]->state, heaps[i]->rest);
	}
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

/* A full slab whose owner has exited. */
static void set_up_open(void)
{
	set_up_full();
	thread_exits();
	heaps[0] = heap_pool_take();
	heaps[0]->rest = (uint64_t)heaps[0]->id << 32 | heap_limit();
	a_store_rlx(&heaps[0]->state, heaps[0]->rest);
}

static bool any_stopped(void)
{
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (explore_is_stopped(t))
			return true;
	return false;
}

/* Everything is freed and every heap released: then every slab has gone back. */
static void finish(void)
{
	if (any_stopped())
		return;
	heap_check();
	a_store_rlx(&heap_self, heaps[HEAPS - 1]);
	for (int i = 0; i < BLOCKS * 2; i++)
		if (held[i])
			give(held[i]);
	heap_check();
	for (int i = 0; i < HEAPS; i++) {
		become(i);
		if (a_load_rlx(&heaps[i]->active) && heap_enter_own())
			heap_release(heaps[i]);
	}
	heap_check();
	EXPLORE_CHECK(fake_granules_taken() == 1);
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
	HEAP_SCENARIO(run_exit_three, 3, set_up_full),
	HEAP_SCENARIO(run_open, 3, set_up_open),
	HEAP_SCENARIO(run_free_both_beside_owner, 3, set_up_full),
};
static const struct suite suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 20000 } };

TEST_TIMEOUT(every_interleaving, 60)
{
	suite_search(&suite);
}

TEST_TIMEOUT(sequentially_consistent, 60)
{
	suite_search_newest(&suite);
}

TEST_TIMEOUT(stopped_thread_stops_nobody, 60)
{
	struct suite few = suite;

	few.limits.executions = 100;
	suite_stopped(&few);
}

TEST_TIMEOUT(every_order_is_needed, 60)
{
	struct suite few = suite;

	few.limits.executions = 5000;
	suite_weaken(&few, "src/heap/", NULL);
}
