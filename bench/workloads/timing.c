/* SPDX-License-Identifier: MIT */
#include "timing.h"

#include <sys/resource.h>
#include <time.h>

enum { CALIBRATION_NS = 20000000, LOOK_NS = 2000, LOOKS = 1000, CLOCKINGS = 101 };

double ns_per_tick(void)
{
	static double known;
	uint64_t start_ns, end_ns, start;

	if (known > 0)
		return known;
	start_ns = now_ns();
	start = ticks();
	do
		end_ns = now_ns();
	while (end_ns - start_ns < CALIBRATION_NS);
	known = (double)(end_ns - start_ns) / (double)(ticks() - start);
	return known;
}

uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double cpu_ns_alone(void)
{
	double samples[CLOCKINGS];

	for (size_t i = 0; i < CLOCKINGS; i++) {
		uint64_t start = cpu_ns();

		samples[i] = (double)(cpu_ns() - start);
	}
	return median_of(samples, CLOCKINGS);
}

bool was_preempted(void)
{
	static _Thread_local long last;
	struct rusage usage;
	long now;
	bool is_new;

	getrusage(RUSAGE_THREAD, &usage);
	now = usage.ru_nivcsw + usage.ru_nvcsw;
	is_new = now != last;
	last = now;
	return is_new;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left;
	double b = *(const double *)right;

	return a < b ? -1 : a > b;
}

double median_of(double *values, size_t count)
{
	if (count == 0)
		fail("a median of nothing");
	qsort(values, count, sizeof(*values), compare);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Keeps the calling thread to the index-th of the processors it may use. */
static void stay_on(const cpu_set_t *allowed, int index)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, allowed) && index-- == 0)
			CPU_SET(cpu, &one);
	}
	sched_setaffinity(0, sizeof(one), &one);
}

static void *keep_busy(void *argument)
{
	struct companion *companion = argument;

	stay_on(&companion->allowed, 1);
	while (!atomic_load_explicit(&companion->is_to_end, memory_order_relaxed))
		atomic_fetch_add_explicit(&companion->rounds, 1, memory_order_relaxed);
	return NULL;
}

void companion_start(struct companion *companion)
{
	*companion = (struct companion){ 0 };
	sched_getaffinity(0, sizeof(companion->allowed), &companion->allowed);
	if (CPU_COUNT(&companion->allowed) < 2)
		fail("a second thread needs a second processor");
	stay_on(&companion->allowed, 0);
	thread_start(&companion->thread, keep_busy, companion);
	if (!companion_runs(companion))
		fail("the other thread does not run");
}

static bool runs_now(struct companion *companion)
{
	uint64_t before = atomic_load_explicit(&companion->rounds, memory_order_relaxed);
	uint64_t start = now_ns();

	while (now_ns() - start < LOOK_NS)
		;
	return atomic_load_explicit(&companion->rounds, memory_order_relaxed) != before;
}

bool companion_runs(struct companion *companion)
{
	for (int i = 0; i < LOOKS; i++) {
		if (runs_now(companion))
			return true;
		sleep_ms(1);
	}
	return false;
}

void companion_stop(struct companion *companion)
{
	atomic_store_explicit(&companion->is_to_end, true, memory_order_relaxed);
	thread_join(companion->thread);
	sched_setaffinity(0, sizeof(companion->allowed), &companion->allowed);
}
