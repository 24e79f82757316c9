/* SPDX-License-Identifier: MIT */
#include "percpu_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

/* glibc has the field, and no name for it. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { THREADS_MOST = 64 };

const struct allod_percpu_view by_cpu = { STRIDE, ALLOD_RSEQ_CPU_ID, COPIES };
const struct allod_percpu_view by_cid = { STRIDE, ALLOD_RSEQ_MM_CID, COPIES };

static pthread_barrier_t all_here;
static void (*thread_work)(unsigned self);
static void (*storm_handler)(void);
static unsigned storm_period_us;
static cpu_set_t allowed;

void *percpu_memory(void)
{
	void *p = mmap(NULL, (size_t)COPIES * STRIDE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(p != MAP_FAILED);
	return p;
}

void *copy_of(const void *p, unsigned number)
{
	return (char *)(uintptr_t)p + (size_t)number * STRIDE;
}

uint64_t sum_of(const uint64_t *p)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < COPIES; i++)
		sum += *(volatile uint64_t *)copy_of(p, i);
	return sum;
}

void hop(unsigned k)
{
	cpu_set_t one;

	if (CPU_COUNT(&allowed) == 0)
		CHECK_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
	unsigned left = k % (unsigned)CPU_COUNT(&allowed);

	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &allowed) && left-- == 0) {
			CPU_SET(cpu, &one);
			sched_setaffinity(0, sizeof one, &one);
			return;
		}
	}
}

static void on_timer(int number)
{
	(void)number;
	if (storm_handler != NULL)
		storm_handler();
}

/* A timer of this thread's own. Time goes on while it waits: on its own time, ticks are coarse. */
static void storm_begin(timer_t *ret_timer)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	const struct itimerspec period = { { 0, storm_period_us * 1000L },
		{ 0, storm_period_us * 1000L } };

	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, ret_timer), 0);
	CHECK_EQ(timer_settime(*ret_timer, 0, &period, NULL), 0);
}

static void *thread_main(void *arg)
{
	timer_t timer;

	pthread_barrier_wait(&all_here);
	if (storm_period_us)
		storm_begin(&timer);
	thread_work((unsigned)(uintptr_t)arg);
	if (storm_period_us)
		timer_delete(timer);
	return NULL;
}

void run_threads(unsigned threads, void (*work)(unsigned self), unsigned storm_us,
	void (*handler)(void))
{
	struct sigaction action = { .sa_handler = on_timer, .sa_flags = SA_RESTART };
	pthread_t ids[THREADS_MOST];

	CHECK(threads <= THREADS_MOST);
	hop(0);
	CHECK_EQ(sched_setaffinity(0, sizeof allowed, &allowed), 0);
	CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	thread_work = work;
	storm_handler = handler;
	storm_period_us = storm_us;
	pthread_barrier_init(&all_here, NULL, threads);
	for (unsigned i = 0; i < threads; i++)
		CHECK_EQ(pthread_create(&ids[i], NULL, thread_main, (void *)(uintptr_t)i), 0);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
}
