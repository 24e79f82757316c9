/* SPDX-License-Identifier: MIT */
/*
 * Memory of idle heaps: attached slabs of a thread that has not come by a slow path for a while are
 * taken by one that needs memory, whatever the thread is doing meanwhile.
 */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "heap_fixture.h"
#include "os/mock.h"

#define MS_NS ((uint64_t)1000000)
#define IDLE_NS (250 * MS_NS)

/* 64 bytes: 1024 blocks in one granule. */
#define SMALL ((size_t)64)
#define CAPACITY 1024
#define SLABS 8

/* The idle thread's blocks, and those of the one that needs memory. */
static void *idle_blocks[SLABS * CAPACITY + 1];
static void *blocks[4 * SLABS * CAPACITY];
static size_t blocks_used;

static struct peer peer;
static struct heap *idle_heap;

/* Leaves the thread with SLABS attached slabs, each with one block in use. */
static void become_holder(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < SLABS * CAPACITY + 1; i++)
		idle_blocks[i] = heap_alloc(SMALL);
	for (size_t i = 0; i < SLABS * CAPACITY; i++) {
		if (i % CAPACITY != 0)
			heap_free(idle_blocks[i]);
	}
	idle_heap = fixture_heap();
}

static struct slab *idle_slab(size_t i)
{
	return fixture_slab(idle_blocks[i * CAPACITY]);
}

/* Takes blocks until the heap has to look beyond its own slabs once more. */
static void need_memory(void)
{
	size_t count = CAPACITY;
	if (blocks_used == 0)
		count = 1;
	for (size_t i = 0; i < count; i++) {
		blocks[blocks_used] = heap_alloc(SMALL);
		CHECK(blocks[blocks_used] != NULL);
		blocks_used++;
	}
}

static void start(void)
{
	fixture_start();
	heap_free(heap_alloc(1000));
	peer_start(&peer);
	peer_run(&peer, become_holder, NULL);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), SLABS);
	CHECK_EQ(fixture_granules(), SLABS + 2);
	/* The first look; the peer itself has looked while it took its blocks. */
	mock_clock_advance(IDLE_NS);
	need_memory();
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), SLABS);
	CHECK_EQ(fixture_granules(), SLABS + 3);
	heap_check();
}

/* The peer goes on as if nothing had happened: frees, allocates, frees. */
static void go_on(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < SLABS; i++) {
		heap_free(idle_blocks[i * CAPACITY]);
		idle_blocks[i * CAPACITY] = heap_alloc(SMALL);
	}
	for (size_t i = 0; i < SLABS; i++)
		heap_free(idle_blocks[i * CAPACITY]);
	heap_free(idle_blocks[SLABS * CAPACITY]);
}

static void finish(void)
{
	peer_run(&peer, go_on, NULL);
	heap_check();
	while (blocks_used > 0)
		heap_free(blocks[--blocks_used]);
	heap_check();
	peer_end(&peer);
	fixture_check_empty();
}

/* How many of the idle thread's slabs are its heap's, marked or not. */
static size_t slabs_held(void)
{
	size_t count = 0;
	for (size_t i = 0; i < SLABS; i++) {
		const uintptr_t owner = a_load_rlx(&idle_slab(i)->owner);
		count += owner == (uintptr_t)idle_heap || owner_is_mark(owner, idle_heap->id);
	}
	return count;
}

TEST(an_idle_heap_is_taken_from)
{
	start();
	CHECK_EQ(slabs_held(), SLABS);
	mock_clock_advance(IDLE_NS);
	need_memory();
	CHECK_EQ(slabs_held(), 0);
	CHECK_EQ(a_load_rlx(&idle_heap->takers), 0);
	for (size_t i = 0; i < SLABS; i++)
		CHECK(idle_slab(i)->attachment == NULL);
	/* From here on it is one of those slabs that serves. */
	CHECK(fixture_slab(blocks[blocks_used - 1]) != fixture_slab(blocks[0]));
	CHECK_EQ(fixture_granules(), SLABS + 3);
	heap_check();
	for (size_t i = 1; i < SLABS; i++)
		need_memory();
	CHECK_EQ(fixture_granules(), SLABS + 3);
	finish();
}

/* Looks again and again: nothing is left to take, and no barrier is asked for. */
TEST(a_heap_that_has_nothing_left_costs_no_barrier)
{
	start();
	mock_clock_advance(IDLE_NS);
	need_memory();
	CHECK_EQ(slabs_held(), 0);
	const unsigned barriers = mock_count(OS_CALL_BARRIER);
	for (size_t i = 0; i < 2 * SLABS; i++) {
		mock_clock_advance(IDLE_NS);
		need_memory();
	}
	CHECK_EQ(mock_count(OS_CALL_BARRIER), barriers);
	finish();
}

static void exhaust(void *arg)
{
	(void)arg;
	need_memory();
}

TEST(entries_of_slabs_that_were_taken_are_dropped)
{
	start();
	mock_clock_advance(IDLE_NS);
	need_memory();
	CHECK_EQ(slabs_held(), 0);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), SLABS);
	peer_run(&peer, exhaust, NULL);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), 0);
	heap_check();
	finish();
}

/* As fork() finds it when it stops threads in the middle of taking. */
TEST(a_child_ends_the_taking_that_a_fork_cut_off)
{
	start();
	a_store_rlx(&idle_heap->takers, SLABS);
	for (size_t i = 0; i < SLABS; i++)
		a_store_rlx(&idle_slab(i)->owner, 0);
	const pid_t child = fork();
	if (child == 0) {
		CHECK_EQ(a_load_rlx(&idle_heap->takers), 0);
		for (size_t i = 0; i < SLABS; i++)
			CHECK_EQ(fixture_state(idle_slab(i)), SLAB_OPEN);
		heap_check();
		const size_t granules = fixture_granules();
		for (size_t i = 0; i < SLABS; i++)
			need_memory();
		CHECK_EQ(fixture_granules(), granules);
		for (size_t i = 0; i < SLABS; i++)
			heap_free(idle_blocks[i * CAPACITY]);
		heap_check();
		_exit(0);
	}
	int status;
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	a_store_rlx(&idle_heap->takers, 0);
	for (size_t i = 0; i < SLABS; i++)
		a_store_rlx(&idle_slab(i)->owner, (uintptr_t)idle_heap);
	finish();
}

TEST(not_before_it_has_been_idle_for_long)
{
	start();
	mock_clock_advance(IDLE_NS - 1);
	need_memory();
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), SLABS);
	CHECK_EQ(fixture_granules(), SLABS + 4);
	heap_check();
	finish();
}

static void work_a_little(void *arg)
{
	(void)arg;
	heap_free(heap_alloc(0));
}

TEST(a_heap_that_works_is_not_taken_from)
{
	start();
	for (int i = 0; i < 3; i++) {
		mock_clock_advance(IDLE_NS);
		peer_run(&peer, work_a_little, NULL);
		need_memory();
		CHECK_EQ(slabs_held(), SLABS);
	}
	mock_clock_advance(IDLE_NS);
	need_memory();
	CHECK_EQ(slabs_held(), 0);
	finish();
}

TEST(without_the_barrier_nothing_is_taken)
{
	start();
	const unsigned barriers = mock_count(OS_CALL_BARRIER);
	mock_fail(OS_CALL_BARRIER, 1, EPERM);
	mock_clock_advance(IDLE_NS);
	need_memory();
	CHECK_EQ(mock_count(OS_CALL_BARRIER), barriers + 1);
	for (size_t i = 0; i < SLABS; i++)
		CHECK_EQ(a_load_rlx(&idle_slab(i)->owner), (uintptr_t)idle_heap);
	heap_check();
	/* And the next look succeeds. */
	mock_clock_advance(IDLE_NS);
	need_memory();
	CHECK_EQ(slabs_held(), 0);
	finish();
}

/* As a taker leaves them that is stopped for ever before it has claimed any. */
static void mark_all(void)
{
	for (size_t i = 0; i < SLABS; i++)
		a_store_rlx(&idle_slab(i)->owner, owner_mark(idle_heap->id, 1 << 20));
	heap_check();
}

TEST(what_a_taker_marked_the_next_one_takes)
{
	start();
	mark_all();
	mock_clock_advance(IDLE_NS);
	need_memory();
	CHECK_EQ(slabs_held(), 0);
	finish();
}

static void free_one(void *arg)
{
	heap_free(*(void **)arg);
	*(void **)arg = NULL;
}

TEST(a_free_takes_a_mark_back)
{
	start();
	mark_all();
	struct slab *slab = idle_slab(2);
	CHECK_EQ(slab_used(slab), 1);
	peer_run(&peer, free_one, &idle_blocks[2 * CAPACITY]);
	CHECK_EQ(fixture_state(slab), SLAB_FREED);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), SLABS - 1);
	heap_check();
	finish();
}

TEST(an_allocation_takes_marks_back)
{
	start();
	mark_all();
	const size_t granules = fixture_granules();
	for (size_t i = 0; i < SLABS / 2; i++)
		peer_run(&peer, exhaust, NULL);
	CHECK_EQ(fixture_granules(), granules);
	heap_check();
	finish();
}

/* Stops in the middle of a free into that slab: it has seen that the slab is its own. */
static void stop_at_slab(void *arg)
{
	struct heap *heap = heap_enter_own();
	CHECK(heap_touch(heap, arg));
}

static void leave_heap(void *arg)
{
	(void)arg;
	heap_leave(fixture_heap());
}

TEST(the_slab_that_a_thread_stopped_at_stays)
{
	start();
	struct slab *slab = idle_slab(3);
	peer_run(&peer, stop_at_slab, slab);
	/* Its own coming in counted as a slow call. */
	for (int i = 0; i < 2; i++) {
		mock_clock_advance(IDLE_NS);
		need_memory();
	}
	CHECK_EQ(slabs_held(), 1);
	CHECK(owner_is_mark(a_load_rlx(&slab->owner), idle_heap->id));
	CHECK(slab->attachment != NULL);
	heap_check();
	peer_run(&peer, leave_heap, NULL);
	heap_check();
	/* Once the thread is outside it is taken as well, when the others are used up. */
	for (size_t i = 0; i < SLABS; i++) {
		mock_clock_advance(IDLE_NS);
		need_memory();
	}
	CHECK_EQ(slabs_held(), 0);
	finish();
}

/*
 * A thread ends while another, perhaps stopped for ever, has claimed a slab of it and not opened
 * it: frees there still push its link to the heap, which therefore stays active.
 */
TEST(a_heap_given_up_while_a_slab_is_taken_waits_for_that)
{
	start();
	struct slab *slab = idle_slab(2);
	a_store_rlx(&slab->owner, 0);
	peer_end(&peer);
	CHECK_EQ(a_load_rlx(&idle_heap->active), 1);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), 1);
	/* The next thread that gets the heap works on, beside it. */
	peer_start(&peer);
	peer_run(&peer, exhaust, NULL);
	peer_end(&peer);
	CHECK_EQ(a_load_rlx(&idle_heap->active), 1);
	slab->attachment = NULL;
	slab_open(slab);
	heap_check();
	peer_start(&peer);
	peer_run(&peer, exhaust, NULL);
	CHECK_EQ(a_load_rlx(&idle_heap->attached_granules), 0);
	peer_end(&peer);
	CHECK_EQ(a_load_rlx(&idle_heap->active), 0);
	heap_check();
	peer_start(&peer);
	finish();
}

/*
 * The stress: threads fill and empty slabs of few classes and hand blocks to one another. Most
 * frees take the fast path and count as idleness, and the clock runs so fast that every look finds
 * a heap idle: heaps are taken from while their threads are at work on those very slabs.
 */
enum { THREADS = 6, OWN = 4096, SLOTS = 64 };

static _Atomic(uint64_t *) slots[SLOTS];
static _Atomic(int) stop;
static _Atomic(uint64_t) rounds;

static uint64_t *stamped(size_t size, uint64_t number)
{
	uint64_t *p = heap_alloc(size);
	CHECK(p != NULL);
	const size_t last = heap_usable_size(p) / sizeof *p - 1;
	p[0] = (uintptr_t)p ^ number;
	p[last] = number;
	return p;
}

static void check_and_free(uint64_t *p)
{
	const size_t last = heap_usable_size(p) / sizeof *p - 1;
	CHECK_EQ(p[0] ^ p[last], (uintptr_t)p);
	heap_free(p);
}

/* Half of the frees in order, half at random, some by way of another thread. */
static void free_stamped(uint64_t **own, size_t i, uint64_t *random)
{
	uint64_t *p = own[i];
	own[i] = NULL;
	if (p != NULL && test_random(random) % 16 == 0)
		/* [test.1] acqrel: hands a block over, and takes one. */
		p = a_xchg_acqrel(&slots[test_random(random) % SLOTS], p);
	if (p != NULL)
		check_and_free(p);
}

static void stress_round(uint64_t **own, uint64_t *random)
{
	const size_t size = test_random(random) % 4 == 0 ? 1024 : SMALL;
	for (size_t i = 0; i < OWN; i++) {
		own[i] = stamped(size, test_random(random));
		if (i % 256 == 0)
			mock_clock_advance(IDLE_NS);
	}
	for (size_t i = 0; i < OWN; i++)
		free_stamped(own, test_random(random) % OWN, random);
	for (size_t i = 0; i < OWN; i++)
		free_stamped(own, i, random);
	a_add_rlx(&rounds, 1);
}

static void *stress_main(void *arg)
{
	uint64_t *own[OWN];
	uint64_t random = (uintptr_t)arg;
	while (!a_load_rlx(&stop))
		stress_round(own, &random);
	return NULL;
}

static void sleep_ms(long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&time, NULL);
}

static void empty_slots(void)
{
	for (size_t i = 0; i < SLOTS; i++) {
		uint64_t *p = a_xchg_acqrel(&slots[i], NULL);
		if (p != NULL)
			check_and_free(p);
	}
}

TEST_TIMEOUT(heaps_are_taken_from_while_their_threads_work, 60)
{
	pthread_t threads[THREADS];
	uint64_t random = test_seed();
	fixture_start();
	for (size_t i = 0; i < THREADS; i++) {
		void *arg = (void *)(uintptr_t)test_random(&random);
		CHECK_EQ(pthread_create(&threads[i], NULL, stress_main, arg), 0);
	}
	sleep_ms(4000);
	a_store_rlx(&stop, 1);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	const unsigned barriers = mock_count(OS_CALL_BARRIER);
	test_note("%ju rounds, %u barriers", (uintmax_t)a_load_rlx(&rounds), barriers);
	heap_check();
	empty_slots();
	fixture_check_empty();
	CHECK(barriers > 0);
}
