/* SPDX-License-Identifier: MIT */
/*
 * Beginning and end of threads, with the library preloaded: destructors that allocate and free
 * late, thousands of threads one after the other, blocks that outlive their thread, memory of an
 * idle thread that others freed. (The first call of a thread by each entry point:
 * test_conformance_threads.c.)
 */
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

enum {
	MIB = 1 << 20,
	KEYS = 12,
	CHURN_THREADS = 2000,
	IDLE_BYTES = 64 * MIB,
	SLACK_BYTES = 6 * MIB,
	DECAY_WAIT_MS = 15000, /* it takes one second, on a machine that is not busy */
};

/* The C++ run-time's way to have a thread_local's destructor called. */
extern int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);
extern void *__dso_handle;

static size_t resident_bytes(void)
{
	char text[128] = "";
	FILE *f = fopen("/proc/self/statm", "r");
	CHECK(f != NULL && fgets(text, sizeof text, f) != NULL);
	fclose(f);
	return (size_t)atol(strchr(text, ' ')) * (size_t)sysconf(_SC_PAGESIZE);
}

static void pause_ms(long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&time, NULL);
}

static void run_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	CHECK_EQ(pthread_create(&thread, NULL, run, arg), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

static size_t held_bytes(void)
{
	const struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

/*
 * Destructors: each round frees what the one before allocated, and allocates anew, until the last.
 */

static pthread_key_t keys[KEYS];

struct late {
	unsigned key;
	unsigned round;
	char text[100];
};

static void late_destructor(void *arg)
{
	struct late *late = arg;
	const struct late old = *late;
	CHECK_EQ(late->text[99], 'x');
	free(late);
	free(malloc(400000));
	if (old.round == PTHREAD_DESTRUCTOR_ITERATIONS)
		return;
	late = calloc(1, sizeof *late);
	CHECK(late != NULL);
	late->key = old.key;
	late->round = old.round + 1;
	late->text[99] = 'x';
	CHECK_EQ(pthread_setspecific(keys[old.key], late), 0);
}

static void object_destructor(void *object)
{
	free(object);
	object = realloc(malloc(30), 3000);
	CHECK(object != NULL);
	free(object);
}

static void *with_destructors(void *arg)
{
	for (unsigned i = 0; i < KEYS; i++) {
		struct late *late = calloc(1, sizeof *late);
		late->key = i;
		late->round = 1;
		late->text[99] = 'x';
		pthread_setspecific(keys[i], late);
	}
	for (unsigned i = 0; i < 5; i++)
		__cxa_thread_atexit_impl(object_destructor, malloc(100), &__dso_handle);
	return NULL;
}

/* The destructors make the thread's first call. */
static void *with_destructors_only(void *arg)
{
	__cxa_thread_atexit_impl(object_destructor, arg, &__dso_handle);
	return NULL;
}

TEST_TIMEOUT(destructors_of_every_round_allocate_and_free, 30)
{
	for (unsigned i = 0; i < KEYS; i++)
		CHECK_EQ(pthread_key_create(&keys[i], late_destructor), 0);
	run_thread(with_destructors, NULL);
	const size_t before = held_bytes();
	for (unsigned i = 0; i < 300; i++) {
		run_thread(with_destructors, NULL);
		run_thread(with_destructors_only, malloc(48));
	}
	const size_t after = held_bytes();
	CHECK(after <= before + 64 * 1024);
}

/* A key made late has a number that glibc keeps a table for, by calloc, when it is first set. */
TEST_TIMEOUT(many_keys, 30)
{
	static pthread_key_t all[400];
	for (unsigned i = 0; i < 400; i++)
		CHECK_EQ(pthread_key_create(&all[i], free), 0);
	memcpy(keys, all + 400 - KEYS, sizeof keys);
	const size_t before = held_bytes();
	for (unsigned i = 0; i < 200; i++) {
		pthread_setspecific(all[i * 2], malloc(64));
		run_thread(with_destructors_only, malloc(48));
	}
	CHECK(held_bytes() <= before + 256 * 1024);
}

/* Thousands of threads, each of which touches some slabs. */

static void *brief(void *arg)
{
	void *blocks[200];
	for (unsigned i = 0; i < 200; i++)
		memset(blocks[i] = malloc(16 + i * 40), 1, 16 + i * 40);
	for (unsigned i = 0; i < 200; i++)
		free(blocks[i]);
	return NULL;
}

static void churn(unsigned threads)
{
	pthread_t running[8];
	for (unsigned i = 0; i < threads; i++) {
		if (i >= 8)
			CHECK_EQ(pthread_join(running[i % 8], NULL), 0);
		CHECK_EQ(pthread_create(&running[i % 8], NULL, brief, NULL), 0);
	}
	for (unsigned i = 0; i < 8; i++)
		CHECK_EQ(pthread_join(running[i], NULL), 0);
}

TEST_TIMEOUT(thousands_of_threads_leave_nothing_behind, 60)
{
	churn(100);
	malloc_trim(0);
	const size_t before = resident_bytes();
	const size_t held = held_bytes();
	churn(CHURN_THREADS);
	const size_t busy = resident_bytes();
	malloc_trim(0);
	const size_t after = resident_bytes();
	test_note("resident: %zu KiB before, %zu after %d threads, %zu after a trim", before >> 10,
		busy >> 10, CHURN_THREADS, after >> 10);
	CHECK(busy <= before + 24 * MIB);
	CHECK(after <= before + MIB);
	CHECK(held_bytes() <= held + 256 * 1024);
}

/* Blocks of a thread that has ended, or does nothing. */

struct owner {
	void **blocks;
	size_t count;
	size_t size;
	pthread_barrier_t *idle; /* NULL: the thread ends */
	pthread_mutex_t done;
};

static void *own(void *arg)
{
	struct owner *o = arg;
	for (size_t i = 0; i < o->count; i++) {
		o->blocks[i] = malloc(o->size);
		CHECK(o->blocks[i] != NULL);
		memset(o->blocks[i], 1, o->size);
	}
	if (o->idle != NULL) {
		pthread_barrier_wait(o->idle);
		pthread_mutex_lock(&o->done);
	}
	return NULL;
}

/* Fills memory on a thread of its own, which is idle (until done is unlocked) or has ended then. */
static pthread_t fill(struct owner *o, size_t size, pthread_barrier_t *idle)
{
	pthread_t thread;
	*o = (struct owner){ .size = size, .count = IDLE_BYTES / size, .idle = idle };
	o->blocks = calloc(o->count, sizeof *o->blocks);
	CHECK(o->blocks != NULL);
	pthread_mutex_init(&o->done, NULL);
	pthread_mutex_lock(&o->done);
	CHECK_EQ(pthread_create(&thread, NULL, own, o), 0);
	if (idle != NULL)
		pthread_barrier_wait(idle);
	else
		CHECK_EQ(pthread_join(thread, NULL), 0);
	return thread;
}

static void finish(struct owner *o, pthread_t thread)
{
	pthread_mutex_unlock(&o->done);
	if (o->idle != NULL)
		CHECK_EQ(pthread_join(thread, NULL), 0);
	free(o->blocks);
}

static void wait_until_resident(size_t most)
{
	for (unsigned waited = 0; waited < DECAY_WAIT_MS && resident_bytes() > most; waited += 50)
		pause_ms(50);
	test_note("resident at last: %zu KiB, %zu allowed", resident_bytes() >> 10, most >> 10);
	CHECK(resident_bytes() <= most);
}

/* All is freed by another thread: it goes back by itself, and nobody acts. */
static void all_freed_by_another(size_t size, bool owner_lives)
{
	struct owner o;
	pthread_barrier_t idle;
	pthread_barrier_init(&idle, NULL, 2);
	malloc_trim(0);
	const size_t before = resident_bytes();
	const pthread_t thread = fill(&o, size, owner_lives ? &idle : NULL);
	CHECK(resident_bytes() >= before + IDLE_BYTES / 10 * 9);
	for (size_t i = 0; i < o.count; i++)
		free(o.blocks[i]);
	wait_until_resident(before + o.count * sizeof *o.blocks + SLACK_BYTES);
	finish(&o, thread);
}

TEST_TIMEOUT(memory_of_an_idle_owner_goes_back_when_others_freed_it, 60)
{
	all_freed_by_another(48, true);
	all_freed_by_another(1000, true);
	all_freed_by_another(20000, true);
}

TEST_TIMEOUT(memory_of_an_ended_owner_goes_back_when_others_freed_it, 60)
{
	all_freed_by_another(48, false);
	all_freed_by_another(1000, false);
	all_freed_by_another(20000, false);
}

/*
 * The thread lives on for a moment: long enough for the janitor, if it starts one, to be its own.
 */
static void *use_large_block(void *arg)
{
	char *block = malloc(IDLE_BYTES);
	CHECK(block != NULL);
	memset(block, 1, IDLE_BYTES);
	free(block);
	pause_ms(100);
	return arg;
}

static void *free_blocks(void *arg)
{
	struct owner *o = arg;
	for (size_t i = 0; i < o->count; i++)
		free(o->blocks[i]);
	pause_ms(100);
	return NULL;
}

TEST_TIMEOUT(memory_that_a_thread_freed_before_it_ended_goes_back, 60)
{
	struct owner o;
	malloc_trim(0);
	const size_t before = resident_bytes();
	run_thread(use_large_block, NULL);
	wait_until_resident(before + SLACK_BYTES);
	const pthread_t thread = fill(&o, 1000, NULL);
	run_thread(free_blocks, &o);
	wait_until_resident(before + o.count * sizeof *o.blocks + SLACK_BYTES);
	finish(&o, thread);
}

/* Three blocks in four are freed by another thread, which then uses the space itself. */
static void part_freed_is_used(size_t size, bool owner_lives)
{
	struct owner o;
	pthread_barrier_t idle;
	pthread_barrier_init(&idle, NULL, 2);
	const pthread_t thread = fill(&o, size, owner_lives ? &idle : NULL);
	/* Before the frees: on a slow machine some of it goes back as soon as it is free. */
	const size_t before = resident_bytes();
	for (size_t i = 0; i < o.count; i++) {
		if (i % 4)
			free(o.blocks[i]);
	}
	for (size_t i = 0; i < o.count; i++) {
		if (i % 4)
			memset(o.blocks[i] = malloc(size), 2, size);
	}
	const size_t after = resident_bytes();
	test_note("%zu bytes: resident %zu KiB before, %zu after", size, before >> 10, after >> 10);
	CHECK(after <= before + SLACK_BYTES);
	for (size_t i = 0; i < o.count; i++)
		free(o.blocks[i]);
	finish(&o, thread);
}

TEST_TIMEOUT(what_others_freed_of_an_idle_owners_memory_is_used, 30)
{
	part_freed_is_used(48, true);
	part_freed_is_used(1000, true);
	part_freed_is_used(20000, true);
}

TEST_TIMEOUT(what_others_freed_of_an_ended_owners_memory_is_used, 30)
{
	part_freed_is_used(48, false);
	part_freed_is_used(1000, false);
	part_freed_is_used(20000, false);
}

/* The owner itself freed most of it before it fell idle: others get at that too. */
static void *free_most_and_idle(void *arg)
{
	struct owner *o = arg;
	for (size_t i = 0; i < o->count; i++)
		memset(o->blocks[i] = malloc(o->size), 1, o->size);
	for (size_t i = 0; i < o->count; i++) {
		if (i % 16)
			free(o->blocks[i]);
	}
	pthread_barrier_wait(o->idle);
	pthread_mutex_lock(&o->done);
	return NULL;
}

TEST_TIMEOUT(what_an_idle_owner_freed_itself_is_used, 30)
{
	pthread_t thread;
	pthread_barrier_t idle;
	struct owner o = { .size = 1000, .count = IDLE_BYTES / 1000, .idle = &idle };
	pthread_barrier_init(&idle, NULL, 2);
	o.blocks = calloc(o.count, sizeof *o.blocks);
	pthread_mutex_init(&o.done, NULL);
	pthread_mutex_lock(&o.done);
	CHECK_EQ(pthread_create(&thread, NULL, free_most_and_idle, &o), 0);
	pthread_barrier_wait(&idle);
	const size_t before = resident_bytes();
	/* A heap is taken to be idle after a while without a call. */
	for (size_t i = 0; i < o.count / 16 * 12; i++) {
		memset(malloc(1000), 2, 1000);
		if (i % 1000 == 0)
			pause_ms(20);
	}
	const size_t after = resident_bytes();
	test_note("resident %zu KiB before, %zu after", before >> 10, after >> 10);
	/* What was allocated before it was taken for idle is fresh memory. */
	CHECK(after <= before + IDLE_BYTES / 2);
	finish(&o, thread);
}
