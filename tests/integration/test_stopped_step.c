/* SPDX-License-Identifier: MIT */
/*
 * A thread stopped for ever at a chosen instruction. A tracer steps one thread of a process through
 * an operation of the heap, or through its end, and leaves it stopped at the k-th instruction. The
 * other threads of the process go on: they allocate and free in the same classes, free what the stopped
 * thread held, end, trim and read statistics, all in time; and what the stopped thread keeps from
 * them is bounded.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "harness.h"
#include "heap/heap.h"
#include "test_signal_ops.h"

enum {
	MARK_SIGNAL = SIGUSR2,
	SAMPLES = 10,           /* stops for each operation */
	LENGTH_MOST = 6000,     /* of an operation's instructions */
	WORK_SECONDS_MOST = 20, /* what others do takes milliseconds */
	KEPT_BYTES_MOST = 6 << 20,
};

/* An operation of its own: the thread's end, with what `prepare` made. */
#define THREAD_END op_count

static struct plan {
	unsigned op;
	_Atomic(uint32_t) tid;     /* of the thread to be stopped, once it waits */
	_Atomic(uint32_t) traced;  /* the tracer has it */
	_Atomic(uint32_t) stopped; /* the others may go on */
	uint64_t kept_bytes;       /* slabs left when all that others can free is free */
} * plan;

/* The process with the thread. */

static void *victim_main(void *arg)
{
	const bool ends = plan->op == THREAD_END;
	const struct op *op = &ops[ends ? 9 : plan->op];
	op->prepare();
	a_store_rel(&plan->tid, (uint32_t)syscall(SYS_gettid));
	while (!a_load_acq(&plan->traced))
		sched_yield();
	syscall(SYS_tgkill, getpid(), a_load_rlx(&plan->tid), MARK_SIGNAL);
	if (ends)
		return NULL;
	op->run();
	syscall(SYS_tgkill, getpid(), a_load_rlx(&plan->tid), MARK_SIGNAL);
	return NULL;
}

static void *churn(void *arg)
{
	void *p[300];
	for (unsigned round = 0; round < 8; round++) {
		const size_t size = round % 2 ? FINE : COARSE;
		for (unsigned i = 0; i < 300; i++)
			CHECK((p[i] = heap_alloc(size)) != NULL);
		for (unsigned i = 0; i < 300; i++)
			heap_free(p[i]);
		uint64_t *large = heap_alloc_zeroed(400000);
		CHECK(large != NULL && large[0] == 0);
		large = heap_resize(large, 900000);
		CHECK(large != NULL);
		heap_free(large);
	}
	heap_trim();
	return NULL;
}

static void others_work(void)
{
	struct heap_stats stats;
	pthread_t threads[2];
	alarm(WORK_SECONDS_MOST);
	hold_many(FINE, 1500);
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, NULL), 0);
	churn(NULL);
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	/* All that the stopped thread held, its blocks and ours. */
	release_many(block_count);
	heap_trim();
	heap_stats_read(&stats);
	plan->kept_bytes = stats.slab_bytes;
	CHECK(stats.slab_bytes <= KEPT_BYTES_MOST);
}

_Noreturn static void process_main(void)
{
	pthread_t victim;
	heap_init();
	heap_register_hooks();
	CHECK_EQ(pthread_create(&victim, NULL, victim_main, NULL), 0);
	while (!a_load_acq(&plan->stopped))
		sched_yield();
	others_work();
	_exit(0);
}

/* The tracer. */

static int wait_stop(pid_t tid)
{
	int status;
	pid_t got;
	do {
		got = waitpid(tid, &status, __WALL);
	} while (got < 0 && errno == EINTR);
	CHECK_EQ(got, tid);
	return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
}

static void resume(pid_t tid, int request)
{
	if (ptrace(request, tid, NULL, NULL) != 0)
		test_fail(__FILE__, __LINE__, "ptrace: %s", strerror(errno));
}

/* Steps to the k-th instruction behind the mark; returns how far it came before the other mark. */
static long step_to(pid_t tid, long k)
{
	for (long i = 0; i < k; i++) {
		resume(tid, PTRACE_SINGLESTEP);
		const int stop = wait_stop(tid);
		if (stop != SIGTRAP)
			return i;
	}
	return k;
}

/* The traced thread may be the last to go: its end is waited for as well. */
static void expect_success(pid_t pid, unsigned op, long k)
{
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		test_fail(__FILE__, __LINE__, "stopped at instruction %ld of %s: status %#x", k,
			op == THREAD_END ? "the thread's end" : ops[op].name, status);
}

/* Runs a process whose thread stops at the k-th instruction; returns where it stopped. */
static long run_stopped(unsigned op, long k)
{
	memset(plan, 0, sizeof *plan);
	plan->op = op;
	const pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		process_main();
	while (!a_load_acq(&plan->tid))
		sched_yield();
	const pid_t tid = (pid_t)a_load_rlx(&plan->tid);
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0) {
		kill(pid, SIGKILL);
		SKIP("ptrace is not permitted here");
	}
	a_store_rel(&plan->traced, 1);
	CHECK_EQ(wait_stop(tid), MARK_SIGNAL);
	const long steps = step_to(tid, k);
	a_store_rel(&plan->stopped, 1);
	/* The thread is ended by the end of its process; or it has ended before. */
	if (steps == k || op != THREAD_END)
		(void)wait_stop(tid);
	expect_success(pid, op, steps);
	return steps;
}

static void stop_anywhere(unsigned first, unsigned last)
{
	uint64_t random = test_seed();
	plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(plan != MAP_FAILED);
	for (unsigned op = first; op < last; op++) {
		const long length = run_stopped(op, LENGTH_MOST);
		uint64_t kept = 0;
		for (unsigned i = 0; i < SAMPLES; i++) {
			run_stopped(op, (long)(test_random(&random) % (uint64_t)(length + 1)));
			kept = plan->kept_bytes > kept ? plan->kept_bytes : kept;
		}
		test_note("%s, %ld instructions: at most %llu KiB kept",
			op == THREAD_END ? "a thread's end" : ops[op].name, length,
			(unsigned long long)kept >> 10);
	}
}

TEST_TIMEOUT(others_go_on_wherever_a_thread_is_stopped, 90)
{
	stop_anywhere(0, op_count);
}

TEST_TIMEOUT(others_go_on_when_a_thread_is_stopped_while_it_ends, 60)
{
	stop_anywhere(THREAD_END, THREAD_END + 1);
}
