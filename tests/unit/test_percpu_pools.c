/* SPDX-License-Identifier: MIT */
/* Operations on elements of pools: of each kind of number, stride and content. */
#include <sched.h>
#include <string.h>

#include "harness.h"
#include "percpu_fixture.h"

enum { THREADS = 4, ROUNDS = 5000 };

static struct allod_percpu_view view;
static uint64_t *element;

static void add_and_hop(unsigned self)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		allod_percpu_add_in(view, element, 1);
		if (i % 64 == self)
			hop(i / 64 + self);
	}
}

static uint64_t sum(unsigned cpus, uint64_t initial)
{
	uint64_t ret = 0;

	for (unsigned i = 0; i < cpus; i++) {
		const uint64_t *place = allod_percpu_peek(element, (int)i);
		ret += *place - initial;
	}
	return ret;
}

/* Elements that are zero, and such as begin with a value, wherever a thread comes to first. */
static void use_pool(const struct allod_percpu_options *options)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("test", options);
	const uint64_t initial = 1000;

	CHECK(pool != NULL);
	view = allod_percpu_pool_view(pool);
	CHECK_EQ(view.stride, allod_percpu_pool_stride(pool));
	CHECK_EQ(view.by, allod_percpu_pool_index(pool));
	element = allod_percpu_zalloc(pool, sizeof *element, 0);
	CHECK(element != NULL);
	run_threads(THREADS, add_and_hop, 100, NULL);
	CHECK_EQ(sum(view.count, 0), THREADS * ROUNDS);
	allod_percpu_free(element);

	element = allod_percpu_alloc_init(pool, sizeof *element, 0, &initial, sizeof initial);
	CHECK(element != NULL);
	CHECK(allod_percpu_read_in(view, element) == initial);
	run_threads(THREADS, add_and_hop, 100, NULL);
	CHECK_EQ(sum(view.count, initial), THREADS * ROUNDS);
	allod_percpu_free(element);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(by_processor)
{
	use_pool(NULL);
}

TEST(by_concurrency_id)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;

	options.index = ALLOD_PERCPU_BY_CID;
	use_pool(&options);
}

/* Ids are below the number of threads that there are at once, main thread included. */
TEST(by_concurrency_id_for_few_threads)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;

	if (!allod_rseq_available(ALLOD_RSEQ_MM_CID))
		SKIP("the kernel gives no concurrency ids");
	options.index = ALLOD_PERCPU_BY_CID;
	options.max_cpus = THREADS + 1;
	use_pool(&options);
}

TEST(with_a_stride_of_its_own)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;

	options.stride = 1 << 20;
	use_pool(&options);
}

/* The first operation on a processor marks it; before that it costs nothing and is marked nowhere. */
TEST(the_first_operation_marks_the_processor)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("test", NULL);

	CHECK(pool != NULL);
	element = allod_percpu_zalloc(pool, sizeof *element, 0);
	CHECK(element != NULL);
	for (unsigned k = 0; k < 2; k++) {
		hop(k);
		const int cpu = sched_getcpu();
		if (k == 0)
			CHECK(!allod_percpu_is_active(cpu));
		allod_percpu_add(element, 1);
		CHECK(allod_percpu_is_active(cpu));
		CHECK_EQ(*(const uint64_t *)allod_percpu_peek(element, cpu) > 0, 1);
	}
}

TEST(statistics_tell_of_sizes_and_holes)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("sizes", NULL);
	struct allod_percpu_stats stats = { .size = sizeof(stats) };
	/* 1100 is in the class of 1088. */
	static const size_t bytes[5] = { 2000, 8, 1100, 40, 1300 };
	void *elements[5];

	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK_EQ(stats.live_median_bytes, 0);
	for (unsigned i = 0; i < 5; i++)
		elements[i] = allod_percpu_alloc(pool, bytes[i], 0);
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK_EQ(stats.live_smallest_bytes, 8);
	CHECK_EQ(stats.live_largest_bytes, 2000);
	CHECK_EQ(stats.live_median_bytes, 1088);
	allod_percpu_free(elements[2]);
	allod_percpu_free(elements[4]);
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK_EQ(stats.live_median_bytes, 40);
	CHECK(stats.fragment_bytes <= stats.fragmented_bytes);
	allod_percpu_free(elements[0]);
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	/* Where it was, in front of the others. */
	CHECK(stats.fragment_bytes >= 2000);
	allod_percpu_free(elements[1]);
	allod_percpu_free(elements[3]);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}
