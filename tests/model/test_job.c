/* SPDX-License-Identifier: MIT */
/*
 * Jobs under the explorer (api/job.c): each is carried out once, with what was written before it was
 * submitted; who waits sees what it did; and when a thread stops, what waits behind it is done.
 *
 * Threads of the scenarios that are helpers run what was made for them by then, if anything; what is
 * left is run at the end. Nothing sleeps here: waiting returns at once, as it may, so that a helper
 * that stands by may take the lead over at any moment.
 */
#include <errno.h>
#include <setjmp.h>
#include <string.h>

#include "allod/page.h"
#include "explore.h"
#include "harness.h"
#include "helper.h"
#include "os/os.h"
#include "suite.h"

enum { JOBS = 4, MADE = 12 };

static struct allod_page_job jobs[JOBS];
/* By job: what its operations are told, and what they do. */
static uint64_t told[JOBS];
static uint64_t did[JOBS];
static _Atomic(uint32_t) done[JOBS];
static _Atomic(uint32_t) submitted[JOBS];
/* One helper alone: a job is carried out when those before it are done. */
static bool ordered;
/* Who carries one of the first so many jobs out never comes back. */
static int stuck_jobs;
static jmp_buf stuck;

/* Helpers that were made: their arguments plus one; and how many of them run or have run. */
static void *(*made_run)(void *arg);
static _Atomic(uintptr_t) made_arg[MADE];
static _Atomic(uint32_t) started;
/* The system makes no more threads than that. */
static uint32_t threads_most;

int os_pid(void)
{
	return 7;
}

uint64_t os_now_ns(void)
{
	return 1;
}

/* Of a leader without work: it sleeps until it is woken; in this scenario until the end. */
#define IDLE_NS 1000000000
static bool sleeps;
static _Atomic(uint32_t) asleep;
static _Atomic(uint32_t) woken;

/* Where who waits for a job goes on when that is not done yet; only the first thread waits. */
static jmp_buf not_done;

void os_wait_while(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns)
{
	if ((uintptr_t)word - (uintptr_t)jobs < sizeof(jobs))
		longjmp(not_done, 1);
	if (ns < IDLE_NS || !sleeps)
		return;
	a_store_rlx(&asleep, 1);
	if (a_load_rlx(word) != value)
		return;
	longjmp(stuck, 1);
}

void os_wake(_Atomic(uint32_t) *word)
{
	a_store_rlx(&woken, 1);
}

void os_fatal(const char *line)
{
	explore_fail("%s", line);
}

void helper_watch_fork(void (*child)(void))
{
}

bool helper_make(void *(*run)(void *arg), void *arg)
{
	made_run = run;
	/* In one step, as the system does it: who stops has made one, or not. */
	for (uint32_t i = 0; i < threads_most; i++) {
		uintptr_t none = 0;
		if (a_cas_strong_rel(&made_arg[i], &none, (uintptr_t)arg + 1))
			return true;
	}
	EXPLORE_CHECK(threads_most < MADE);
	return false;
}

/* A batch of one operation, whose number is the job's. */
size_t allod_page_batch(struct allod_page_op *ops, size_t count)
{
	const int i = (int)(uintptr_t)ops - 1;

	if (i < stuck_jobs)
		longjmp(stuck, 1);
	for (int j = 0; j < i && ordered; j++)
		EXPLORE_CHECK(a_load_rlx(&done[j]) == 1);
	EXPLORE_CHECK(a_data_read(&told[i]) == 5 + (uint64_t)i);
	a_data_write(&did[i], 50 + (uint64_t)i);
	EXPLORE_CHECK(a_add_rlx(&done[i], 1) < a_load_rlx(&submitted[i]));
	return count;
}

/* By job: how often its callback was called. */
static _Atomic(uint32_t) calls[JOBS];

static void called(struct allod_page_job *job)
{
	EXPLORE_CHECK(a_data_read(&did[job - jobs]) == 50 + (uint64_t)(job - jobs));
	(void)a_add_rel(&calls[job - jobs], 1);
}

static void set_up(void)
{
	explore_private(&job_calls_inside, sizeof(job_calls_inside));
	memset(jobs, 0, sizeof(jobs));
	memset(told, 0, sizeof(told));
	memset(did, 0, sizeof(did));
	for (size_t i = 0; i < JOBS; i++) {
		jobs[i].ops = (struct allod_page_op *)(uintptr_t)(i + 1);
		jobs[i].count = 1;
		a_store_rlx(&done[i], 0);
		a_store_rlx(&submitted[i], 0);
	}
	threads_most = MADE;
	ordered = false;
	stuck_jobs = 0;
	sleeps = false;
}

static void set_up_calls(void)
{
	set_up();
	for (size_t i = 0; i < JOBS; i++)
		jobs[i].done = called;
}

static void set_up_ordered(void)
{
	set_up_calls();
	ordered = true;
}

static void set_up_no_threads(void)
{
	set_up_calls();
	jobs[0].done = NULL;
	threads_most = 0;
}

static void set_up_no_calls(void)
{
	set_up_no_threads();
	jobs[0].done = called;
}

static bool again(size_t i)
{
	a_add_rlx(&submitted[i], 1);
	if (allod_page_submit(&jobs[i]) == 0)
		return true;
	a_sub_rlx(&submitted[i], 1);
	return false;
}

static void submit(size_t i)
{
	a_data_write(&told[i], 5 + i);
	EXPLORE_CHECK(again(i));
}

/* Runs a helper that was made and does not run yet. */
static bool help(void)
{
	uint32_t i = a_load_rlx(&started);
	uintptr_t arg;

	do {
		/* As a thread that was just made, it sees what its maker did before. */
		arg = i < MADE ? a_load_acq(&made_arg[i]) : 0;
		if (!arg)
			return false;
	} while (!a_cas_weak_rlx(&started, &i, i + 1));
	if (setjmp(stuck) == 0)
		(void)made_run((void *)(arg - 1));
	return true;
}

/* Whether it is done, by whomever. */
static bool wait_for(size_t i)
{
	if (setjmp(not_done) != 0 || allod_page_wait(&jobs[i], -1) != 0)
		return false;
	EXPLORE_CHECK(a_data_read(&did[i]) == 50 + i);
	return true;
}

/* Two that submit, and a helper. */
static void run_submit_help(int t)
{
	if (t < 2)
		submit((size_t)t);
	else
		(void)help();
}

/* One submits two; two helpers, of whom one may depose the other. */
static void run_depose(int t)
{
	if (t == 0) {
		submit(0);
		submit(1);
	} else {
		(void)help();
	}
}

/* A helper may take what is waited for, or the other way round. */
static void run_wait(int t)
{
	if (t == 0) {
		submit(0);
		wait_for(0);
	} else {
		(void)help();
	}
}

/* A job is done by who waits, and submitted anew, while a helper is about to take it. */
static void run_again(int t)
{
	if (t == 0) {
		submit(0);
		if (wait_for(0)) {
			submit(0);
			(void)wait_for(0);
		}
	} else {
		(void)help();
	}
}

/* The same without helpers: two threads that submit carry out each other's jobs. */
static void run_called_again(int t)
{
	submit((size_t)t);
	if (t == 0 && a_load_acq(&calls[0]) > 0)
		submit(0);
}

/* A job that was submitted after another one, as their submitters know, comes after it. */
static void run_handed(int t)
{
	static _Atomic(uint32_t) first;

	if (t == 0) {
		submit(1);
		a_store_rel(&first, 1);
	} else if (t == 1) {
		if (a_load_acq(&first))
			submit(2);
	} else {
		(void)help();
	}
}

static void set_up_handed(void)
{
	set_up_ordered();
	submit(0);
}

/* That a job is done is told by the next submission, which would fail otherwise. */
static void run_twice(int t)
{
	if (t == 0) {
		submit(0);
		if (again(0))
			(void)wait_for(0);
	} else {
		(void)help();
	}
}

static void run_three(int t)
{
	if (t == 0) {
		submit(0);
		submit(1);
		submit(2);
	} else {
		(void)help();
	}
}

/* The only helper that there can be ends, or comes to rest, while another job comes. */
static void set_up_led(void)
{
	set_up_calls();
	threads_most = 1;
	submit(0);
}

static void set_up_sleeper(void)
{
	set_up_led();
	sleeps = true;
}

static void run_rest(int t)
{
	if (t == 0)
		submit(1);
	else
		(void)help();
}

/* One is stuck, and who stands by has nothing to do and ends while another job comes. */
static void set_up_stuck(void)
{
	set_up();
	threads_most = 3;
	stuck_jobs = 1;
	submit(0);
	submit(1);
	(void)help();
	(void)wait_for(1);
}

static void run_stuck(int t)
{
	if (t == 0)
		submit(2);
	else
		(void)help();
}

/* Two are stuck; it is for who leads to see that a third stands by. */
static void set_up_two_stuck(void)
{
	set_up_calls();
	stuck_jobs = 2;
	submit(0);
	submit(1);
	submit(2);
}

static void run_help(int t)
{
	if (t == 0)
		submit(3);
	while (t == 1 && help())
		;
}

static bool somebody_stopped(void)
{
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (explore_is_stopped(t))
			return true;
	return false;
}

/*
 * What is left is done by those helpers that did not run yet, however many threads stopped; with one
 * stopped a further job has to be submitted, and the one that it was at may be left.
 */
static void finish(void)
{
	unsigned left = 0;

	if (somebody_stopped()) {
		ordered = false;
		submit(JOBS - 1);
	}
	while (help())
		;
	for (size_t i = 0; i < JOBS; i++) {
		if (a_load_rlx(&submitted[i]) == 0 || (int)i < stuck_jobs)
			continue;
		if (jobs[i].done == NULL && stuck_jobs == 0)
			(void)wait_for(i);
		left += a_load_rlx(&done[i]) != a_load_rlx(&submitted[i]);
	}
	/* Who was woken goes on where nobody looks any more. */
	if (sleeps && a_load_rlx(&asleep) && a_load_rlx(&woken))
		return;
	EXPLORE_CHECK(left <= (somebody_stopped() ? 1u : 0u));
}

#define JOB_SCENARIO(run_, threads_, set_up_)                                                    \
	{                                                                                        \
		.name = #run_ "-" #set_up_, .threads = threads_, .set_up = set_up_, .run = run_, \
		.finish = finish                                                                 \
	}
static const struct explore_scenario scenarios[] = {
	JOB_SCENARIO(run_submit_help, 3, set_up_calls),
	JOB_SCENARIO(run_depose, 3, set_up_calls),
	JOB_SCENARIO(run_wait, 2, set_up),
	JOB_SCENARIO(run_again, 2, set_up),
	JOB_SCENARIO(run_twice, 2, set_up),
	JOB_SCENARIO(run_three, 2, set_up_ordered),
	JOB_SCENARIO(run_handed, 3, set_up_handed),
	/* From here on there are too few threads for one that stops. */
	JOB_SCENARIO(run_rest, 2, set_up_led),
	JOB_SCENARIO(run_rest, 2, set_up_sleeper),
	JOB_SCENARIO(run_called_again, 2, set_up_no_calls),
	JOB_SCENARIO(run_stuck, 2, set_up_stuck),
	JOB_SCENARIO(run_help, 2, set_up_two_stuck),
	JOB_SCENARIO(run_submit_help, 2, set_up_no_threads),
};
enum { SCENARIOS = sizeof(scenarios) / sizeof(scenarios[0]), WITH_THREADS = SCENARIOS - 6 };
static const struct suite suite = { scenarios, SCENARIOS,
	{ .executions = 6000, .stale_reads = 2, .switches = 3 } };

TEST_TIMEOUT(interleavings, 60)
{
	suite_search(&suite);
}

TEST_TIMEOUT(random_executions, 60)
{
	for (int i = 0; i < SCENARIOS; i++)
		suite_random(&scenarios[i], 2000);
}

TEST_TIMEOUT(stopped_helper_stops_nobody, 60)
{
	static const struct suite few = { scenarios, WITH_THREADS,
		{ .executions = 300, .newest_only = true, .switches = 2 } };

	suite_stopped(&few);
}

TEST_TIMEOUT(every_order_is_needed, 60)
{
	/*
	 * The first is for the job's own members, which are plain; a fence comes before what is told
	 * here. The second is for a job that was carried out and submitted anew, at the same node,
	 * between a look and the claim: the look orders all others, and a leader looks once more.
	 */
	static const char *const exempt[] = { "job_is_free:a_load_acq>rlx",
		"job_claim:a_cas_strong_acq>rlx", NULL };

	suite_weaken(&suite, "api/job.c", exempt);
}
