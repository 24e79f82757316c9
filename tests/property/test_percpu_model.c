/* SPDX-License-Identifier: MIT */
/*
 * Random operations on a pool against a map of intervals: no two elements overlap, each keeps what
 * was stored to it, and maps and hints are looked over after every step.
 */
#include "allod/percpu.h"

#include <string.h>

#include "harness.h"
#include "percpu/cache.h"
#include "percpu/percpu.h"

enum { CPUS = 3, ELEMENTS = 300 };

struct element {
	unsigned char *at;
	size_t bytes;
	unsigned char stamp;
};

static struct element live[ELEMENTS];
static unsigned live_count;

static void stamp(const struct element *e)
{
	for (int cpu = 0; cpu < CPUS; cpu++)
		memset(allod_percpu_ptr(e->at, cpu), e->stamp + cpu, e->bytes);
}

static void stamp_check(const struct element *e)
{
	for (int cpu = 0; cpu < CPUS; cpu++) {
		const unsigned char *at = allod_percpu_ptr(e->at, cpu);
		for (size_t i = 0; i < e->bytes; i++)
			CHECK_EQ(at[i], (unsigned char)(e->stamp + cpu));
	}
	CHECK_EQ(allod_percpu_size(e->at), (e->bytes + 3) & ~3ul);
}

static void overlap_check(const struct element *fresh)
{
	for (unsigned i = 0; i < live_count; i++)
		CHECK(fresh->at + fresh->bytes <= live[i].at ||
			live[i].at + live[i].bytes <= fresh->at);
}

static size_t random_size(uint64_t *random)
{
	switch (test_random(random) % 8) {
	case 0: return 1 + test_random(random) % 6000;
	case 1: return 4096;
	case 2: return 4;
	case 3: return 64 * (1 + test_random(random) % 70);
	default: return 1 + test_random(random) % 300;
	}
}

static void step_alloc(struct allod_percpu_pool *pool, uint64_t *random)
{
	struct element e = { .bytes = random_size(random) };
	size_t align = test_random(random) % 3 ? 0 : (size_t)1 << test_random(random) % 13;
	bool is_zero = test_random(random) % 2;

	e.stamp = (unsigned char)test_random(random);
	e.at = is_zero ? allod_percpu_zalloc(pool, e.bytes, align)
		       : allod_percpu_alloc(pool, e.bytes, align);
	CHECK(e.at);
	if (align)
		CHECK_EQ((uintptr_t)e.at % align, 0);
	overlap_check(&e);
	for (int cpu = 0; is_zero && cpu < CPUS; cpu++) {
		for (size_t i = 0; i < e.bytes; i++)
			CHECK_EQ(allod_percpu_ptr(e.at, cpu)[i], 0);
	}
	stamp(&e);
	live[live_count++] = e;
}

static void step_free(uint64_t *random)
{
	unsigned i = test_random(random) % live_count;

	stamp_check(&live[i]);
	allod_percpu_free(live[i].at);
	live[i] = live[--live_count];
}

static int count_one(void *arg, void *element, size_t bytes)
{
	unsigned *left = arg;

	for (unsigned i = 0; i < live_count; i++) {
		if (live[i].at == element) {
			CHECK_EQ(bytes, (live[i].bytes + 3) & ~3ul);
			--*left;
			return 0;
		}
	}
	return 1;
}

static void run(unsigned flags, unsigned steps)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;
	uint64_t random = test_seed();
	unsigned left;

	options.max_cpus = CPUS;
	options.flags = flags;
	options.poison = 0x5a5a5a5a5a5a5a5au;
	options.unit_bytes = 65536;
	pool = allod_percpu_pool_create("model", &options);
	live_count = 0;
	for (unsigned step = 0; step < steps; step++) {
		bool is_growing = step / 500 % 2 == 0;
		unsigned part = is_growing ? 60 : 40;

		if (live_count < ELEMENTS && (!live_count || test_random(&random) % 100 < part))
			step_alloc(pool, &random);
		else
			step_free(&random);
		if (step % 97 == 0)
			percpu_cache_flush(pool);
		if (step % 501 == 0)
			allod_percpu_pool_trim(pool);
		const char *wrong = step % 7 ? NULL : allod_percpu_pool_check(pool);
		if (wrong)
			test_fail(__FILE__, __LINE__, "step %u: %s", step, wrong);
	}
	left = live_count;
	CHECK_EQ(allod_percpu_each(pool, count_one, &left), 0);
	CHECK_EQ(left, 0);
	while (live_count)
		step_free(&random);
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST_TIMEOUT(random_operations_keep_the_maps_whole, 60)
{
	run(0, test_count(5000, 100000));
}

TEST_TIMEOUT(random_operations_on_a_robust_pool, 60)
{
	run(ALLOD_PERCPU_ROBUST | ALLOD_PERCPU_POISON | ALLOD_PERCPU_GUARD,
		test_count(2000, 50000));
}

/* Without elements at hand every operation changes the maps: these are looked over each time. */
TEST_TIMEOUT(hints_are_right_after_every_step, 60)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;
	uint64_t random = test_seed();
	unsigned steps = test_count(4000, 200000);

	options.max_cpus = 1;
	options.unit_bytes = 32768;
	pool = allod_percpu_pool_create("steps", &options);
	live_count = 0;
	for (unsigned step = 0; step < steps; step++) {
		if (live_count < ELEMENTS && (!live_count || test_random(&random) % 100 < 52)) {
			size_t bytes = random_size(&random);
			live[live_count].at = allod_percpu_alloc(pool, bytes,
				(size_t)1 << test_random(&random) % 10);
			live[live_count++].bytes = bytes;
		} else {
			unsigned i = test_random(&random) % live_count;
			allod_percpu_free(live[i].at);
			live[i] = live[--live_count];
		}
		percpu_cache_flush(pool);
		const char *wrong = allod_percpu_pool_check(pool);
		if (wrong)
			test_fail(__FILE__, __LINE__, "step %u: %s", step, wrong);
	}
	allod_percpu_pool_destroy(pool);
}
