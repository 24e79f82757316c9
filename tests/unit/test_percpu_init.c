/* SPDX-License-Identifier: MIT */
/* Elements with initial contents: on every processor, without memory for those that only read. */
#include "allod/percpu.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "os/area.h"
#include "os/os.h"
#include "percpu/percpu.h"

enum { CPUS = 8 };

static struct allod_percpu_pool *pool_of(enum allod_percpu_content content, size_t stride)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;

	options.max_cpus = CPUS;
	options.content = content;
	options.stride = stride;
	pool = allod_percpu_pool_create("init", &options);
	CHECK(pool);
	return pool;
}

static uint64_t *place(void *element, unsigned cpu, size_t stride)
{
	return (uint64_t *)((char *)element + cpu * stride);
}

static unsigned own_pages(const void *at)
{
	uint8_t kind;

	CHECK_EQ(os_pages((void *)((uintptr_t)at & -4096ul), 1, &kind), 0);
	return kind == OS_PAGE_OWN;
}

TEST(the_content_is_on_every_processor)
{
	for (unsigned kind = 0; kind < 3; kind++) {
		struct allod_percpu_pool *pool = pool_of((enum allod_percpu_content)kind, 0);
		uint64_t value = 0x1122334455667788u;
		uint64_t *element = allod_percpu_alloc_init(pool, 24, 0, &value, sizeof(value));

		CHECK(element);
		for (unsigned cpu = 0; cpu < CPUS; cpu++) {
			CHECK_EQ(*place(element, cpu, ALLOD_PERCPU_STRIDE), value);
			CHECK_EQ(place(element, cpu, ALLOD_PERCPU_STRIDE)[1], 0);
			CHECK_EQ(*allod_percpu_ptr(element, (int)cpu), value);
		}
		CHECK_EQ(allod_percpu_pool_check(pool), NULL);
		CHECK_EQ(allod_percpu_pool_destroy(pool), 1);
	}
}

TEST(equal_contents_take_no_memory_and_no_page_each)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_CONTENT_AUTO, 0);
	uint64_t one = 1;
	static uint64_t *elements[10000];
	struct allod_percpu_stats stats = { .size = sizeof(stats) };

	CHECK_EQ(allod_percpu_mark_active(0), 0);
	CHECK_EQ(allod_percpu_mark_active(1), 0);
	for (unsigned i = 0; i < 10000; i++)
		elements[i] = allod_percpu_alloc_init(pool, 8, 0, &one, sizeof(one));
	for (unsigned i = 0; i < 10000; i++) {
		for (unsigned cpu = 0; cpu < CPUS; cpu++) {
			CHECK_EQ(own_pages(place(elements[i], cpu, ALLOD_PERCPU_STRIDE)), 0);
			CHECK_EQ(*place(elements[i], cpu, ALLOD_PERCPU_STRIDE), 1);
		}
	}
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK_EQ(stats.live, 10000);
	CHECK(stats.touched_bytes <= 24 * 4096);
	*allod_percpu_ptr(elements[5], 1) += 1;
	CHECK_EQ(own_pages(place(elements[5], 1, ALLOD_PERCPU_STRIDE)), 1);
	CHECK_EQ(*place(elements[6], 1, ALLOD_PERCPU_STRIDE), 1);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 10000);
}

TEST(different_contents_are_right_also_where_a_processor_comes_late)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_CONTENT_AUTO, 0);
	static uint64_t *elements[3000];
	struct allod_percpu_stats stats = { .size = sizeof(stats) };

	CHECK_EQ(allod_percpu_mark_active(0), 0);
	for (uint64_t i = 0; i < 3000; i++) {
		uint64_t value = i * 7 + 1;
		elements[i] = allod_percpu_alloc_init(pool, 8, 0, &value, sizeof(value));
	}
	for (uint64_t i = 0; i < 3000; i++) {
		CHECK_EQ(*allod_percpu_ptr(elements[i], 0), i * 7 + 1);
		CHECK_EQ(*(const uint64_t *)allod_percpu_peek(elements[i], 3), i * 7 + 1);
		CHECK(!allod_percpu_is_active(3));
	}
	for (uint64_t i = 0; i < 3000; i++)
		CHECK_EQ(*allod_percpu_ptr(elements[i], 5), i * 7 + 1);
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK(stats.touched_bytes <= 16 * 4096);
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 3000);
}

/* What has no page filled in advance is in the overlay: the file's pages are not looked at. */
TEST(different_contents_make_no_page_of_the_file_present)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_CONTENT_AUTO, 0);
	uint8_t kinds[UNIT_FIRST_BYTES / BLOCK_BYTES];
	struct percpu_chunk *chunk = NULL;
	unsigned present = 0;

	if (os_facts()->page_bytes != BLOCK_BYTES)
		SKIP("pages are not of 4 KiB");
	CHECK_EQ(allod_percpu_mark_active(0), 0);
	for (uint64_t i = 0; i < 4000; i++) {
		uint64_t value = i * 7 + 1;
		uintptr_t element =
			(uintptr_t)allod_percpu_alloc_init(pool, 8, 0, &value, sizeof(value));
		CHECK(element);
		chunk = chunk ? chunk : chunk_of(element);
		CHECK_EQ(*allod_percpu_ptr((uint64_t *)element, 0), value);
	}
	CHECK(chunk->is_file && chunk->blocks == sizeof(kinds));
	CHECK_EQ(os_pages(chunk->image, chunk->blocks, kinds), 0);
	for (unsigned i = 0; i < chunk->blocks; i++)
		present += kinds[i] != OS_PAGE_NONE;
	CHECK(present >= 1 && present <= 2);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 4000);
}

static void *activate_all(void *arg)
{
	for (int cpu = 0; cpu < CPUS; cpu++) {
		usleep(1000);
		CHECK_EQ(allod_percpu_mark_active(cpu), 0);
	}
	return arg;
}

/* The thread sanitizer sees a peek that does not wait for what the activation writes. */
TEST(a_peek_while_a_processor_becomes_active_finds_the_content)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_CONTENT_AUTO, 0);
	enum { COUNT = 200 };
	uint64_t *elements[COUNT];
	pthread_t thread;
	bool was_active;

	for (uint64_t i = 0; i < COUNT; i++) {
		uint64_t value = i * 7 + 1;
		elements[i] = allod_percpu_alloc_init(pool, 8, 0, &value, sizeof(value));
	}
	CHECK_EQ(pthread_create(&thread, NULL, activate_all, NULL), 0);
	for (int cpu = 0; cpu < CPUS; cpu++) {
		do {
			was_active = allod_percpu_is_active(cpu);
			for (uint64_t i = 0; i < COUNT; i++)
				CHECK_EQ(*(const uint64_t *)allod_percpu_peek(elements[i], cpu),
					i * 7 + 1);
		} while (!was_active);
	}
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(allod_percpu_pool_destroy(pool), COUNT);
}

/* Elements come and go with contents of few kinds and many, on all processors. */
static void come_and_go(size_t stride, enum allod_percpu_content content)
{
	struct allod_percpu_pool *pool = pool_of(content, stride);
	size_t step = allod_percpu_pool_stride(pool);
	uint64_t random = test_seed();
	uint64_t *elements[64] = { NULL };
	uint64_t values[64];
	unsigned words[64];

	for (unsigned round = 0; round < 6000; round++) {
		unsigned i = test_random(&random) % 64;
		if (elements[i]) {
			for (unsigned cpu = 0; cpu < CPUS; cpu++) {
				for (unsigned w = 0; w < words[i]; w++)
					CHECK_EQ(allod_percpu_ptr_stride(elements[i], cpu, step)[w],
						w ? 0 : values[i]);
			}
			unsigned cpu = test_random(&random) % CPUS;
			memset(allod_percpu_ptr_stride(elements[i], cpu, step), 0xee, words[i] * 8);
			allod_percpu_free(elements[i]);
			elements[i] = NULL;
			continue;
		}
		words[i] = 1 + test_random(&random) % (test_random(&random) % 8 ? 6 : 400);
		values[i] = test_random(&random) % 4 ? test_random(&random) % 5 : round;
		if (test_random(&random) % 3 == 0)
			values[i] = 0;
		elements[i] = values[i]
			? allod_percpu_alloc_init(pool, words[i] * 8, 8, &values[i], 8)
			: allod_percpu_zalloc(pool, words[i] * 8, 8);
		CHECK(elements[i]);
	}
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
	allod_percpu_pool_destroy(pool);
}

TEST(contents_are_right_when_memory_is_used_again)
{
	come_and_go(0, ALLOD_PERCPU_CONTENT_AUTO);
	come_and_go(0, ALLOD_PERCPU_CONTENT_INIT);
	come_and_go(0, ALLOD_PERCPU_CONTENT_ZERO);
	come_and_go(16384, ALLOD_PERCPU_CONTENT_INIT);
	come_and_go(4096, ALLOD_PERCPU_CONTENT_INIT);
}

/*
 * The race of the source: a thread copies a page by writing to it while another thread allocates
 * with initial content beside. Every processor's content is looked at. None is freed before the end,
 * for the threads may be late.
 */
static _Atomic(uintptr_t) target;
static _Atomic(bool) is_over;

static void *store_on(void *arg)
{
	int cpu = (int)(intptr_t)arg;

	while (!a_load_rlx(&is_over)) {
		/* The element is whole; pairs with the store below. */
		uint64_t *element = (uint64_t *)a_load_acq(&target);
		if (element)
			*(volatile uint64_t *)allod_percpu_ptr(element, cpu) = 99;
	}
	return NULL;
}

TEST_TIMEOUT(no_initial_content_is_lost, 60)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_CONTENT_AUTO, 0);
	unsigned rounds = test_count(20000, 400000);
	pthread_t threads[2];

	for (intptr_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, store_on, (void *)i), 0);
	for (unsigned round = 1; round <= rounds; round++) {
		uint64_t value = round % 3 ? 7 : round;
		uint64_t *element = allod_percpu_alloc_init(pool, 128, 0, &value, 8);
		for (unsigned cpu = 0; cpu < CPUS; cpu++)
			CHECK_EQ(*(const volatile uint64_t *)allod_percpu_peek(element, cpu),
				value);
		/* The threads may store to it; pairs with store_on(). */
		a_store_rel(&target, (uintptr_t)element);
	}
	a_store_rlx(&is_over, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
}
