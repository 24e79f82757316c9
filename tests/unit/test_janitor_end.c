/* SPDX-License-Identifier: MIT */
/* Threads whose end frees much start the janitor and take it with them: amid its step? */
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/options.h"
#include "harness.h"
#include "heap/core.h"

enum { IDLE_SLABS = 110, HOLDERS = 60 };

static _Atomic(int) ready, go;

static void *holder(void *arg)
{
	void **held = arg;
	for (int turn = 1;; turn++) {
		for (size_t i = 0; i < IDLE_SLABS * 64; i++)
			if (held[i] == NULL)
				held[i] = heap_alloc(1024);
		for (size_t i = 0; i < IDLE_SLABS * 64; i++)
			if (i % 64 != 0) {
				heap_free(held[i]);
				held[i] = NULL;
			}
		a_add_rel(&ready, 1);
		while (a_load_acq(&go) <= turn)
			usleep(1000);
	}
	return NULL;
}

static void *worker(void *arg)
{
	char *p = heap_alloc(16 << 20);
	memset(p, 1, 16 << 20);
	heap_free(p);
	usleep((uintptr_t)arg);
	return NULL;
}

static unsigned count(bool janitors)
{
	unsigned n = 0;
	for (uint32_t id = 1; id <= heap_pool_count(); id++) {
		struct heap *heap = heap_at(id);
		n += janitors ? heap->is_janitors : a_load_rlx(&heap->takers) != 0;
	}
	return n;
}

static void nap(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

TEST_TIMEOUT(a_thread_that_ends_leaves_no_step_undone, 100)
{
	pthread_t t;
	CHECK_EQ(heap_init(), 0);
	heap_free(heap_alloc(100));
	static void *held[HOLDERS][IDLE_SLABS * 64];
	for (int i = 0; i < HOLDERS; i++)
		CHECK_EQ(pthread_create(&t, NULL, holder, held[i]), 0);
	for (int i = 1; i <= 10; i++) {
		a_store_rel(&go, i);
		while (a_load_acq(&ready) < i * HOLDERS)
			nap(1);
		/* The first look at it, then time in which it is idle. */
		struct heap *heap = heap_enter();
		nap(300);
		heap_seize_idle(heap);
		heap_leave(heap);
		nap(300);
		CHECK_EQ(pthread_create(&t, NULL, worker, (void *)(uintptr_t)(i % 10 * 300)), 0);
		CHECK_EQ(pthread_join(t, NULL), 0);
		nap(50);
	}
	/* What is in work goes on to its end, in a moment or when the machine lets it; what is lost
	 * stays. */
	for (int i = 0; i < 200 && (count(false) || count(true)); i++)
		nap(100);
	test_note("heaps %u, being taken from for ever %u, janitors' heaps lost %u",
		heap_pool_count(), count(false), count(true));
	CHECK_EQ(count(false), 0);
	CHECK_EQ(count(true), 0);
}
