/* SPDX-License-Identifier: MIT */
/*
 * Jobs: batches of operations on page blocks that another thread carries out.
 *
 * A job that was submitted stands in a node, of which there are a fixed number. Who exchanges the
 * node's job for NULL carries the job out: a helper, which takes the one that was submitted first,
 * or a thread that waits for the job. The node outlives the job's memory, which is the caller's.
 *
 * Of the helpers one leads: it takes one job after the other, and nobody else does. While others
 * wait behind the job that it is at, a second helper stands by. If nothing has moved for a while,
 * the second takes the lead over; the first, if it ever comes back, finds itself deposed and stands
 * by itself, or ends. Who leads is a matter of order and of how many threads there are: that each
 * job is carried out once does not depend on it. Where all of them are stuck, and no more may be made,
 * those who submit and wait do the work.
 *
 * Operations        submit, wait, the helpers' rounds
 * Synchronization   any of them beside any other; one job is submitted by one thread at a time
 * Linearization     submit: the store of the node's job. Claiming: its exchange. Completion: the
 *                   exchange of the job's state. Taking the lead over: the exchange of `lead`
 * Ordering          [job.1] hands a job and its results from thread to thread; [job.2] is for a
 *                   helper that comes to rest while a job is submitted; [job.3] keeps the order of
 *                   submission
 * Progress          lock-free but where a caller asked to wait. A helper that is stopped for ever
 *                   keeps the one job that it has claimed; the jobs behind it are taken over by the
 *                   next, as often as there may be helpers
 * Reclamation       none; nodes are type-stable. A job's memory is not touched after its completion
 *                   was published, but for a wake-up by its address
 *
 * In the child of a fork there are no helpers: `lead` names the process whose they are. Nodes name
 * theirs, and those of a parent are passed over: their jobs may have lain on the stacks of its
 * threads.
 */
#include <limits.h>

#include "allod/page.h"
#include "base/stack.h"
#include "face.h"
#include "helper.h"
#include "os/os.h"

enum {
	NODES = 1024,
	/* At most so many threads: all but one of them stuck at a job, as a rule. */
	HELPERS = 8,
};

/* Of a helper that leads, without work. */
#define IDLE_NS ((uint64_t)1000000000)
/* Of one job: after so long another helper goes on with those behind it. */
#define STALL_NS ((uint64_t)200000000)
/* Who stands by says so each STALL_NS; after so long without, it is taken for gone. */
#define SPARE_NS (5 * STALL_NS)

enum job_state { JOB_NEVER = 0, JOB_QUEUED = 1, JOB_DONE = 2, JOB_WAITED = 4 };

struct node {
	_Atomic(struct allod_page_job *) job;
	_Atomic(uint64_t) ticket; /* in the order of submission */
	_Atomic(uint32_t) link;
	_Atomic(int) process; /* whose job it is; the job itself may be gone in a child */
	_Atomic(bool) calls;  /* it has a callback */
};

static struct node nodes[NODES];
static _Atomic(uint32_t) nodes_made;
static struct stack nodes_free;
static _Atomic(uint64_t) tickets;

/*
 * process:32 | leader:16 | turn:15 | busy:1. The first two name who leads; no process: nobody does.
 * The turn changes whenever it gets on. Busy is also who was woken.
 */
static _Atomic(uint64_t) lead;
/* When it got on last; by os_now_ns(). */
static _Atomic(uint64_t) lead_ns;
/* Until when somebody stands by for certain; 0: nobody does. By os_now_ns(). */
static _Atomic(uint64_t) spare;
static _Atomic(uint32_t) helpers;
static _Atomic(uint32_t) wakes;
static _Atomic(bool) fork_watched;
__thread _Atomic(bool) job_calls_inside;

enum { LEAD_BUSY = 1, LEAD_TURN = 2, LEAD_SHIFT = 16, LEAD_LOW = 0xffff };

static _Atomic(uint32_t) *node_link(uint32_t index)
{
	return &nodes[index].link;
}

static _Atomic(uint32_t) *state_of(struct allod_page_job *job)
{
	return (_Atomic(uint32_t) *)&job->state;
}

/* A node that was freed, or never used; or STACK_EMPTY. */
static uint32_t node_find(void)
{
	const uint32_t index = stack_pop(&nodes_free, node_link);

	if (index != STACK_EMPTY)
		return index;
	uint32_t made = a_load_rlx(&nodes_made);
	do {
		if (made == NODES)
			return STACK_EMPTY;
	} while (!a_cas_weak_rlx(&nodes_made, &made, made + 1));
	return made;
}

/* Whether the job is now the caller's to carry out; its node is free then. */
static bool job_claim(uint32_t index, struct allod_page_job *job)
{
	/* [job.1] acq: sees the job as it was submitted; pairs with job_queue(). */
	if (!a_cas_strong_acq(&nodes[index].job, &job, NULL))
		return false;
	stack_push(&nodes_free, index, node_link);
	return true;
}

/* In a child, the jobs of its parent go: they are not for it to carry out. */
static void nodes_sweep(int process)
{
	const uint32_t made = a_load_rlx(&nodes_made);

	for (uint32_t i = 0; i < made; i++) {
		/* [job.1] acq: the process is this job's; pairs with job_queue(). */
		struct allod_page_job *job = a_load_acq(&nodes[i].job);
		if (job != NULL && a_load_rlx(&nodes[i].process) != process)
			(void)job_claim(i, job);
	}
}

/* A node of the caller's own, or STACK_EMPTY. */
static uint32_t node_take(int process)
{
	const uint32_t index = node_find();

	if (index != STACK_EMPTY)
		return index;
	/* (A child that was not told of the fork.) */
	nodes_sweep(process);
	return node_find();
}

/* A job that waits, as it was seen in its node. */
struct waiting {
	uint32_t index;
	struct allod_page_job *job;
	uint64_t ticket;
};

/*
 * The job of this process that was submitted first, of those with callbacks or of all; false: there
 * is none.
 */
static bool job_find(int process, bool calls, struct waiting *ret_first)
{
	bool later = true;

	while (later) {
		/* [job.3] acq: what was submitted before one of these tickets was drawn is seen;
		 * pairs with job_queue(). */
		const uint64_t end = a_load_acq(&tickets);
		const uint32_t made = a_load_rlx(&nodes_made);
		struct waiting first = { 0, NULL, end };
		later = false;
		for (uint32_t i = 0; i < made; i++) {
			/* [job.1] acq: the ticket is this job's; pairs with job_queue(). */
			struct allod_page_job *job = a_load_acq(&nodes[i].job);
			if (job == NULL || a_load_rlx(&nodes[i].process) != process ||
				(calls && !a_load_rlx(&nodes[i].calls)))
				continue;
			const uint64_t ticket = a_load_rlx(&nodes[i].ticket);
			later |= ticket >= end;
			if (ticket < first.ticket)
				first = (struct waiting){ i, job, ticket };
		}
		*ret_first = first;
		if (first.job != NULL)
			return true;
	}
	return false;
}

static bool job_waits(int process)
{
	struct waiting first;

	return job_find(process, false, &first);
}

/* A job for the caller to carry out, or NULL. */
static struct allod_page_job *job_take(int process, bool calls)
{
	struct waiting first;

	while (job_find(process, calls, &first))
		if (job_claim(first.index, first.job))
			return first.job;
	return NULL;
}

static void job_run(struct allod_page_job *job)
{
	void (*done)(struct allod_page_job *) = job->done;

	job->succeeded = allod_page_batch(job->ops, job->count);
	/* [job.1] rel: publishes the results; pairs with job_is_done() and allod_page_submit(). The
	 * job may be gone after this. */
	const uint32_t state = a_xchg_rel(state_of(job), JOB_DONE);
	if (done != NULL)
		done(job);
	else if (state & JOB_WAITED)
		os_wake(state_of(job));
}

/* Makes the word one of a new leader of this process, who is busy. */
static uint64_t lead_after(uint64_t word, int process)
{
	const uint64_t leader = (word >> LEAD_SHIFT) + 1;

	return (uint64_t)(uint32_t)process << 32 | (leader & LEAD_LOW) << LEAD_SHIFT | LEAD_BUSY;
}

static uint64_t lead_turned(uint64_t word, uint64_t busy)
{
	return (word & ~(uint64_t)LEAD_LOW) |
		((word + LEAD_TURN) & LEAD_LOW & ~(uint64_t)LEAD_BUSY) | busy;
}

static bool lead_is_of(uint64_t word, int process)
{
	return word >> 32 == (uint32_t)process;
}

/* Tells that the leader gets on; false: it was deposed. */
static bool lead_turn(uint64_t leader, uint64_t busy)
{
	uint64_t word = a_load_rlx(&lead);

	do {
		if (word >> LEAD_SHIFT != leader)
			return false;
	} while (!a_cas_weak_rlx(&lead, &word, lead_turned(word, busy)));
	a_store_rlx(&lead_ns, os_now_ns());
	return true;
}

/* Whether the leader, who is busy, has been at the same job for long. */
static bool lead_is_late(void)
{
	const uint64_t since = a_load_rlx(&lead_ns);

	return os_now_ns() > since + STALL_NS;
}

/* Takes back that there is this leader, who was not busy; false: it is, or was deposed. */
static bool lead_end(uint64_t leader)
{
	uint64_t word = a_load_rlx(&lead);

	/* Who has submitted a job has made it busy, or finds that there is none. */
	return word >> LEAD_SHIFT == leader && !(word & LEAD_BUSY) &&
		a_cas_strong_rlx(&lead, &word, (leader & LEAD_LOW) << LEAD_SHIFT);
}

static void *helper_main(void *arg);

static bool helper_add(uint64_t leader)
{
	if (a_add_rlx(&helpers, 1) < HELPERS && helper_make(helper_main, (void *)(uintptr_t)leader))
		return true;
	a_sub_rlx(&helpers, 1);
	return false;
}

static bool spare_is_there(void)
{
	return a_load_rlx(&spare) > os_now_ns();
}

/* Somebody stands by, and says so again soon. */
static void spare_note(void)
{
	a_store_rlx(&spare, os_now_ns() + SPARE_NS);
}

/*
 * Sees to it that a helper stands by; without one, the jobs are the leader's alone. It is noted when
 * it was made: whoever stops before leaves it to others. False: there is none.
 */
static bool spare_need(void)
{
	if (spare_is_there())
		return true;
	if (!helper_add(0))
		return false;
	spare_note();
	return true;
}

/* Whether this process has a leader, and not only helpers that are all stuck; makes none. */
static bool is_led(int process)
{
	const uint64_t word = a_load_rlx(&lead);

	return lead_is_of(word, process) &&
		!(word & LEAD_BUSY && lead_is_late() && !spare_is_there() &&
			a_load_rlx(&helpers) >= HELPERS);
}

/* Carries out what waits; false: the caller leads no more. */
static bool lead_work(uint64_t leader, int process)
{
	for (;;) {
		if (!lead_turn(leader, LEAD_BUSY))
			return false;
		struct allod_page_job *job = job_take(process, false);
		if (job == NULL)
			return true;
		/* One that is not seen here was submitted by who saw that this leader is busy. */
		if (job_waits(process))
			(void)spare_need();
		job_run(job);
		/* It forked, and this is the child. */
		if (os_pid() != process)
			return false;
	}
}

/* Leads until there has been no work for a while, or another leads. */
static void lead_run(uint64_t leader, int process)
{
	for (;;) {
		const uint32_t seen = a_load_rlx(&wakes);
		if (!lead_work(leader, process) || !lead_turn(leader, 0))
			return;
		/* [job.2] seq: it is not busy, and then the look; pairs with lead_need(). */
		a_fence_seq();
		if (job_waits(process))
			continue;
		os_wait_while(&wakes, seen, IDLE_NS);
		if (a_load_rlx(&wakes) == seen && lead_end(leader))
			return;
	}
}

/* Sleeps as long as a job may take before others are done without it. */
static void spare_sleep(void)
{
	_Atomic(uint32_t) nothing = 0;

	os_wait_while(&nothing, 0, STALL_NS);
}

/* Stands by until nothing waits any more (0), or to lead from now on. */
static uint64_t spare_run(int process)
{
	for (;;) {
		uint64_t seen = a_load_rlx(&lead);
		const uint64_t mine = lead_after(seen, process);
		spare_note();
		spare_sleep();
		if (job_waits(process) && a_load_rlx(&lead) != seen)
			continue;
		a_store_rlx(&spare, 0);
		/* [job.2] seq: nobody stands by, and then the look; pairs with lead_need(). */
		a_fence_seq();
		if (!job_waits(process))
			return 0;
		if (a_cas_strong_rlx(&lead, &seen, mine)) {
			a_store_rlx(&lead_ns, os_now_ns());
			return mine >> LEAD_SHIFT;
		}
	}
}

/* A helper that leads, or with NULL one that stands by. */
static void *helper_main(void *arg)
{
	const int process = os_pid();
	uint64_t leader = (uintptr_t)arg;

	do {
		if (leader != 0)
			lead_run(leader, process);
		if (os_pid() != process)
			return NULL;
		/* One that was deposed stands by, if nobody does. */
		if (leader != 0 && (spare_is_there() || !job_waits(process)))
			break;
		leader = spare_run(process);
	} while (leader != 0);
	a_sub_rlx(&helpers, 1);
	return NULL;
}

/* The only thread of the child starts anew. */
static void fork_child(void)
{
	a_store_rlx(&lead, 0);
	a_store_rlx(&spare, 0);
	a_store_rlx(&helpers, 0);
	nodes_sweep(os_pid());
}

static void watch_fork(void)
{
	bool no = false;

	if (!a_load_rlx(&fork_watched) && a_cas_strong_rlx(&fork_watched, &no, true))
		helper_watch_fork(fork_child);
}

/* After a job was queued: sees to it that somebody looks. False: there is nobody. */
static bool lead_need(int process)
{
	/* [job.2] seq: the job is queued, and then the look; pairs with lead_run(),
	 * spare_run() and calls_run(). */
	a_fence_seq();
	uint64_t word = a_load_rlx(&lead);
	uint64_t new;

	do {
		if (lead_is_of(word, process) && word & LEAD_BUSY)
			return spare_need() || !lead_is_late();
		new = lead_is_of(word, process) ? lead_turned(word, LEAD_BUSY)
						: lead_after(word, process);
	} while (!a_cas_weak_rlx(&lead, &word, new));
	a_store_rlx(&lead_ns, os_now_ns());
	if (lead_is_of(word, process)) {
		a_add_rlx(&wakes, 1);
		os_wake(&wakes);
		return true;
	}
	if (helper_add(new >> LEAD_SHIFT))
		return true;
	word = new & ~(uint64_t)LEAD_BUSY &UINT32_MAX;
	(void)a_cas_strong_rlx(&lead, &new, word);
	return false;
}

static void job_queue(struct allod_page_job *job, uint32_t index)
{
	job->node = index;
	a_store_rlx(&nodes[index].process, job->process);
	a_store_rlx(&nodes[index].calls, job->done != NULL);
	/* [job.3] rel: who sees the ticket sees what was submitted before; pairs with job_find(). */
	a_store_rlx(&nodes[index].ticket, a_add_rel(&tickets, 1));
	/* [job.1] rel: publishes the job; pairs with job_claim() and job_find(). */
	a_store_rel(&nodes[index].job, job);
}

/* Whether a job may be submitted: not under way in this process. */
static bool job_is_free(struct allod_page_job *job, int process)
{
	/* [job.1] acq: the job is the caller's with its results; pairs with job_run(). */
	const uint32_t state = a_load_acq(state_of(job));

	return state == JOB_NEVER || state == JOB_DONE || job->process != process;
}

/*
 * Without helpers: those with callbacks, which nobody waits for, are carried out here. What a callback
 * submits comes after it, lest one that does so for ever go ever deeper.
 */
static void calls_run(int process)
{
	struct allod_page_job *job;

	if (a_load_rlx(&job_calls_inside))
		return;
	a_store_rlx(&job_calls_inside, true);
	/* [job.2] seq: there is no leader, and then the look; pairs with lead_need(). */
	a_fence_seq();
	while ((job = job_take(process, true)) != NULL)
		job_run(job);
	a_store_rlx(&job_calls_inside, false);
}

FACE_EXPORT int allod_page_submit(struct allod_page_job *job)
{
	const int process = os_pid();

	if (!job_is_free(job, process))
		return -EBUSY;
	watch_fork();
	const uint32_t index = node_take(process);
	if (index == STACK_EMPTY)
		return -EAGAIN;
	job->process = process;
	job->succeeded = 0;
	a_store_rlx(state_of(job), JOB_QUEUED);
	job_queue(job, index);
	/* The job may be done, and gone, from here on. */
	if (!lead_need(process))
		calls_run(process);
	return 0;
}

/*
 * Waits until the state is done, or the time is over. If nobody is there who would begin the job it
 * is carried out here, whatever the time.
 */
static int job_wait(struct allod_page_job *job, int64_t timeout_ns)
{
	const int process = os_pid();
	const uint64_t begin = os_now_ns();
	uint32_t state = JOB_QUEUED;

	(void)a_cas_strong_rlx(state_of(job), &state, JOB_QUEUED | JOB_WAITED);
	for (;;) {
		/* [job.1] acq: sees the results; pairs with job_run(). */
		if (a_load_acq(state_of(job)) == JOB_DONE)
			return 0;
		const uint64_t past = os_now_ns() - begin;
		if (timeout_ns >= 0 && past >= (uint64_t)timeout_ns)
			return -ETIMEDOUT;
		const uint64_t left = timeout_ns < 0 ? IDLE_NS : (uint64_t)timeout_ns - past;
		os_wait_while(state_of(job), JOB_QUEUED | JOB_WAITED,
			left < STALL_NS ? left : STALL_NS);
		/* Who leads and who stands by may both have been stopped. */
		if (job_waits(process) && !spare_need() && lead_is_late() &&
			job_claim(job->node, job)) {
			job_run(job);
			return 0;
		}
	}
}

FACE_EXPORT int allod_page_wait(struct allod_page_job *job, int64_t timeout_ns)
{
	/* [job.1] acq: sees the results; pairs with job_run(). */
	const uint32_t state = a_load_acq(state_of(job));
	const int process = os_pid();

	if (state == JOB_NEVER || job->done != NULL)
		return -EINVAL;
	if (state == JOB_DONE)
		return 0;
	if (job->process != process)
		return -ECHILD;
	const bool led = is_led(process);
	if (timeout_ns == 0 && led)
		return -ETIMEDOUT;
	if ((timeout_ns < 0 || !led) && job_claim(job->node, job)) {
		job_run(job);
		return 0;
	}
	return job_wait(job, timeout_ns);
}
