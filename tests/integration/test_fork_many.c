/* SPDX-License-Identifier: MIT */
/*
 * Children in every state, with the library preloaded: made by each call there is, by threads old
 * and new and ending, while other threads are in the allocator and threads come and go. Each child
 * looks through all that it has inherited, to the last byte, then frees, resizes, trims and reads
 * statistics. TEST_LONG=1 makes 10,000 of them.
 */
#include <errno.h>
#include <linux/sched.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

enum {
	CHURNERS = 2,
	SLOTS = 192,
	CHILD_SECONDS_MOST = 20,
	STACK_BYTES = 256 * 1024,
	/* All kinds, a prime number of times, so that kinds and makers meet in all ways. */
	CHILDREN = 480,
	CHILDREN_LONG = 10000,
};

static const size_t sizes[] = { 24, 32, 100, 100, 250, 520, 1500, 4000, 9000, 40000 };
enum { SIZES = sizeof sizes / sizeof sizes[0], LARGE_BYTES = 400000 };

/* A block tells its size and what it is filled with. */
struct filled {
	uint64_t bytes;
	uint64_t seed;
	unsigned char rest[];
};

static _Atomic(struct filled *) slots[SLOTS];
static atomic_bool stop;
static pthread_key_t end_key;

static unsigned char pattern(const struct filled *f)
{
	return (unsigned char)(f->seed ^ f->bytes);
}

static void fill(struct filled *f, size_t bytes, uint64_t seed)
{
	f->bytes = bytes;
	f->seed = seed;
	memset(f->rest, pattern(f), bytes - sizeof *f);
}

static struct filled *make(uint64_t r)
{
	const size_t bytes = r % 200 ? sizes[r % SIZES] : LARGE_BYTES;
	struct filled *f = r % 5 ? malloc(bytes) : r % 2 ? calloc(1, bytes) : memalign(64, bytes);
	CHECK(f != NULL);
	fill(f, bytes, r);
	return f;
}

/* Whether the first bytes of the block are what they were. */
static void verify(const struct filled *f, size_t bytes)
{
	const size_t rest = bytes - sizeof *f;
	CHECK(malloc_usable_size((void *)f) >= bytes);
	if (rest > 0)
		CHECK(f->rest[0] == pattern(f) && memcmp(f->rest, f->rest + 1, rest - 1) == 0);
}

static void drop(struct filled *f)
{
	if (f != NULL)
		verify(f, f->bytes);
	free(f);
}

static void exchange(uint64_t *random)
{
	const uint64_t r = test_random(random);
	drop(atomic_exchange(&slots[r / 1024 % SLOTS], make(r)));
}

static void use_all(uint64_t seed, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++)
		exchange(&seed);
	malloc_trim(0);
	CHECK(mallinfo2().arena > 0);
}

static void *churn(void *arg)
{
	uint64_t random = (uintptr_t)arg;
	while (!atomic_load(&stop)) {
		exchange(&random);
		if (random % 512 == 0)
			use_all(random, 1);
	}
	return NULL;
}

/* Frees late, and makes the last call of its thread. */
static void at_end(void *arg)
{
	drop(arg);
	free(realloc(malloc(100), 5000));
}

static void *brief(void *arg)
{
	uint64_t random = (uintptr_t)arg;
	CHECK_EQ(pthread_setspecific(end_key, make(random)), 0);
	for (unsigned i = 0; i < 20; i++)
		exchange(&random);
	return NULL;
}

/* Threads come and go. */
static void *make_threads(void *arg)
{
	pthread_t threads[2];
	for (uintptr_t n = 1; !atomic_load(&stop); n++) {
		for (uintptr_t i = 0; i < 2; i++)
			CHECK_EQ(pthread_create(&threads[i], NULL, brief, (void *)(n * 2 + i)), 0);
		for (unsigned i = 0; i < 2; i++)
			CHECK_EQ(pthread_join(threads[i], NULL), 0);
	}
	return arg;
}

/*
 * Children with memory of their own.
 */

/* One block in four stays as it is, one is freed, one resized, one replaced. */
static void rework(unsigned i)
{
	struct filled *f = atomic_load(&slots[i]);
	if (f == NULL || i % 4 == 0)
		return;
	if (i % 4 == 1) {
		atomic_store(&slots[i], NULL);
		free(f);
		return;
	}
	const size_t old = f->bytes;
	const size_t bytes = i % 8 < 4 ? old * 2 : old / 2 + sizeof *f;
	f = realloc(f, bytes);
	CHECK(f != NULL);
	verify(f, bytes < old ? bytes : old);
	fill(f, bytes, i);
	atomic_store(&slots[i], f);
}

static void verify_all(void)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		const struct filled *f = atomic_load(&slots[i]);
		if (f != NULL)
			verify(f, f->bytes);
	}
}

static void work_in_copy(uint64_t seed)
{
	alarm(CHILD_SECONDS_MOST);
	verify_all();
	for (unsigned i = 0; i < SLOTS; i++)
		rework(i);
	malloc_trim(0);
	use_all(seed, 150);
	verify_all();
	for (unsigned i = 0; i < SLOTS; i++)
		free(atomic_exchange(&slots[i], NULL));
	const struct mallinfo2 info = mallinfo2();
	CHECK(info.uordblks + info.hblkhd > 0);
}

/* What fork() permits, and a bare clone() does not, since locks of libc may be held. */
static void work_with_threads(uint64_t seed)
{
	pthread_t thread;
	work_in_copy(seed);
	CHECK_EQ(pthread_create(&thread, NULL, brief, (void *)(uintptr_t)seed), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

static pid_t by_fork(uint64_t seed)
{
	const pid_t pid = fork();
	if (pid == 0) {
		work_with_threads(seed);
		/* Every other one runs the destructors of the process. */
		if (seed % 2)
			exit(0);
		_exit(0);
	}
	return pid;
}

static pid_t end_bare_child(pid_t pid, uint64_t seed)
{
	if (pid == 0) {
		work_in_copy(seed);
		_exit(0);
	}
	return pid;
}

/* No handler of pthread_atfork() is called. */
static pid_t by_clone(uint64_t seed)
{
	return end_bare_child((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), seed);
}

static pid_t by_clone3(uint64_t seed)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	const pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0 && errno == ENOSYS)
		return by_clone(seed);
	return end_bare_child(pid, seed);
}

/*
 * Children in the parent's memory. They are their maker's thread as far as thread-local storage
 * goes, and it does nothing meanwhile.
 */

static pid_t by_vfork(uint64_t seed)
{
	const pid_t pid = vfork();
	if (pid == 0) {
		use_all(seed, 60);
		_exit(0);
	}
	return pid;
}

static int work_in_shared(void *arg)
{
	use_all((uintptr_t)arg, 60);
	return 0;
}

static pid_t by_shared_clone(uint64_t seed, int flags)
{
	char *stack = malloc(STACK_BYTES);
	int status;
	CHECK(stack != NULL);
	const pid_t pid = clone(work_in_shared, stack + STACK_BYTES, flags | CLONE_VM | SIGCHLD,
		(void *)(uintptr_t)seed);
	CHECK(pid > 0);
	while (waitpid(pid, &status, 0) != pid)
		CHECK_EQ(errno, EINTR);
	CHECK_EQ(status, 0);
	free(stack);
	return 0;
}

static pid_t by_spawn(uint64_t seed)
{
	char *arguments[] = { "true", NULL };
	char *environment[] = { NULL };
	pid_t pid;
	(void)seed;
	CHECK_EQ(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environment), 0);
	return pid;
}

/* Makes a child of one kind and waits for it. */
static void make_child(uint64_t n)
{
	pid_t pid = 0;
	int status;
	switch (n % 8) {
	case 0: pid = by_clone(n); break;
	case 1: pid = by_clone3(n); break;
	case 2: pid = by_vfork(n); break;
	case 3: pid = by_spawn(n); break;
	case 4: pid = by_shared_clone(n, 0); break;
	case 5: pid = by_shared_clone(n, CLONE_VFORK); break;
	default: pid = by_fork(n); break;
	}
	CHECK(pid >= 0);
	while (pid > 0 && waitpid(pid, &status, 0) != pid)
		CHECK_EQ(errno, EINTR);
	if (pid > 0 && status != 0)
		test_fail(__FILE__, __LINE__, "child %u ended with status %#x", (unsigned)n,
			status);
}

/*
 * Who makes it: this thread; one for which it is the first call; one in its last destructor.
 */

static pthread_key_t child_key;

static void make_child_at_end(void *arg)
{
	make_child((uintptr_t)arg);
}

static void *make_child_first(void *arg)
{
	make_child((uintptr_t)arg);
	return NULL;
}

static void *make_child_last(void *arg)
{
	brief(arg);
	CHECK_EQ(pthread_setspecific(child_key, arg), 0);
	return NULL;
}

static void make_child_somewhere(uintptr_t n)
{
	pthread_t thread;
	if (n % 3 == 0) {
		make_child(n);
		return;
	}
	CHECK_EQ(pthread_create(&thread, NULL, n % 3 == 1 ? make_child_first : make_child_last,
			 (void *)n),
		0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static size_t held_bytes(void)
{
	const struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

TEST_TIMEOUT(children_of_every_kind_while_threads_come_and_go, 60)
{
	const unsigned children = test_count(CHILDREN, CHILDREN_LONG);
	const double start = seconds();
	pthread_t threads[CHURNERS + 1];
	CHECK_EQ(pthread_key_create(&end_key, at_end), 0);
	CHECK_EQ(pthread_key_create(&child_key, make_child_at_end), 0);
	make_child_somewhere(3);
	const size_t held = held_bytes();
	for (uintptr_t i = 0; i <= CHURNERS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, i ? churn : make_threads, (void *)i), 0);
	for (uintptr_t n = 1; n <= children; n++)
		make_child_somewhere(n);
	atomic_store(&stop, true);
	for (unsigned i = 0; i <= CHURNERS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	for (unsigned i = 0; i < SLOTS; i++)
		drop(atomic_exchange(&slots[i], NULL));
	malloc_trim(0);
	test_note("%u children in %.1f s; in use %zu KiB before, %zu after", children,
		seconds() - start, held >> 10, held_bytes() >> 10);
	CHECK(held_bytes() <= held + 64 * 1024);
}

/*
 * A child in the parent's memory that is killed in the middle of a call leaves its maker's heap as
 * a signal handler does that never returns: that thread goes on by other heaps, and all is whole.
 */

static atomic_int victim;

static void *make_victim(void *arg)
{
	uint64_t random = test_seed() + (uintptr_t)arg;
	use_all(random, 20);
	const pid_t pid = vfork();
	if (pid == 0) {
		atomic_store(&victim, (int)syscall(SYS_getpid));
		for (;;)
			exchange(&random);
	}
	int status;
	while (waitpid(pid, &status, 0) != pid)
		CHECK_EQ(errno, EINTR);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	use_all(random, 100);
	return NULL;
}

TEST_TIMEOUT(children_in_shared_memory_are_killed_inside, 60)
{
	const unsigned children = test_count(60, 2000);
	uint64_t random = test_seed();
	for (uintptr_t n = 0; n < children; n++) {
		pthread_t thread;
		CHECK_EQ(pthread_create(&thread, NULL, make_victim, (void *)n), 0);
		while (atomic_load(&victim) == 0)
			sched_yield();
		const struct timespec a_moment = { 0, (long)(test_random(&random) % 2000000) };
		nanosleep(&a_moment, NULL);
		CHECK_EQ(kill(atomic_exchange(&victim, 0), SIGKILL), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		verify_all();
	}
	for (unsigned i = 0; i < SLOTS; i++)
		drop(atomic_exchange(&slots[i], NULL));
	/* A heap that is lost counts as in use, but for what its slabs had ready to be carved. */
	test_note("in use after %u: %zu KiB", children, held_bytes() >> 10);
	CHECK(held_bytes() <= children * ((size_t)1 << 20));
}
