/* SPDX-License-Identifier: MIT */
/*
 * percpu_fork CPUS COUNT: the time of a fork with COUNT elements of 8 bytes with an initial value,
 * beyond that of one without; the least of twenty each.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "percpu_pool.h"

static double fork_ns(void)
{
	double best = 1e18;

	for (int i = 0; i < 20; i++) {
		uint64_t start = now_ns();
		pid_t child = fork();
		if (!child)
			_exit(0);
		double took = (double)(now_ns() - start);
		best = took < best ? took : best;
		waitpid(child, NULL, 0);
	}
	return best;
}

int main(int argc, char **argv)
{
	size_t count = number_of(argc, argv, 2);
	double empty = fork_ns();
	struct allod_percpu_pool *pool = pool_for(argv[1], NULL);
	uint64_t one = 1;

	for (size_t i = 0; i < count; i++) {
		uint64_t *element = allod_percpu_alloc_init(pool, 8, 0, &one, 8);
		if (!element)
			fail("no element");
		if (i % 64 == 0)
			++*allod_percpu_ptr(element, 0);
	}
	report("beyond_s", (fork_ns() - empty) / 1e9, "s");
	return 0;
}
