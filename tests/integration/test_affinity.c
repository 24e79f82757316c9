/* SPDX-License-Identifier: MIT */
/*
 * Threads that are moved between processors, by themselves and by others, in the middle of calls,
 * with the library preloaded; and a process that is confined to one processor while it runs.
 */
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

enum { THREADS = 4, SLOTS = 128, MOVES = 400, CPUS_MOST = 1024 };

static _Atomic(unsigned char *) slots[SLOTS];
static atomic_bool stop;
static atomic_int thread_ids[THREADS];
static int cpus[CPUS_MOST];
static unsigned cpu_count;
static cpu_set_t all_cpus;

static void find_cpus(void)
{
	CHECK_EQ(sched_getaffinity(0, sizeof all_cpus, &all_cpus), 0);
	for (int i = 0; i < CPUS_MOST; i++) {
		if (CPU_ISSET(i, &all_cpus))
			cpus[cpu_count++] = i;
	}
	if (cpu_count < 2)
		SKIP("one processor only");
}

/* The thread with this id, or the calling one for 0, to one processor. */
static void move_to(int thread, uint64_t r)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(cpus[r % cpu_count], &one);
	CHECK_EQ(sched_setaffinity(thread, sizeof one, &one), 0);
}

/* A block holds its size, and is filled with its lowest byte. */
static unsigned char *make(uint64_t r)
{
	const size_t size = 16 + r % (r % 50 ? 3000 : 300000);
	unsigned char *p = malloc(size);
	CHECK(p != NULL);
	memset(p, (int)(size & 255), size);
	memcpy(p, &size, sizeof size);
	return p;
}

static void drop(unsigned char *p)
{
	size_t size;
	if (p == NULL)
		return;
	memcpy(&size, p, sizeof size);
	for (size_t i = sizeof size; i < size; i++)
		CHECK_EQ(p[i], size & 255);
	free(p);
}

static void *churn(void *arg)
{
	const uintptr_t number = (uintptr_t)arg;
	uint64_t random = test_seed() + number;
	atomic_store(&thread_ids[number], (int)gettid());
	for (unsigned n = 0; !atomic_load(&stop); n++) {
		const uint64_t r = test_random(&random);
		drop(atomic_exchange(&slots[r / 4096 % SLOTS], make(r)));
		/* Every other thread moves itself too. */
		if (number % 2 && n % 64 == 0)
			move_to(0, r >> 32);
		if (n % 1024 == 0)
			malloc_trim(0);
	}
	return NULL;
}

static void pause_ms(long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&time, NULL);
}

static void move_threads(void)
{
	uint64_t random = test_seed();
	for (unsigned i = 0; i < MOVES; i++) {
		const uint64_t r = test_random(&random);
		const int thread = atomic_load(&thread_ids[r % THREADS]);
		if (thread != 0)
			move_to(thread, r >> 32);
		if (i % 8 == 0)
			pause_ms(5);
	}
}

TEST_TIMEOUT(threads_that_are_moved_between_processors, 30)
{
	pthread_t threads[THREADS];
	find_cpus();
	test_seed();
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, (void *)i), 0);
	move_threads();
	/* All to one processor, then all to all again. */
	for (unsigned i = 0; i < THREADS; i++)
		move_to(atomic_load(&thread_ids[i]), 0);
	pause_ms(100);
	for (unsigned i = 0; i < THREADS; i++)
		sched_setaffinity(atomic_load(&thread_ids[i]), sizeof all_cpus, &all_cpus);
	pause_ms(100);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	for (unsigned i = 0; i < SLOTS; i++)
		drop(atomic_exchange(&slots[i], NULL));
	const struct mallinfo2 info = mallinfo2();
	CHECK(info.uordblks + info.hblkhd < 64 * 1024);
}
