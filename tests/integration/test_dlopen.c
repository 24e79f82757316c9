/* SPDX-License-Identifier: MIT */
/*
 * The libraries loaded late, by dlopen(), and let go of; several copies in one process, beside the
 * preloaded library, and blocks that go astray between them; loading and unloading of other
 * libraries meanwhile.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#if !defined(ALLOD_LIBRARY) || !defined(ALLOD_PRELOAD)
#error "the paths of liballod.so and liballod-malloc.so"
#endif

enum { THREADS = 3, COPIES = 3, CHURN = 150 };

/* One copy of the library. */
struct copy {
	void *handle;
	void *(*alloc)(size_t size);
	void *(*resize)(void *p, size_t size);
	void (*release)(void *p);
	size_t (*usable_size)(void *p);
};

static void *symbol(void *handle, const char *name)
{
	void *function = dlsym(handle, name);
	if (function == NULL)
		test_fail(__FILE__, __LINE__, "%s: %s", name, dlerror());
	return function;
}

/* What is loaded, and the name of its malloc. */
struct library {
	const char *path;
	const char *prefix;
};

static const struct library liballod = { ALLOD_LIBRARY, "allod_" };
static const struct library liballod_malloc = { ALLOD_PRELOAD, "" };

static void *function(const struct library *l, void *handle, const char *name)
{
	char full[64];
	snprintf(full, sizeof full, "%s%s", l->prefix, name);
	return symbol(handle, full);
}

static struct copy open_with(const struct library *l, Lmid_t namespace, int flags)
{
	struct copy c;
	c.handle = dlmopen(namespace, l->path, RTLD_NOW | flags);
	if (c.handle == NULL)
		test_fail(__FILE__, __LINE__, "%s", dlerror());
	*(void **)&c.alloc = function(l, c.handle, "malloc");
	*(void **)&c.resize = function(l, c.handle, "realloc");
	*(void **)&c.release = function(l, c.handle, "free");
	*(void **)&c.usable_size = function(l, c.handle, "malloc_usable_size");
	return c;
}

static struct copy open_copy(bool apart)
{
	return open_with(&liballod, apart ? LM_ID_NEWLM : LM_ID_BASE, RTLD_LOCAL);
}

static void *use(void *arg)
{
	const struct copy *c = arg;
	unsigned char *blocks[300];
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 300; i++) {
			const size_t size = 1 + i * (round + 1) * 3;
			blocks[i] = c->alloc(size);
			CHECK(blocks[i] != NULL);
			memset(blocks[i], (int)i, size);
		}
		for (unsigned i = 0; i < 300; i++) {
			blocks[i] = c->resize(blocks[i], 2000);
			CHECK(blocks[i] != NULL && c->usable_size(blocks[i]) >= 2000);
			CHECK_EQ(blocks[i][0], i & 255);
			c->release(blocks[i]);
		}
	}
	return NULL;
}

static void use_in_threads(struct copy *c)
{
	pthread_t threads[THREADS];
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, use, c), 0);
	use(c);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static pthread_barrier_t step;
static atomic_bool stop;

/* Began before the library was there; ends after it was let go of. */
static void *old_thread(void *arg)
{
	pthread_barrier_wait(&step);
	pthread_barrier_wait(&step);
	use(arg);
	pthread_barrier_wait(&step);
	pthread_barrier_wait(&step);
	return NULL;
}

static void load_late(const struct library *l, int flags)
{
	pthread_t thread;
	struct copy c;
	pthread_barrier_init(&step, NULL, 2);
	CHECK_EQ(pthread_create(&thread, NULL, old_thread, &c), 0);
	pthread_barrier_wait(&step);
	c = open_with(l, LM_ID_BASE, flags);
	use_in_threads(&c);
	pthread_barrier_wait(&step);
	unsigned char *kept = c.alloc(100);
	memset(kept, 5, 100);
	pthread_barrier_wait(&step);
	/* It stays where it is: threads end in it, and blocks live in it. */
	CHECK_EQ(dlclose(c.handle), 0);
	CHECK_EQ(kept[99], 5);
	use_in_threads(&c);
	pthread_barrier_wait(&step);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	const struct copy again = open_with(l, LM_ID_BASE, flags);
	CHECK_EQ(again.alloc == c.alloc, true);
	again.release(kept);
}

TEST_TIMEOUT(loaded_late_and_let_go_of, 30)
{
	load_late(&liballod, RTLD_LOCAL);
}

TEST_TIMEOUT(loaded_late_for_all_to_see, 30)
{
	load_late(&liballod, RTLD_GLOBAL);
	CHECK(dlsym(RTLD_DEFAULT, "allod_malloc") != NULL);
}

/*
 * The library for preloading, loaded late: who asks it by name gets its malloc, all others go on
 * with the one that they have.
 */
static void load_malloc_late(int flags)
{
	void *const before = dlsym(RTLD_DEFAULT, "malloc");
	void *kept = malloc(1000);
	load_late(&liballod_malloc, flags);
	CHECK_EQ(dlsym(RTLD_DEFAULT, "malloc"), before);
	/* A library that comes after it allocates what the program frees. */
	char *text = NULL;
	int (*format)(char **text, const char *format, ...);
	*(void **)&format = symbol(RTLD_DEFAULT, "asprintf");
	CHECK_EQ(format(&text, "%d", 4711), 4);
	free(text);
	free(realloc(kept, 2000));
}

TEST_TIMEOUT(liballod_malloc_loaded_late, 30)
{
	load_malloc_late(RTLD_LOCAL);
}

TEST_TIMEOUT(liballod_malloc_loaded_late_for_all_to_see, 30)
{
	load_malloc_late(RTLD_GLOBAL);
}

/* Its threads are inside it, and their blocks live, when it is let go of. */
static void *use_until_told(void *arg)
{
	const struct copy *c = arg;
	while (!atomic_load(&stop))
		use(arg);
	return c->alloc(300);
}

static void let_go_of_while_used(const struct library *l)
{
	pthread_t threads[THREADS];
	atomic_store(&stop, false);
	struct copy c = open_with(l, LM_ID_BASE, RTLD_LOCAL);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, use_until_told, &c), 0);
	use(&c);
	for (unsigned i = 0; i < 20; i++) {
		CHECK_EQ(dlclose(c.handle), 0);
		CHECK(dlopen(l->path, RTLD_NOW | RTLD_LOCAL) != NULL);
	}
	CHECK_EQ(dlclose(c.handle), 0);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++) {
		void *block;
		CHECK_EQ(pthread_join(threads[i], &block), 0);
		memset(block, 1, 300);
		c.release(block);
	}
}

TEST_TIMEOUT(let_go_of_while_threads_are_inside, 30)
{
	let_go_of_while_used(&liballod);
	let_go_of_while_used(&liballod_malloc);
}

TEST_TIMEOUT(opened_and_closed_again_and_again, 30)
{
	for (unsigned i = 0; i < CHURN; i++) {
		struct copy c = open_copy(false);
		c.release(c.alloc(i * 100));
		CHECK_EQ(dlclose(c.handle), 0);
	}
}

/* A fork in a process that loaded it late. */
TEST_TIMEOUT(fork_after_a_late_load, 30)
{
	struct copy c = open_copy(false);
	use_in_threads(&c);
	const pid_t pid = fork();
	if (pid == 0) {
		use_in_threads(&c);
		_exit(0);
	}
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

/* Each copy has its own heap; none takes blocks of another for its own. */
TEST_TIMEOUT(several_copies_in_one_process, 30)
{
	struct copy copies[COPIES];
	void *blocks[COPIES];
	for (unsigned i = 0; i < COPIES; i++)
		copies[i] = open_copy(i > 0);
	for (unsigned i = 0; i < COPIES; i++)
		use_in_threads(&copies[i]);
	for (unsigned i = 0; i < COPIES; i++)
		memset(blocks[i] = copies[i].alloc(1000), (int)i, 1000);
	for (unsigned i = 0; i < COPIES; i++) {
		CHECK_EQ(copies[(i + 1) % COPIES].usable_size(blocks[i]), 0);
		CHECK_EQ(((unsigned char *)blocks[i])[999], i);
	}
	void *mine = malloc(1000);
	CHECK_EQ(copies[0].usable_size(mine), 0);
	free(mine);
	for (unsigned i = 0; i < COPIES; i++)
		copies[i].release(blocks[i]);
}

/* A block of one copy that is given to another is no block there, and told so at once. */
TEST_TIMEOUT(a_block_of_another_copy_is_refused, 30)
{
	struct copy copies[COPIES];
	for (unsigned i = 0; i < COPIES; i++)
		copies[i] = open_copy(i > 0);
	for (unsigned i = 0; i < COPIES; i++) {
		const struct copy *other = &copies[(i + 1) % COPIES];
		void *small = copies[i].alloc(100);
		void *large = copies[i].alloc(3000000);
		CHECK_DEATH(other->release(small), SIGABRT, "allod: invalid free\n");
		CHECK_DEATH(other->release(large), SIGABRT, "allod: invalid free\n");
		CHECK_DEATH(other->resize(small, 200), SIGABRT, "allod: invalid free\n");
		copies[i].release(small);
		copies[i].release(large);
	}
	void *mine = malloc(100);
	CHECK_DEATH(copies[0].release(mine), SIGABRT, "allod: invalid free\n");
	free(mine);
}

/* Libraries come and go, with the loader's own allocations, while threads allocate. */
static void *load_and_unload(void *arg)
{
	static const char *const names[] = { "libresolv.so.2", "libutil.so.1", "libanl.so.1",
		"libnss_dns.so.2", "libBrokenLocale.so.1" };
	for (unsigned i = 0; i < CHURN; i++) {
		void *handle = dlopen(names[i % 5], RTLD_NOW | RTLD_LOCAL);
		free(malloc(100 + i));
		if (handle != NULL)
			dlclose(handle);
	}
	return NULL;
}

static void *allocate_meanwhile(void *arg)
{
	struct copy c = { NULL, malloc, realloc, free, NULL };
	for (unsigned round = 0; round < 20; round++) {
		void *blocks[200];
		for (unsigned i = 0; i < 200; i++)
			blocks[i] = c.alloc(i * round + 1);
		for (unsigned i = 0; i < 200; i++)
			c.release(blocks[i]);
	}
	return NULL;
}

TEST_TIMEOUT(libraries_come_and_go_while_threads_allocate, 30)
{
	pthread_t threads[2 * THREADS];
	for (unsigned i = 0; i < THREADS; i++) {
		CHECK_EQ(pthread_create(&threads[i], NULL, load_and_unload, NULL), 0);
		CHECK_EQ(pthread_create(&threads[THREADS + i], NULL, allocate_meanwhile, NULL), 0);
	}
	for (unsigned i = 0; i < 2 * THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}
