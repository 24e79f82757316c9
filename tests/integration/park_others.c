/* SPDX-License-Identifier: MIT */
/* The threads that must go on while others are parked. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "park_face.h"
#include "park_ops.h"

enum {
	SLOTS = 512,
	CHURNERS = 2,
	ROLES = CHURNERS + 2, /* and one for threads, trims and statistics, one that forks */
	CHILD_SECONDS_MOST = 30,
};

static const size_t sizes[] = { 24, 48, 200, 500, 1024, 5000, 20000, 100000, 300000, 1500000 };
enum { SIZES = sizeof sizes / sizeof sizes[0], SIZES_SMALL = SIZES - 3 };

static _Atomic(void *) slots[SLOTS];
static pthread_t threads[ROLES];
static atomic_uint rounds[ROLES];
static unsigned marks[ROLES];
static atomic_bool stop;
static atomic_int child;

void *slot_exchange(uint64_t random, void *p)
{
	return atomic_exchange(&slots[random / 64 % SLOTS], p);
}

void slots_free(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		block_free(atomic_exchange(&slots[i], NULL));
}

/* Allocates, and swaps the block for one that some other thread left; frees that one. */
static void exchange(uint64_t *random)
{
	const uint64_t r = test_random(random);
	const size_t size = sizes[r % 128 ? r / 2 % SIZES_SMALL : r / 128 % SIZES];
	void *p = r % 11 == 0 ? face_alloc_aligned(256, size)
		: r % 5       ? face_alloc(size)
			      : face_alloc_zeroed(size);
	block_make(p, size);
	if (r % 7 == 0) {
		p = face_resize(p, size * 2);
		CHECK(p != NULL);
		block_make(p, size * 2);
	}
	block_free(slot_exchange(r, p));
}

static void *churn(void *arg)
{
	const size_t me = (size_t)arg;
	uint64_t random = me;
	while (!atomic_load(&stop)) {
		for (unsigned i = 0; i < 100; i++)
			exchange(&random);
		atomic_fetch_add(&rounds[me], 1);
	}
	return NULL;
}

static void *short_thread(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;
	for (unsigned i = 0; i < 50; i++)
		exchange(&random);
	return NULL;
}

/* Threads that begin and end, large blocks that move, trims, statistics. */
static void *keep_house(void *arg)
{
	const size_t me = (size_t)arg;
	pthread_t thread;
	while (!atomic_load(&stop)) {
		void *seed = (void *)(uintptr_t)atomic_load(&rounds[me]);
		CHECK_EQ(pthread_create(&thread, NULL, short_thread, seed), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		void *p = face_alloc(600000);
		void *q = face_alloc(600000);
		p = face_resize(p, 1500000);
		CHECK(p != NULL && q != NULL);
		face_free(p);
		face_free(q);
		face_trim();
		face_stats();
		atomic_fetch_add(&rounds[me], 1);
	}
	return NULL;
}

/* A child knows nothing of the parked threads but what they left. */
_Noreturn static void child_main(uint64_t random)
{
	signal(SIGALRM, SIG_DFL);
	alarm(CHILD_SECONDS_MOST);
	for (unsigned i = 0; i < 200; i++)
		exchange(&random);
	slots_free();
	face_trim();
	face_stats();
	_exit(0);
}

static void *fork_often(void *arg)
{
	const size_t me = (size_t)arg;
	while (!atomic_load(&stop)) {
		int status;
		const pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0)
			child_main(atomic_load(&rounds[me]));
		atomic_store(&child, pid);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		atomic_store(&child, 0);
		if (status != 0)
			test_fail(__FILE__, __LINE__, "a forked child ended with status %#x",
				status);
		atomic_fetch_add(&rounds[me], 1);
		nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
	}
	return NULL;
}

int others_child(void)
{
	return atomic_load(&child);
}

void others_start(void)
{
	void *(*const fn[ROLES])(void *) = { churn, churn, keep_house, fork_often };
	atomic_store(&stop, false);
	for (size_t i = 0; i < ROLES; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, fn[i], (void *)i), 0);
}

void others_mark(void)
{
	for (unsigned i = 0; i < ROLES; i++)
		marks[i] = atomic_load(&rounds[i]);
}

bool others_went_on(unsigned count)
{
	for (unsigned i = 0; i < ROLES; i++) {
		if (atomic_load(&rounds[i]) - marks[i] < count)
			return false;
	}
	return true;
}

void others_stop(void)
{
	atomic_store(&stop, true);
	for (unsigned i = 0; i < ROLES; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}
