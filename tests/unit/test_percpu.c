/* SPDX-License-Identifier: MIT */
/* Per-CPU pools: what each call promises, one subtest a promise. */
#include "allod/percpu.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "harness.h"
#include "os/area.h"
#include "os/os.h"
#include "percpu/percpu.h"

enum { CPUS = 4 };

static struct allod_percpu_pool *pool_of(unsigned flags)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;

	options.max_cpus = CPUS;
	options.flags = flags;
	pool = allod_percpu_pool_create("test", &options);
	CHECK(pool);
	return pool;
}

/* The place by hand: what a program computes that does not call the accessor. */
static uint8_t *place(void *element, unsigned cpu)
{
	return (uint8_t *)element + cpu * ALLOD_PERCPU_STRIDE;
}

TEST(an_element_has_a_place_for_each_processor)
{
	struct allod_percpu_pool *pool = pool_of(0);
	uint64_t ALLOD_PERCPU *element = allod_percpu_zalloc(pool, sizeof(*element), 0);

	for (int cpu = 0; cpu < CPUS; cpu++)
		*allod_percpu_ptr(element, cpu) = 100u + (unsigned)cpu;
	for (int cpu = 0; cpu < CPUS; cpu++)
		CHECK_EQ(*allod_percpu_ptr(element, cpu), 100 + cpu);
	CHECK_EQ((uintptr_t)allod_percpu_ptr(element, 3) - (uintptr_t)element,
		3 * ALLOD_PERCPU_STRIDE);
	allod_percpu_free(element);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(sizes_and_alignments_share_a_pool)
{
	struct allod_percpu_pool *pool = pool_of(0);
	uint64_t random = test_seed();
	void *elements[400];

	for (unsigned i = 0; i < 400; i++) {
		size_t bytes = 1 + test_random(&random) % 3000;
		size_t align = (size_t)1 << test_random(&random) % 13;

		elements[i] = allod_percpu_alloc(pool, bytes, align);
		CHECK(elements[i]);
		CHECK_EQ((uintptr_t)elements[i] % align, 0);
		memset(allod_percpu_ptr((char *)elements[i], 1), (int)i, bytes);
	}
	for (unsigned i = 0; i < 400; i++) {
		CHECK_EQ(*allod_percpu_ptr((unsigned char *)elements[i], 1), i & 255);
		allod_percpu_free(elements[i]);
	}
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(an_element_may_be_as_large_as_the_stride_allows)
{
	struct allod_percpu_pool *pool = pool_of(0);
	char *element = allod_percpu_zalloc(pool, (size_t)100 << 20, 0);

	CHECK(element);
	allod_percpu_ptr(element, 2)[(100 << 20) - 1] = 1;
	allod_percpu_free(element);
	errno = 0;
	CHECK(!allod_percpu_alloc(pool, ALLOD_PERCPU_STRIDE + 1, 0));
	CHECK_EQ(errno, ENOMEM);
	allod_percpu_pool_destroy(pool);
}

TEST(a_large_alignment_is_kept)
{
	struct allod_percpu_pool *pool = pool_of(0);

	for (size_t align = 4; align <= (size_t)4 << 20; align *= 2) {
		void *element = allod_percpu_alloc(pool, 8, align);
		CHECK(element);
		CHECK_EQ((uintptr_t)element % align, 0);
	}
	allod_percpu_pool_destroy(pool);
}

TEST(wrong_options_are_refused)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;

	errno = 0;
	options.flags = 0x80000000u;
	CHECK(!allod_percpu_pool_create("x", &options) && errno == EINVAL);
	options.flags = 0;
	options.stride = 12345;
	CHECK(!allod_percpu_pool_create("x", &options) && errno == EINVAL);
	options.stride = 0;
	options.size = 3;
	CHECK(!allod_percpu_pool_create("x", &options) && errno == EINVAL);
}

TEST(zeroed_elements_are_zero_everywhere_also_when_used_again)
{
	struct allod_percpu_pool *pool = pool_of(0);
	uint64_t random = test_seed();

	for (unsigned round = 0; round < 2000; round++) {
		size_t bytes = 4 + test_random(&random) % 200;
		uint8_t *element = allod_percpu_zalloc(pool, bytes, 0);
		for (unsigned cpu = 0; cpu < CPUS; cpu++) {
			for (size_t i = 0; i < bytes; i++)
				CHECK_EQ(place(element, cpu)[i], 0);
		}
		memset(allod_percpu_ptr(element, (int)(round % CPUS)), 0xff, bytes);
		allod_percpu_free(element);
	}
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

static unsigned own_pages(const void *at, size_t pages)
{
	uint8_t kinds[4096];
	unsigned own = 0;

	CHECK(pages <= sizeof(kinds));
	CHECK_EQ(os_pages(at, pages, kinds), 0);
	for (size_t i = 0; i < pages; i++)
		own += kinds[i] != OS_PAGE_NONE;
	return own;
}

/* They are cleaned many at a time, by the blocks that they lie in. */
TEST(zeroed_elements_of_every_size_are_zero)
{
	enum { COUNT = 90, CPUS_STORED = 3 };
	unsigned char *elements[COUNT];

	for (size_t bytes = 4; bytes <= 1024; bytes += bytes < 300 ? 4 : 60) {
		struct allod_percpu_pool *pool = pool_of(0);
		for (unsigned i = 0; i < 3 * COUNT; i++) {
			unsigned char *element = allod_percpu_zalloc(pool, bytes, 0);
			if (i >= COUNT)
				allod_percpu_free(elements[i % COUNT]);
			elements[i % COUNT] = element;
			for (int cpu = 0; cpu < CPUS_STORED; cpu++) {
				unsigned char *place = allod_percpu_ptr(element, cpu);
				for (size_t at = 0; at < bytes; at++)
					CHECK_EQ(place[at], 0);
				/* The last processor is stored to now and then. */
				if (cpu < 2 || i % 64 == 63)
					memset(place, 0xff, bytes);
			}
		}
		CHECK_EQ(allod_percpu_pool_check(pool), NULL);
		allod_percpu_pool_destroy(pool);
	}
}

TEST(zeroed_elements_of_several_blocks_are_zero)
{
	struct allod_percpu_pool *pool = pool_of(0);
	enum { BYTES = 3 * BLOCK_BYTES };

	for (unsigned round = 0; round < 40; round++) {
		unsigned char *element = allod_percpu_zalloc(pool, BYTES, BLOCK_BYTES);
		for (size_t at = BLOCK_BYTES; at < BYTES; at++)
			CHECK_EQ(((unsigned char *)allod_percpu_ptr(element, 1))[at], 0);
		/* The first of the blocks never gets memory, nor is it read. */
		memset((unsigned char *)allod_percpu_ptr(element, 1) +
				(1 + round % 2) * BLOCK_BYTES,
			0xff, BLOCK_BYTES);
		allod_percpu_free(element);
	}
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(only_stores_make_pages_present)
{
	struct allod_percpu_pool *pool = pool_of(0);
	void *elements[1000];

	CHECK_EQ(allod_percpu_mark_active(0), 0);
	CHECK_EQ(allod_percpu_mark_active(1), 0);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 1000; i++)
			elements[i] = allod_percpu_zalloc(pool, 64, 0);
		for (unsigned i = 0; i < 1000; i++)
			allod_percpu_free(elements[i]);
	}
	for (unsigned i = 0; i < 1000; i++)
		elements[i] = allod_percpu_zalloc(pool, 64, 0);
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		for (unsigned i = 0; i < 1000; i++)
			CHECK_EQ(own_pages((void *)((uintptr_t)place(elements[i], cpu) & -4096ul),
					 1),
				0);
	}
	*allod_percpu_ptr((int *)elements[0], 1) = 1;
	CHECK_EQ(own_pages((void *)((uintptr_t)place(elements[0], 1) & -4096ul), 1), 1);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 1000);
}

TEST(memory_of_freed_elements_goes_back)
{
	struct allod_percpu_pool *pool = pool_of(0);
	static void *elements[11000];
	unsigned before;
	unsigned after;
	char *base = NULL;

	for (unsigned i = 0; i < 11000; i++) {
		elements[i] = allod_percpu_alloc(pool, 256, 0);
		for (int cpu = 0; cpu < 2; cpu++)
			*allod_percpu_ptr((int *)elements[i], cpu) = 1;
	}
	base = (char *)((uintptr_t)elements[0] & -4096ul);
	before = own_pages(base, 700) + own_pages(base + ALLOD_PERCPU_STRIDE, 700);
	for (unsigned i = 0; i < 10000; i++)
		allod_percpu_free(elements[i]);
	after = own_pages(base, 700) + own_pages(base + ALLOD_PERCPU_STRIDE, 700);
	test_note("pages of 11000 elements: %u, of the 1000 left: %u", before, after);
	CHECK(after * 5 < before);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 1000);
}

TEST(a_limit_of_chunks_is_kept)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;
	unsigned count = 0;

	options.max_cpus = CPUS;
	options.max_chunks = 2;
	options.unit_bytes = 65536;
	pool = allod_percpu_pool_create("limited", &options);
	while (allod_percpu_alloc(pool, 64, 0))
		count++;
	CHECK_EQ(errno, ENOMEM);
	CHECK_EQ(count, 2 * 65536 / 64);
	CHECK_EQ(allod_percpu_pool_destroy(pool), count);
}

TEST(a_pool_may_have_a_stride_of_its_own)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;
	char *elements[100];

	options.max_cpus = CPUS;
	options.stride = 4096;
	pool = allod_percpu_pool_create("own", &options);
	CHECK(pool);
	CHECK_EQ(allod_percpu_pool_stride(pool), 4096);
	for (unsigned i = 0; i < 100; i++) {
		elements[i] = allod_percpu_zalloc(pool, 128, 0);
		CHECK(elements[i]);
		for (int cpu = 0; cpu < CPUS; cpu++)
			memset(allod_percpu_ptr_stride(elements[i], cpu, 4096), (int)i, 128);
	}
	for (unsigned i = 0; i < 100; i++) {
		for (int cpu = 0; cpu < CPUS; cpu++)
			CHECK_EQ(allod_percpu_ptr_stride(elements[i], cpu, 4096)[127], i);
		allod_percpu_free(elements[i]);
	}
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(misuse_ends_the_process)
{
	struct allod_percpu_pool *pool = pool_of(0);
	char *element = allod_percpu_alloc(pool, 64, 0);
	char *second = allod_percpu_alloc(pool, 64, 0);
	char *third = allod_percpu_alloc(pool, 2000, 0);
	char *large = allod_percpu_alloc(pool, 8000, 0);
	int local;

	allod_percpu_free(second);
	CHECK_DEATH(allod_percpu_free(second), SIGABRT, "allod: percpu: double free\n");
	CHECK_DEATH(allod_percpu_free(element + 4), SIGABRT,
		"allod: percpu: interior pointer freed\n");
	CHECK_DEATH(allod_percpu_free(element + 1), SIGABRT,
		"allod: percpu: interior pointer freed\n");
	CHECK_DEATH(allod_percpu_free(third + 1996), SIGABRT,
		"allod: percpu: interior pointer freed\n");
	CHECK_DEATH(allod_percpu_free(large + 4096), SIGABRT,
		"allod: percpu: interior pointer freed\n");
	CHECK_DEATH(allod_percpu_free(&local), SIGABRT, "allod: percpu: invalid free\n");
	CHECK_DEATH(allod_percpu_free(element + ALLOD_PERCPU_STRIDE), SIGABRT,
		"allod: percpu: invalid free\n");
	allod_percpu_free(large);
	CHECK_DEATH(allod_percpu_free(large), SIGABRT, "allod: percpu: double free\n");
	CHECK_DEATH(allod_percpu_free((void *)8), SIGABRT, "allod: percpu: invalid free\n");
	allod_percpu_free(NULL);
}

TEST(a_robust_pool_dies_of_leaks)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_ROBUST);

	CHECK(allod_percpu_alloc(pool, 64, 0));
	CHECK_DEATH(allod_percpu_pool_destroy(pool), SIGABRT, "allod: percpu: leak at destroy\n");
}

/* The process that corrupts its records is the one that is to notice: a child makes them anew. */
static void corrupt_and_destroy(struct allod_percpu_pool *pool)
{
	void *element = allod_percpu_alloc(pool, 64, 0);

	CHECK(element);
	allod_percpu_free(element);
	CHECK(!percpu_pool_check(pool));
	pool->chunks->alloc[pool->chunks->bits / 64 - 1] ^= 1;
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(a_robust_pool_dies_of_records_that_were_overwritten)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_ROBUST);

	CHECK_DEATH(corrupt_and_destroy(pool), SIGABRT, "allod: percpu: corrupted bitmap\n");
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(a_poisoned_pool_sees_writes_to_freed_elements)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;
	int *element;

	options.max_cpus = CPUS;
	options.flags = ALLOD_PERCPU_ROBUST | ALLOD_PERCPU_POISON;
	options.poison = 0x5555555555555555u;
	pool = allod_percpu_pool_create("poisoned", &options);
	element = allod_percpu_alloc(pool, 64, 0);
	*allod_percpu_ptr(element, 1) = 7;
	allod_percpu_free(element);
	CHECK_EQ(*allod_percpu_ptr(element, 1), 0x55555555);
	*allod_percpu_ptr(element, 1) = 8;
	CHECK_DEATH(CHECK(!allod_percpu_alloc(pool, 64, 0)), SIGABRT,
		"allod: percpu: poison overwritten\n");
}

TEST(a_store_on_an_inactive_processor_is_noticed_in_debug_builds)
{
	struct allod_percpu_pool *pool = pool_of(0);
	uint8_t *element = allod_percpu_zalloc(pool, 64, 0);

	if (!ALLOD_ASSERTIONS)
		SKIP("built without assertions");
	*place(element, 2) = 1;
	CHECK_DEATH(allod_percpu_pool_destroy(pool), SIGABRT,
		"allod: percpu: store on an inactive processor\n");
	CHECK_EQ(allod_percpu_mark_active(2), 0);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 1);
}

/* An arena tells its map of free addresses as they are needed: at first, of 64 MiB. */
TEST(elements_of_tens_of_megabytes_have_addresses)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("large", NULL);
	enum { COUNT = 2, BYTES = 40 << 20 };
	uintptr_t elements[COUNT];

	for (unsigned i = 0; i < COUNT; i++) {
		elements[i] = (uintptr_t)allod_percpu_alloc(pool, BYTES, 0);
		CHECK(elements[i]);
	}
	CHECK(elements[0] + BYTES <= elements[1] || elements[1] + BYTES <= elements[0]);
	for (unsigned i = 0; i < COUNT; i++)
		allod_percpu_free((void *)elements[i]);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}
