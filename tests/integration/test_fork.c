/* SPDX-License-Identifier: MIT */
/*
 * fork() at any moment, with the library preloaded: while other threads are inside the allocator,
 * from a signal handler that interrupted it, again and again in children; vfork() and
 * posix_spawn(). A child may do whatever a process may do, and none hangs.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

enum {
	THREADS = 3,
	FORKS = 200,
	HANDLER_FORKS = 150,
	SPAWNS = 60,
	CHILD_SECONDS_MOST = 15,
	SLOTS = 256,
	INHERITED = 400,
};

static const size_t sizes[] = { 24, 48, 200, 500, 1024, 5000, 20000, 300000 };
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static _Atomic(unsigned char *) slots[SLOTS];
static atomic_bool stop;
static unsigned char *inherited[INHERITED];

static size_t random_size(uint64_t r)
{
	return sizes[r % 64 ? r % (SIZES - 1) : SIZES - 1];
}

static unsigned char *allocate(uint64_t r)
{
	const size_t size = random_size(r);
	unsigned char *p = r % 5 ? malloc(size) : calloc(1, size);
	CHECK(p != NULL);
	memset(p, (int)(r >> 8), 16);
	return p;
}

static void release(unsigned char *p)
{
	CHECK(p == NULL || p[0] == p[15]);
	free(p);
}

static void exchange(uint64_t *random)
{
	const uint64_t r = test_random(random);
	release(atomic_exchange(&slots[r / 64 % SLOTS], allocate(r)));
}

static void *churn(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;
	while (!atomic_load(&stop))
		exchange(&random);
	return NULL;
}

static void *some_work(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;
	for (unsigned i = 0; i < 300; i++)
		exchange(&random);
	return NULL;
}

static void start_threads(pthread_t *threads)
{
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < INHERITED; i++)
		inherited[i] = allocate(i);
}

static void end_threads(pthread_t *threads)
{
	atomic_store(&stop, true);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static void expect_success(pid_t pid)
{
	int status;
	CHECK(pid > 0);
	while (waitpid(pid, &status, 0) != pid)
		CHECK_EQ(errno, EINTR);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		test_fail(__FILE__, __LINE__, "a child ended with status %#x", status);
}

/* What a child does: uses what it has inherited, makes threads, and forks again. */
static void child_work(unsigned depth)
{
	pthread_t threads[2];
	alarm(CHILD_SECONDS_MOST);
	for (unsigned i = 0; i < INHERITED; i += 2) {
		inherited[i] = realloc(inherited[i], random_size(i * 7) + 16);
		CHECK(inherited[i] != NULL);
	}
	for (unsigned i = 0; i < INHERITED; i++)
		release(inherited[i]);
	some_work((void *)(uintptr_t)(depth + 1));
	for (size_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, some_work, (void *)(i + 9)), 0);
	for (size_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	malloc_trim(0);
	CHECK(mallinfo2().arena > 0);
	memset(inherited, 0, sizeof inherited);
	for (unsigned i = 0; i < INHERITED; i++)
		inherited[i] = allocate(i);
	if (depth > 0) {
		const pid_t pid = fork();
		if (pid == 0) {
			child_work(depth - 1);
			_exit(0);
		}
		expect_success(pid);
	}
}

TEST_TIMEOUT(fork_while_threads_allocate, 60)
{
	pthread_t threads[THREADS];
	start_threads(threads);
	for (unsigned i = 0; i < FORKS; i++) {
		const pid_t pid = fork();
		if (pid == 0) {
			child_work(i % 10 == 0 ? 2 : 0);
			/* Every other child runs the destructors. */
			if (i % 2)
				exit(0);
			_exit(0);
		}
		expect_success(pid);
	}
	end_threads(threads);
}

/* Several children at once, while their parent goes on forking. */
TEST_TIMEOUT(children_live_side_by_side, 60)
{
	pthread_t threads[THREADS];
	pid_t pids[16];
	start_threads(threads);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 16; i++) {
			pids[i] = fork();
			if (pids[i] == 0) {
				child_work(0);
				_exit(0);
			}
		}
		for (unsigned i = 0; i < 16; i++)
			expect_success(pids[i]);
	}
	end_threads(threads);
}

static void *fork_in_thread(void *arg)
{
	for (unsigned i = 0; i < 30; i++) {
		const pid_t pid = fork();
		if (pid == 0) {
			some_work(arg);
			malloc_trim(0);
			_exit(0);
		}
		expect_success(pid);
	}
	return NULL;
}

TEST_TIMEOUT(several_threads_fork, 60)
{
	pthread_t threads[THREADS];
	pthread_t forkers[3];
	start_threads(threads);
	for (size_t i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&forkers[i], NULL, fork_in_thread, (void *)i), 0);
	for (size_t i = 0; i < 3; i++)
		CHECK_EQ(pthread_join(forkers[i], NULL), 0);
	end_threads(threads);
}

/*
 * A handler that interrupts the allocator forks. glibc's own fork() takes locks of stdio and of its
 * malloc, which nobody here holds. The child goes on inside the interrupted call.
 */
static volatile sig_atomic_t handler_forks;
static volatile sig_atomic_t is_child;
static pid_t handler_children[HANDLER_FORKS];

static void fork_in_handler(int number)
{
	const int saved_errno = errno;
	if (handler_forks < HANDLER_FORKS && !is_child) {
		void *p = malloc(48);
		const pid_t pid = fork();
		free(p);
		if (pid == 0)
			is_child = 1;
		else
			handler_children[handler_forks++] = pid;
	}
	errno = saved_errno;
}

TEST_TIMEOUT(fork_in_a_signal_handler_inside_malloc, 60)
{
	struct sigaction action = { .sa_handler = fork_in_handler };
	const struct itimerval timer = { { 0, 3000 }, { 0, 3000 } };
	uint64_t random = test_seed();
	sigaction(SIGALRM, &action, NULL);
	CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
	while (handler_forks < HANDLER_FORKS && !is_child)
		exchange(&random);
	if (is_child) {
		/* Timers are not inherited. */
		signal(SIGALRM, SIG_DFL);
		alarm(CHILD_SECONDS_MOST);
		some_work(NULL);
		malloc_trim(0);
		_exit(0);
	}
	const struct itimerval none = { 0 };
	setitimer(ITIMER_REAL, &none, NULL);
	for (unsigned i = 0; i < HANDLER_FORKS; i++)
		expect_success(handler_children[i]);
}

/* The child of a vfork() shares the parent's memory; programs do allocate there. */
static void run_vfork(void)
{
	const pid_t pid = vfork();
	if (pid == 0) {
		char **arguments = malloc(2 * sizeof *arguments);
		if (arguments == NULL)
			_exit(1);
		arguments[0] = strdup("true");
		arguments[1] = NULL;
		execv("/bin/true", arguments);
		_exit(127);
	}
	expect_success(pid);
}

static void run_spawn(void)
{
	char *arguments[] = { "true", NULL };
	char *environment[] = { NULL };
	pid_t pid;
	CHECK_EQ(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environment), 0);
	expect_success(pid);
}

TEST_TIMEOUT(vfork_and_spawn_while_threads_allocate, 60)
{
	pthread_t threads[THREADS];
	start_threads(threads);
	for (unsigned i = 0; i < SPAWNS; i++) {
		run_vfork();
		run_spawn();
	}
	CHECK_EQ(system("exit 3") >> 8, 3);
	end_threads(threads);
	some_work(NULL);
}

/* The child gets at what vanished threads had: 48 MB in blocks that they freed. */
static pthread_barrier_t filled;

static void *fill_and_wait(void *arg)
{
	enum { BLOCKS = 16000 };
	void **blocks = malloc(BLOCKS * sizeof *blocks);
	for (unsigned i = 0; i < BLOCKS; i++)
		memset(blocks[i] = malloc(1000), 1, 1000);
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (i % 50)
			free(blocks[i]);
	}
	pthread_barrier_wait(&filled);
	pause();
	return NULL;
}

TEST_TIMEOUT(a_child_uses_what_vanished_threads_had_free, 60)
{
	pthread_t threads[THREADS];
	pthread_barrier_init(&filled, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, fill_and_wait, NULL), 0);
	pthread_barrier_wait(&filled);
	const pid_t pid = fork();
	if (pid == 0) {
		const size_t before = mallinfo2().arena;
		for (unsigned i = 0; i < 40000; i++)
			memset(malloc(1000), 1, 1000);
		const size_t after = mallinfo2().arena;
		test_note("committed before %zu KiB, after %zu KiB", before >> 10, after >> 10);
		CHECK(after <= before + ((size_t)6 << 20));
		_exit(0);
	}
	expect_success(pid);
}
