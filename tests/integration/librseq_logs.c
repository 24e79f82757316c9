/* SPDX-License-Identifier: MIT */
/*
 * A program for librseq's pools: a log for each processor, whose memory an init function prepares, with
 * a stride of its own; and a pool that a forked child goes on with, or ends. Knows nothing of allod.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rseq/mempool.h>

enum { CPUS = 6, STRIDE = 1 << 20, LINES = 500, WRITERS = 3 };

struct log {
	unsigned used;
	char text[65536 - sizeof(unsigned)];
};

struct prepared {
	unsigned calls;
	size_t bytes;
	char *first;
};

static struct rseq_mempool *pool;
static struct log __rseq_percpu *logs;

static void check(int is_right, const char *what)
{
	if (is_right)
		return;
	printf("not ok 1 - %s\n", what);
	exit(1);
}

static int prepare(void *priv, void *addr, size_t len, int cpu)
{
	struct prepared *prepared = priv;

	check(cpu == (int)prepared->calls++, "processors in turn");
	if (cpu == 0)
		prepared->first = addr;
	check((char *)addr == prepared->first + (size_t)cpu * STRIDE, "one stride apart");
	prepared->bytes += len;
	memset(addr, '.', len);
	/* Needs a machine with memory nodes, and libnuma with librseq. */
	if (rseq_mempool_range_init_numa(addr, len, 0, 2) && errno != ENOSYS)
		return -1;
	return 0;
}

static void *write_lines(void *arg)
{
	for (int i = 0; i < LINES; i++) {
		struct log *log = rseq_percpu_ptr(logs, sched_getcpu() % CPUS, STRIDE);
		unsigned at = __atomic_fetch_add(&log->used, 16, __ATOMIC_RELAXED);

		check(at + 16 <= sizeof(log->text), "room");
		snprintf(log->text + at, 16, "%2d %12d", (int)(size_t)arg, i);
	}
	return NULL;
}

static void write_and_read(void)
{
	pthread_t writers[WRITERS];
	unsigned used = 0;

	for (size_t i = 0; i < WRITERS; i++)
		check(!pthread_create(&writers[i], NULL, write_lines, (void *)i), "a thread");
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	for (int cpu = 0; cpu < CPUS; cpu++) {
		const struct log *log = rseq_percpu_ptr(logs, cpu, STRIDE);

		used += log->used;
		check(log->text[log->used] == '.', "behind the lines, what was prepared");
	}
	check(used == WRITERS * LINES * 16, "all lines are there");
}

static int ended_well(pid_t child)
{
	int status;

	return waitpid(child, &status, 0) == child && status == 0;
}

/* A child may end any pool, and go on with one whose pages begin as zeros. */
static void fork_with(struct rseq_mempool *zero)
{
	long __rseq_percpu *word = rseq_mempool_percpu_zmalloc(zero);
	pid_t child;

	*rseq_percpu_ptr(word, 1) = 1;
	child = fork();
	if (child == 0) {
		long __rseq_percpu *other = rseq_mempool_percpu_zmalloc(zero);

		*rseq_percpu_ptr(word, 1) += 10;
		if (!other || *rseq_percpu_ptr(word, 1) != 11 || *rseq_percpu_ptr(other, 1) != 0)
			_exit(2);
		_exit(rseq_mempool_destroy(pool) || rseq_mempool_destroy(zero));
	}
	check(ended_well(child), "the child");
	check(*rseq_percpu_ptr(word, 1) == 1, "which changed nothing here");
	rseq_mempool_percpu_free(word);
}

int main(void)
{
	struct rseq_mempool_attr *attr = rseq_mempool_attr_create();
	struct prepared prepared = { 0 };
	struct rseq_mempool *zero;

	puts("1..1");
	check(!rseq_mempool_attr_set_percpu(attr, STRIDE, CPUS), "percpu");
	check(!rseq_mempool_attr_set_init(attr, prepare, &prepared), "init");
	pool = rseq_mempool_create("logs", sizeof(struct log), attr);
	check(pool && prepared.calls == CPUS, "prepared when the pool was made");
	check(prepared.bytes == (size_t)CPUS * STRIDE, "all of it");
	check(!rseq_mempool_attr_set_percpu(attr, 3 * STRIDE, CPUS), "any stride may be asked for");
	check(!rseq_mempool_create("logs", 8, attr) && errno == EINVAL, "but not had");
	rseq_mempool_attr_destroy(attr);
	logs = rseq_mempool_percpu_malloc(pool);
	check(logs != NULL, "logs");
	check(rseq_percpu_ptr(logs, 3, STRIDE)->text[9] == '.', "prepared");
	for (int cpu = 0; cpu < CPUS; cpu++)
		rseq_percpu_ptr(logs, cpu, STRIDE)->used = 0;
	write_and_read();

	attr = rseq_mempool_attr_create();
	check(!rseq_mempool_attr_set_populate_policy(attr, RSEQ_MEMPOOL_POPULATE_COW_ZERO), "zero");
	check(!rseq_mempool_attr_set_percpu(attr, 0, CPUS), "percpu");
	zero = rseq_mempool_create(NULL, sizeof(long), attr);
	rseq_mempool_attr_destroy(attr);
	check(zero != NULL, "a pool of zeros");
	fork_with(zero);
	rseq_mempool_percpu_free(logs, STRIDE);
	check(!rseq_mempool_destroy(zero) && !rseq_mempool_destroy(pool), "the end");
	puts("ok 1 - logs");
	return 0;
}
