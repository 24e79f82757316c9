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
 *                   of the thread that started it sees a step of the layer above, or none begins.
 *                   [page.11]: who frees finds that the task looks no more, or the task finds what
 *                   was freed
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

/* Whether one of those ids is that of the task there is. */
static bool is_present(struct arena *a, const _Atomic(uint32_t) *id)
{
	const uint32_t tid = a_load_rlx(id);

	return tid != 0 && tid == a_load_rlx(&a->janitor.task.tid) &&
		purge_now(a) - a_load_rlx(&a->janitor.left_epoch) <= BACKGROUND_FRESH_EPOCHS;
}

bool page_round_ends(void)
{
	struct arena *a = arena_get();

	return is_present(a, &a->janitor.retire);
}

/* Says of the task there is that it will look no more. */
static void say_present(struct arena *a, _Atomic(uint32_t) *id)
{
	a_store_rlx(&a->janitor.left_epoch, purge_now(a));
	a_store_rlx(id, a_load_rlx(&a->janitor.task.tid));
	/*
	 * [page.7] [page.11] seq: we say it, and then look; pairs with step_begin() and
	 * is_leaving().
	 */
	a_fence_seq();
}

/*
 * The thread that started us says so before it ends, and then waits for our step, a little while:
 * being killed amid it would lose what is in work.
 */
static bool step_begin(struct arena *a)
{
	a_store_rlx(&a->janitor.in_step, 1);
	/* [page.7] seq: we say that we are in, then look; pairs with say_present(). */
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
	say_present(a, &a->janitor.retire);
	/* [page.7] acq: what the step did is done; pairs with step_end(). */
	for (int i = 0; i < STEP_WAITS && a_load_acq(&a->janitor.in_step); i++)
		os_wait_while(&a->janitor.in_step, 1, STEP_WAIT_NS);
}

/* What is free and has pages, here and, as far as is known, above. */
static uint64_t dirty_now(struct arena *a)
{
	return balance_dirty(a_load_rlx(&a->balance)) + a_load_rlx(&a->kept);
}

/* Gives back what is due; returns how much dirty memory is left, due later. */
static uint64_t janitor_round(struct arena *a, bool is_first)
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
		waiting += ARENA_CHUNK_BYTES;
	return balance_dirty(a_load_rlx(&a->balance)) + (waiting >> PAGE_GRANULE_SHIFT);
}

/* Holds to the bounds: as a step, for it may have keepers give something up. */
static void janitor_bounds(struct arena *a, bool is_first, struct stall_seen *stalls,
	const struct os_headroom_files *files)
{
	const bool goes_on = step_begin(a);

	if (goes_on && !is_first)
		guard_round(a, files);
	if (goes_on)
		stall_round(stalls, files);
	step_end(a);
}

/* It ends, unless much was freed since it looked; who frees from now on knows that it looks no more. */
static bool janitor_leaves(struct arena *a)
{
	say_present(a, &a->janitor.left);
	if (dirty_now(a) < BACKGROUND_DIRTY_GRANULES)
		return true;
	a_store_rlx(&a->janitor.left, 0);
	return false;
}

/*
 * What the task runs. Before its last round it takes back its heartbeat: whoever frees much from
 * then on wakes it, or starts the next one.
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
		idle = janitor_round(a, is_first) > JANITOR_LEAVES_GRANULES ? 0 : idle + 1;
		janitor_bounds(a, is_first, &stalls, &files);
		is_first = false;
		if (!stay && idle >= JANITOR_IDLE_ROUNDS && janitor_leaves(a))
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

/* By the thread that frees: nobody else will, if the process sleeps now. */
static void give_back(struct arena *a, int64_t epoch)
{
	if (page_in_janitor() || !guard_begin(epoch))
		return;
	(void)page_trim();
	guard_end();
}

static void janitor_start(struct arena *a, int64_t epoch)
{
	int ret = os_task_start(&a->janitor.task, janitor_main, a);

	if (!ret) {
		a_store_rlx(&a->janitor.beat, epoch);
		keepers_watch();
		return;
	}
	/* Already: by a thread that may be stopped there, so no system calls meanwhile. */
	if (ret == -EALREADY)
		a_store_rlx(&a->janitor.retry, epoch + 1);
	else if (ret != -EAGAIN)
		a_store_rlx(&a->janitor.retry, epoch + JANITOR_RETRY_EPOCHS);
	else
		/* The last one is just ending. */
		give_back(a, epoch);
}

/*
 * Whether there is a task that looks no more, and yet counts as alive until the kernel has ended it,
 * which may take a while on a busy processor: no other can be started meanwhile.
 */
static bool is_leaving(struct arena *a)
{
	if (!os_task_alive(&a->janitor.task))
		return false;
	/* [page.11] seq: what is free is counted, and then the look; pairs with say_present(). */
	a_fence_seq();
	return is_present(a, &a->janitor.left) || is_present(a, &a->janitor.retire);
}

__attribute__((cold, noinline)) void background_poke(struct arena *a, int64_t epoch)
{
	if (options.background == OPTION_BACKGROUND_OFF || guard_is_inside(epoch))
		return;
	if (is_leaving(a)) {
		if (is_ours(a))
			give_back(a, epoch);
		return;
	}
	if (os_task_alive(&a->janitor.task)) {
		/* Only its own beat shows that it goes on: while it is stopped, ticks give back. */
		if (epoch < a_load_rlx(&a->janitor.wake_retry) || !is_ours(a))
			return;
		a_store_rlx(&a->janitor.wake_retry, epoch + 1);
		os_task_wake(&a->janitor.task);
		return;
	}
	if (epoch >= a_load_rlx(&a->janitor.retry) && is_ours(a))
		janitor_start(a, epoch);
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

	pressure_fork_child();
	if (!a)
		return;
	os_task_fork_child(&a->janitor.task);
	a_store_rlx(&a->janitor.owner_pid, os_pid());
	a_store_rlx(&a->janitor.beat, BEAT_NEVER);
	a_store_rlx(&a->janitor.retry, 0);
	claim_recover(a, a_load_rlx(&a->janitor.claim));
}

void page_thread_exit(void)
{
	struct arena *a = arena_get();

	if (!a || !os_task_alive(&a->janitor.task) || !os_task_is_mine(&a->janitor.task))
		return;
	/* Said before it counts for gone, so that who finds it gone finds this. */
	step_await(a);
	a_store_rlx(&a->janitor.beat, BEAT_NEVER);
	/* Who found that we were just starting it may have put the next start off. */
	a_store_rlx(&a->janitor.retry, 0);
	if (dirty_now(a) > JANITOR_LEAVES_GRANULES)
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
