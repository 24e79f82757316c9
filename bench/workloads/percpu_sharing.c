/* SPDX-License-Identifier: MIT */
/*
 * percpu_sharing LAYOUT ELEMENTS ROUNDS: two threads, each on a processor of its own, add to their
 * own slot of elements chosen at random. LAYOUT says where an element's slots are: packed (side by
 * side: threads share cache lines), padded (a cache line each) or pool (an element of a per-CPU
 * pool: a processor's slots are side by side). From M. Desnoyers, "Waste-Free Per-CPU Userspace
 * Memory Allocation" (2025). The figure is wall time, the middle of those parts of the run in which
 * the thread had its processor.
 */
#include <stdio.h>
#include <string.h>

#include <allod/percpu-ops.h>

#include "timing.h"

enum { THREADS = 2, PARTS = 31, LINE_BYTES = 64 };

static uint64_t ALLOD_PERCPU **elements; /* pool */
static char *array;
static size_t stride_bytes; /* of an element in the array */
static size_t slot_bytes;
static size_t count;
static size_t rounds;
static int processors[THREADS];
static pthread_barrier_t together;
static double middle[THREADS];

static void add_in_array(unsigned self, uint32_t *random)
{
	for (size_t k = 0; k < rounds; k++) {
		const size_t i = random_below(random, count);

		++*(volatile uint64_t *)(void *)(array + i * stride_bytes + self * slot_bytes);
	}
}

static void add_in_pool(int cpu, uint32_t *random)
{
	for (size_t k = 0; k < rounds; k++) {
		const size_t i = random_below(random, count);

		++*(volatile uint64_t *)((uintptr_t)elements[i] +
			(size_t)cpu * ALLOD_PERCPU_STRIDE);
	}
}

static void *run(void *argument)
{
	const unsigned self = (unsigned)(uintptr_t)argument;
	const int cpu = processors[self];
	uint32_t random = 12345 + self;
	double parts[PARTS];
	size_t good = 0;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof one, &one);
	for (size_t part = 0; part < PARTS; part++) {
		pthread_barrier_wait(&together);
		const uint64_t cpu_before = cpu_ns(), before = now_ns();
		if (array)
			add_in_array(self, &random);
		else
			add_in_pool(cpu, &random);
		const uint64_t wall = now_ns() - before, had = cpu_ns() - cpu_before;
		if (part > 0 && (double)had >= 0.97 * (double)wall)
			parts[good++] = (double)wall / (double)rounds;
	}
	middle[self] = good ? median_of(parts, good) : 0;
	return NULL;
}

static void make_pool(void)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("sharing", NULL);

	elements = table_of(count, sizeof *elements);
	for (size_t i = 0; pool && i < count; i++) {
		elements[i] = allod_percpu_zalloc(pool, sizeof **elements, 0);
		if (!elements[i])
			fail("no element");
	}
	for (int i = 0; i < THREADS; i++)
		allod_percpu_mark_active(processors[i]);
}

static void make_array(bool is_padded)
{
	const size_t slots = allod_percpu_possible_cpus();

	slot_bytes = is_padded ? LINE_BYTES : sizeof(uint64_t);
	stride_bytes = slot_bytes * (slots < THREADS ? THREADS : slots);
	array = table_of(count, stride_bytes);
}

int main(int argc, char **argv)
{
	pthread_t ids[THREADS];
	cpu_set_t allowed;
	int found = 0;

	if (argc != 4)
		fail("percpu_sharing packed|padded|pool ELEMENTS ROUNDS");
	count = number_of(argc, argv, 2);
	rounds = number_of(argc, argv, 3);
	sched_getaffinity(0, sizeof allowed, &allowed);
	for (int cpu = 0; cpu < CPU_SETSIZE && found < THREADS; cpu++) {
		if (CPU_ISSET(cpu, &allowed))
			processors[found++] = cpu;
	}
	if (found < THREADS)
		fail("needs two processors");
	if (!strcmp(argv[1], "pool"))
		make_pool();
	else
		make_array(!strcmp(argv[1], "padded"));
	pthread_barrier_init(&together, NULL, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		thread_start(&ids[i], run, (void *)i);
	for (size_t i = 0; i < THREADS; i++)
		thread_join(ids[i]);
	if (middle[0] == 0 || middle[1] == 0)
		fail("the processors were never free");
	report("op", (middle[0] + middle[1]) / THREADS, "ns");
	return 0;
}
