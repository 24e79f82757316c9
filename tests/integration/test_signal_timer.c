/* SPDX-License-Identifier: MIT */
/*
 * Timer signals at a high rate into threads that use the heap; the handler uses it too. What single
 * steps (test_signal_step.c) do not reach is several threads at once, and signals in the middle of
 * system calls and of the handler's neighbours.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "harness.h"
#include "heap/heap.h"
#include "page/page.h"

enum {
	THREADS = 3,
	OWN_BLOCKS = 400,
	HANDLER_BLOCKS = 64,
	PERIOD_US = 60,
	SECONDS = 3, /* and until SIGNALS_LEAST have come: on a busy machine that takes longer */
	SIGNALS_LEAST = 1000,
	SHORT_ROUNDS = 300,
	SHORT_SIGNALS_LEAST = 100,
};

static const size_t sizes[] = { 32, 48, 200, 1024, 5000, 20000, 100000, 300000, 700000 };
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* A set of blocks; each begins and ends with its number. */
struct set {
	unsigned char *p[OWN_BLOCKS];
	size_t bytes[OWN_BLOCKS];
	size_t count;
	size_t most;
	uint64_t random;
};

static __thread struct set handler_set;
/* What the handler does on this thread: nothing, keep blocks, or allocate and free at once. */
static __thread enum { NOTHING, KEEP, PAIRS } mode;
static _Atomic(uint64_t) signals;
static _Atomic(bool) stop;

static void write_ends(unsigned char *p, size_t bytes)
{
	memcpy(p, &bytes, sizeof bytes);
	memcpy(p + bytes - sizeof bytes, &bytes, sizeof bytes);
}

static void check_ends(const unsigned char *p, size_t bytes, size_t kept)
{
	CHECK_EQ(memcmp(p, &bytes, sizeof bytes), 0);
	if (kept >= bytes)
		CHECK_EQ(memcmp(p + bytes - sizeof bytes, &bytes, sizeof bytes), 0);
}

static size_t random_size(struct set *s)
{
	const uint64_t r = test_random(&s->random);
	return sizes[r % 8 ? r / 8 % 4 : r / 8 % SIZES] - r / 128 % 4;
}

static void set_add(struct set *s)
{
	const size_t bytes = random_size(s);
	unsigned char *p =
		test_random(&s->random) % 8 ? heap_alloc(bytes) : heap_alloc_zeroed(bytes);
	CHECK(p != NULL);
	write_ends(p, bytes);
	s->p[s->count] = p;
	s->bytes[s->count++] = bytes;
}

static void set_remove(struct set *s, size_t i)
{
	check_ends(s->p[i], s->bytes[i], s->bytes[i]);
	heap_free(s->p[i]);
	s->count--;
	s->p[i] = s->p[s->count];
	s->bytes[i] = s->bytes[s->count];
}

static void set_resize(struct set *s, size_t i)
{
	const size_t bytes = random_size(s);
	unsigned char *p = heap_resize(s->p[i], bytes);
	CHECK(p != NULL);
	check_ends(p, s->bytes[i], bytes);
	write_ends(p, bytes);
	s->p[i] = p;
	s->bytes[i] = bytes;
}

static void set_step(struct set *s)
{
	const uint64_t r = test_random(&s->random);
	if (s->count == 0 || (s->count < s->most && r % 16 < 8))
		set_add(s);
	else if (r % 16 < 14)
		set_remove(s, r / 16 % s->count);
	else
		set_resize(s, r / 16 % s->count);
	if (r >> 32 << 20 == 0)
		heap_trim();
}

static void on_alarm(int number)
{
	const int saved_errno = errno;
	a_add_rlx(&signals, mode != NOTHING);
	for (unsigned i = 0; i < 6 && mode == KEEP; i++)
		set_step(&handler_set);
	for (unsigned i = 0; i < SIZES && mode == PAIRS; i++)
		heap_free(heap_alloc(sizes[i]));
	errno = saved_errno;
}

/* Blocks of one thread are freed by the next: frees meet slabs of others. */
static struct set sets[THREADS];
static pthread_barrier_t barrier;
static bool over; /* thread 0 writes it between the barriers of a round */

static void *worker(void *arg)
{
	const size_t me = (size_t)arg;
	handler_set.most = HANDLER_BLOCKS;
	handler_set.random = me + 1;
	mode = KEEP;
	for (size_t round = 0; !over; round++) {
		struct set *s = &sets[(me + round) % THREADS];
		pthread_barrier_wait(&barrier);
		for (unsigned i = 0; i < 3000; i++)
			set_step(s);
		if (me == 0)
			over = a_load_rlx(&stop);
		pthread_barrier_wait(&barrier);
	}
	/* Signals still come while the thread ends. */
	mode = PAIRS;
	while (handler_set.count > 0)
		set_remove(&handler_set, 0);
	return NULL;
}

/* Short threads: a first call and an end, each under signals. */
static void *short_worker(void *arg)
{
	mode = PAIRS;
	struct set s = { .most = 50, .random = (uint64_t)(uintptr_t)arg };
	for (unsigned i = 0; i < 300; i++)
		set_step(&s);
	while (s.count > 0)
		set_remove(&s, 0);
	return NULL;
}

static void set_timer(long us)
{
	const struct itimerval timer = { { 0, us }, { 0, us } };
	CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void start(pthread_t *ret_thread, void *(*run)(void *), size_t arg)
{
	sigset_t alarm_set;
	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	/* Blocked on the main thread, so that the others get the signals. */
	pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
	CHECK_EQ(pthread_create(ret_thread, NULL, run, (void *)arg), 0);
	pthread_sigmask(SIG_BLOCK, &alarm_set, NULL);
}

static void begin(void)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	heap_init();
	heap_register_hooks();
	sigaction(SIGALRM, &action, NULL);
	set_timer(PERIOD_US);
}

/* All threads have ended and all blocks are free. */
static void end(uint64_t signals_least)
{
	struct heap_stats stats;
	set_timer(0);
	/* The janitor is in the heap as well, at times. */
	page_exit();
	heap_check();
	heap_stats_read(&stats);
	CHECK_EQ(stats.used_blocks, 0);
	test_note("%llu signals, %llu heaps", (unsigned long long)a_load_rlx(&signals),
		(unsigned long long)stats.heaps);
	CHECK(a_load_rlx(&signals) >= signals_least);
}

TEST_TIMEOUT(timer_signals_into_busy_threads, 60)
{
	uint64_t seed = test_seed();
	pthread_t threads[THREADS];
	pthread_barrier_init(&barrier, NULL, THREADS);
	begin();
	for (size_t i = 0; i < THREADS; i++) {
		sets[i].most = OWN_BLOCKS;
		sets[i].random = test_random(&seed);
	}
	for (size_t i = 0; i < THREADS; i++)
		start(&threads[i], worker, i);
	sleep(SECONDS);
	while (a_load_rlx(&signals) < SIGNALS_LEAST)
		sleep(1);
	a_store_rlx(&stop, true);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	for (size_t i = 0; i < THREADS; i++) {
		while (sets[i].count > 0)
			set_remove(&sets[i], 0);
	}
	end(SIGNALS_LEAST);
}

TEST_TIMEOUT(timer_signals_into_threads_that_begin_and_end, 60)
{
	uint64_t seed = test_seed();
	begin();
	/* The faster the machine, or the coarser its clock, the fewer signals come in a round. */
	for (unsigned round = 0; round < SHORT_ROUNDS || a_load_rlx(&signals) < SHORT_SIGNALS_LEAST;
		round++) {
		pthread_t threads[2];
		for (size_t i = 0; i < 2; i++)
			start(&threads[i], short_worker, (size_t)test_random(&seed));
		for (size_t i = 0; i < 2; i++)
			CHECK_EQ(pthread_join(threads[i], NULL), 0);
	}
	end(SHORT_SIGNALS_LEAST);
}
