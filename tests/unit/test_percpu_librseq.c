/* SPDX-License-Identifier: MIT */
/* A program for librseq's memory pools, unchanged but for where the header is found. */
#include <rseq/mempool.h>

#include <pthread.h>
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
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

/* In a process of its own from the beginning: a child does not look at its parent's contents. */
static void store_late(enum rseq_mempool_populate_policy policy, int cpu, int is_destroyed)
{
	struct rseq_mempool *pool = pool_of(65536, 32, 1, policy, 1);
	int *p = rseq_mempool_percpu_zmalloc(pool);

	*rseq_percpu_ptr(p, 3) = 1;
	rseq_mempool_percpu_free(p);
	*rseq_percpu_ptr(p, cpu) = 2;
	if (is_destroyed)
		rseq_mempool_destroy(pool);
	else
		CHECK(!rseq_mempool_percpu_malloc(pool));
}

TEST(a_store_to_a_free_item_is_found)
{
	static const enum rseq_mempool_populate_policy policies[] = {
		RSEQ_MEMPOOL_POPULATE_COW_INIT,
		RSEQ_MEMPOOL_POPULATE_COW_ZERO,
	};

	for (unsigned i = 0; i < 4; i++) {
		CHECK_DEATH(store_late(policies[i / 2], 3, i % 2), SIGABRT,
			"allod: percpu: poison overwritten\n");
		/* Past the last processor there is nothing to store to. */
		CHECK_DEATH(store_late(policies[i / 2], CPUS + 1, i % 2), SIGABRT,
			"allod: percpu: poison overwritten\n");
	}
}

/* A pool of anonymous pages has the content written to processors that are not active yet, too. */
static void contents_go_everywhere(int is_robust)
{
	struct rseq_mempool *pool =
		pool_of(4096, 1024, 1, RSEQ_MEMPOOL_POPULATE_COW_ZERO, is_robust);
	long value = 7;
	long *items[4];

	for (int i = 0; i < 4; i++)
		CHECK((items[i] = rseq_mempool_percpu_malloc_init(pool, &value, sizeof(value))));
	for (int i = 0; i < 4; i++)
		rseq_mempool_percpu_free(items[i], 4096);
	for (int i = 0; i < 4; i++) {
		CHECK((items[i] = rseq_mempool_percpu_zmalloc(pool)));
		for (int cpu = 0; cpu < CPUS; cpu++)
			CHECK_EQ(*rseq_percpu_ptr(items[i], cpu, 4096), 0);
	}
	for (int i = 0; i < 4; i++)
		rseq_mempool_percpu_free(items[i], 4096);
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

TEST(zeros_follow_contents_on_processors_that_were_not_active)
{
	contents_go_everywhere(0);
}

TEST(poison_follows_contents_on_processors_that_were_not_active)
{
	contents_go_everywhere(1);
}

TEST(sets_give_whole_items)
{
	struct rseq_mempool_set *set = rseq_mempool_set_create();
	char *p;
	unsigned count = 0;

	CHECK_EQ(rseq_mempool_set_add_pool(set,
			 pool_of(4096, 64, 1, RSEQ_MEMPOOL_POPULATE_COW_ZERO, 0)),
		0);
	for (; (p = rseq_mempool_set_percpu_malloc(set, 10)); count++)
		CHECK_EQ((uintptr_t)p % 64, 0);
	CHECK_EQ(errno, ENOMEM);
	CHECK_EQ(count, 64);
	CHECK_EQ(rseq_mempool_set_destroy(set), 0);
}

/* Items of a size, whatever they were allocated by, and freed in any order. */
static void come_and_go(size_t item_len, enum rseq_mempool_populate_policy policy)
{
	enum { SLOTS = 64, ROUNDS = 1500 };
	uint64_t state = test_seed();
	struct rseq_mempool *pool = pool_of(0, item_len, 0, policy, 0);
	char *items[SLOTS] = { NULL };

	for (unsigned i = 0; i < ROUNDS; i++) {
		char **item = &items[test_random(&state) % SLOTS];
		int kind = (int)(test_random(&state) % 3);

		if (*item) {
			rseq_mempool_percpu_free(*item);
			*item = NULL;
			continue;
		}
		*item = kind == 0   ? rseq_mempool_percpu_malloc(pool)
			: kind == 1 ? rseq_mempool_percpu_zmalloc(pool)
				    : rseq_mempool_percpu_malloc_init(pool, &kind, sizeof(kind));
		CHECK(*item);
		CHECK_EQ((uintptr_t)*item % item_len, 0);
		if (kind)
			CHECK_EQ(*rseq_percpu_ptr(*item, (int)(i % CPUS)), kind == 1 ? 0 : kind);
		*rseq_percpu_ptr(*item, (int)(i % CPUS)) = 99;
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		if (items[i])
			rseq_mempool_percpu_free(items[i]);
	}
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

TEST_TIMEOUT(items_are_aligned_to_their_size, 60)
{
	for (size_t item_len = 8; item_len <= 65536; item_len *= 2) {
		come_and_go(item_len, RSEQ_MEMPOOL_POPULATE_COW_INIT);
		come_and_go(item_len, RSEQ_MEMPOOL_POPULATE_COW_ZERO);
	}
}

static void *free_all(void *arg)
{
	for (long **item = arg; *item; item++)
		rseq_mempool_percpu_free(*item, 4096);
	return NULL;
}

TEST(a_full_pool_has_room_when_another_thread_frees)
{
	struct rseq_mempool *pool = pool_of(4096, 64, 1, RSEQ_MEMPOOL_POPULATE_COW_ZERO, 0);
	long *items[65] = { NULL };
	pthread_t thread;

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 64; i++)
			CHECK((items[i] = rseq_mempool_percpu_malloc(pool)));
		CHECK(!rseq_mempool_percpu_malloc(pool) && errno == ENOMEM);
		CHECK_EQ(pthread_create(&thread, NULL, free_all, items), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
	}
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

TEST(attributes_are_per_processor_unless_set)
{
	struct rseq_mempool_attr *attr = rseq_mempool_attr_create();
	struct rseq_mempool *pool = rseq_mempool_create("plain", 8, attr);

	CHECK(rseq_mempool_get_max_nr_cpus(pool) >= 1);
	rseq_mempool_attr_destroy(attr);
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

TEST(content_without_bytes_is_no_content)
{
	struct rseq_mempool *pool = rseq_mempool_create("null", 16, NULL);

	CHECK(rseq_mempool_percpu_malloc_init(pool, NULL, 16));
	CHECK(!rseq_mempool_percpu_malloc_init(pool, NULL, 17) && errno == EINVAL);
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
}

static int refuse(void *priv, void *addr, size_t len, int cpu)
{
	CHECK(priv == addr || (len == 4096 && cpu < 3));
	errno = EIO;
	return cpu == 2 ? -1 : 0;
}

TEST(arguments_that_are_none)
{
	struct rseq_mempool_attr *attr = rseq_mempool_attr_create();

	CHECK(rseq_mempool_attr_set_robust(NULL) == -1 && errno == EINVAL);
	CHECK(!rseq_mempool_create("", 65537, NULL) && errno == EINVAL);
	CHECK(!rseq_mempool_create("", ~(size_t)0, NULL) && errno == EINVAL);
	CHECK_EQ(rseq_mempool_attr_set_percpu(attr, 12288, 4), 0);
	CHECK(!rseq_mempool_create("", 8, attr) && errno == EINVAL);
	CHECK_EQ(rseq_mempool_attr_set_percpu(attr, 4096, -1), 0);
	CHECK(!rseq_mempool_create("", 8, attr) && errno == EINVAL);
	CHECK_EQ(rseq_mempool_attr_set_percpu(attr, 4096, 4), 0);
	CHECK_EQ(rseq_mempool_attr_set_populate_policy(attr, (enum rseq_mempool_populate_policy)2),
		0);
	CHECK(!rseq_mempool_create("", 8, attr) && errno == EINVAL);
	CHECK_EQ(rseq_mempool_attr_set_init(attr, refuse, NULL), 0);
	CHECK(!rseq_mempool_create("", 8, attr) && errno == ENOMEM);
	rseq_mempool_attr_destroy(attr);
	CHECK_EQ(rseq_mempool_destroy(NULL), 0);
	CHECK(rseq_mempool_get_max_nr_cpus(NULL) == -1 && errno == EINVAL);
}

static int move(void *priv, void *addr, size_t len, int cpu)
{
	return rseq_mempool_range_init_numa(addr, len, cpu, *(int *)priv);
}

TEST(a_range_moves_to_its_processors_node)
{
	struct rseq_mempool_attr *attr = rseq_mempool_attr_create();
	int flags = 2; /* MPOL_MF_MOVE */
	void *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (access("/sys/devices/system/node/node0", F_OK) != 0)
		SKIP("this kernel has no memory nodes");
	if (rseq_mempool_range_init_numa(page, 8192, 0, flags) && errno == ENOSYS)
		SKIP("no mbind(2) here");
	CHECK_EQ(rseq_mempool_range_init_numa(page, 8192, 0, flags), 0);
	CHECK(rseq_mempool_range_init_numa(page, 8192, 0, 0) == -1 && errno == EINVAL);
	CHECK(rseq_mempool_range_init_numa(page, 8192, 100000, flags) == -1 && errno == EINVAL);
	CHECK(rseq_mempool_range_init_numa(page, 8192, -1, flags) == -1 && errno == EINVAL);
	CHECK_EQ(rseq_mempool_attr_set_init(attr, move, &flags), 0);
	struct rseq_mempool *pool = rseq_mempool_create("numa", 8, attr);
	CHECK(pool);
	CHECK_EQ(rseq_mempool_destroy(pool), 0);
	flags = 0;
	CHECK(!rseq_mempool_create("numa", 8, attr) && errno == ENOMEM);
	rseq_mempool_attr_destroy(attr);
}

TEST(what_programs_get_by_the_header_beside_the_pools)
{
	long word = 0;

	RSEQ_WRITE_ONCE(word, RSEQ_BITS_PER_LONG);
	rseq_barrier();
	CHECK(rseq_likely(RSEQ_READ_ONCE(word) == 8 * (long)sizeof(word)));
}
