/* SPDX-License-Identifier: MIT */
/*
 * Static per-CPU variables: of a program of two files, and of a shared object that is loaded, used
 * by several threads and unloaded again and again while the threads live on.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "harness.h"
#include "percpu_static.h"

enum { THREADS = 4, LOADS = 60, ADDITIONS = 500 };

static ALLOD_PERCPU_DEFINE(uint64_t, counted);

static unsigned cpus(void)
{
	return allod_percpu_possible_cpus();
}

static uint64_t sum_counted(void)
{
	uint64_t sum = 0;

	for (unsigned cpu = 0; cpu < cpus(); cpu++)
		sum += *allod_percpu_ptr(ALLOD_PERCPU_VAR(counted), cpu);
	return sum;
}

static uint64_t at_start;

__attribute__((constructor)) static void in_a_constructor(void)
{
	allod_percpu_add(ALLOD_PERCPU_VAR(counted), 3);
	at_start = sum_counted();
}

TEST(variables_are_there_for_constructors)
{
	CHECK_EQ(at_start, 3);
	CHECK_EQ(sum_counted(), 3);
}

TEST(each_processor_has_the_initial_value)
{
	for (unsigned cpu = 0; cpu < cpus(); cpu++) {
		CHECK_EQ(*allod_percpu_ptr(ALLOD_PERCPU_VAR(shared_small), cpu), 5);
		CHECK_EQ(other_first(cpu), 9);
	}
	CHECK_EQ(other_address() % _Alignof(struct wide), 0);
}

TEST(files_of_a_program_share_their_variables)
{
	uint64_t sum = 0, firsts = 0;

	for (unsigned i = 0; i < 10; i++)
		other_add();
	for (unsigned cpu = 0; cpu < cpus(); cpu++) {
		sum += *allod_percpu_ptr(ALLOD_PERCPU_VAR(shared_small), cpu);
		firsts += other_first(cpu);
	}
	CHECK_EQ(sum, 5 * cpus() + 10);
	CHECK_EQ(firsts, 9 * cpus() + 10);
}

/* Threads take turns with who loads and unloads. */
static pthread_barrier_t turn;
static uint64_t (*module_add)(uint64_t value);
static _Atomic(bool) done;

static void *use_module(void *arg)
{
	for (;;) {
		pthread_barrier_wait(&turn);
		if (done)
			return arg;
		for (unsigned i = 0; i < ADDITIONS; i++)
			CHECK_EQ(module_add(1), 77);
		/* The last sequence of this thread was the object's. Now it may go. */
		pthread_barrier_wait(&turn);
	}
}

static void load_use_unload(const char *path)
{
	void *module = dlopen(path, RTLD_NOW);
	uint64_t sum = 0;

	if (module == NULL)
		test_fail(__FILE__, __LINE__, "%s", dlerror());
	module_add = (uint64_t(*)(uint64_t))(uintptr_t)dlsym(module, "module_add");
	uint64_t (*module_word)(unsigned) =
		(uint64_t(*)(unsigned))(uintptr_t)dlsym(module, "module_word");
	CHECK(module_add != NULL && module_word != NULL);
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	for (unsigned cpu = 0; cpu < cpus(); cpu++)
		sum += module_word(cpu);
	CHECK_EQ(sum, (uint64_t)THREADS * ADDITIONS);
	CHECK_EQ(dlclose(module), 0);
	CHECK(dlopen(path, RTLD_NOW | RTLD_NOLOAD) == NULL);
	/* The kernel looks at the threads' areas now. */
	for (unsigned i = 0; i < 20; i++)
		sched_yield();
}

TEST_TIMEOUT(an_object_comes_and_goes_while_threads_live_on, 60)
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&turn, NULL, THREADS + 1);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, use_module, NULL), 0);
	for (unsigned i = 0; i < test_count(LOADS, LOADS * 30); i++)
		load_use_unload(PERCPU_MODULE);
	done = true;
	pthread_barrier_wait(&turn);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}
