/* SPDX-License-Identifier: MIT */
/*
 * Jobs: that each is carried out once, by whomever, and known to be done; with threads that submit
 * and wait at once, across fork, and where no thread can be made.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "allod/page.h"
#include "base/atomic.h"
#include "harness.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define SECOND_NS ((int64_t)1000000000)

static unsigned threads_now(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned n = 0;

	CHECK(tasks != NULL);
	for (const struct dirent *e; (e = readdir(tasks)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(tasks);
	return n;
}

static struct allod_page_op op_commit(void *p, size_t bytes)
{
	return (struct allod_page_op){ .verb = ALLOD_PAGE_OP_COMMIT, .block = p, .bytes = bytes };
}

TEST(submit_and_wait)
{
	char *p = allod_page_alloc(4 * MIB, NULL);
	struct allod_page_op ops[2] = { op_commit(p, 4 * MIB),
		{ .verb = ALLOD_PAGE_OP_ALLOC, .bytes = 10 * KIB } };
	struct allod_page_job job = { .ops = ops, .count = 2 };

	CHECK_EQ(allod_page_wait(&job, 0), -EINVAL);
	CHECK_EQ(allod_page_submit(&job), 0);
	CHECK_EQ(allod_page_wait(&job, 10 * SECOND_NS), 0);
	CHECK_EQ(job.succeeded, 2);
	CHECK(ops[1].block != NULL && ops[0].result == 0);
	/* Done is done, and the job may go again. */
	CHECK_EQ(allod_page_wait(&job, 0), 0);
	ops[1] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_FREE, .block = ops[1].block };
	CHECK_EQ(allod_page_submit(&job), 0);
	CHECK_EQ(allod_page_wait(&job, -1), 0);
	CHECK_EQ(job.succeeded, 2);
	allod_page_free(p);
}

static _Atomic(unsigned) calls;
static _Atomic(bool) hold;

static void count_call(struct allod_page_job *job)
{
	CHECK_EQ(job->succeeded, job->count);
	CHECK_EQ(job->user, &calls);
	/* [test.1] rel: what the job did; pairs with wait_for_calls(). */
	a_add_rel(&calls, 1);
}

/* Keeps the worker busy until `hold` is taken back. */
static void hold_worker(struct allod_page_job *job)
{
	a_store_rlx(&calls, 1);
	while (a_load_rlx(&hold))
		usleep(1000);
	a_store_rlx(&calls, 2);
}

static void wait_for_calls(unsigned n)
{
	/* [test.1] acq: sees what the jobs did; pairs with count_call(). */
	while (a_load_acq(&calls) < n)
		usleep(1000);
}

TEST(callbacks)
{
	struct allod_page_op ops[50];
	struct allod_page_job jobs[50];

	for (unsigned i = 0; i < 50; i++) {
		ops[i] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_ALLOC, .bytes = 4 * KIB };
		jobs[i] = (struct allod_page_job){
			.ops = &ops[i], .count = 1, .done = count_call, .user = &calls
		};
		CHECK_EQ(allod_page_submit(&jobs[i]), 0);
	}
	wait_for_calls(50);
	CHECK_EQ(allod_page_wait(&jobs[0], 0), -EINVAL);
	for (unsigned i = 0; i < 50; i++)
		CHECK(ops[i].block != NULL);
}

/* Less than a helper may take for a job before another goes on with those behind it. */
#define STALL_LEAST_NS (SECOND_NS / 10)
/* Less than a thread without work waits for some. */
#define IDLE_LEAST_NS (SECOND_NS / 2)

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* A job that the worker does not come to is carried out by who waits for it without a limit. */
TEST(who_waits_helps)
{
	int ret;
	int64_t start;
	struct allod_page_op op = { .verb = ALLOD_PAGE_OP_ALLOC, .bytes = 4 * KIB };
	struct allod_page_job holding = { .done = hold_worker };
	struct allod_page_job job = { .ops = &op, .count = 1 };

	a_store_rlx(&hold, true);
	CHECK_EQ(allod_page_submit(&holding), 0);
	wait_for_calls(1);
	start = now_ns();
	CHECK_EQ(allod_page_submit(&job), 0);
	ret = allod_page_wait(&job, 20000000);
	/* If this thread was not held up itself, nobody else has done it yet. */
	if (now_ns() - start < STALL_LEAST_NS) {
		CHECK_EQ(ret, -ETIMEDOUT);
		CHECK_EQ(allod_page_submit(&job), -EBUSY);
	}
	CHECK_EQ(allod_page_wait(&job, -1), 0);
	CHECK(op.block != NULL);
	a_store_rlx(&hold, false);
	wait_for_calls(2);
}

static _Atomic(unsigned) stuck;

static void get_stuck(struct allod_page_job *job)
{
	(void)job;
	a_add_rlx(&stuck, 1);
	while (!a_load_rlx(&hold))
		usleep(1000);
	a_sub_rlx(&stuck, 1);
}

/*
 * Callbacks that do not return hold up nobody, as long as there may be one more thread: what was
 * submitted behind them is carried out, in its order.
 */
TEST_TIMEOUT(stuck_callbacks_hold_nobody, 60)
{
	static struct allod_page_job bad[8], good[40];
	const unsigned alone = threads_now();
	unsigned n = 0;

	for (unsigned i = 0; i < 40; i++) {
		good[i] = (struct allod_page_job){ .done = count_call, .user = &calls };
		if (i % 6 == 0) {
			bad[n].done = get_stuck;
			CHECK_EQ(allod_page_submit(&bad[n++]), 0);
		}
		CHECK_EQ(allod_page_submit(&good[i]), 0);
	}
	CHECK_EQ(n, 7);
	wait_for_calls(40);
	CHECK_EQ(a_load_rlx(&stuck), 7);
	if (!TEST_SANITIZED)
		CHECK(threads_now() - alone <= 8);
	/* One more, and nobody is left but who waits, who looks, and who submits. */
	bad[7].done = get_stuck;
	good[0].done = NULL;
	CHECK_EQ(allod_page_submit(&bad[7]), 0);
	while (a_load_rlx(&stuck) < 8)
		usleep(1000);
	CHECK_EQ(allod_page_submit(&good[0]), 0);
	CHECK_EQ(allod_page_wait(&good[0], 10 * SECOND_NS), 0);
	CHECK_EQ(allod_page_submit(&good[0]), 0);
	CHECK_EQ(allod_page_wait(&good[0], 0), 0);
	CHECK_EQ(allod_page_submit(&good[0]), 0);
	CHECK_EQ(allod_page_wait(&good[0], -1), 0);
	CHECK_EQ(a_load_rlx(&calls), 40);
	CHECK_EQ(allod_page_submit(&good[1]), 0);
	CHECK_EQ(a_load_rlx(&calls), 41);
	/* They come back, and one of them goes on. */
	a_store_rlx(&hold, true);
	while (a_load_rlx(&stuck) > 0)
		usleep(1000);
	for (unsigned i = 0; i < 80 && !TEST_SANITIZED && threads_now() > alone; i++)
		usleep(100000);
	if (!TEST_SANITIZED)
		CHECK_EQ(threads_now(), alone);
}

/* No more jobs than there are nodes; those that were refused can go later. */
TEST_TIMEOUT(as_many_as_1024, 60)
{
	static struct allod_page_job jobs[1025];
	struct allod_page_job bad[8];
	unsigned taken = 0;

	for (unsigned i = 0; i < 8; i++) {
		bad[i] = (struct allod_page_job){ .done = get_stuck };
		CHECK_EQ(allod_page_submit(&bad[i]), 0);
	}
	while (a_load_rlx(&stuck) < 8)
		usleep(1000);
	while (taken < 1025 && allod_page_submit(&jobs[taken]) == 0)
		taken++;
	CHECK_EQ(taken, 1024);
	CHECK_EQ(allod_page_submit(&jobs[1024]), -EAGAIN);
	/* Who waits for one makes room. */
	CHECK_EQ(allod_page_wait(&jobs[500], -1), 0);
	CHECK_EQ(allod_page_submit(&jobs[1024]), 0);
	a_store_rlx(&hold, true);
	for (unsigned i = 0; i < 1025; i++)
		CHECK_EQ(allod_page_wait(&jobs[i], 10 * SECOND_NS), 0);
	while (a_load_rlx(&stuck) > 0)
		usleep(1000);
}

/* The thread is there from the first job on, and gone a second after the last. */
TEST(the_thread_ends)
{
	struct allod_page_job job = { 0 };
	const unsigned alone = threads_now();
	const int64_t start = now_ns();
	unsigned threads;

	/* (A sanitizer has a thread of its own, made at some time.) */
	CHECK_EQ(allod_page_submit(&job), 0);
	CHECK_EQ(allod_page_wait(&job, 10 * SECOND_NS), 0);
	threads = threads_now();
	if (!TEST_SANITIZED && now_ns() - start < IDLE_LEAST_NS)
		CHECK_EQ(threads, alone + 1);
	for (unsigned i = 0; i < 80 && !TEST_SANITIZED && threads_now() > alone; i++)
		usleep(100000);
	if (!TEST_SANITIZED)
		CHECK_EQ(threads_now(), alone);
	CHECK_EQ(allod_page_submit(&job), 0);
	CHECK_EQ(allod_page_wait(&job, 10 * SECOND_NS), 0);
}

enum { SUBMITTERS = 4, ROUNDS = 300, EACH = 8 };

static uint64_t seed;

static void *submitter(void *arg)
{
	struct allod_page_op ops[EACH];
	struct allod_page_job jobs[EACH];
	uint64_t random = seed + (uintptr_t)arg;

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < EACH; i++) {
			ops[i] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_ALLOC,
				.bytes = 1 + test_random(&random) % (200 * KIB) };
			jobs[i] = (struct allod_page_job){ .ops = &ops[i], .count = 1 };
			CHECK_EQ(allod_page_submit(&jobs[i]), 0);
		}
		for (unsigned i = EACH; i-- > 0;) {
			const int64_t limit = test_random(&random) % 3 ? 20 * SECOND_NS : -1;
			CHECK_EQ(allod_page_wait(&jobs[i], limit), 0);
			CHECK(jobs[i].succeeded == 1 && ops[i].block != NULL);
			memset(ops[i].block, 1, ops[i].bytes);
			ops[i].verb = ALLOD_PAGE_OP_FREE;
		}
		CHECK_EQ(allod_page_batch(ops, EACH), EACH);
	}
	return NULL;
}

TEST_TIMEOUT(threads_submit_and_wait, 60)
{
	pthread_t threads[SUBMITTERS];

	seed = test_seed();
	for (uintptr_t i = 0; i < SUBMITTERS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, submitter, (void *)i), 0);
	for (unsigned i = 0; i < SUBMITTERS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* In a child: jobs under way are the parent's, the thread is not there, and new jobs are done. */
TEST_TIMEOUT(fork_with_jobs_under_way, 60)
{
	struct allod_page_job holding = { .done = hold_worker };
	struct allod_page_op op = { .verb = ALLOD_PAGE_OP_ALLOC, .bytes = 100 * KIB };
	struct allod_page_job job = { .ops = &op, .count = 1 };
	int status;

	if (TEST_SANITIZED)
		SKIP("a sanitizer's child of a process with threads may not make one");
	a_store_rlx(&hold, true);
	CHECK_EQ(allod_page_submit(&holding), 0);
	wait_for_calls(1);
	CHECK_EQ(allod_page_submit(&job), 0);
	const pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		CHECK_EQ(threads_now(), 1);
		CHECK_EQ(allod_page_wait(&job, 0), -ECHILD);
		CHECK_EQ(allod_page_wait(&job, -1), -ECHILD);
		CHECK(op.block == NULL);
		CHECK_EQ(allod_page_submit(&job), 0);
		CHECK_EQ(allod_page_wait(&job, 10 * SECOND_NS), 0);
		CHECK(op.block != NULL);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	a_store_rlx(&hold, false);
	CHECK_EQ(allod_page_wait(&job, 10 * SECOND_NS), 0);
	CHECK(op.block != NULL);
}

/* A callback forks while the worker has more in its hands: the child's own jobs are all done. */
enum { CHILD_JOBS = 8, CHILD_STATUS = 7 };

static _Atomic(unsigned) done_in_child;
static _Atomic(int) status_of_child = -1;

static void count_in_child(struct allod_page_job *job)
{
	(void)job;
	if (a_add_rlx(&done_in_child, 1) + 1 == CHILD_JOBS)
		_exit(CHILD_STATUS);
}

static void fork_in_worker(struct allod_page_job *job)
{
	static struct allod_page_job jobs[CHILD_JOBS];
	const pid_t child = fork();
	int status;

	(void)job;
	for (unsigned i = 0; child == 0 && i < CHILD_JOBS; i++) {
		jobs[i].done = count_in_child;
		CHECK_EQ(allod_page_submit(&jobs[i]), 0);
	}
	if (child == 0)
		return;
	CHECK_EQ(waitpid(child, &status, 0), child);
	a_store_rlx(&status_of_child, status);
}

TEST_TIMEOUT(a_callback_forks, 60)
{
	struct allod_page_job holding = { .done = hold_worker };
	struct allod_page_job forking = { .done = fork_in_worker };
	struct allod_page_job more[4] = { 0 };

	if (TEST_SANITIZED)
		SKIP("a sanitizer's child of a process with threads may not make one");
	a_store_rlx(&hold, true);
	CHECK_EQ(allod_page_submit(&holding), 0);
	wait_for_calls(1);
	CHECK_EQ(allod_page_submit(&forking), 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(allod_page_submit(&more[i]), 0);
	a_store_rlx(&hold, false);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(allod_page_wait(&more[i], 50 * SECOND_NS), 0);
	const int status = a_load_rlx(&status_of_child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_STATUS);
}

/* Children while threads submit without pause; each child submits too. */
static void *submit_until_held(void *arg)
{
	struct allod_page_job job = { 0 };

	while (!a_load_rlx(&hold)) {
		CHECK_EQ(allod_page_submit(&job), 0);
		CHECK_EQ(allod_page_wait(&job, 10 * SECOND_NS), 0);
	}
	return NULL;
}

TEST_TIMEOUT(forks_at_any_moment, 60)
{
	pthread_t threads[2];

	if (TEST_SANITIZED)
		SKIP("a sanitizer's child of a process with threads may not make one");
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, submit_until_held, NULL), 0);
	for (unsigned i = 0; i < 100; i++) {
		int status;
		const pid_t child = fork();
		if (child == 0) {
			struct allod_page_job job = { 0 };
			CHECK_EQ(allod_page_submit(&job), 0);
			CHECK_EQ(allod_page_wait(&job, 10 * SECOND_NS), 0);
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
	a_store_rlx(&hold, true);
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* Where no thread can be made, who waits does the work, and submit itself for a callback. */
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static bool no_threads;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
	void *arg)
{
	if (!no_threads)
		return __real_pthread_create(thread, attr, fn, arg);
	/* As libc's mmap() for the stack does. */
	errno = ENOMEM;
	return EAGAIN;
}

static unsigned links;

static void submit_again(struct allod_page_job *job)
{
	if (links-- > 0)
		CHECK_EQ(allod_page_submit(job), 0);
}

/* Where no thread can be made. */
TEST(a_job_that_submits_itself_goes_no_deeper)
{
	struct allod_page_job job = { .done = submit_again };

	no_threads = true;
	links = 500000;
	errno = EDOM;
	CHECK_EQ(allod_page_submit(&job), 0);
	CHECK_EQ(links, UINT_MAX);
	CHECK_EQ(errno, EDOM);
}

TEST(without_a_thread)
{
	struct allod_page_op ops[3] = { { .verb = ALLOD_PAGE_OP_ALLOC, .bytes = 4 * KIB },
		{ .verb = ALLOD_PAGE_OP_ALLOC, .bytes = 4 * KIB },
		{ .verb = ALLOD_PAGE_OP_ALLOC, .bytes = 4 * KIB } };
	struct allod_page_job jobs[3] = { { .ops = &ops[0], .count = 1 },
		{ .ops = &ops[1], .count = 1 },
		{ .ops = &ops[2], .count = 1, .done = count_call, .user = &calls } };

	const unsigned alone = threads_now();
	no_threads = true;
	CHECK_EQ(allod_page_submit(&jobs[0]), 0);
	CHECK_EQ(allod_page_submit(&jobs[1]), 0);
	CHECK_EQ(threads_now(), alone);
	CHECK_EQ(allod_page_wait(&jobs[1], 0), 0);
	CHECK(ops[1].block != NULL && ops[0].block == NULL);
	CHECK_EQ(allod_page_wait(&jobs[0], 1), 0);
	CHECK_EQ(allod_page_submit(&jobs[2]), 0);
	CHECK_EQ(a_load_rlx(&calls), 1);
	/* And 1024 of those do not use up what there is. */
	for (unsigned i = 0; i < 3000; i++) {
		CHECK_EQ(allod_page_submit(&jobs[2]), 0);
		ops[2].verb = ALLOD_PAGE_OP_NOTHING;
	}
	for (unsigned i = 0; i < 3000; i++) {
		CHECK_EQ(allod_page_submit(&jobs[0]), 0);
		CHECK_EQ(allod_page_wait(&jobs[0], -1), 0);
		ops[0].verb = ALLOD_PAGE_OP_NOTHING;
	}
}

/* Looking whether a job is done, in a handler that interrupts submits and waits. */
static struct allod_page_job seen_in_handler;

static void look(int signal)
{
	const int saved = errno;
	const int ret = allod_page_wait(&seen_in_handler, 0);

	CHECK(ret == 0 || ret == -ETIMEDOUT || ret == -EINVAL);
	errno = saved;
}

TEST(signal_handlers_look)
{
	struct sigaction action = { .sa_handler = look };
	struct itimerval each = { { 0, 200 }, { 0, 200 } };

	CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &each, NULL), 0);
	for (unsigned i = 0; i < 3000; i++) {
		CHECK_EQ(allod_page_submit(&seen_in_handler), 0);
		CHECK_EQ(allod_page_wait(&seen_in_handler, 10 * SECOND_NS), 0);
	}
	memset(&each, 0, sizeof(each));
	CHECK_EQ(setitimer(ITIMER_REAL, &each, NULL), 0);
}

/* A misuse in a job ends the process, as in a call. */
static void free_foreign(void)
{
	int foreign;
	struct allod_page_op op = { .verb = ALLOD_PAGE_OP_FREE, .block = &foreign };
	struct allod_page_job job = { .ops = &op, .count = 1 };

	(void)allod_page_submit(&job);
	(void)allod_page_wait(&job, 10 * SECOND_NS);
}

TEST(misuse_is_fatal)
{
	CHECK_DEATH(free_foreign(), SIGABRT, "allod: invalid page free\n");
}

/* So it does in a batch, where blocks are freed together. */
static void free_batch(size_t bytes, size_t bad, ptrdiff_t offset, size_t other)
{
	struct allod_page_op ops[40];

	for (size_t i = 0; i < 40; i++)
		ops[i] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_ALLOC, .bytes = bytes };
	(void)allod_page_batch(ops, 40);
	for (size_t i = 0; i < 40; i++)
		ops[i].verb = ALLOD_PAGE_OP_FREE;
	ops[bad].block = (char *)ops[other].block + offset;
	(void)allod_page_batch(ops, 40);
}

TEST(misuse_in_a_batch_is_fatal)
{
	CHECK_DEATH(free_batch(8 * KIB, 7, 0, 6), SIGABRT, "allod: double page free\n");
	CHECK_DEATH(free_batch(8 * KIB, 39, 0, 0), SIGABRT, "allod: double page free\n");
	CHECK_DEATH(free_batch(64 * KIB, 20, 0, 3), SIGABRT, "allod: double page free\n");
	CHECK_DEATH(free_batch(40 * MIB, 20, 0, 3), SIGABRT, "allod: double page free\n");
	CHECK_DEATH(free_batch(8 * KIB, 5, 4 * KIB, 5), SIGABRT, "allod: invalid page free\n");
	CHECK_DEATH(free_batch(256 * KIB, 5, 64 * KIB, 5), SIGABRT, "allod: invalid page free\n");
}
