/* SPDX-License-Identifier: MIT */
/*
 * Jobs: batches of operations on page blocks that another thread carries out.
 *
 * A job that was submitted is named by a node, of which there are a fixed number; the node waits in
 * a stack. Who sets the node's job to NULL carries the job out: the worker, which takes the whole
 * stack and goes through it from its end, or a thread that waits for the job. The node outlives the
 * job's memory, which is the caller's.
 *
 * Operations        submit, wait, the worker's rounds
 * Synchronization   any of them beside any other; one job is submitted by one thread at a time
 * Linearization     submit: the push of the node. Claiming: the exchange of the node's job.
 *                   Completion: the exchange of the job's state
 * Ordering          [job.1] hands a job and its results from thread to thread; [job.2] is for a
 *                   worker that ends while a job is submitted
 * Progress          lock-free but where a caller asked to wait. A worker that is stopped for ever
 *                   holds up the one job that it is at: others are carried out by who waits for
 *                   them without a limit
 * Reclamation       none; nodes are type-stable. A job's memory is not touched after its completion
 *                   was published, but for a wake-up by its address
 *
 * In the child of a fork there is no worker: it names the process whose it is. Nodes name theirs, and
 * those of a parent are passed over: their jobs may have lain on the stacks of its threads.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>

#include "allod/page.h"
#include "base/stack.h"
#include "face.h"
#include "os/os.h"

enum { NODES = 1024 };

/* Of a worker without work. */
#define IDLE_NS ((uint64_t)1000000000)

enum job_state { JOB_NEVER = 0, JOB_QUEUED = 1, JOB_DONE = 2, JOB_WAITED = 4 };

struct node {
	_Atomic(struct allod_page_job *) job;
	_Atomic(uint32_t) link;
	_Atomic(int) process; /* whose job it is; the job itself may be gone in a child */
};

static struct node nodes[NODES];
static _Atomic(uint32_t) nodes_made;
static struct stack nodes_free;
static struct stack queue;

static _Atomic(int) worker; /* the process that has one, or 0 */
static _Atomic(uint32_t) wakes;
static _Atomic(bool) fork_watched;

static _Atomic(uint32_t) *node_link(uint32_t index)
{
	return &nodes[index].link;
}

static _Atomic(uint32_t) *state_of(struct allod_page_job *job)
{
	return (_Atomic(uint32_t) *)&job->state;
}

/* Turns a chain of nodes round: what was submitted first comes first. */
static uint32_t chain_reverse(uint32_t index)
{
	uint32_t before = STACK_EMPTY;

	while (index != STACK_EMPTY) {
		const uint32_t next = a_load_rlx(node_link(index));
		a_store_rlx(node_link(index), before);
		before = index;
		index = next;
	}
	return before;
}

/* Takes nodes out of the queue whose jobs were claimed by who waited for them. */
static void queue_sweep(void)
{
	uint32_t index = chain_reverse(stack_take_all(&queue));

	while (index != STACK_EMPTY) {
		const uint32_t next = a_load_rlx(node_link(index));
		const bool waits = a_load_rlx(&nodes[index].job) != NULL;
		stack_push(waits ? &queue : &nodes_free, index, node_link);
		index = next;
	}
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

/* A node of the caller's own, or STACK_EMPTY. */
static uint32_t node_take(void)
{
	const uint32_t index = node_find();

	if (index != STACK_EMPTY)
		return index;
	queue_sweep();
	return node_find();
}

/* Whether the job is now the caller's to carry out. */
static bool job_claim(uint32_t index, struct allod_page_job *job)
{
	/* [job.1] acq: sees the job as it was submitted; pairs with job_queue(). */
	return a_cas_strong_acq(&nodes[index].job, &job, NULL);
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

/* Carries out all that waits; false: nothing did. */
static bool queue_run(void)
{
	uint32_t index = chain_reverse(stack_take_all(&queue));
	const bool any = index != STACK_EMPTY;
	const int process = os_pid();

	while (index != STACK_EMPTY) {
		const uint32_t next = a_load_rlx(node_link(index));
		struct allod_page_job *job = a_load_rlx(&nodes[index].job);
		const bool mine = job != NULL && a_load_rlx(&nodes[index].process) == process &&
			job_claim(index, job);
		/* Before the job: it may submit others. */
		stack_push(&nodes_free, index, node_link);
		if (mine)
			job_run(job);
		/* It forked, and this is the child: the rest of the chain is the parent's. */
		if (mine && os_pid() != process)
			break;
		index = next;
	}
	return any;
}

/* Takes back that there is a worker; true: something was submitted just before. */
static bool worker_end(int process)
{
	a_store_rlx(&worker, 0);
	/* [job.2] seq: there is no worker, and then the look; pairs with worker_need(). */
	a_fence_seq();
	int none = 0;
	return !stack_is_empty(&queue) && a_cas_strong_rlx(&worker, &none, process);
}

static void *worker_main(void *unused)
{
	const int process = os_pid();

	(void)unused;
	for (;;) {
		const uint32_t seen = a_load_rlx(&wakes);
		/* [job.2] seq: the count, and then the look; pairs with worker_need(). */
		a_fence_seq();
		if (queue_run())
			continue;
		os_wait_while(&wakes, seen, IDLE_NS);
		if (a_load_rlx(&wakes) == seen && !worker_end(process))
			return NULL;
	}
}

/* Makes the thread, which gets no signals: they are the program's. */
static bool worker_make(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;
	sigset_t before;
	bool made;

	if (pthread_attr_init(&attr) != 0)
		return false;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	made = pthread_create(&thread, &attr, worker_main, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return made;
}

/* The only thread of the child starts anew. */
static void fork_child(void)
{
	a_store_rlx(&worker, 0);
	a_store_rlx(&nodes_made, 0);
	a_store_rlx(&nodes_free.head, 0);
	a_store_rlx(&queue.head, 0);
}

static void watch_fork(void)
{
	bool no = false;

	if (!a_load_rlx(&fork_watched) && a_cas_strong_rlx(&fork_watched, &no, true))
		pthread_atfork(NULL, NULL, fork_child);
}

/* After a job was queued: sees to it that somebody looks. False: there is nobody. */
static bool worker_need(int process)
{
	/* [job.2] seq: the job is queued, and then the look; pairs with worker_end(). */
	a_fence_seq();
	int there = a_load_rlx(&worker);
	if (there == process) {
		a_add_rlx(&wakes, 1);
		os_wake(&wakes);
		return true;
	}
	if (!a_cas_strong_rlx(&worker, &there, process))
		return true; /* whoever was faster makes it, or carries out what is queued */
	if (worker_make())
		return true;
	a_store_rlx(&worker, 0);
	return false;
}

static void job_queue(struct allod_page_job *job, uint32_t index)
{
	job->node = index;
	a_store_rlx(&nodes[index].process, job->process);
	/* [job.1] rel: publishes the job; pairs with job_claim(). */
	a_store_rel(&nodes[index].job, job);
	stack_push(&queue, index, node_link);
}

/* Whether a job may be submitted: not under way in this process. */
static bool job_is_free(struct allod_page_job *job, int process)
{
	/* [job.1] acq: the job is the caller's with its results; pairs with job_run(). */
	const uint32_t state = a_load_acq(state_of(job));

	return state == JOB_NEVER || state == JOB_DONE || job->process != process;
}

FACE_EXPORT int allod_page_submit(struct allod_page_job *job)
{
	const int process = os_pid();

	if (!job_is_free(job, process))
		return -EBUSY;
	watch_fork();
	const uint32_t index = node_take();
	if (index == STACK_EMPTY) {
		/* The worker may have found the queue empty because node_take() had it. */
		worker_need(process);
		return -EAGAIN;
	}
	const bool calls = job->done != NULL;
	job->process = process;
	job->succeeded = 0;
	a_store_rlx(state_of(job), JOB_QUEUED);
	job_queue(job, index);
	/* The job may be done, and gone, from here on. */
	if (!worker_need(process) && calls)
		queue_run();
	return 0;
}

/* Waits until the state is done, or the time is over. */
static int job_wait(struct allod_page_job *job, int64_t timeout_ns)
{
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
		os_wait_while(state_of(job), JOB_QUEUED | JOB_WAITED,
			timeout_ns < 0 ? IDLE_NS : (uint64_t)timeout_ns - past);
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
	if (timeout_ns == 0 && a_load_rlx(&worker) == process)
		return -ETIMEDOUT;
	if ((timeout_ns < 0 || a_load_rlx(&worker) != process) && job_claim(job->node, job)) {
		job_run(job);
		return 0;
	}
	return job_wait(job, timeout_ns);
}
