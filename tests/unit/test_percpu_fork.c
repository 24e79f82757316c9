/* SPDX-License-Identifier: MIT */
/* Pools in parent and child: both go on, whatever other threads were doing, and see nothing of each
 * other. */
#include "allod/percpu.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "percpu/percpu.h"

enum { CPUS = 4, ELEMENTS = 500 };

extern char **environ;

static struct allod_percpu_pool *pools[3];
static uint64_t *elements[3][ELEMENTS];
static _Atomic(bool) is_over;

static void pools_make(void)
{
	for (unsigned kind = 0; kind < 3; kind++) {
		struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
		options.max_cpus = CPUS;
		options.content = kind == 2 ? ALLOD_PERCPU_CONTENT_INIT : ALLOD_PERCPU_CONTENT_AUTO;
		pools[kind] = allod_percpu_pool_create("fork", &options);
		CHECK(pools[kind]);
	}
	for (unsigned i = 0; i < ELEMENTS; i++) {
		uint64_t value = i % 5 ? 41 : i + 1000;
		elements[0][i] = allod_percpu_zalloc(pools[0], 8, 0);
		elements[1][i] = allod_percpu_alloc_init(pools[1], 8, 0, &value, 8);
		elements[2][i] = allod_percpu_alloc_init(pools[2], 8, 0, &value, 8);
		*allod_percpu_ptr(elements[0][i], i % 2) = i;
		*allod_percpu_ptr(elements[1][i], i % 2) += 1;
	}
}

static uint64_t first_value(unsigned kind, unsigned i)
{
	return !kind ? 0 : i % 5 ? 41 : i + 1000;
}

static void contents_check(void)
{
	for (unsigned i = 0; i < ELEMENTS; i++) {
		for (unsigned cpu = 0; cpu < CPUS; cpu++) {
			uint64_t want = first_value(0, i) + (cpu == i % 2 ? i : 0);
			CHECK_EQ(*(const uint64_t *)allod_percpu_peek(elements[0][i], cpu), want);
			want = first_value(1, i) + (cpu == i % 2);
			CHECK_EQ(*(const uint64_t *)allod_percpu_peek(elements[1][i], cpu), want);
			CHECK_EQ(*(const uint64_t *)allod_percpu_peek(elements[2][i], cpu),
				first_value(2, i));
		}
	}
}

/* Allocates, stores, frees and looks over, in all pools. */
static void pools_use(unsigned rounds, uint64_t mark)
{
	uint64_t *mine[64] = { NULL };

	for (unsigned i = 0; i < rounds; i++) {
		unsigned slot = i % 64;
		uint64_t value = i % 7 ? 41 : mark + i;

		if (mine[slot]) {
			for (unsigned cpu = 0; cpu < CPUS; cpu++)
				*allod_percpu_ptr(mine[slot], cpu) = mark;
			allod_percpu_free(mine[slot]);
		}
		mine[slot] = i % 3 ? allod_percpu_alloc_init(pools[i % 3], 16, 0, &value, 8)
				   : allod_percpu_zalloc(pools[0], i % 2 ? 16 : 256, 0);
		CHECK(mine[slot]);
		for (unsigned cpu = 0; cpu < CPUS; cpu++)
			CHECK_EQ(*allod_percpu_ptr(mine[slot], cpu), i % 3 ? value : 0);
	}
	for (unsigned i = 0; i < 64; i++)
		allod_percpu_free(mine[i]);
}

static void all_sound(void)
{
	for (unsigned kind = 0; kind < 3; kind++)
		CHECK_EQ(allod_percpu_pool_check(pools[kind]), NULL);
}

/* What a child does: what it had is right, it can go on, free what it had, and end its pools. */
static void child_work(void)
{
	contents_check();
	pools_use(500, 77);
	contents_check();
	all_sound();
	for (unsigned i = 0; i < ELEMENTS; i++) {
		for (unsigned kind = 0; kind < 3; kind++)
			allod_percpu_free(elements[kind][i]);
	}
	all_sound();
	for (unsigned kind = 0; kind < 3; kind++)
		allod_percpu_pool_destroy(pools[kind]);
}

static void wait_for(pid_t child)
{
	int status;

	CHECK(child > 0);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
}

static pid_t child_of(bool is_raw)
{
	pid_t child = is_raw ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) : fork();

	if (child)
		return child;
	child_work();
	_exit(0);
}

TEST(parent_and_child_go_on)
{
	pools_make();
	for (unsigned round = 0; round < 6; round++) {
		pid_t child = child_of(round % 2);
		pools_use(500, 55);
		contents_check();
		wait_for(child);
	}
	contents_check();
	all_sound();
}

/* Its first call of all ends an element's life, before the pool is whole again. */
static void child_frees_first(struct allod_percpu_pool *pool, void **had, size_t bytes)
{
	void *got[ELEMENTS];

	allod_percpu_free(had[3]);
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
	for (unsigned i = 0; i < ELEMENTS; i++) {
		got[i] = allod_percpu_alloc(pool, bytes, 0);
		for (unsigned j = 0; j < i; j++)
			CHECK(got[i] != got[j]);
		for (unsigned j = 0; j < 8; j++)
			CHECK(j == 3 || got[i] != had[j]);
	}
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
}

TEST(a_child_may_free_first)
{
	for (size_t bytes = 8; bytes <= 4096; bytes *= 8) {
		struct allod_percpu_pool *pool = allod_percpu_pool_create("free", NULL);
		void *had[8];
		pid_t child;

		for (unsigned i = 0; i < 8; i++)
			had[i] = allod_percpu_alloc(pool, bytes, 0);
		child = fork();
		if (!child) {
			child_frees_first(pool, had, bytes);
			_exit(0);
		}
		wait_for(child);
		allod_percpu_pool_destroy(pool);
	}
}

/* Contents that the parent gives out later show on pages that the child stored to first. */
static void poisoned_in_child(struct allod_percpu_pool *pool, unsigned char *content)
{
	void *had[70];

	memset(content, 3, 64);
	for (unsigned i = 0; i < 70; i++) {
		had[i] = allod_percpu_alloc_init(pool, 64, 0, content, 64);
		memset(allod_percpu_ptr(had[i], 0), 9, 64);
	}
	for (unsigned i = 0; i < 70; i++)
		allod_percpu_free(had[i]);
	for (unsigned i = 0; i < 100; i++)
		allod_percpu_free(allod_percpu_alloc_init(pool, 64, 0, content, 64));
}

TEST(a_child_does_not_take_its_parents_contents_for_damage)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;
	unsigned char content[64];
	void *first;
	int go[2];
	pid_t child;

	options.flags = ALLOD_PERCPU_ROBUST | ALLOD_PERCPU_POISON;
	options.content = ALLOD_PERCPU_CONTENT_INIT;
	options.poison = 0x5555555555555555;
	pool = allod_percpu_pool_create("poison", &options);
	memset(content, 1, sizeof(content));
	first = allod_percpu_alloc_init(pool, 64, 0, content, 64);
	CHECK_EQ(allod_percpu_mark_active(0), 0);
	CHECK_EQ(pipe(go), 0);
	child = fork();
	if (!child) {
		CHECK_EQ(read(go[0], content, 1), 1);
		poisoned_in_child(pool, content);
		allod_percpu_free(first);
		CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
		_exit(0);
	}
	memset(content, 2, sizeof(content));
	for (unsigned i = 0; i < 180; i++)
		CHECK(allod_percpu_alloc_init(pool, 64, 0, content, 64));
	CHECK_EQ(write(go[1], "x", 1), 1);
	wait_for(child);
}

/* As in a child that was made while another thread activated a processor: entered, not marked. */
TEST(a_processor_that_was_being_activated_is_entered_once)
{
	uint32_t count;

	pools_make();
	count = a_load_rlx(&percpu_root->active_count);
	percpu_root->active[count] = CPUS + 1;
	a_store_rlx(&percpu_root->active_count, count + 1);
	CHECK_EQ(allod_percpu_mark_active(CPUS + 2), 0);
	CHECK_EQ(allod_percpu_mark_active(CPUS + 1), 0);
	CHECK_EQ(a_load_rlx(&percpu_root->active_count), count + 2);
	CHECK_EQ(percpu_root->active[count], CPUS + 1);
	CHECK_EQ(percpu_root->active[count + 1], CPUS + 2);
	contents_check();
}

__attribute__((unused)) static void *keep_busy(void *arg)
{
	while (!a_load_rlx(&is_over))
		pools_use(64 + (unsigned)(uintptr_t)arg, 1234);
	return NULL;
}

/* ThreadSanitizer knows no children: it takes a parent's thread for one that is still running. */
TEST_PLAIN(a_child_of_a_busy_parent_goes_on)
{
	unsigned rounds = test_count(60, 2000);
	pthread_t threads[3];

	pools_make();
	for (uintptr_t i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, keep_busy, (void *)i), 0);
	for (unsigned round = 0; round < rounds; round++)
		wait_for(child_of(round % 2));
	a_store_rlx(&is_over, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	contents_check();
	all_sound();
}

TEST(children_of_children_go_on)
{
	pools_make();
	for (unsigned depth = 0; depth < 6; depth++) {
		pid_t child = depth % 2 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (child) {
			pools_use(100, 5);
			contents_check();
			wait_for(child);
			if (depth)
				_exit(0);
			return;
		}
		contents_check();
		pools_use(200, depth);
	}
	all_sound();
	_exit(0);
}

TEST(a_program_that_is_started_does_no_harm)
{
	char *argv[] = { "true", NULL };
	pid_t child;

	pools_make();
	CHECK_EQ(posix_spawnp(&child, "true", NULL, NULL, argv, environ), 0);
	wait_for(child);
	child = vfork();
	if (!child) {
		execvp("true", argv);
		_exit(1);
	}
	wait_for(child);
	contents_check();
	pools_use(200, 9);
	all_sound();
}

static _Atomic(bool) may_start;

__attribute__((unused)) static void *make_first(void *arg)
{
	while (!a_load_rlx(&may_start))
		continue;
	CHECK(allod_percpu_pool_create("first", NULL));
	return arg;
}

/* A process in which a thread makes the first call while the other forks, some time after. */
__attribute__((unused)) static void fork_while_starting(unsigned delay)
{
	pthread_t thread;
	pid_t child;

	CHECK_EQ(pthread_create(&thread, NULL, make_first, NULL), 0);
	a_store_rlx(&may_start, true);
	for (unsigned i = 0; i < delay; i++)
		a_pause();
	child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (!child) {
		alarm(10);
		struct allod_percpu_pool *pool = allod_percpu_pool_create("child", NULL);
		CHECK(pool && allod_percpu_zalloc(pool, 8, 0));
		CHECK_EQ(allod_percpu_pool_check(pool), NULL);
		_exit(0);
	}
	wait_for(child);
	pthread_join(thread, NULL);
	_exit(0);
}

TEST_PLAIN(a_child_of_a_first_call_makes_its_own)
{
	unsigned rounds = test_count(400, 4000);

	for (unsigned round = 0; round < rounds; round++) {
		pid_t child = fork();
		if (!child)
			fork_while_starting(round * 16 % 6400);
		wait_for(child);
	}
}
