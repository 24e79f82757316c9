/* SPDX-License-Identifier: MIT */
/*
 * Children of children, to the fiftieth generation: what each loses of its parent's heaps. Threads
 * that were outside the heap cost nothing; of those inside, each generation may lose the heap.
 * Calls the heap itself, for the statistics.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "heap/heap.h"
#include "page/page.h"

enum {
	GENERATIONS = 50,
	THREADS = 3,
	BLOCKS = 60,
	MIB = 1 << 20,
	CLASSES = 8,
	/* What a heap holds: for each class a slab of 64 KiB, and at times a second. */
	HEAP_BYTES_MOST = CLASSES * 2 * 65536,
};

static const size_t sizes[CLASSES] = { 16, 48, 100, 240, 500, 1000, 3000, 9000 };

/* What the generations tell the first; shared. */
struct chain {
	struct heap_stats stats[GENERATIONS + 1];
};

static struct chain *chain;
static pthread_barrier_t resting;
static atomic_bool stop; /* in each generation anew, when it has its child */

static void work(uint64_t seed)
{
	unsigned char *blocks[BLOCKS];
	for (unsigned i = 0; i < BLOCKS; i++) {
		const size_t size = sizes[test_random(&seed) % CLASSES];
		blocks[i] = heap_alloc(size);
		CHECK(blocks[i] != NULL);
		memset(blocks[i], (int)i, size);
	}
	for (unsigned i = 0; i < BLOCKS; i++) {
		CHECK(blocks[i][0] == i && blocks[i][15] == i);
		heap_free(blocks[i]);
	}
}

static void *work_and_rest(void *arg)
{
	work((uintptr_t)arg);
	pthread_barrier_wait(&resting);
	pause();
	return NULL;
}

static void *work_always(void *arg)
{
	work((uintptr_t)arg);
	pthread_barrier_wait(&resting);
	for (uint64_t seed = 1; !atomic_load(&stop); seed++)
		work(seed);
	return NULL;
}

static void start_threads(void *(*run)(void *))
{
	pthread_t thread;
	CHECK_EQ(pthread_barrier_init(&resting, NULL, THREADS + 1), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&thread, NULL, run, (void *)i), 0);
	pthread_barrier_wait(&resting);
}

static void end_well(pid_t pid)
{
	int status;
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

static pid_t bare_fork(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* Each generation works, starts threads if it shall, notes its statistics, and has one child. */
static void descend(unsigned generation, void *(*threads)(void *), pid_t (*make)(void))
{
	alarm(60);
	work(generation);
	if (threads != NULL)
		start_threads(threads);
	heap_stats_read(&chain->stats[generation]);
	if (generation == GENERATIONS)
		return;
	const pid_t pid = make();
	if (pid == 0) {
		descend(generation + 1, threads, make);
		_exit(0);
	}
	atomic_store(&stop, true);
	end_well(pid);
}

static const struct heap_stats *run_chain(void *(*threads)(void *), pid_t (*make)(void))
{
	heap_register_hooks();
	chain = mmap(NULL, sizeof *chain, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		0);
	CHECK(chain != MAP_FAILED);
	/* In a process of its own: its threads never end. */
	const pid_t pid = fork();
	if (pid == 0) {
		descend(0, threads, make);
		_exit(0);
	}
	end_well(pid);
	const struct heap_stats *first = &chain->stats[0];
	const struct heap_stats *last = &chain->stats[GENERATIONS];
	test_note("heaps %llu and %llu, slabs %llu and %llu KiB, in use by page %llu and %llu KiB",
		(unsigned long long)first->heaps, (unsigned long long)last->heaps,
		(unsigned long long)first->slab_bytes >> 10,
		(unsigned long long)last->slab_bytes >> 10,
		(unsigned long long)first->peak_bytes >> 10,
		(unsigned long long)last->peak_bytes >> 10);
	CHECK(first->heaps > 0);
	return last;
}

static void check_nothing_lost(const struct heap_stats *last)
{
	const struct heap_stats *first = &chain->stats[0];
	CHECK_EQ(last->heaps, first->heaps);
	CHECK_EQ(last->heaps_active, first->heaps_active);
	CHECK(last->slab_bytes <= first->slab_bytes + MIB);
	CHECK(last->committed_bytes <= first->committed_bytes + 2 * MIB);
}

TEST_TIMEOUT(fifty_generations_without_threads_lose_nothing, 60)
{
	check_nothing_lost(run_chain(NULL, fork));
	check_nothing_lost(run_chain(NULL, bare_fork));
}

TEST_TIMEOUT(threads_at_rest_cost_their_descendants_nothing, 60)
{
	check_nothing_lost(run_chain(work_and_rest, fork));
}

/* Each thread costs one heap at most, in each generation, and what that holds. */
static void check_bounded(const struct heap_stats *last)
{
	const struct heap_stats *first = &chain->stats[0];
	const uint64_t lost = last->heaps - first->heaps;
	CHECK(lost <= (uint64_t)GENERATIONS * THREADS);
	CHECK(last->slab_bytes <= first->slab_bytes + lost * HEAP_BYTES_MOST + MIB);
}

TEST_TIMEOUT(each_thread_inside_costs_one_heap_at_most, 60)
{
	check_bounded(run_chain(work_always, fork));
}

/* Without fork()'s handlers the heaps of all threads stay with them. */
TEST_TIMEOUT(a_bare_clone_costs_one_heap_for_each_thread_at_most, 60)
{
	check_bounded(run_chain(work_and_rest, bare_fork));
}
