/* SPDX-License-Identifier: MIT */
/*
 * Counters. A processor's total is changed by sequences only, and never goes back to 0, so the sum
 * of all totals is exact whenever it is taken. What of it is in `near` is a word of its own.
 *
 * operations       add (a sequence, then maybe publish), publish, sum, reset
 * synchronization  total: its processor's sequences; anybody reads. published: whoever changes it
 *                  by compare-and-swap owns the difference and adds it to `near`, once. base: by
 *                  exchange
 * linearization    add: the sequence
 * ordering         what was published was read from the total before, so who reads it and then the
 *                  total finds none older, and never publishes backwards. Else numbers only
 * progress         lock-free. A failed publish means that another has published. Who has failed or
 *                  published looks again: the other may have read the total before its own
 *                  addition, and one that was made meanwhile may have looked at what was published
 *                  before
 */
#include "percpu/rseq.h"

#include <allod/counter.h>

#include "base/atomic.h"

static _Atomic(uint64_t) *atomic_of(const uint64_t *word)
{
	return (_Atomic(uint64_t) *)(uintptr_t)word;
}

static bool is_used(const struct allod_counter *counter, unsigned number)
{
	return !allod_cs_is_zero_(&allod_percpu_active_[number]);
}

PERCPU_EXPORT void allod_counter_init(struct allod_counter *counter, struct allod_percpu_view view,
	struct allod_counter_copy ALLOD_PERCPU *copies, uint64_t batch)
{
	*counter = (struct allod_counter){ .view = view, .copies = copies, .batch = batch };
}

PERCPU_EXPORT void allod_counter_publish_(struct allod_counter *counter,
	struct allod_counter_copy *copy)
{
	uint64_t published = a_load_rlx(atomic_of(&copy->published));

	for (;;) {
		const uint64_t total = a_load_rlx(atomic_of(&copy->total));

		if (!allod_counter_is_due_(counter->batch, total - published))
			return;
		/* [rseq.8] acqrel: the last look is at no older total than was published;
		 * pairs with allod_counter_publish_() on another thread */
		if (a_cas_strong_acqrel(atomic_of(&copy->published), &published, total)) {
			a_add_rlx(atomic_of(&counter->near), total - published);
			published = total;
		}
	}
}

PERCPU_EXPORT void allod_counter_add_slow_(struct allod_counter *counter, int64_t value)
{
	const struct allod_percpu_view view = counter->view;
	struct allod_counter_copy *copy;
	uint64_t total;
	int32_t i;
	bool done = false;

	while (!done && percpu_enter(view, &i)) {
		copy = allod_percpu_copy_(view, counter->copies, i);
		done = allod_cs_add_return_(view.by, i, &copy->total, (uint64_t)value, &total) == 0;
	}
	if (!done) {
		copy = percpu_atomic_copy(view, counter->copies);
		a_add_rlx(atomic_of(&copy->total), (uint64_t)value);
	}
	if (counter->batch != 0)
		allod_counter_publish_(counter, copy);
}

static uint64_t total_of(const struct allod_counter *counter, unsigned number)
{
	const struct allod_counter_copy *copy =
		allod_percpu_copy_(counter->view, counter->copies, (int32_t)number);

	return is_used(counter, number) ? a_load_rlx(atomic_of(&copy->total)) : 0;
}

static uint64_t sum_ever(const struct allod_counter *counter)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < counter->view.count; i++)
		sum += total_of(counter, i);
	return sum;
}

PERCPU_EXPORT int64_t allod_counter_sum(const struct allod_counter *counter)
{
	const uint64_t base = a_load_rlx(atomic_of(&counter->base));

	return (int64_t)(sum_ever(counter) - base);
}

PERCPU_EXPORT int64_t allod_counter_near(const struct allod_counter *counter)
{
	if (counter->batch == 0)
		return allod_counter_sum(counter);
	return (int64_t)(a_load_rlx(atomic_of(&counter->near)) -
		a_load_rlx(atomic_of(&counter->base)));
}

PERCPU_EXPORT uint64_t allod_counter_bound(const struct allod_counter *counter)
{
	uint64_t used = 0;

	for (unsigned i = 0; i < counter->view.count; i++)
		used += is_used(counter, i);
	return used * counter->batch;
}

PERCPU_EXPORT unsigned allod_counter_snapshot(const struct allod_counter *counter,
	int64_t *ret_values, unsigned count)
{
	unsigned end = 0;

	for (unsigned i = 0; i < counter->view.count; i++) {
		const uint64_t total = total_of(counter, i);

		if (i < count)
			ret_values[i] = (int64_t)total;
		if (total != 0)
			end = i + 1;
	}
	for (unsigned i = counter->view.count; i < count; i++)
		ret_values[i] = 0;
	return end;
}

PERCPU_EXPORT int64_t allod_counter_reset(struct allod_counter *counter)
{
	const uint64_t sum = sum_ever(counter);

	return (int64_t)(sum - a_xchg_rlx(atomic_of(&counter->base), sum));
}
