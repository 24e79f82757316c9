/* SPDX-License-Identifier: MIT */
/*
 * percpu_threads THREADS ROUNDS: THREADS are there at once, each uses a word of each page
 * of BYTES (set when this is compiled) of storage: its own thread-local one, or its processor's.
 * ROUNDS times over. Time and memory for each thread. From M. Desnoyers, "Waste-Free Per-CPU
 * Userspace Memory Allocation" (2025), which has the case against thread-local storage.
 */
#include <stdio.h>
#include <string.h>

#include <allod/percpu-ops.h>

#include "timing.h"

#ifndef BYTES
#define BYTES 1024
#endif

enum { THREADS_MOST = 1024, WORDS = BYTES / 8 };

/* Not zero, as variables are that somebody has given a value; libc copies it for each thread. */
#ifdef WITH_TLS
static __thread volatile uint64_t storage[WORDS] = { 1 };
#endif

static uint64_t ALLOD_PERCPU *element;
static struct allod_percpu_view view;
static pthread_barrier_t all_there;
static pthread_barrier_t measured;

static void use(void)
{
	for (size_t i = 0; i < WORDS; i += PAGE_BYTES / 8) {
#ifdef WITH_TLS
		storage[i]++;
#else
		allod_percpu_add_in(view, element + i, 1);
#endif
	}
}

static void *run(void *argument)
{
	(void)argument;
	use();
	pthread_barrier_wait(&all_there);
	pthread_barrier_wait(&measured);
	return NULL;
}

static void prepare(void)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("threads", NULL);

	if (!pool)
		fail("no pool");
	view = allod_percpu_pool_view(pool);
	element = allod_percpu_zalloc(pool, BYTES, 64);
	if (!element)
		fail("no element");
}

int main(int argc, char **argv)
{
	static pthread_t ids[THREADS_MOST];
	uint64_t spent = 0;
	size_t most = 0;

	if (argc != 3)
		fail("percpu_threads THREADS ROUNDS");
	const size_t threads = number_of(argc, argv, 1);
	const size_t rounds = number_of(argc, argv, 2);
	if (threads < 1 || threads > THREADS_MOST)
		fail("too many threads");
	prepare();
	const size_t before = resident_bytes();
	pthread_barrier_init(&all_there, NULL, (unsigned)threads + 1);
	pthread_barrier_init(&measured, NULL, (unsigned)threads + 1);
	for (size_t round = 0; round < rounds; round++) {
		const uint64_t start = now_ns();

		for (size_t i = 0; i < threads; i++)
			thread_start(&ids[i], run, NULL);
		pthread_barrier_wait(&all_there);
		spent += now_ns() - start;
		if (resident_bytes() > most)
			most = resident_bytes();
		pthread_barrier_wait(&measured);
		for (size_t i = 0; i < threads; i++)
			thread_join(ids[i]);
	}
	report("thread", (double)spent / (double)(rounds * threads), "ns");
	report("resident", most > before ? (double)(most - before) : 0, "bytes");
	return 0;
}
