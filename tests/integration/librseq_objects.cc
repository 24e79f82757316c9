// SPDX-License-Identifier: MIT
// A C++ program for librseq's pools: objects of any type that exist once for each processor, made from
// a prototype, in robust pools with a limit. Knows nothing of allod.
#include <rseq/mempool.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace
{

void check(bool is_right, const char *what)
{
	if (is_right)
		return;
	std::printf("not ok 1 - %s\n", what);
	std::exit(1);
}

template <typename T> class PerCpu
{
public:
	PerCpu(const char *name, int cpus, unsigned long ranges,
		rseq_mempool_populate_policy policy)
	{
		rseq_mempool_attr *attr = rseq_mempool_attr_create();

		check(rseq_mempool_attr_set_robust(attr) == 0, "robust");
		check(rseq_mempool_attr_set_percpu(attr, stride, cpus) == 0, "percpu");
		check(rseq_mempool_attr_set_max_nr_ranges(attr, ranges) == 0, "ranges");
		check(rseq_mempool_attr_set_poison(attr, 0xfeedfacecafebeefu) == 0, "poison");
		check(rseq_mempool_attr_set_populate_policy(attr, policy) == 0, "policy");
		pool = rseq_mempool_create(name, sizeof(T), attr);
		rseq_mempool_attr_destroy(attr);
		check(pool && rseq_mempool_get_max_nr_cpus(pool) == cpus, "a pool");
	}

	T __rseq_percpu *make(T prototype)
	{
		return static_cast<T __rseq_percpu *>(rseq_mempool_percpu_malloc_init(pool,
			&prototype, sizeof(prototype)));
	}

	static T &at(T __rseq_percpu *object, int cpu)
	{
		return *rseq_percpu_ptr(object, cpu, stride);
	}

	static void end(T __rseq_percpu *object)
	{
		rseq_mempool_percpu_free(object, stride);
	}

	int destroy()
	{
		return rseq_mempool_destroy(pool);
	}

	static constexpr size_t stride = 32768;
	rseq_mempool *pool;
};

struct Rectangle {
	double width, height;
	int id;
};

constexpr int CPUS = 12;

void fill_and_empty(rseq_mempool_populate_policy policy)
{
	PerCpu<Rectangle> pool("rectangles", CPUS, 2, policy);
	std::vector<Rectangle *> all;
	std::set<Rectangle *> distinct;

	for (int round = 0; round < 2; round++) {
		for (Rectangle *r; (r = pool.make({ 2.5, 4.0, (int)all.size() })); all.push_back(r))
			pool.at(r, (int)all.size() % CPUS).width = 5.0;
		check(errno == ENOMEM, "full");
		check(all.size() == 2 * pool.stride / 32, "as many as two ranges hold");
		for (size_t i = 0; i < all.size(); i++) {
			for (int cpu = 0; cpu < CPUS; cpu++) {
				const Rectangle &r = pool.at(all[i], cpu);
				check(r.id == (int)i && r.height == 4.0, "the prototype");
				check(r.width == ((int)i % CPUS == cpu ? 5.0 : 2.5), "or a change");
			}
		}
		for (Rectangle *r : all) {
			distinct.insert(r);
			pool.end(r);
		}
		all.clear();
	}
	check(distinct.size() == 2 * pool.stride / 32, "the same places again");
	check(pool.destroy() == 0, "destroyed");
}

// Whether this ends a child by SIGABRT.
template <typename F> bool aborts(F misuse)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		close(2);
		misuse();
		_exit(0);
	}
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

void misuses()
{
	check(aborts([] {
		PerCpu<long> pool("twice", CPUS, 1, RSEQ_MEMPOOL_POPULATE_COW_INIT);
		long *p = pool.make(1);
		pool.end(p);
		pool.end(p);
	}),
		"a double free ends the process");
	check(aborts([] {
		PerCpu<long> pool("leak", CPUS, 1, RSEQ_MEMPOOL_POPULATE_COW_ZERO);
		pool.make(1);
		pool.destroy();
	}),
		"a leak ends the process");
	check(aborts([] {
		PerCpu<long> pool("late", CPUS, 1, RSEQ_MEMPOOL_POPULATE_COW_INIT);
		long *p = pool.make(1);
		pool.at(p, 2) = 2;
		pool.end(p);
		pool.at(p, 2) = 3;
		pool.destroy();
	}),
		"a store to a free item ends the process");
}

void larger_ones_help()
{
	rseq_mempool_set *set = rseq_mempool_set_create();
	rseq_mempool_attr *attr = rseq_mempool_attr_create();
	int count = 0;

	check(rseq_mempool_attr_set_percpu(attr, 0, 2) == 0, "percpu");
	check(rseq_mempool_attr_set_max_nr_ranges(attr, 1) == 0, "one range each");
	for (size_t len : { 4096, 1024 })
		check(rseq_mempool_set_add_pool(set, rseq_mempool_create("s", len, attr)) == 0,
			"s");
	rseq_mempool_attr_destroy(attr);
	while (rseq_mempool_set_percpu_zmalloc(set, 700))
		count++;
	check(errno == ENOMEM && count == 64 + 16, "first the small pool, then the large");
	check(rseq_mempool_set_destroy(set) == 0, "destroyed");
}

} // namespace

int main()
{
	std::puts("1..1");
	fill_and_empty(RSEQ_MEMPOOL_POPULATE_COW_INIT);
	fill_and_empty(RSEQ_MEMPOOL_POPULATE_COW_ZERO);
	misuses();
	larger_ones_help();
	std::puts("ok 1 - objects");
}
