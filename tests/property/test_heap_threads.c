/* SPDX-License-Identifier: MIT */
/*
 * Random operations of several threads, each against a shadow of its own. Blocks pass from thread
 * to thread through an exchange, threads end and leave their blocks to others, and one thread reads
 * statistics and trims all the while. It also moves the clock, so that at almost every chance heaps
 * are taken for idle and their slabs are taken from them, busy or not.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "harness.h"
#include "heap/core.h"
#include "os/mock.h"
#include "shadow.h"

enum {
	WORKERS = 4,
	GENERATIONS = 12,
	STEPS = 4000,
	EXCHANGE_SLOTS = 256,
	LIVE_BYTES_MOST = 8 << 20,
};

static struct shadow shadows[WORKERS];
static _Atomic(bool) stop;
static pthread_barrier_t together;

/*
 * A block in transit lies in a slot; who swaps the slot's turn from full to taken gets it. The
 * exchange orders the block's contents and nothing of the heap's.
 */
enum turn { EMPTY, FILLING, FULL, TAKING };

static struct {
	_Atomic(uint32_t) turn;
	struct shadow_block block;
} exchange[EXCHANGE_SLOTS];

static bool exchange_give(struct shadow *s, unsigned slot)
{
	uint32_t empty = EMPTY;
	if (!a_cas_strong_acq(&exchange[slot].turn, &empty, FILLING))
		return false;
	const bool any = shadow_take(s, &exchange[slot].block);
	/* [test.1] rel: the block's description and contents; pairs with exchange_get(). */
	a_store_rel(&exchange[slot].turn, any ? FULL : EMPTY);
	return true;
}

static bool exchange_get(struct shadow *s, unsigned slot)
{
	uint32_t full = FULL;
	/* [test.1] acq: pairs with exchange_give(). */
	if (!a_cas_strong_acq(&exchange[slot].turn, &full, TAKING))
		return false;
	shadow_put(s, exchange[slot].block);
	/* [test.1] rel: the slot may be filled again; pairs with exchange_give(). */
	a_store_rel(&exchange[slot].turn, EMPTY);
	return true;
}

static void *worker(void *arg)
{
	struct shadow *s = arg;
	pthread_barrier_wait(&together);
	for (unsigned step = 0; step < STEPS; step++) {
		shadow_step(s);
		const unsigned slot = (unsigned)(test_random(&s->random) % EXCHANGE_SLOTS);
		if (s->count == SHADOW_BLOCKS_MAX || !exchange_get(s, slot))
			exchange_give(s, slot);
	}
	return NULL;
}

/* A thread that only frees what others made, as the consumer of a queue does. */
static void *consumer(void *arg)
{
	struct shadow *s = arg;
	while (!a_load_rlx(&stop)) {
		for (unsigned slot = 0; slot < EXCHANGE_SLOTS; slot++)
			exchange_get(s, slot);
		shadow_free_all(s);
		sched_yield();
	}
	return NULL;
}

static void *reader(void *arg)
{
	struct heap_class_stats rows[CLASS_COUNT];
	unsigned round = 0;
	while (!a_load_rlx(&stop)) {
		struct heap_stats stats;
		heap_stats_read(&stats);
		CHECK(stats.used_bytes >> 40 == 0 && stats.free_bytes >> 40 == 0);
		CHECK(stats.heaps_active <= stats.heaps);
		CHECK_EQ(heap_class_stats_read(rows, CLASS_COUNT), CLASS_COUNT);
		mock_clock_advance((uint64_t)300 * 1000 * 1000);
		if (++round % 8 == 0)
			heap_trim();
		sched_yield();
	}
	return NULL;
}

static void start(pthread_t *ret_thread, void *(*run)(void *), void *arg)
{
	CHECK_EQ(pthread_create(ret_thread, NULL, run, arg), 0);
}

static void run_generation(struct shadow *idle)
{
	pthread_t threads[WORKERS];
	pthread_t others[2];
	a_store_rlx(&stop, false);
	pthread_barrier_init(&together, NULL, WORKERS);
	start(&others[0], reader, NULL);
	start(&others[1], consumer, idle);
	for (unsigned i = 0; i < WORKERS; i++)
		start(&threads[i], worker, &shadows[i]);
	for (unsigned i = 0; i < WORKERS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	a_store_rlx(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(others[i], NULL), 0);
}

/* Only this thread is left: its own heap holds nothing, and all others have been given back. */
static void check_at_rest(void)
{
	for (unsigned slot = 0; slot < EXCHANGE_SLOTS; slot++)
		exchange_get(&shadows[slot % WORKERS], slot);
	shadow_check_overlap(shadows, WORKERS);
	shadow_check_account(shadows, WORKERS);
}

TEST_TIMEOUT(threads_pass_blocks_and_end, 60)
{
	static struct shadow idle;
	uint64_t seed = test_seed();

	mock_reset();
	CHECK_EQ(heap_init(), 0);
	heap_register_hooks();
	shadow_init(&idle, test_random(&seed), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		shadow_init(&shadows[i], test_random(&seed), LIVE_BYTES_MOST);
	for (unsigned generation = 0; generation < GENERATIONS; generation++) {
		run_generation(&idle);
		check_at_rest();
		/*
		 * The shadows live on in other threads: what an exited thread left is used by them.
		 */
		struct shadow first = shadows[0];
		memmove(&shadows[0], &shadows[1], sizeof shadows - sizeof first);
		shadows[WORKERS - 1] = first;
	}
	for (unsigned i = 0; i < WORKERS; i++)
		shadow_free_all(&shadows[i]);
	heap_trim();
	check_at_rest();
	struct heap_stats stats;
	heap_stats_read(&stats);
	CHECK_EQ(stats.slabs, 0);
	/* A heap that ended was used again: no more were made than threads ran at once, and a few
	 * for single operations. */
	test_note("%llu heaps, %u barriers to take slabs", (unsigned long long)stats.heaps,
		mock_count(OS_CALL_BARRIER));
	CHECK(mock_count(OS_CALL_BARRIER) > 0);
	CHECK(stats.heaps <= 2 * (WORKERS + 3));
}
