/* SPDX-License-Identifier: MIT */
/*
 * Elements whose sizes are multiples of 64 bytes lie in chunks of their own, whose maps have a bit for
 * each 64 bytes. What is promised of elements is the same there.
 */
#include "allod/percpu.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "os/mock.h"
#include "percpu/cache.h"
#include "percpu/percpu.h"

enum { CPUS = 3, COUNT = 2000 };

static char *elements[COUNT];

static struct allod_percpu_pool *pool_of(unsigned flags)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;

	options.max_cpus = CPUS;
	options.flags = flags;
	pool = allod_percpu_pool_create("coarse", &options);
	CHECK(pool);
	return pool;
}

static bool is_coarse(const void *element)
{
	return chunk_of((uintptr_t)element)->kind == CHUNK_COARSE;
}

/* The state of what is at hand is not to be seen in the maps. */
static void check(struct allod_percpu_pool *pool)
{
	const char *wrong;

	percpu_cache_flush(pool);
	wrong = allod_percpu_pool_check(pool);
	if (wrong)
		test_fail(__FILE__, __LINE__, "%s", wrong);
}

TEST(sizes_are_exact_in_both_kinds_of_chunks)
{
	struct allod_percpu_pool *pool = pool_of(0);

	for (size_t bytes = 4; bytes <= 9000; bytes += 4) {
		char *element = allod_percpu_alloc(pool, bytes, 0);

		CHECK_EQ(allod_percpu_size(element), bytes);
		CHECK_EQ(is_coarse(element), bytes >= COARSE_LEAST_BYTES && bytes % 64 == 0);
		if (bytes % 128)
			allod_percpu_free(element);
	}
	check(pool);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 9000 / 128);
}

TEST(their_maps_are_small)
{
	struct allod_percpu_pool *pool = pool_of(0);
	struct allod_percpu_stats stats = { .size = sizeof(stats) };

	for (unsigned i = 0; i < COUNT; i++)
		CHECK(allod_percpu_alloc(pool, 1024, 0));
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK_EQ(stats.live_bytes, COUNT * 1024);
	/* A bit for each 4 bytes in each of three maps would be 96 for an element. */
	CHECK(stats.metadata_bytes < COUNT * 32);
	allod_percpu_pool_destroy(pool);
}

TEST(misuse_is_told_word_for_word)
{
	struct allod_percpu_pool *pool = pool_of(0);
	char *element = allod_percpu_alloc(pool, 128, 0);
	char *second = allod_percpu_alloc(pool, 128, 0);
	char *large = allod_percpu_alloc(pool, 8192, 0);

	CHECK(is_coarse(element) && is_coarse(large));
	allod_percpu_free(second);
	CHECK_DEATH(allod_percpu_free(second), SIGABRT, "allod: percpu: double free\n");
	for (unsigned inside = 1; inside < 128; inside += inside < 64 ? 21 : 4)
		CHECK_DEATH(allod_percpu_free(element + inside), SIGABRT,
			"allod: percpu: interior pointer freed\n");
	CHECK_DEATH(allod_percpu_free(large + 8188), SIGABRT,
		"allod: percpu: interior pointer freed\n");
	CHECK_DEATH(allod_percpu_free(second + 1), SIGABRT, "allod: percpu: invalid free\n");
	CHECK_EQ(allod_percpu_size(element + 4), 0);
	CHECK_EQ(allod_percpu_size(element + 64), 0);
	CHECK(!allod_percpu_pool_of(element + 32));
}

/* Frees every `step`th of what is there, from the last or the first one on. */
static void free_some(struct allod_percpu_pool *pool, unsigned step, bool is_reversed)
{
	for (unsigned i = 0; i < COUNT; i++) {
		unsigned at = is_reversed ? COUNT - 1 - i : i;
		if (at % step || !elements[at])
			continue;
		allod_percpu_free(elements[at]);
		elements[at] = NULL;
		if (i % 16 == 0)
			check(pool);
	}
	check(pool);
}

/* Some lie in one block, some reach into the next. */
static void free_in_all_orders(size_t bytes)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_ROBUST);
	struct allod_percpu_stats stats = { .size = sizeof(stats) };
	uint64_t peak = 0;

	for (unsigned round = 0; round < 6; round++) {
		for (unsigned i = 0; i < COUNT; i++) {
			if (elements[i])
				continue;
			elements[i] = allod_percpu_zalloc(pool, bytes, 0);
			for (size_t at = 0; at < bytes; at += 64) {
				CHECK_EQ(allod_percpu_ptr(elements[i], 1)[at], 0);
				allod_percpu_ptr(elements[i], 1)[at] = 1;
			}
		}
		check(pool);
		CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
		peak = !round ? stats.unit_bytes : peak;
		CHECK_EQ(stats.unit_bytes, peak);
		free_some(pool, round % 3 + 2, round % 2);
	}
	free_some(pool, 1, false);
	CHECK_EQ(allod_percpu_pool_stats(pool, &stats), 0);
	CHECK_EQ(stats.live, 0);
	CHECK_EQ(stats.free_bytes, stats.unit_bytes);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(holes_are_used_again)
{
	free_in_all_orders(128);
	free_in_all_orders(192);
	free_in_all_orders(1024);
}

TEST(a_child_makes_the_maps_whole)
{
	struct allod_percpu_pool *pool = pool_of(ALLOD_PERCPU_GUARD);
	int status;

	for (unsigned i = 0; i < COUNT; i++)
		elements[i] = allod_percpu_zalloc(pool, i % 2 ? 256 : 40, 0);
	free_some(pool, 3, false);
	pid_t child = fork();
	if (!child) {
		check(pool);
		free_some(pool, 2, true);
		CHECK(allod_percpu_alloc(pool, 256, 0));
		check(pool);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	free_some(pool, 1, true);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

/* Where no address is left for a chunk, free memory of the other kind will do. */
TEST_PLAIN(without_addresses_they_lie_in_plain_chunks)
{
	struct allod_percpu_pool *pool;
	char *first = NULL;
	char *last = NULL;

	mock_facts()->address_limit_bytes = (uint64_t)256 << 20;
	pool = pool_of(0);
	for (char *at; (at = allod_percpu_alloc(pool, 1000, 0));) {
		first = first ? first : at;
		last = at;
	}
	CHECK(first && errno == ENOMEM);
	CHECK(!allod_percpu_alloc(pool, 1024, 0));
	CHECK_EQ(errno, ENOMEM);
	for (char *at = first; at < first + 8000; at += 1000)
		allod_percpu_free(at);
	check(pool);
	char *element = allod_percpu_zalloc(pool, 1024, 0);
	CHECK(element && !is_coarse(element));
	CHECK_EQ(allod_percpu_size(element), 1024);
	allod_percpu_free(element);
	allod_percpu_free(last);
	check(pool);
}
