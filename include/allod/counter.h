/* SPDX-License-Identifier: MIT */
/*
 * Counters that many threads add to at once, each on its own processor's copy. An addition costs
 * about as much as one to a variable of the thread's own; reading costs a look at each processor
 * that has ever added, or, for a counter with a batch, one load of a number that is nearly right.
 * Compiles alone as C99 and as C++17.
 *
 * Safety of every call: any thread, signal handlers. Since: 0.1. errno is never written.
 */
#ifndef ALLOD_COUNTER_H
#define ALLOD_COUNTER_H

#include <allod/percpu-ops.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One copy of a counter's memory. */
struct allod_counter_copy {
	uint64_t total;     /* what was added on this processor, ever */
	uint64_t published; /* how much of it is in the counter's `near` */
} __attribute__((__aligned__(16)));

/* The caller's memory; its fields are the library's. */
struct allod_counter {
	struct allod_percpu_view view;
	struct allod_counter_copy ALLOD_PERCPU *copies; /* copy 0 */
	uint64_t batch;
	uint64_t base;                                  /* the sum at the last reset */
	uint64_t near __attribute__((__aligned__(64))); /* written rarely, by everybody */
	char apart[56];
};

/*
 * Makes a counter of value 0.
 *
 * view:    where copies are; the memory of a pool's element, or any other.
 * copies:  copy 0. All copies are zero.
 * batch:   how much a processor adds before it tells the others; 0: it never does, and
 *          allod_counter_near() sums up.
 * Errors:  none.
 */
void allod_counter_init(struct allod_counter *counter, struct allod_percpu_view view,
	struct allod_counter_copy ALLOD_PERCPU *copies, uint64_t batch);

/*
 * Adds; subtracts if negative.
 *
 * Errors:  none.
 * Source:  Linux, percpu_counter_add_batch().
 */
ALLOD_PERCPU_INLINE_ void allod_counter_add(struct allod_counter *counter, int64_t value);

/*
 * The exact value: every addition that ended before this call is in it once, and none that begins
 * after it.
 *
 * Returns: the value, modulo 2^64. Errors: none.
 * Source:  Linux, percpu_counter_sum().
 */
int64_t allod_counter_sum(const struct allod_counter *counter);

/*
 * The value, nearly, by one load. While no thread is inside allod_counter_add() it is off by less
 * than allod_counter_bound() if one thread adds, and by less than that plus n times a if n threads
 * do, where a is the largest amount added at once. Each thread that is stopped inside may hold back
 * less than `batch` + n times a more.
 *
 * Returns: the value. Errors: none.
 * Source:  Linux, percpu_counter_read().
 */
int64_t allod_counter_near(const struct allod_counter *counter);

/*
 * How far allod_counter_near() may be off: the batch, for each copy that has been used.
 *
 * Returns: the bound; 0 without a batch. Errors: none.
 */
uint64_t allod_counter_bound(const struct allod_counter *counter);

/*
 * What was added on each processor since the counter was made. Resets do not change it.
 *
 * ret_values: for number 0 and up, `count` of them.
 * Returns: one more than the highest number that has ever added, which may exceed `count`.
 * Errors:  none.
 */
unsigned allod_counter_snapshot(const struct allod_counter *counter, int64_t *ret_values,
	unsigned count);

/*
 * Begins to count from 0 again. Every addition is in the result of one reset, or in the value after
 * the last; none in two, and none is lost.
 *
 * Returns: the value until now. Errors: none.
 */
int64_t allod_counter_reset(struct allod_counter *counter);

/* The library's own half; not for programs. */
void allod_counter_add_slow_(struct allod_counter *counter, int64_t value);
void allod_counter_publish_(struct allod_counter *counter, struct allod_counter_copy *copy);

/* Whether so much has not been published that it is time, in either direction. */
static __inline__ int allod_counter_is_due_(uint64_t batch, uint64_t difference)
{
	return difference + batch - 1 > 2 * (batch - 1);
}

ALLOD_PERCPU_INLINE_ void allod_counter_add(struct allod_counter *counter, int64_t value)
{
	const struct allod_percpu_view view = counter->view;
	uint64_t total;
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		struct allod_counter_copy *copy =
			(struct allod_counter_copy *)allod_percpu_copy_(view, counter->copies, i);

		if (__builtin_expect(allod_cs_add_return_(view.by, i, &copy->total, (uint64_t)value,
					     &total) != 0,
			    0))
			continue;
		if (counter->batch != 0 &&
			__builtin_expect(allod_counter_is_due_(counter->batch,
						 total - allod_cs_load_(&copy->published)),
				0))
			allod_counter_publish_(counter, copy);
		return;
	}
	allod_counter_add_slow_(counter, value);
}

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_COUNTER_H */
