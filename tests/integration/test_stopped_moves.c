/* SPDX-License-Identifier: MIT */
/*
 * A thread stopped for ever at a chosen instruction of allocating, freeing, resizing, exchanging,
 * giving back and counting blocks. The other threads of the process go on, with blocks of the same
 * kinds, in time; what each of their blocks holds is theirs alone; and what the stopped thread keeps
 * from them is bounded. Or it only pauses, and then what it was at comes out right. A child forked
 * meanwhile goes on as well.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "slot.h"
#include "test_signal_self.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

enum {
	SAMPLES_USUAL = 7,
	SAMPLES_LONG = 400,
	LENGTH_MOST = 20000, /* of an operation's instructions */
	WORK_SECONDS_MOST = 20,
	BLOCKS = 9,
	/* Slots that others cannot have: the block's, the one it goes to, and one between. */
	KEPT_SLOTS_MOST = 4,
};

/* What the stopped thread works on. */
static char *subject;
static char *other;
static size_t subject_bytes;
static size_t other_bytes;

static char *make(size_t bytes, size_t reserve, unsigned flags)
{
	const struct block_want want = { .flags = flags, .reserve_bytes = reserve };
	void *p = NULL;

	CHECK_EQ(block_alloc(bytes, &want, &p), 0);
	return p;
}

/* Marks at both ends of the first and the last page, and in the middle. */
static void fill(char *p, size_t bytes, char mark)
{
	p[0] = p[4095] = p[bytes / 2] = p[bytes - 4096] = p[bytes - 1] = mark;
}

static void check(const char *p, size_t bytes, char mark)
{
	CHECK(p[0] == mark && p[4095] == mark && p[bytes / 2] == mark && p[bytes - 4096] == mark &&
		p[bytes - 1] == mark);
}

static void resize(char **p, size_t bytes, unsigned flags)
{
	void *q;

	if (!block_resize(*p, bytes, flags, &q))
		*p = q;
}

static void prepare(size_t bytes, size_t reserve, unsigned flags)
{
	subject = make(bytes, reserve, flags);
	subject_bytes = bytes;
	fill(subject, bytes, 1);
}

static void prepare_piece(void)
{
	prepare(8 * KIB, 0, 0);
}

static void prepare_run(void)
{
	prepare(128 * KIB, 0, 0);
	(void)make(64 * KIB, 0, 0);
}

static void prepare_slot(void)
{
	prepare(8 * KIB, 8 * MIB, 0);
}

static void prepare_full_slot(void)
{
	prepare(GIB, GIB, ALLOD_PAGE_NO_COMMIT);
	(void)make(40 * MIB, 0, ALLOD_PAGE_NO_COMMIT);
}

static void prepare_pair(void)
{
	prepare(8 * KIB, 0, ALLOD_PAGE_SWAPPABLE);
	other = make(16 * KIB, 0, ALLOD_PAGE_SWAPPABLE);
	other_bytes = 16 * KIB;
	fill(other, other_bytes, 2);
}

static void run_grow(void)
{
	resize(&subject, 32 * KIB, 0);
}

static void run_shrink(void)
{
	resize(&subject, 4 * KIB, 0);
}

static void run_adopt(void)
{
	resize(&subject, MIB, ALLOD_PAGE_NO_COPY);
}

static void run_grow_slot(void)
{
	resize(&subject, 4 * MIB, 0);
}

static void run_outgrow(void)
{
	resize(&subject, 2 * GIB, ALLOD_PAGE_NO_COPY);
}

static void run_swap(void)
{
	(void)block_swap(subject, other, ALLOD_PAGE_NO_COPY);
}

static void run_freeing(void)
{
	block_free(subject);
	subject = NULL;
}

static void run_giveback(void)
{
	size_t waiting = 0;

	block_free(subject);
	subject = NULL;
	(void)slot_giveback(UINT64_MAX, false, SIZE_MAX, &waiting);
}

static void prepare_nothing(void)
{
	subject = NULL;
}

/* One waits in the cache. */
static void prepare_waiting(void)
{
	block_free(make(8 * KIB, 0, 0));
	subject = NULL;
}

static void prepare_large_run(void)
{
	prepare(3 * MIB, 0, ALLOD_PAGE_NO_COMMIT);
}

static void prepare_loose(void)
{
	prepare(128 * KIB, 0, ALLOD_PAGE_NODE);
}

static void run_take_piece(void)
{
	(void)make(8 * KIB, 0, 0);
}

static void run_take_run(void)
{
	(void)make(3 * MIB, 0, ALLOD_PAGE_NO_COMMIT);
}

static void run_take_loose(void)
{
	(void)make(128 * KIB, 0, ALLOD_PAGE_NODE);
}

/* Free memory with pages, in pieces of 2 MiB. */
static void prepare_scattered(void)
{
	char *p[12];

	for (unsigned i = 0; i < 12; i++)
		p[i] = make(2 * MIB, 0, 0);
	for (unsigned i = 1; i < 12; i += 2)
		block_free(p[i]);
	subject = NULL;
}

static void run_compose(void)
{
	subject = make(8 * MIB, 0, 0);
	subject_bytes = 8 * MIB;
	fill(subject, subject_bytes, 1);
}

static void run_commit(void)
{
	CHECK_EQ(block_commit(subject, subject_bytes), 0);
}

static void run_release(void)
{
	CHECK_EQ(block_release(subject + 64 * KIB, 64 * KIB), 0);
}

static void run_trim(void)
{
	(void)block_trim();
	(void)page_trim();
}

static void run_stats(void)
{
	struct block_stats stats;

	block_stats_read(&stats);
}

static const struct op {
	const char *name;
	void (*prepare)(void);
	void (*run)(void);
} ops[] = {
	{ "growing a piece", prepare_piece, run_grow },
	{ "shrinking a piece", prepare_piece, run_shrink },
	{ "moving a run", prepare_run, run_adopt },
	{ "shrinking a run", prepare_run, run_shrink },
	{ "growing in a slot", prepare_slot, run_grow_slot },
	{ "moving a slot", prepare_full_slot, run_outgrow },
	{ "exchanging", prepare_pair, run_swap },
	{ "freeing a slot", prepare_slot, run_freeing },
	{ "giving back", prepare_slot, run_giveback },
	{ "allocating a piece", prepare_nothing, run_take_piece },
	{ "allocating a piece that waits", prepare_waiting, run_take_piece },
	{ "allocating a run", prepare_nothing, run_take_run },
	{ "composing a run", prepare_scattered, run_compose },
	{ "allocating a mapping", prepare_nothing, run_take_loose },
	{ "freeing a piece", prepare_piece, run_freeing },
	{ "freeing a run", prepare_large_run, run_freeing },
	{ "freeing a mapping", prepare_loose, run_freeing },
	{ "making pages present", prepare_run, run_commit },
	{ "giving pages up", prepare_run, run_release },
	{ "trimming", prepare_waiting, run_trim },
	{ "reading statistics", prepare_piece, run_stats },
};

enum { OPS = sizeof(ops) / sizeof(ops[0]) };

static struct plan {
	unsigned op;
	long k;
	long length; /* of the operation, when it ended before the k-th instruction */
	bool pauses;
	_Atomic(uint32_t) stopped;
	_Atomic(uint32_t) resumed;
} * plan;

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

static void *victim_main(void *arg)
{
	const struct op *op = &ops[plan->op];

	(void)arg;
	op->prepare();
	step_begin(plan->k, park);
	op->run();
	plan->length = step_end();
	a_store_rel(&plan->stopped, 1);
	return NULL;
}

/* Blocks of all kinds are made, grown, exchanged and freed. */
static void *churn(void *arg)
{
	char mark = (char)(uintptr_t)arg;
	char *p[BLOCKS];

	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < BLOCKS; i++) {
			p[i] = make((4 * KIB) << i, i % 3 ? 0 : 8 * MIB,
				i % 4 == 3 ? ALLOD_PAGE_SWAPPABLE : 0);
			fill(p[i], (4 * KIB) << i, mark + (char)i);
		}
		(void)block_swap(p[3], p[7], ALLOD_PAGE_NO_COPY);
		(void)block_swap(p[7], p[3], ALLOD_PAGE_NO_COPY);
		for (unsigned i = 0; i < BLOCKS; i++) {
			resize(&p[i], (12 * KIB) << i, i % 2 ? 0 : ALLOD_PAGE_NO_COPY);
			check(p[i], (4 * KIB) << i, mark + (char)i);
			resize(&p[i], 4 * KIB, 0);
			block_free(p[i]);
		}
	}
	(void)block_trim();
	return NULL;
}

static size_t slots_kept(const struct zone *z)
{
	return z ? a_load_rlx(&z->frontier) - bitmap_free_count(&z->map) : 0;
}

static void child_works(void)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (!pid) {
		alarm(WORK_SECONDS_MOST);
		page_fork_child();
		churn((void *)(uintptr_t)90);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void others_work(size_t small_before, size_t large_before)
{
	pthread_t thread;
	size_t waiting = 0;

	alarm(WORK_SECONDS_MOST);
	CHECK_EQ(pthread_create(&thread, NULL, churn, (void *)(uintptr_t)50), 0);
	churn((void *)(uintptr_t)10);
	child_works();
	CHECK_EQ(pthread_join(thread, NULL), 0);
	(void)slot_giveback(UINT64_MAX, false, SIZE_MAX, &waiting);
	/* And those that it was about to make accessible, wanted or ahead of need. Berths are not free. */
	CHECK(slots_kept(zone_peek(SLOT_SMALL)) <=
		small_before + KEPT_SLOTS_MOST + SLOT_STEP_SMALL);
	CHECK(slots_kept(zone_peek(SLOT_LARGE)) <=
		large_before + KEPT_SLOTS_MOST + SLOT_AHEAD_LARGE + SLOT_BERTHS * SLOT_BERTH_SLOTS);
}

/* What the operation was to do is done, or was refused; and nothing was lost. */
static void finish(pthread_t victim)
{
	a_store_rel(&plan->resumed, 1);
	CHECK_EQ(pthread_join(victim, NULL), 0);
	if (!subject)
		return;
	if (other && subject[0] == 2) {
		check(subject, other_bytes, 2);
		check(other, subject_bytes, 1);
	} else {
		CHECK_EQ(subject[0], 1);
		CHECK_EQ(subject[4095], 1);
	}
	block_free(subject);
	if (other)
		block_free(other);
	(void)block_trim();
	/* The janitor may be at work, which the books do not tell of. */
	page_exit();
	CHECK(page_check());
}

_Noreturn static void process_main(void)
{
	pthread_t victim;

	CHECK_EQ(page_init(), 0);
	/* So that blocks are exchanged and moved as among threads. */
	churn((void *)(uintptr_t)70);
	CHECK_EQ(pthread_create(&victim, NULL, victim_main, NULL), 0);
	while (!a_load_acq(&plan->stopped))
		sched_yield();
	others_work(1, 2);
	if (plan->pauses)
		finish(victim);
	_exit(0);
}

static void run_stopped(unsigned op, long k, bool pauses)
{
	int status;
	pid_t pid;

	*plan = (struct plan){ .op = op, .k = k, .pauses = pauses };
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		process_main();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (status)
		test_fail(__FILE__, __LINE__, "stopped at instruction %ld of %s: status %#x", k,
			ops[op].name, status);
}

static void stop_anywhere(bool pauses)
{
	uint64_t random = test_seed();
	unsigned samples = test_count(SAMPLES_USUAL, SAMPLES_LONG);

	step_init();
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(plan != MAP_FAILED);
	for (unsigned op = 0; op < OPS; op++) {
		long length;
		run_stopped(op, LENGTH_MOST, true);
		length = plan->length > 0 ? plan->length : LENGTH_MOST;
		test_note("%s: %ld instructions", ops[op].name, length);
		for (unsigned i = 0; i < samples; i++)
			run_stopped(op, (long)(test_random(&random) % (uint64_t)length), pauses);
	}
}

TEST_TIMEOUT(others_go_on_wherever_a_thread_is_stopped, 60)
{
	stop_anywhere(false);
}

TEST_TIMEOUT(a_thread_that_pauses_goes_on_rightly, 60)
{
	stop_anywhere(true);
}
