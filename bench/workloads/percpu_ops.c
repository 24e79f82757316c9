/* SPDX-License-Identifier: MIT */
/*
 * percpu_ops WAY ROUNDS THREADS: what one operation costs. WAY is an operation on per-CPU memory
 * (those of <allod/percpu-ops.h> and <allod/counter.h>), or what programs do instead: tls, atomic,
 * lock, getcpu (sched_getcpu() and an atomic addition on the processor's slot), cpu-atomic (the same
 * with the number read from the area of restartable sequences). Each thread does ROUNDS of them; the
 * figure is processor time, of the best of five parts.
 */
#include <stdio.h>
#include <string.h>

#include <allod/counter.h>
#include <allod/percpu-ops.h>

#include "timing.h"

enum { PARTS = 5, THREADS_MOST = 256, SLOTS = 8192, SLOT_BYTES = 128, RING_BYTES = 4096 };

struct ring {
	struct allod_percpu_ring head;
	char data[RING_BYTES];
};

static struct allod_percpu_view view;
static struct allod_percpu_view by_cid;
static uint64_t ALLOD_PERCPU *word;
static uint32_t ALLOD_PERCPU *small;
static struct allod_percpu_pair ALLOD_PERCPU *pair;
static struct allod_percpu_list ALLOD_PERCPU *list;
static struct ring ALLOD_PERCPU *ring;
static struct allod_counter plain_counter;
static struct allod_counter batch_counter;
static __thread volatile uint64_t of_thread;
static _Atomic(uint64_t) of_all;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile uint64_t guarded;
static _Atomic(uint64_t) *slots;
static size_t rounds;
static size_t threads;
static void (*way)(size_t count);
static double best[THREADS_MOST];

#define WAY(name, statement)                         \
	static void name(size_t count)               \
	{                                            \
		for (size_t k = 0; k < count; k++) { \
			statement;                   \
		}                                    \
	}

WAY(way_tls, of_thread++)
WAY(way_atomic, atomic_fetch_add_explicit(&of_all, 1, memory_order_relaxed))
WAY(way_lock, pthread_mutex_lock(&mutex); guarded++; pthread_mutex_unlock(&mutex))
WAY(way_getcpu,
	atomic_fetch_add_explicit(&slots[sched_getcpu() * (SLOT_BYTES / 8)], 1,
		memory_order_relaxed))
WAY(way_cpu_atomic,
	atomic_fetch_add_explicit(&slots[allod_cs_index_(ALLOD_RSEQ_CPU_ID) * (SLOT_BYTES / 8)], 1,
		memory_order_relaxed))
WAY(way_read, (void)allod_percpu_read_in(view, word))
WAY(way_add, allod_percpu_add(word, 1))
WAY(way_add_in, allod_percpu_add_in(view, word, 1))
WAY(way_add_cid, allod_percpu_add_in(by_cid, word, 1))
WAY(way_add32, allod_percpu_add32_in(view, small, 1))
WAY(way_add_return, (void)allod_percpu_add_return_in(view, word, 1))
WAY(way_xchg, (void)allod_percpu_xchg_in(view, word, k))
WAY(way_cmpxchg, (void)allod_percpu_cmpxchg_in(view, word, 0, 0))
WAY(way_pair, allod_percpu_pair_add_in(view, pair, 1, k))
WAY(way_counter, allod_counter_add(&plain_counter, 1))
WAY(way_counter_near, allod_counter_add(&batch_counter, 1))
WAY(way_counter_sum, (void)allod_counter_sum(&plain_counter))

static void way_push_pop(size_t count)
{
	struct allod_percpu_node *node = table_of(1, sizeof *node);

	for (size_t k = 0; k < count; k++) {
		while (!allod_percpu_list_push_in(view, list, node))
			;
		node = allod_percpu_list_pop_in(view, list);
		/* The thread may have moved; another's node will do. */
		if (!node)
			node = table_of(1, sizeof *node);
	}
}

static void forget(const void *record, size_t bytes, void *argument)
{
	(void)record, (void)bytes, (void)argument;
}

static void way_ring(size_t count)
{
	for (size_t k = 0; k < count; k++) {
		uint64_t *record = allod_percpu_ring_reserve_in(view, &ring->head, RING_BYTES, 8);

		if (record) {
			*record = k;
			allod_percpu_ring_commit(record, 8);
		} else if (threads == 1) {
			allod_percpu_ring_consume(&allod_percpu_ptr(ring, sched_getcpu())->head,
				RING_BYTES, forget, NULL);
		}
	}
}

static const struct {
	const char *name;
	void (*run)(size_t count);
} ways[] = {
	{ "tls", way_tls },
	{ "atomic", way_atomic },
	{ "lock", way_lock },
	{ "getcpu", way_getcpu },
	{ "cpu-atomic", way_cpu_atomic },
	{ "read", way_read },
	{ "add", way_add },
	{ "add-in", way_add_in },
	{ "add-cid", way_add_cid },
	{ "add32", way_add32 },
	{ "add-return", way_add_return },
	{ "xchg", way_xchg },
	{ "cmpxchg", way_cmpxchg },
	{ "pair", way_pair },
	{ "push-pop", way_push_pop },
	{ "ring", way_ring },
	{ "counter", way_counter },
	{ "counter-near", way_counter_near },
	{ "counter-sum", way_counter_sum },
};

static void prepare(void)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("bench", NULL);

	if (!pool)
		fail("no pool");
	view = allod_percpu_pool_view(pool);
	by_cid = view;
	by_cid.by = ALLOD_RSEQ_MM_CID;
	word = allod_percpu_zalloc(pool, sizeof *word, 64);
	small = allod_percpu_zalloc(pool, sizeof *small, 64);
	pair = allod_percpu_zalloc(pool, sizeof *pair, 64);
	list = allod_percpu_zalloc(pool, sizeof *list, 64);
	ring = allod_percpu_zalloc(pool, sizeof *ring, 64);
	slots = table_of(SLOTS, SLOT_BYTES);
	struct allod_counter_copy ALLOD_PERCPU *first =
		allod_percpu_zalloc(pool, sizeof *first, 64);
	struct allod_counter_copy ALLOD_PERCPU *second =
		allod_percpu_zalloc(pool, sizeof *second, 64);
	if (!word || !small || !pair || !list || !ring || !first || !second)
		fail("no elements");
	allod_counter_init(&plain_counter, view, first, 0);
	allod_counter_init(&batch_counter, view, second, 1024);
}

static void *run(void *argument)
{
	double *ret = argument;

	way(rounds / 50 + 1);
	for (int part = 0; part < PARTS; part++) {
		uint64_t spent = cpu_ns();

		way(rounds / PARTS);
		spent = cpu_ns() - spent;
		const double each = (double)spent / (double)(rounds / PARTS);
		if (part == 0 || each < *ret)
			*ret = each;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t ids[THREADS_MOST];
	double sum = 0;

	if (argc != 4)
		fail("percpu_ops WAY ROUNDS THREADS");
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		if (!strcmp(ways[i].name, argv[1]))
			way = ways[i].run;
	}
	rounds = number_of(argc, argv, 2);
	threads = number_of(argc, argv, 3);
	if (!way || threads < 1 || threads > THREADS_MOST)
		fail("no such way, or too many threads");
	prepare();
	for (size_t i = 0; i < threads; i++)
		thread_start(&ids[i], run, &best[i]);
	for (size_t i = 0; i < threads; i++) {
		thread_join(ids[i]);
		sum += best[i];
	}
	report("op", sum / (double)threads, "ns");
	return 0;
}
