/* SPDX-License-Identifier: MIT */
/*
 * Threads that allocate and free while they end: in destructors of thread_local objects, in
 * handlers of __cxa_thread_atexit(), in destructors of pthread keys in each of their rounds; and
 * threads whose first call comes from there. After the first hundreds, neither memory nor the
 * number of heaps grows. TEST_LONG=1 makes 10,000 threads.
 *
 * Built twice: on the heap itself, whose statistics count heaps, and for the preloaded library.
 */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _Noreturn [[noreturn]]
extern "C" {
#include "harness.h"
#ifdef ON_HEAP
#include "heap/heap.h"
#else
#include <malloc.h>
#endif
}

#ifdef ON_HEAP
static void *allocate(size_t size)
{
	return heap_alloc(size);
}

static void release(void *p)
{
	heap_free(p);
}

static size_t heaps()
{
	struct heap_stats stats;
	heap_stats_read(&stats);
	return stats.heaps;
}

static void trim()
{
	heap_trim();
}
#else
static void *allocate(size_t size)
{
	return malloc(size);
}

static void release(void *p)
{
	free(p);
}

/* Not known through malloc's interface. */
static size_t heaps()
{
	return 0;
}

static void trim()
{
	malloc_trim(0);
}
#endif

enum {
	AT_ONCE = 8,
	FIRST_THREADS = 400,
	THREADS = 2000,
	THREADS_LONG = 10000,
	ROUNDS = PTHREAD_DESTRUCTOR_ITERATIONS,
	/*
	 * A destructor that comes after the thread's heap was given back uses one for that moment.
	 */
	HEAPS_MORE = AT_ONCE,
	BYTES_MORE = 2 << 20,
};

extern "C" int __cxa_thread_atexit_impl(void (*handler)(void *), void *object, void *dso);
extern "C" void *__dso_handle;

/* Blocks of several classes, which are written and read. */
static void use_heap()
{
	static const size_t sizes[] = { 24, 100, 700, 5000, 300000 };
	for (size_t size : sizes) {
		unsigned char *p = (unsigned char *)allocate(size);
		CHECK(p != NULL);
		p[0] = p[size - 1] = 7;
		CHECK_EQ(p[0] + p[size - 1], 14);
		release(p);
	}
}

struct Keeper {
	void *block = allocate(200);

	~Keeper()
	{
		use_heap();
		release(block);
	}
};

static thread_local Keeper keeper;

static void at_thread_exit(void *block)
{
	release(block);
	use_heap();
}

/* The values of the keys count rounds; from `first` on, the destructors call the heap. */
struct Plan {
	unsigned first;
	unsigned round;
};

enum { EARLY, LATE, KEYS };
static pthread_key_t keys[KEYS];
static __thread Plan plans[KEYS];

static void destructor(Plan *plan, pthread_key_t key)
{
	plan->round++;
	if (plan->round >= plan->first)
		use_heap();
	if (plan->round < ROUNDS)
		CHECK_EQ(pthread_setspecific(key, plan), 0);
}

static void early_destructor(void *plan)
{
	destructor((Plan *)plan, keys[EARLY]);
}

static void late_destructor(void *plan)
{
	destructor((Plan *)plan, keys[LATE]);
}

/* From the start, or not before a certain round of destructors. */
static void *run(void *arg)
{
	const unsigned first = (unsigned)(size_t)arg;
	for (unsigned i = 0; i < KEYS; i++) {
		plans[i] = Plan{ first, 0 };
		CHECK_EQ(pthread_setspecific(keys[i], &plans[i]), 0);
	}
	if (first == 0) {
		CHECK(keeper.block != NULL);
		CHECK_EQ(__cxa_thread_atexit_impl(at_thread_exit, allocate(50), &__dso_handle), 0);
		use_heap();
	}
	return NULL;
}

static void run_threads(unsigned count, unsigned first)
{
	pthread_t threads[AT_ONCE];
	for (unsigned i = 0; i < count; i++) {
		if (i >= AT_ONCE)
			CHECK_EQ(pthread_join(threads[i % AT_ONCE], NULL), 0);
		CHECK_EQ(pthread_create(&threads[i % AT_ONCE], NULL, run, (void *)(size_t)first),
			0);
	}
	for (unsigned i = 0; i < AT_ONCE; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static size_t resident_bytes()
{
	char text[128] = "";
	FILE *f = fopen("/proc/self/statm", "r");
	CHECK(f != NULL && fgets(text, sizeof text, f) != NULL);
	fclose(f);
	return (size_t)atol(strchr(text, ' ')) * (size_t)sysconf(_SC_PAGESIZE);
}

static void churn(unsigned first)
{
	/* Its turn comes before that of the heap's own key, if the heap is not malloc. */
	CHECK_EQ(pthread_key_create(&keys[EARLY], early_destructor), 0);
	use_heap();
	CHECK_EQ(pthread_key_create(&keys[LATE], late_destructor), 0);
	run_threads(FIRST_THREADS, first);
	trim();
	const size_t heaps_before = heaps();
	const size_t bytes_before = resident_bytes();
	const unsigned count = test_count(THREADS, THREADS_LONG);
	run_threads(count, first);
	trim();
	const size_t heaps_after = heaps();
	const size_t bytes_after = resident_bytes();
	test_note("resident %zu KiB, after %u threads %zu; heaps %zu and %zu", bytes_before >> 10,
		count, bytes_after >> 10, heaps_before, heaps_after);
	CHECK(heaps_after <= heaps_before + HEAPS_MORE);
	CHECK(bytes_after <= bytes_before + BYTES_MORE);
}

TEST_TIMEOUT(threads_that_use_the_heap_to_their_last_moment, 60)
{
	churn(0);
}

TEST_TIMEOUT(threads_whose_first_call_is_in_the_first_round, 60)
{
	churn(1);
}

TEST_TIMEOUT(threads_whose_first_call_is_in_the_second_round, 60)
{
	churn(2);
}

TEST_TIMEOUT(threads_whose_first_call_is_in_the_third_round, 60)
{
	churn(3);
}

TEST_TIMEOUT(threads_whose_first_call_is_in_the_last_round, 60)
{
	churn(4);
}
