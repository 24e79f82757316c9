/* SPDX-License-Identifier: MIT */
/*
 * A trace of events by a ring buffer for each processor. Writers reserve room on the processor that
 * they run on, fill it in, and commit; they never wait, and drop what finds no room. One reader
 * collects from all processors.
 *
 *     cc percpu_rings.c $(pkg-config --cflags --libs allod) -pthread
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <allod/percpu-ops.h>

enum { WRITERS = 4, EVENTS = 20000, RING_BYTES = 1 << 14 };

struct event {
	unsigned writer;
	unsigned number;
};

struct ring {
	struct allod_percpu_ring head;
	char data[RING_BYTES];
};

static struct ring ALLOD_PERCPU *rings;
static uint64_t ALLOD_PERCPU *dropped;
static bool finished;
static unsigned collected;

static void *write_events(void *arg)
{
	for (unsigned i = 0; i < EVENTS; i++) {
		struct event *event =
			allod_percpu_ring_reserve(&rings->head, RING_BYTES, sizeof *event);

		if (event == NULL) {
			allod_percpu_add(dropped, 1);
			sched_yield(); /* only for the example's sake: the reader is to come along */
			continue;
		}
		event->writer = (unsigned)(size_t)arg;
		event->number = i;
		allod_percpu_ring_commit(event, sizeof *event);
	}
	return NULL;
}

static void look_at(const void *record, size_t bytes, void *arg)
{
	const struct event *event = record;

	if (bytes != sizeof *event || event->writer >= WRITERS || event->number >= EVENTS)
		abort();
	++*(unsigned *)arg;
}

static void collect(void)
{
	int cpu;

	allod_percpu_for_each_active(cpu)
		allod_percpu_ring_consume(&allod_percpu_ptr(rings, cpu)->head, RING_BYTES, look_at,
			&collected);
}

static void *read_events(void *arg)
{
	while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE))
		collect();
	collect();
	return arg;
}

int main(void)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("trace", NULL);
	pthread_t writers[WRITERS], reader;
	uint64_t lost = 0;
	int cpu;

	rings = pool ? allod_percpu_zalloc(pool, sizeof *rings, 64) : NULL;
	dropped = pool ? allod_percpu_zalloc(pool, sizeof *dropped, 0) : NULL;
	if (rings == NULL || dropped == NULL) {
		perror("no memory for the rings");
		return 1;
	}
	if (pthread_create(&reader, NULL, read_events, NULL))
		return 1;
	for (size_t i = 0; i < WRITERS; i++) {
		if (pthread_create(&writers[i], NULL, write_events, (void *)i))
			return 1;
	}
	for (size_t i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	__atomic_store_n(&finished, true, __ATOMIC_RELEASE);
	pthread_join(reader, NULL);
	allod_percpu_for_each_active(cpu) lost += *allod_percpu_ptr(dropped, cpu);
	printf("%u events collected, %llu dropped\n", collected, (unsigned long long)lost);
	return collected + lost != (uint64_t)WRITERS * EVENTS;
}
