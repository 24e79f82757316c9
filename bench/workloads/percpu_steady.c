/* SPDX-License-Identifier: MIT */
/*
 * percpu_steady CPUS KIND THREADS COUNT: elements of 64 bytes are allocated and freed at once. KIND:
 * 0 undefined, 1 zeroed and stored to, 2 zeroed and not stored to, 3 in a robust pool. Time of a
 * pair, of the thread.
 */
#include "percpu_pool.h"

enum { BYTES = 64, THREADS_MOST = 64 };

static struct allod_percpu_pool *pool;
static int kind;
static size_t count;
static double pair_ns[THREADS_MOST];

static void *run(void *argument)
{
	double *ret_ns = argument;
	uint64_t start = cpu_ns();

	for (size_t i = 0; i < count; i++) {
		int *element = kind == 0 || kind == 3 ? allod_percpu_alloc(pool, BYTES, 0)
						      : allod_percpu_zalloc(pool, BYTES, 0);
		if (kind == 1)
			*(volatile int *)allod_percpu_ptr(element, 0) = 1;
		allod_percpu_free(element);
	}
	*ret_ns = (double)(cpu_ns() - start) / (double)count;
	return NULL;
}

int main(int argc, char **argv)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	size_t threads = number_of(argc, argv, 3);
	pthread_t ids[THREADS_MOST];
	double sum = 0;

	kind = (int)number_of(argc, argv, 2);
	count = number_of(argc, argv, 4);
	options.flags = kind == 3 ? ALLOD_PERCPU_ROBUST : 0;
	pool = pool_for(argv[1], &options);
	for (size_t i = 0; i < threads && i < THREADS_MOST; i++)
		thread_start(&ids[i], run, &pair_ns[i]);
	for (size_t i = 0; i < threads && i < THREADS_MOST; i++) {
		thread_join(ids[i]);
		sum += pair_ns[i];
	}
	report("pair", sum / (double)threads, "ns");
	return 0;
}
