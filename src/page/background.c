/* SPDX-License-Identifier: MIT */
/*
 * The janitor gives idle memory back while nobody calls the allocator. Decision record 0002 tells
 * why it is a task that shares the memory and is no thread.
 *
 * With background:auto the thread that frees starts it once 8 MiB are free and dirty; it goes round
 * once an epoch and ends when hardly anything is left. It takes no lock and may be killed at any
 * time: what it was purging is told in `claim`, and put back by the next one. Its heartbeat says
 * whether it lives, so that nobody needs a system call to find out.
 *
 * Synchronization   one janitor at a time, by os_task_start(); in a child that was forked behind
 *                   our back, by the compare-and-swap of `owner_pid`
 * Ordering          [page.5]: who finds a claim sees its chunk out of the bitmap. [page.7]: the end
 *                   of the thread that started it sees a step of the layer above, or none begins
 */
#include "arena.h"

#include <errno.h>

enum {
	/* 1 MiB: not worth a task of its own. */
	JANITOR_LEAVES_GRANULES = 16,
	/*
	 * Rounds without work until it ends, so that a busy program does not start it each second.
	 */
	JANITOR_IDLE_ROUNDS = 4,
	/* After it could not be started, nobody tries for so many epochs: 17 s or more. */
	JANITOR_RETRY_EPOCHS = 64,
	/* How long a thread that ends waits for the janitor's step: 5 ms at most. */
	STEP_WAITS = 10,
	STEP_WAIT_NS = 500000,
	CHUNK_BYTES = ARENA_CHUNK_GRANULES << PAGE_GRANULE_SHIFT,
};

/* A beat so long ago that nobody takes it for fresh. */
#define BEAT_NEVER (INT64_MIN / 2)

/*
 * Puts back the chunk of a janitor that is gone, unless another thread does. `claim` was read
 * before that was certain: a later janitor's claim is another value.
 */
static void claim_recover(struct arena *a, uint64_t claim)
{
	size_t n = claim >> CLAIM_GRANULES_SHIFT & CLAIM_GRANULES_MASK;

	/* [page.5] acq: the chunk is out of the bitmap; pairs with claim_set() in purge.c. */
	if (!claim || !a_cas_strong_acq(&a->janitor.claim, &claim, 0))
		return;
	if (!bitmap_put(&a->map, (uint32_t)claim - 1, n))
		os_fatal("allod: corrupted page map\n");
}

void background_recover(struct arena *a)
{
	/* [page.5] acq: read before we look whether its maker lives; pairs with claim_set(). */
	uint64_t claim = a_load_acq(&a->janitor.claim);

	if (claim && !os_task_alive(&a->janitor.task))
		claim_recover(a, claim);
}

bool page_in_janitor(void)
{
	struct arena *a = arena_get();

	return a && os_task_is_me(&a->janitor.task);
}

bool page_round_ends(void)
{
	struct arena *a = arena_get();
	const uint32_t retire = a_load_rlx(&a->janitor.retire);

	return retire != 0 && retire == a_load_rlx(&a->janitor.task.tid);
}

/*
 * The thread that started us says so before it ends, and then waits for our step, a little while:
 * being killed amid it would lose what is in work.
 */
static bool step_begin(struct arena *a)
{
	a_store_rlx(&a->janitor.in_step, 1);
	/* [page.7] seq: we say that we are in, then look; pairs with step_await(). */
	a_fence_seq();
	return !page_round_ends();
}

static void step_end(struct arena *a)
{
	/* [page.7] rel: the step is done; pairs with step_await(). */
	a_store_rel(&a->janitor.in_step, 0);
}

/* Lets the janitor finish its step: a few milliseconds, and no longer should it be stopped. */
static void step_await(struct arena *a)
{
	a_store_rlx(&a->janitor.retire, a_load_rlx(&a->janitor.task.tid));
	/*
	 * [page.7] seq: we say that it shall not begin a step, then look; pairs with step_begin().
	 */
	a_fence_seq();
	/* [page.7] acq: what the step did is done; pairs with step_end(). */
	for (int i = 0; i < STEP_WAITS && a_load_acq(&a->janitor.in_step); i++)
		os_wait_while(&a->janitor.in_step, 1, STEP_WAIT_NS);
}

/* Gives back what is due; returns how much dirty memory is left, due later. */
static uint64_t janitor_round(struct arena *a, bool is_first, const struct os_headroom_files *files)
{
	/* Whoever starts the janitor as its last act does not await it: nothing to lose meanwhile. */
	size_t waiting = is_first ? 0 : keepers_round(a, step_begin, step_end);
	const struct purge p = {
		.epoch = purge_now(a), .age = a->decay_epochs, .is_janitor = true
	};
	size_t pos = 0;

	(void)purge_some(a, &pos, SIZE_MAX, &p);
	(void)purge_cool(a, p.epoch, SIZE_MAX, true);
	if (!is_first && huge_round(a))
		waiting += CHUNK_BYTES;
	guard_round(a, files);
	return balance_dirty(a_load_rlx(&a->balance)) + (waiting >> PAGE_GRANULE_SHIFT);
}

/*
 * What the task runs. Before its last sleep it takes back its heartbeat: whoever frees much after
 * its last look wakes it, or starts the next one.
 */
static void janitor_main(void *arg)
{
	struct arena *a = arg;
	uint64_t period_ns = (uint64_t)1 << a->epoch_shift;
	bool stay = options.background == OPTION_BACKGROUND_ON;
	bool is_first = true;
	unsigned idle = 0;
	struct os_headroom_files files;
	struct stall_seen stalls = { .ns = 0 };

	/* At birth of the arena who started us may not have come so far yet. */
	(void)page_init();
	cost_measure(a);
	/* From its first sleep on it may open nothing. */
	os_headroom_open(&files);
	/* There is one at a time: what is claimed now is a dead one's. */
	claim_recover(a, a_load_rlx(&a->janitor.claim));
	a_add_rlx(&a->janitor.generation, 1);
	a_store_rlx(&a->janitor.in_step, 0);
	huge_start(a);
	do {
		bool last = !stay && idle + 1 >= JANITOR_IDLE_ROUNDS;
		a_store_rlx(&a->janitor.beat, last ? BEAT_NEVER : purge_now(a));
		idle = janitor_round(a, is_first, &files) > JANITOR_LEAVES_GRANULES ? 0 : idle + 1;
		is_first = false;
		stall_round(&stalls, &files);
		if (!stay && idle >= JANITOR_IDLE_ROUNDS)
			break;
	} while (os_task_sleep(&a->janitor.task, period_ns));
	a_store_rlx(&a->janitor.beat, BEAT_NEVER);
}

/*
 * Whether the state speaks of this process. A child made without fork() does without a janitor and
 * gives memory back by ticks: it may share our memory (vfork), and then the janitor, the stack it
 * runs on and what it is purging are not the child's to touch.
 */
static bool is_ours(struct arena *a)
{
	int64_t owner = 0;
	int64_t self = os_pid();

	return a_cas_strong_rlx(&a->janitor.owner_pid, &owner, self) || owner == self;
}

static void janitor_start(struct arena *a, int64_t epoch)
{
	int ret = os_task_start(&a->janitor.task, janitor_main, a);

	if (!ret)
		a_store_rlx(&a->janitor.beat, epoch);
	/* Already: by a thread that may be stopped there, so no system calls meanwhile. */
	else if (ret == -EALREADY)
		a_store_rlx(&a->janitor.retry, epoch + 1);
	else if (ret != -EAGAIN)
		a_store_rlx(&a->janitor.retry, epoch + JANITOR_RETRY_EPOCHS);
}

__attribute__((cold, noinline)) void background_poke(struct arena *a, int64_t epoch)
{
	if (options.background == OPTION_BACKGROUND_OFF || epoch < a_load_rlx(&a->janitor.retry))
		return;
	if (!is_ours(a))
		return;
	if (os_task_alive(&a->janitor.task)) {
		/* Only its own beat shows that it goes on: while it is stopped, ticks give back. */
		a_store_rlx(&a->janitor.retry, epoch + 1);
		os_task_wake(&a->janitor.task);
	} else {
		janitor_start(a, epoch);
	}
}

bool page_round_is_mine(void)
{
	struct arena *a = arena_get();
	int64_t epoch;

	if (!a || !a->granules)
		return true;
	epoch = purge_now(a);
	if (!background_fresh(a, epoch))
		background_poke(a, epoch);
	return !background_fresh(a, epoch);
}

void background_init(struct arena *a)
{
	if (options.background == OPTION_BACKGROUND_ON && a->granules)
		background_poke(a, purge_now(a));
}

void page_fork_child(void)
{
	struct arena *a = arena_get();

	if (!a)
		return;
	os_task_fork_child(&a->janitor.task);
	a_store_rlx(&a->janitor.owner_pid, os_pid());
	a_store_rlx(&a->janitor.beat, BEAT_NEVER);
	a_store_rlx(&a->janitor.retry, 0);
	claim_recover(a, a_load_rlx(&a->janitor.claim));
}

/*
 * Whether a janitor was lost with the thread that started it, and nobody could start the next one: a
 * task that is about to be killed counts as alive until it comes to run, as on a busy processor.
 */
static bool janitor_was_lost(struct arena *a)
{
	return options.background != OPTION_BACKGROUND_OFF && a_load_rlx(&a->janitor.retire) != 0 &&
		a_load_rlx(&a->janitor.beat) == BEAT_NEVER &&
		a_load_rlx(&a->janitor.retry) <= purge_now(a) + 1 && is_ours(a);
}

void page_thread_exit(void)
{
	struct arena *a = arena_get();

	if (!a)
		return;
	if (os_task_alive(&a->janitor.task) && os_task_is_mine(&a->janitor.task)) {
		a_store_rlx(&a->janitor.beat, BEAT_NEVER);
		step_await(a);
	} else if (!janitor_was_lost(a)) {
		return;
	}
	if (balance_dirty(a_load_rlx(&a->balance)) > JANITOR_LEAVES_GRANULES)
		(void)page_trim();
}

void page_exit(void)
{
	struct arena *a = arena_get();

	/* One that ended by itself is reaped here, so that no zombie is left to process 1. */
	if (!a)
		return;
	os_task_stop(&a->janitor.task);
	background_recover(a);
}
