/* SPDX-License-Identifier: MIT */
/* A program for librseq's memory pools, unchanged but for where the header is found. */
#include <rseq/mempool.h>

#include <signal.h>

#include "harness.h"

enum { CPUS = 16 };

static struct rseq_mempool *pool_of(size_t stride, size_t item_len, unsigned long ranges,
	enum rseq_mempool_populate_policy policy, int is_robust)
{
	struct rseq_mempool_attr *attr = rseq_mempool_attr_create();
	struct rseq_mempool *pool;

	CHECK(attr);
	CHECK_EQ(rseq_mempool_attr_set_percpu(attr, stride, CPUS), 0);
	CHECK_EQ(rseq_mempool_attr_set_max_nr_ranges(attr, ranges), 0);
	CHECK_EQ(rseq_mempool_attr_set_populate_policy(attr, policy), 0);
	if (is_robust)
		CHECK_EQ(rseq_mempool_attr_set_robust(attr), 0);
	pool = rseq_mempool_create("test", item_len, attr);
	rseq_mempool_attr_destroy(attr);
	CHECK(pool);
	return pool;
}

static void fill(size_t stride, unsigned long ranges, enum rseq_mempool_populate_policy policy)
{
	struct rseq_mempool *pool = pool_of(stride, 24, ranges, policy, 1);
	void *items[8192];
	size_t count = 0;

	CHECK_EQ(rseq_mempool_get_max_nr_cpus(pool), CPUS);
	for (void __rseq_percpu *p; (p = rseq_mempool_percpu_zmalloc(pool));) {
		for (int cpu = 0; cpu < CPUS; cpu += 5)
			CHECK_EQ(*(int *)rseq_percpu_ptr(p, cpu, stride), 0);
		*(int *)rseq_percpu_ptr(p, (int)(count % CPUS), stride) = 1;
		items[count++] = p;
	}
	CHECK_EQ(errno, ENOMEM);
	CHECK_EQ(count, ranges * stride / 32);
	while (count)
		rseq_mempool_percpu_free(items[--count], stride);
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

TEST(pools_hold_just_what_their_ranges_hold)
{
	fill(4096, 1, RSEQ_MEMPOOL_POPULATE_COW_INIT);
	fill(65536, 2, RSEQ_MEMPOOL_POPULATE_COW_INIT);
	fill(4096, 4, RSEQ_MEMPOOL_POPULATE_COW_ZERO);
	fill(65536, 1, RSEQ_MEMPOOL_POPULATE_COW_ZERO);
}

TEST(initial_values_are_everywhere)
{
	struct rseq_mempool *pool = rseq_mempool_create(NULL, 16, NULL);
	int value[4] = { 1, 2, 3, 4 };
	int __rseq_percpu *p = rseq_mempool_percpu_malloc_init(pool, value, sizeof(value));

	CHECK(p);
	for (int cpu = 0; cpu < rseq_mempool_get_max_nr_cpus(pool); cpu++)
		CHECK_EQ(rseq_percpu_ptr(p, cpu)[3], 4);
	CHECK(!rseq_mempool_percpu_malloc_init(pool, value, 17) && errno == EINVAL);
	rseq_mempool_percpu_free(p);
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

static int count_parts(void *priv, void *addr, size_t len, int cpu)
{
	unsigned *seen = priv;

	memset(addr, 7, len);
	*seen |= 1u << (cpu + 1);
	return 0;
}

TEST(the_init_function_is_called_for_each_processor)
{
	struct rseq_mempool_attr *attr = rseq_mempool_attr_create();
	unsigned seen = 0;

	CHECK_EQ(rseq_mempool_attr_set_percpu(attr, 4096, 8), 0);
	CHECK_EQ(rseq_mempool_attr_set_init(attr, count_parts, &seen), 0);
	struct rseq_mempool *pool = rseq_mempool_create("init", 8, attr);
	CHECK(pool);
	CHECK_EQ(seen, 0x1fe);
	char *p = rseq_mempool_percpu_malloc(pool);
	CHECK_EQ(*rseq_percpu_ptr(p, 6, 4096), 7);
	char *z = rseq_mempool_percpu_zmalloc(pool);
	for (int cpu = 0; cpu < 8; cpu++)
		CHECK_EQ(*rseq_percpu_ptr(z, cpu, 4096), 0);
	rseq_mempool_destroy(pool);
}

TEST(sets_choose_by_size)
{
	struct rseq_mempool_set *set = rseq_mempool_set_create();
	int value[8] = { 9 };

	CHECK_EQ(rseq_mempool_set_add_pool(set, rseq_mempool_create("16", 16, NULL)), 0);
	CHECK_EQ(rseq_mempool_set_add_pool(set, rseq_mempool_create("64", 64, NULL)), 0);
	struct rseq_mempool *extra = rseq_mempool_create("60", 60, NULL);
	CHECK(rseq_mempool_set_add_pool(set, extra) == -1 && errno == EBUSY);
	CHECK(rseq_mempool_set_percpu_zmalloc(set, 10));
	int *p = rseq_mempool_set_percpu_malloc_init(set, value, sizeof(value));
	CHECK_EQ(*rseq_percpu_ptr(p, 0), 9);
	CHECK(!rseq_mempool_set_percpu_malloc(set, 65) && errno == ENOMEM);
	CHECK_EQ(rseq_mempool_set_destroy(set), 0);
	CHECK_EQ(rseq_mempool_destroy(extra), 0);
}

TEST(global_pools_have_one_place)
{
	struct rseq_mempool_attr *attr = rseq_mempool_attr_create();

	CHECK_EQ(rseq_mempool_attr_set_global(attr, 0), 0);
	struct rseq_mempool *pool = rseq_mempool_create("global", 32, attr);
	int value = 5;
	int *p = rseq_mempool_malloc_init(pool, &value, sizeof(value));
	CHECK_EQ(*p, 5);
	CHECK_EQ(rseq_mempool_get_max_nr_cpus(pool), -1);
	rseq_mempool_free(p);
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

TEST(robust_pools_end_the_process)
{
	struct rseq_mempool *pool = pool_of(65536, 32, 1, RSEQ_MEMPOOL_POPULATE_COW_INIT, 1);
	int *p = rseq_mempool_percpu_zmalloc(pool);

	*rseq_percpu_ptr(p, 3) = 1;
	CHECK_DEATH(rseq_mempool_destroy(pool), SIGABRT, "allod: percpu: leak at destroy\n");
	rseq_mempool_percpu_free(p);
	CHECK_DEATH(rseq_mempool_percpu_free(p), SIGABRT, "allod: percpu: double free\n");
	*rseq_percpu_ptr(p, 3) = 2;
	CHECK_DEATH(CHECK(!rseq_mempool_percpu_malloc(pool)), SIGABRT,
		"allod: percpu: poison overwritten\n");
}
