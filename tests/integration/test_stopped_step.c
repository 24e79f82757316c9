/* SPDX-License-Identifier: MIT */
/*
 * A thread stopped for ever at a chosen instruction. One thread of a process steps itself through
 * an operation of the heap, or through its end, and parks at the k-th instruction. The other
 * threads of the process go on: they allocate and free in the same classes, free what the stopped
 * thread held, end, trim and read statistics, all in time; and what the stopped thread keeps from
 * them is bounded. Or the thread only pauses there, while the others do all that and take its
 * slabs, and then goes on.
 */
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/options.h"
#include "harness.h"
#include "heap/heap.h"
#include "os/mock.h"
#include "test_signal_ops.h"
#include "test_signal_self.h"

enum {
	SAMPLES_SHORT = 40,     /* pauses in short ones */
	SAMPLES = 10,           /* stops for each operation */
	LENGTH_MOST = 6000,     /* of an operation's instructions */
	WORK_SECONDS_MOST = 20, /* what others do takes milliseconds */
	KEPT_BYTES_MOST = 6 << 20,
};

/* An operation of its own: the thread's end, with what `prepare` made. */
#define THREAD_END op_count

static struct plan {
	unsigned op;
	long k;
	long length;               /* of the operation, when it ended before the k-th instruction */
	bool pauses;               /* and goes on when the others are done */
	_Atomic(uint32_t) stopped; /* the others may go on */
	_Atomic(uint32_t) resumed;
	uint64_t kept_bytes; /* slabs left when all that others can free is free */
} * plan;

/* Stays where it is, for ever or until the others are done. */
static void park(void)
{
	sigset_t all;
	sigfillset(&all);
	a_store_rel(&plan->stopped, 1);
	while (!plan->pauses)
		sigsuspend(&all);
	while (!a_load_acq(&plan->resumed))
		sched_yield();
}

static void stepped_through(void)
{
	plan->length = step_end();
	a_store_rel(&plan->stopped, 1);
}

/* Made after the heap's key, so its destructor comes after the heap's in the last round. */
static pthread_key_t last_key;

static void last_destructor(void *arg)
{
	const uintptr_t round = (uintptr_t)arg;
	if (round < PTHREAD_DESTRUCTOR_ITERATIONS)
		pthread_setspecific(last_key, (void *)(round + 1));
	else
		stepped_through();
}

static void *victim_main(void *arg)
{
	const bool ends = plan->op == THREAD_END;
	const struct op *op = &ops[ends ? 10 : plan->op];
	op->prepare();
	if (ends)
		pthread_setspecific(last_key, (void *)1);
	step_begin(plan->k, park);
	if (ends)
		return NULL;
	op->run();
	stepped_through();
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

/* Time goes by, and slabs are asked for in classes that have none: idle heaps are taken from. */
static void take_from_idle(void)
{
	for (size_t i = 0; i < 4; i++) {
		mock_clock_advance((uint64_t)300 * 1000 * 1000);
		heap_free(heap_alloc((i + 1) * 30000));
	}
}

static void others_work(void)
{
	struct heap_stats stats;
	pthread_t threads[2];
	alarm(WORK_SECONDS_MOST);
	take_from_idle();
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

/* The thread that paused ends what it was at; then nothing is left, and all is in order. */
static void finish(pthread_t victim)
{
	struct heap_stats stats;
	a_store_rel(&plan->resumed, 1);
	CHECK_EQ(pthread_join(victim, NULL), 0);
	if (subject != NULL)
		heap_free(subject);
	heap_check();
	heap_stats_read(&stats);
	CHECK_EQ(stats.used_blocks, 0);
}

_Noreturn static void process_main(void)
{
	pthread_t victim;
	heap_init();
	heap_register_hooks();
	CHECK_EQ(pthread_key_create(&last_key, last_destructor), 0);
	CHECK_EQ(pthread_create(&victim, NULL, victim_main, NULL), 0);
	while (!a_load_acq(&plan->stopped))
		sched_yield();
	others_work();
	if (plan->pauses)
		finish(victim);
	_exit(0);
}

/* Runs a process whose thread stops at the k-th instruction, or earlier at the operation's end. */
static void run_stopped(unsigned op, long k, bool pauses)
{
	int status;
	memset(plan, 0, sizeof *plan);
	plan->pauses = pauses;
	plan->op = op;
	plan->k = k;
	const pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		process_main();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (status != 0)
		test_fail(__FILE__, __LINE__, "stopped at instruction %ld of %s: status %#x", k,
			op == THREAD_END ? "the thread's end" : ops[op].name, status);
}

/* The operation's length, when nobody stops. */
static long length_of(unsigned op)
{
	run_stopped(op, LENGTH_MOST, true);
	return plan->length > 0 ? plan->length : LENGTH_MOST;
}

static void begin(void)
{
	mock_reset();
	options.arena_bytes = (uint64_t)128 << 20;
	step_init();
	plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(plan != MAP_FAILED);
}

static void stop_anywhere(unsigned first, unsigned last)
{
	uint64_t random = test_seed();
	begin();
	for (unsigned op = first; op < last; op++) {
		const long length = length_of(op);
		uint64_t kept = 0;
		for (unsigned i = 0; i < SAMPLES; i++) {
			run_stopped(op, (long)(test_random(&random) % (uint64_t)length), false);
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

/* At every instruction of the fast paths, and at some of the others. */
TEST_TIMEOUT(a_thread_that_pauses_goes_on_rightly, 90)
{
	uint64_t random = test_seed();
	begin();
	for (unsigned op = 0; op <= THREAD_END; op++) {
		const long length = length_of(op);
		const bool every = op == 1 || op == FAST_OPS - 1;
		const long samples = length < 600 ? SAMPLES_SHORT : SAMPLES;
		for (long i = 0; i < (every ? length : samples); i++)
			run_stopped(op, every ? i : (long)(test_random(&random) % (uint64_t)length),
				true);
	}
}
