/* SPDX-License-Identifier: MIT */
/*
 * The heap's sources under the explorer, whole but for large blocks: remote frees beside the
 * owner's calls, the owner's exit, adoption and the last free of an open slab.
 *
 * A block is never given out twice, what its last user wrote is ordered before its next user and
 * before its memory goes back, the heap's invariants hold at rest, and when everything is freed and
 * every heap released, every slab has gone back to page.
 */
#include "explore.h"
#include "harness.h"
#include "heap_world.h"
#include "suite.h"

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

/* The owner opens a full slab, which a freer takes over at once. */
static void run_open_full(int t)
{
	become(t);
	if (t == 0)
		get(32);
	else
		give(blocks[0]);
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

/* A popped link turns out to be that of a slab of a heap of a new chunk, with frees waiting. */
static void run_stale_link(int t)
{
	void *p;
	void *q;

	if (t == 1) {
		become(1);
		get(32);
		return;
	}
	a_store_rlx(&heap_self, &heap_none);
	p = get(32);
	q = get(32);
	become(2);
	give(p);
	give(q);
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

static void look_for_idle_heaps(void)
{
	struct heap *heap = heap_enter_own();

	heap_seize_idle(heap);
	heap_leave(heap);
}

/* Nothing but one free, which moves the slab in its list, and the other's look. */
static void run_seize_and_free(int t)
{
	become(t);
	if (t == 0)
		give(blocks[1]);
	else
		look_for_idle_heaps();
}

/* One free that finds nothing to do in the list. */
static void run_seize_and_free_more(int t)
{
	become(t);
	if (t == 0)
		give(blocks[2]);
	else
		look_for_idle_heaps();
}

/* The owner collects from two listed slabs, one after the other. */
static void run_seize_beside_drain(int t)
{
	struct heap *heap;

	become(t);
	if (t == 0) {
		heap = heap_enter_own();
		slab_drain_pending(heap);
		heap_leave(heap);
	} else {
		look_for_idle_heaps();
	}
}

/* Two threads look at the same time: each marks, and one of them or the owner has the slab. */
static void run_seize_by_two(int t)
{
	become(t);
	if (t == 0)
		give(blocks[1]);
	else
		look_for_idle_heaps();
}

/* The same beside an owner that ends. */
static void run_seize_by_two_beside_exit(int t)
{
	become(t);
	if (t == 0)
		thread_exits();
	else
		look_for_idle_heaps();
}

/* The same, and a third thread frees into the slab that is being taken, enough to list it. */
static void run_seize_beside_exit_and_free(int t)
{
	become(t);
	if (t == 0) {
		thread_exits();
	} else if (t == 1) {
		look_for_idle_heaps();
	} else {
		give(blocks[1]);
		give(blocks[2]);
	}
}

/* The owner has a slab again that was taken, so that two entries lead to it. */
static void run_take_back(int t)
{
	become(t);
	if (t == 0) {
		give(blocks[1]);
		for (int i = 0; i < 5; i++)
			get(32);
		give(blocks[2]);
		get(32);
	} else {
		look_for_idle_heaps();
	}
}

/* The owner takes an open slab and lists it behind the one that it has, while that is taken. */
static void run_seize_beside_attach(int t)
{
	become(t);
	if (t == 0) {
		give(blocks[4]);
		give(blocks[1]);
	} else {
		look_for_idle_heaps();
	}
}

/* The slab goes to another heap, which lists it beside its own, while its entry is still here. */
static void run_seize_and_keep(int t)
{
	become(t);
	if (t == 0) {
		get(32);
		get(32);
		give(blocks[1]);
	} else {
		look_for_idle_heaps();
		give(blocks[2]);
	}
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

/* All blocks of an open slab go back as one, while another thread wants one. */
static void run_batch_whole(int t)
{
	become(t);
	if (t == 0)
		give_many(blocks, 4);
	else
		get(32);
}

/* As one, or one by one by another thread, which holds the last. */
static void run_batch_but_one(int t)
{
	become(t);
	if (t == 0)
		give_many(blocks, 3);
	else
		give(blocks[3]);
}

/* A chain goes to the slab of an owner that allocates a batch, or exits. */
static void run_batch_beside_batch(int t)
{
	become(t);
	if (t == 0)
		get_many(32, 4);
	else
		give_many(blocks, 3);
}

static void run_batch_beside_exit(int t)
{
	become(t);
	if (t == 0)
		thread_exits();
	else
		give_many(blocks, 3);
}

/* All of a slab, just after its owner let it go; its run is used again. */
static void run_batch_whole_beside_exit(int t)
{
	become(t);
	if (t == 0) {
		thread_exits();
	} else {
		give_many(blocks, 4);
		get(16);
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
	HEAP_SCENARIO(run_behind_link, 2, set_up_open_half),
	HEAP_SCENARIO(run_exit_and_adopt, 2, set_up_wanted),
	HEAP_SCENARIO(run_open_full_and_adopt, 2, set_up_wanted),
	HEAP_SCENARIO(run_open_full, 2, set_up_wanted_full),
	HEAP_SCENARIO(run_late_heap, 2, set_up_late_heap),
	HEAP_SCENARIO(run_stale_link, 2, set_up_stale_link),
	HEAP_SCENARIO(run_seize_late_heap, 2, set_up_late_heap),
	HEAP_SCENARIO(run_seize_and_free, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_and_free_more, 2, set_up_idle_used),
	HEAP_SCENARIO(run_seize_beside_free, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_get, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_last_free, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_exit, 2, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_drain, 2, set_up_two_listed),
	HEAP_SCENARIO(run_seize_beside_attach, 2, set_up_two_open),
	HEAP_SCENARIO(run_seize_and_keep, 2, set_up_idle_wanted),
	HEAP_SCENARIO(run_take_back, 2, set_up_taken),
	HEAP_SCENARIO(run_batch_whole, 2, set_up_open_four),
	HEAP_SCENARIO(run_batch_but_one, 2, set_up_open_four),
	HEAP_SCENARIO(run_batch_beside_batch, 2, set_up_four),
	HEAP_SCENARIO(run_batch_beside_exit, 2, set_up_four),
	HEAP_SCENARIO(run_batch_whole_beside_exit, 2, set_up_four),
	HEAP_SCENARIO(run_seize_beside_both, 3, set_up_idle),
	HEAP_SCENARIO(run_seize_beside_exit_and_free, 3, set_up_idle),
	HEAP_SCENARIO(run_seize_by_two, 3, set_up_idle),
	HEAP_SCENARIO(run_seize_by_two_beside_exit, 3, set_up_idle),
	HEAP_SCENARIO(run_exit_three, 3, set_up_full),
	HEAP_SCENARIO(run_open, 3, set_up_open),
	HEAP_SCENARIO(run_free_both_beside_owner, 3, set_up_full),
};
static const struct suite suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 2500 } };

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
	 * Not noticed, and why. The start of the process: no scenario is about it. A chunk: what is
	 * handed on are plain fields, which the explorer is not told of. heap_name() and
	 * heap_release(): shows only if the owner is interrupted in one slab, goes on to the next
	 * and is interrupted again, deeper than the limits reach. remote_unlist(): as
	 * link_drop(), which is noticed, and deeper too.
	 */
	static const char *const unnoticed[] = { "heap_init:a_load_acq>rlx",
		"heap_at:a_load_acq>rlx", "chunk_ready:a_cas_strong_rel>rlx",
		"heap_name:a_store_rel>rlx", "heap_release:a_store_rel>rlx",
		"remote_unlist:a_cas_weak_rel>rlx", NULL };
	struct suite few = suite;

	few.limits.executions = 150;
	suite_weaken(&few, "src/heap/", unnoticed);
}
