/* SPDX-License-Identifier: MIT */
/*
 * The page layer under several threads, on the real kernel: every granule that a thread holds bears
 * its stamp, so a granule that two hold, or that is given back while it is held, is seen. Runs are
 * passed between threads, and the sums agree at the end.
 */
#include "base/options.h"
#include "harness.h"
#include "page/page.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, HELD = 24, STEPS = 6000, GROWERS = 8, GROWN = 24 };

struct held {
	char *base;
	size_t granules;
	uint64_t mark;
};

static uint64_t first_seed;
static _Atomic(struct held *) passed;
static _Atomic(uint64_t) next_mark = 1;

static uint64_t *word(const struct held *h, size_t i)
{
	return (uint64_t *)(h->base + (i << PAGE_GRANULE_SHIFT) +
		(h->mark * 72 + i * 8) % 65536 / 8 * 8);
}

static void mark(struct held *h)
{
	for (size_t i = 0; i < h->granules; i++)
		*word(h, i) = h->mark + i;
}

static void check_mark(const struct held *h, size_t granules)
{
	for (size_t i = 0; i < granules; i++)
		CHECK_EQ(*word(h, i), h->mark + i);
}

static void check_zero(const char *base, size_t granules)
{
	for (size_t i = 0; i < granules << PAGE_GRANULE_SHIFT; i += 2048)
		CHECK_EQ(base[i], 0);
}

static void take(struct held *h, uint64_t *seed)
{
	static const size_t around[] = { 1, 2, 8, 33, 120 };
	size_t n = test_random(seed) % around[test_random(seed) % 5] + 1;
	size_t align = test_random(seed) % 4 ? 0 : PAGE_GRANULE_BYTES << test_random(seed) % 6;
	struct page_run run;

	CHECK_EQ(page_alloc(n, align, &run), 0);
	if (align)
		CHECK_EQ((uintptr_t)run.base & (align - 1), 0);
	CHECK(page_record_of(run.base) != NULL);
	if (run.zeroed)
		check_zero(run.base, n);
	h->base = run.base;
	h->granules = n;
	h->mark = a_add_rlx(&next_mark, 1) << 20;
	mark(h);
}

static void give(struct held *h)
{
	check_mark(h, h->granules);
	page_free(h->base, h->granules);
	h->base = NULL;
}

static void grow(struct held *h, uint64_t *seed)
{
	size_t more = h->granules + test_random(seed) % 40 + 1;
	struct page_run run;
	bool zeroed;

	if (page_extend(h->base, h->granules, more, &zeroed)) {
		check_mark(h, h->granules);
		if (zeroed)
			check_zero(h->base + (h->granules << PAGE_GRANULE_SHIFT),
				more - h->granules);
		h->granules = more;
		mark(h);
	} else if (!page_move(h->base, h->granules, more, &run)) {
		h->base = run.base;
		check_mark(h, h->granules);
		if (run.zeroed)
			check_zero(h->base + (h->granules << PAGE_GRANULE_SHIFT),
				more - h->granules);
		h->granules = more;
		mark(h);
	}
}

static void shrink(struct held *h, uint64_t *seed)
{
	size_t less;

	if (h->granules < 2)
		return;
	less = test_random(seed) % (h->granules - 1) + 1;
	page_shrink(h->base, h->granules, less);
	h->granules = less;
	check_mark(h, less);
}

/* Exchanges a run with whoever passed one before. */
static void pass(struct held *h)
{
	struct held *mine = malloc(sizeof(*mine));
	struct held *theirs;

	CHECK(mine != NULL);
	*mine = *h;
	theirs = a_xchg_acqrel(&passed, mine);
	h->base = NULL;
	if (theirs)
		*h = *theirs;
	free(theirs);
}

static void *churn(void *arg)
{
	uint64_t seed = first_seed + (uintptr_t)arg;
	struct held held[HELD] = { 0 };

	CHECK_EQ(page_init(), 0);
	for (int i = 0; i < STEPS; i++) {
		struct held *h = &held[test_random(&seed) % HELD];
		page_tick();
		if (test_random(&seed) % 512 == 0)
			page_trim();
		if (!h->base)
			take(h, &seed);
		else if (test_random(&seed) % 8 < 4 || h->granules > 400)
			give(h);
		else if (test_random(&seed) % 4 == 0)
			pass(h);
		else if (test_random(&seed) % 2)
			grow(h, &seed);
		else
			shrink(h, &seed);
	}
	for (size_t i = 0; i < HELD; i++)
		if (held[i].base)
			give(&held[i]);
	page_thread_exit();
	return NULL;
}

static void run_threads(void)
{
	pthread_t threads[THREADS];
	struct page_stats s;
	struct held *last;

	first_seed = test_seed();
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, (void *)i), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	last = a_xchg_acqrel(&passed, NULL);
	if (last)
		give(last);
	free(last);
	page_exit();
	page_trim();
	page_stats(&s);
	test_note("peak %zu MiB, committed %zu MiB, purged %zu MiB, %ju moves",
		s.used_peak_bytes >> 20, s.committed_bytes >> 20, s.purged_bytes >> 20,
		(uintmax_t)s.move_calls);
	CHECK_EQ(s.used_bytes, 0);
	CHECK_EQ(s.dirty_bytes, 0);
	CHECK_EQ(s.direct_runs, 0);
	CHECK_EQ(s.moved_runs, 0);
	CHECK(page_check());
}

TEST_TIMEOUT(arena, 60)
{
	options.decay_ms = 10;
	run_threads();
}

TEST_TIMEOUT(arena_with_the_janitor, 60)
{
	options.decay_ms = 0;
	options.background = OPTION_BACKGROUND_ON;
	run_threads();
}

TEST_TIMEOUT(small_arena_and_direct_runs, 60)
{
	options.arena_bytes = (uint64_t)32 << 20;
	options.decay_ms = 10;
	run_threads();
}

TEST_TIMEOUT(direct_runs_alone, 60)
{
	options.page = OPTION_PAGE_MMAP;
	run_threads();
}

static pthread_barrier_t barrier;

static void *first_call(void *arg)
{
	struct page_run *run = arg;

	pthread_barrier_wait(&barrier);
	CHECK_EQ(page_init(), 0);
	CHECK_EQ(page_alloc(3, 0, run), 0);
	CHECK(page_in_arena(run->base));
	memset(run->base, 1, 3 << PAGE_GRANULE_SHIFT);
	CHECK(page_record_of(run->base) != NULL);
	return NULL;
}

/* All threads come first: one arena is left, and they agree on it. */
static void race_of_first_calls(void)
{
	struct page_run runs[THREADS];
	pthread_t threads[THREADS];
	struct page_stats s;

	CHECK_EQ(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, first_call, &runs[i]), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	page_stats(&s);
	CHECK_EQ(s.used_bytes, THREADS * 3 * PAGE_GRANULE_BYTES);
	for (size_t i = 0; i < THREADS; i++)
		page_free(runs[i].base, 3);
	CHECK(page_check());
}

TEST_TIMEOUT(first_calls_race, 60)
{
	for (int i = 0; i < 100; i++) {
		pid_t pid = fork();
		int status = 0;
		if (!pid) {
			race_of_first_calls();
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}

/*
 * Takes runs of 4 MiB and a mark in each, so that all threads come to the end of the reservation.
 */
static void *grow_arena(void *arg)
{
	struct held *held = arg;

	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < GROWN; i++) {
		struct page_run run;
		CHECK_EQ(page_alloc(64, 0, &run), 0);
		CHECK(run.zeroed);
		held[i] = (struct held){ run.base, 64, a_add_rlx(&next_mark, 1) << 20 };
		mark(&held[i]);
		memset(page_record_of(run.base), (int)(i + 1), PAGE_RECORD_BYTES);
	}
	return NULL;
}

static void growth_race(void)
{
	static struct held held[GROWERS][GROWN];
	pthread_t threads[GROWERS];
	struct page_stats s;

	CHECK_EQ(pthread_barrier_init(&barrier, NULL, GROWERS), 0);
	for (size_t i = 0; i < GROWERS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, grow_arena, held[i]), 0);
	for (size_t i = 0; i < GROWERS; i++)
		pthread_join(threads[i], NULL);
	page_stats(&s);
	CHECK_EQ(s.used_bytes, GROWERS * GROWN * 64 * PAGE_GRANULE_BYTES);
	CHECK_EQ(s.direct_runs, 0);
	CHECK(page_check());
	for (size_t i = 0; i < GROWERS; i++)
		for (size_t k = 0; k < GROWN; k++) {
			CHECK_EQ(*(char *)page_record_of(held[i][k].base), k + 1);
			check_mark(&held[i][k], 64);
			page_free(held[i][k].base, 64);
		}
	CHECK(page_check());
}

TEST_TIMEOUT(growth_races, 60)
{
	options.background = OPTION_BACKGROUND_OFF;
	options.arena_bytes = (uint64_t)64 << 30;
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		int status = 0;
		if (!pid) {
			growth_race();
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}
