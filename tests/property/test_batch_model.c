/* SPDX-License-Identifier: MIT */
/*
 * Random batches of mixed operations against a model of what is held: by one thread, and by several
 * whose blocks pass from one to the next. Each element's result is checked: its error, its size and
 * alignment, zeroes, and that contents are kept.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "allod/batch.h"
#include "base/options.h"
#include "harness.h"
#include "heap/batch.h"
#include "heap/heap.h"

/* heap_libc() is weak: there is none here. */
bool face_is_delegated(void);
bool face_is_delegated(void)
{
	return false;
}

enum {
	HELD = 1500, /* blocks that a thread may hold */
	BATCH = 400, /* elements of a batch, at most */
	THREADS = 4,
	PHASES = 6,
	STEPS = TEST_SANITIZED ? 8 : 60,
};

struct held {
	void *p;
	size_t bytes; /* usable */
	uint64_t id;
};

struct world {
	struct held held[HELD];
	uint64_t random;
	uint64_t next_id;
	uint64_t done; /* elements */
};

static struct world worlds[THREADS];
static pthread_barrier_t together;

static size_t pick(struct world *w, size_t below)
{
	return (size_t)(test_random(&w->random) % below);
}

static size_t pick_size(struct world *w)
{
	switch (pick(w, 16)) {
	case 0: return 40000 + pick(w, 400000);
	case 1: return 4096 + pick(w, 40000);
	case 2: return SIZE_MAX - pick(w, 1000);
	default: return 1 + pick(w, 300 << pick(w, 4));
	}
}

/* The pattern goes by steps, coarser in large blocks, and holds the last byte. */
static size_t step_of(size_t bytes)
{
	return bytes <= 512 ? 1 : bytes / 64 | 1;
}

static void fill(const struct held *h)
{
	unsigned char *p = h->p;

	for (size_t i = 0; i < h->bytes; i += step_of(h->bytes))
		p[i] = (unsigned char)(h->id + i);
	p[h->bytes - 1] = (unsigned char)h->id;
}

/* That a block's first `bytes` are as they were when it had `was` of them. */
static void check_fill(const void *block, size_t bytes, size_t was, uint64_t id)
{
	const unsigned char *p = block;

	for (size_t i = 0; i < bytes && i < was - 1; i += step_of(was))
		CHECK_EQ(p[i], (unsigned char)(id + i));
	if (bytes >= was)
		CHECK_EQ(p[was - 1], (unsigned char)id);
}

static void check_zero(const void *block, size_t from, size_t to)
{
	for (size_t i = from; i < to; i += step_of(to - from))
		CHECK_EQ(((const unsigned char *)block)[i], 0);
}

/* What an element was, before and after. */
struct trial {
	struct held *held;
	size_t size, alignment;
	uintmax_t flags;
};

static void check_failure(const struct trial *t, const void *now, int error)
{
	CHECK_EQ(now, t->held->p);
	if (t->size > PTRDIFF_MAX)
		CHECK_EQ(error, ENOMEM);
	else
		CHECK(error == ENOSPC && t->held->p && t->flags & ALLOD_M2_PREVENT_MOVE);
}

static void check_success(struct world *w, const struct trial *t, void *now, size_t usable)
{
	const struct held before = *t->held;

	if (t->size == 0) {
		CHECK(now == NULL);
		t->held->p = NULL;
		return;
	}
	CHECK(now != NULL && usable >= t->size);
	CHECK_EQ(heap_usable_size(now), usable);
	if (t->alignment != 0)
		CHECK_EQ((uintptr_t)now % t->alignment, 0);
	if (before.p != NULL) {
		if (t->flags & ALLOD_M2_PREVENT_MOVE)
			CHECK_EQ(now, before.p);
		check_fill(now, t->size < before.bytes ? t->size : before.bytes, before.bytes,
			before.id);
	}
	const size_t old = before.p != NULL ? before.bytes : 0;
	if (t->flags & ALLOD_M2_ZERO_MEMORY && usable > old)
		check_zero(now, old, usable);
	*t->held = (struct held){ now, usable, ++w->next_id };
	fill(t->held);
}

static uintmax_t pick_flags(struct world *w)
{
	uintmax_t flags = 0;

	if (pick(w, 3) == 0)
		flags |= ALLOD_M2_ZERO_MEMORY;
	if (pick(w, 4) == 0)
		flags |= ALLOD_M2_PREVENT_MOVE;
	if (pick(w, 8) == 0)
		flags |= ALLOD_M2_CONSTANT_TIME;
	if (pick(w, 8) == 0)
		flags |= ALLOD_M2_RESERVE_IS_MULT;
	return flags;
}

/* Neighbours in the table from a random place on, a few left out: no block comes twice. */
static size_t pick_trials(struct world *w, struct trial *trials)
{
	const size_t count = 1 + pick(w, BATCH);
	const size_t from = pick(w, HELD);
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (pick(w, 10) != 0)
			trials[n++] = (struct trial){ .held = &w->held[(from + i) % HELD] };
	}
	return n;
}

static void step_5(struct world *w)
{
	struct trial trials[BATCH];
	struct allod_mallocation5 elements[BATCH];
	struct allod_mallocation5 *pointers[BATCH];
	int errnos[BATCH];
	size_t count = pick_trials(w, trials);
	const size_t all = count;
	size_t good = 0;

	for (size_t i = 0; i < all; i++) {
		struct trial *t = &trials[i];
		t->size = pick(w, 3) == 0 ? 0 : pick_size(w);
		t->alignment = pick(w, 4) == 0 ? (size_t)1 << pick(w, 18) : 0;
		t->flags = pick_flags(w);
		elements[i] = (struct allod_mallocation5){ t->held->p, t->size, t->alignment,
			pick(w, 3) == 0 ? pick(w, 1 << 20) : 0, t->flags };
		pointers[i] = &elements[i];
	}
	(void)allod_batch_alloc5(errnos, pointers, &count);
	for (size_t i = 0; i < all; i++) {
		good += errnos[i] == 0;
		if (errnos[i] != 0)
			check_failure(&trials[i], elements[i].ptr, errnos[i]);
		else
			check_success(w, &trials[i], elements[i].ptr, elements[i].size);
	}
	CHECK_EQ(good, count);
	w->done += all;
}

static void step_2(struct world *w)
{
	struct trial trials[BATCH];
	struct allod_mallocation2 elements[BATCH];
	struct allod_mallocation2 *pointers[BATCH];
	int errnos[BATCH];
	size_t count = pick_trials(w, trials);
	const size_t all = count;
	const size_t alignment = pick(w, 4) == 0 ? (size_t)1 << pick(w, 13) : 0;
	const uintmax_t flags = pick_flags(w);

	for (size_t i = 0; i < all; i++) {
		trials[i].size = pick(w, 3) == 0 ? 0 : pick_size(w);
		trials[i].alignment = alignment;
		trials[i].flags = flags;
		elements[i] = (struct allod_mallocation2){ trials[i].held->p, trials[i].size };
		pointers[i] = &elements[i];
	}
	const bool complete = allod_batch_alloc2(errnos, pointers, &count, alignment, 0, flags);
	CHECK_EQ(complete, count == all);
	for (size_t i = 0; i < all; i++) {
		if (errnos[i] != 0)
			check_failure(&trials[i], elements[i].ptr, errnos[i]);
		else
			check_success(w, &trials[i], elements[i].ptr, elements[i].size);
	}
	w->done += all;
}

static void step_1(struct world *w)
{
	struct trial trials[BATCH];
	void *ptrs[BATCH];
	int errnos[BATCH];
	size_t count = pick_trials(w, trials);
	const size_t all = count;
	size_t size = pick(w, 3) == 0 ? 0 : pick_size(w);
	const size_t asked = size;
	const uintmax_t flags = pick_flags(w);
	size_t smallest = SIZE_MAX;

	for (size_t i = 0; i < all; i++) {
		trials[i].size = size;
		trials[i].flags = flags;
		ptrs[i] = trials[i].held->p;
	}
	CHECK(allod_batch_alloc1(errnos, ptrs, &count, &size, 0, 0, flags) == ptrs);
	for (size_t i = 0; i < all; i++) {
		const size_t usable = ptrs[i] != NULL ? heap_usable_size(ptrs[i]) : 0;
		if (errnos[i] != 0) {
			check_failure(&trials[i], ptrs[i], errnos[i]);
			continue;
		}
		if (asked != 0 && usable < smallest)
			smallest = usable;
		check_success(w, &trials[i], ptrs[i], usable);
	}
	CHECK_EQ(size, smallest != SIZE_MAX ? smallest : asked);
	w->done += all;
}

/* The same blocks by the calls that take one. */
static void step_single(struct world *w)
{
	for (size_t i = 0; i < 50; i++) {
		struct held *h = &w->held[pick(w, HELD)];
		if (h->p == NULL) {
			h->p = heap_alloc(1 + pick(w, 5000));
			h->bytes = heap_usable_size(h->p);
			h->id = ++w->next_id;
			fill(h);
		} else {
			check_fill(h->p, h->bytes, h->bytes, h->id);
			heap_free(h->p);
			h->p = NULL;
		}
	}
}

static void step(struct world *w)
{
	switch (pick(w, 4)) {
	case 0: step_1(w); break;
	case 1: step_2(w); break;
	case 2: step_5(w); break;
	default: step_single(w); break;
	}
}

static void free_all(struct world *w)
{
	void *ptrs[HELD];
	size_t count = HELD;

	for (size_t i = 0; i < HELD; i++) {
		ptrs[i] = w->held[i].p;
		if (ptrs[i] != NULL)
			check_fill(ptrs[i], w->held[i].bytes, w->held[i].bytes, w->held[i].id);
		w->held[i].p = NULL;
	}
	CHECK(allod_batch_alloc1(NULL, ptrs, &count, NULL, 0, 0, 0) == ptrs);
	CHECK_EQ(count, HELD);
}

static void check_nothing_left(void)
{
	struct heap_stats stats;

	heap_trim();
	heap_check();
	heap_stats_read(&stats);
	CHECK_EQ(stats.used_blocks, 0);
	CHECK_EQ(stats.used_bytes, 0);
}

TEST_TIMEOUT(one_thread, 60)
{
	struct world *w = &worlds[0];

	options.background = OPTION_BACKGROUND_OFF;
	CHECK_EQ(heap_init(), 0);
	w->random = test_seed();
	for (unsigned i = 0; i < test_count(TEST_SANITIZED ? 150 : 600, 200000); i++) {
		step(w);
		if (i % 64 == 0)
			heap_check();
	}
	free_all(w);
	check_nothing_left();
	test_note("%llu elements", (unsigned long long)w->done);
}

/* After each phase a thread goes on with the blocks of its neighbour. */
static void *run_thread(void *arg)
{
	const size_t self = (size_t)(uintptr_t)arg;

	for (unsigned phase = 0; phase < PHASES; phase++) {
		for (unsigned i = 0; i < STEPS; i++)
			step(&worlds[(self + phase) % THREADS]);
		pthread_barrier_wait(&together);
	}
	free_all(&worlds[self]);
	return NULL;
}

TEST_TIMEOUT(threads_pass_blocks_on, 60)
{
	pthread_t threads[THREADS];

	options.background = OPTION_BACKGROUND_OFF;
	CHECK_EQ(heap_init(), 0);
	CHECK_EQ(pthread_barrier_init(&together, NULL, THREADS), 0);
	for (size_t i = 0; i < THREADS; i++)
		worlds[i].random = test_seed() + i;
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, run_thread, (void *)(uintptr_t)i), 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	check_nothing_left();
}
