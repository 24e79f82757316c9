// SPDX-License-Identifier: MIT
// Operations on per-CPU memory from C++: in templates, inline functions and lambdas of two files.
#include <thread>
#include <vector>

#define _Noreturn [[noreturn]]
extern "C" {
#include "harness.h"
}
#include "percpu_cxx.h"

static ALLOD_PERCPU_DEFINE(uint64_t, of_this_file) = 4;

static uint64_t sum(uint64_t *word)
{
	uint64_t ret = 0;

	for (unsigned cpu = 0; cpu < allod_percpu_possible_cpus(); cpu++)
		ret += *allod_percpu_ptr(word, (int)cpu);
	return ret;
}

TEST(operations_work_in_templates_and_lambdas)
{
	allod_percpu_pool *pool = allod_percpu_pool_create("c++", nullptr);
	auto *words = static_cast<uint64_t *>(allod_percpu_zalloc(pool, 3 * sizeof(uint64_t), 0));
	std::vector<std::thread> threads;

	CHECK(words != nullptr);
	for (int i = 0; i < 4; i++)
		threads.emplace_back([words] {
			for (int k = 0; k < 1000; k++)
				add_elsewhere(words);
			Tally<1>{ words }.add(5);
		});
	for (auto &thread : threads)
		thread.join();
	CHECK_EQ(sum(words), 4000);
	CHECK_EQ(sum(words + 1), 40020);
	CHECK_EQ(sum(words + 2) % 100, 0);
	exchange(words + 2, 1);
	allod_percpu_free(words);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
}

TEST(counters_and_static_variables_work)
{
	allod_percpu_pool *pool = allod_percpu_pool_create("c++", nullptr);
	allod_counter counter;

	allod_counter_init(&counter, allod_percpu_pool_view(pool),
		static_cast<allod_counter_copy *>(allod_percpu_zalloc(pool,
			sizeof(allod_counter_copy), 0)),
		8);
	for (int i = 0; i < 100; i++)
		allod_counter_add(&counter, -2);
	CHECK_EQ(allod_counter_sum(&counter), -200);
	allod_percpu_add(ALLOD_PERCPU_VAR(of_this_file), 1);
	CHECK_EQ(sum(ALLOD_PERCPU_VAR(of_this_file)), 4 * allod_percpu_possible_cpus() + 1);
}
