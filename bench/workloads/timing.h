/* SPDX-License-Identifier: MIT */
/*
 * Clocks for programs that measure single calls themselves.
 *
 * ticks() is for what takes less than some 20 µs: it costs little and is exact, but goes on while
 * another program has the processor; was_preempted() tells of that afterwards. cpu_ns() stops then,
 * and is for what takes longer: it costs a fifth of a microsecond itself.
 */
#pragma once

#include <sched.h>
#include <stdatomic.h>

#include "workload.h"

/* Of the processor's constant-rate counter, or nanoseconds where there is none that we know. */
static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
	uint64_t now;

	__builtin_ia32_lfence();
	now = __builtin_ia32_rdtsc();
	__builtin_ia32_lfence();
	return now;
#elif defined(__aarch64__)
	uint64_t now;

	__asm__ volatile("isb; mrs %0, cntvct_el0; isb" : "=r"(now) : : "memory");
	return now;
#else
	return now_ns();
#endif
}

/* Length of a tick. Takes 20 ms at the first call. */
double ns_per_tick(void);

/* Time that this thread has had on a processor. */
uint64_t cpu_ns(void);

/* What two calls of cpu_ns() differ by with nothing between them. */
double cpu_ns_alone(void);

/* Whether the thread lost its processor since the last call, or gave it up. */
bool was_preempted(void);

/* The middle one of `count` values, which are sorted for it. */
double median_of(double *values, size_t count);

/* Another thread of the process, which keeps a processor busy: it must then be told when pages
 * move. Both threads stay on a processor each meanwhile. */
struct companion {
	pthread_t thread;
	_Atomic uint64_t rounds;
	_Atomic bool is_to_end;
	cpu_set_t allowed;
};

void companion_start(struct companion *companion);
/* Whether it runs at this moment: it may have lost its processor to another program, and is given
 * some time to get it back. */
bool companion_runs(struct companion *companion);
void companion_stop(struct companion *companion);
