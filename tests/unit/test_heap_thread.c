/* SPDX-License-Identifier: MIT */
/* Threads get a heap, and give it back when they end, by whatever way they came to it. */
#include "base/options.h"
#include "heap_fixture.h"
#include "os/mock.h"

#define SMALL ((size_t)64)
#define THREADS 20

static void run_threads(void *(*run)(void *), void *arg)
{
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_t thread;
		CHECK_EQ(pthread_create(&thread, NULL, run, arg), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
	}
}

static void check_one_active(void)
{
	struct heap_stats stats;
	heap_stats_read(&stats);
	CHECK_EQ(stats.heaps_active, 1);
	heap_check();
	fixture_check_empty();
}

static pthread_key_t key;

static void destructor(void *arg)
{
	(void)arg;
	heap_free(heap_alloc(SMALL));
}

static void *set_key(void *arg)
{
	CHECK_EQ(pthread_setspecific(key, arg), 0);
	return NULL;
}

/*
 * The key is made after the heap's own, so that its turn comes later in each round. Not under the
 * sanitizers, whose own state of the thread ends in the last round of destructors as well.
 */
TEST_PLAIN(a_thread_that_first_calls_in_a_destructor_gives_its_heap_back)
{
	fixture_start();
	heap_free(heap_alloc(SMALL));
	CHECK_EQ(pthread_key_create(&key, destructor), 0);
	run_threads(set_key, &key);
	CHECK_EQ(heap_pool_count(), 2);
	check_one_active();
}

static void *alloc_and_free(void *arg)
{
	heap_free(heap_alloc(SMALL));
	return arg;
}

/* Threads of another library's constructor come before ours. */
TEST(threads_before_the_constructor_give_their_heaps_back)
{
	mock_reset();
	options.background = OPTION_BACKGROUND_OFF;
	heap_free(heap_alloc(SMALL));
	run_threads(alloc_and_free, NULL);
	CHECK_EQ(heap_pool_count(), 2);
	heap_register_hooks();
	check_one_active();
}
