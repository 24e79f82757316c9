/* SPDX-License-Identifier: MIT */
/*
 * Run with LD_AUDIT: a module that allocates whenever the loader calls it, in a namespace of its
 * own, by its libc or by a liballod there, while the program is on the preloaded library.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit_module.h"
#include "harness.h"

enum { THREADS = 3, ROUNDS = 60 };

/* Bound by the loader each time, through the auditor. */
static void *allocate_by_name(size_t size)
{
	void *(*allocate)(size_t size);
	*(void **)&allocate = dlsym(RTLD_DEFAULT, "malloc");
	CHECK(allocate != NULL);
	return allocate(size);
}

static void *work(void *arg)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		const size_t size = 10 + i * i * 9;
		unsigned char *p = allocate_by_name(size);
		CHECK(p != NULL);
		memset(p, (int)i, size);
		void *handle = dlopen("libresolv.so.2", RTLD_LAZY | RTLD_LOCAL);
		p = realloc(p, size * 2);
		CHECK(p != NULL && p[0] == i && p[size - 1] == i);
		free(p);
		if (handle != NULL)
			dlclose(handle);
	}
	return arg;
}

static void work_in_threads(void)
{
	pthread_t threads[THREADS];
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, work, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

TEST_TIMEOUT(the_auditor_is_at_work, 30)
{
	CHECK_EQ(getppid(), AUDIT_ANSWER);
	/* What the preloaded library alone does: glibc's malloc has blocks of 24 bytes. */
	CHECK_EQ(malloc_usable_size(malloc(20)), 32);
}

TEST_TIMEOUT(threads_allocate_beside_the_auditor, 30)
{
	work(NULL);
	work_in_threads();
}

TEST_TIMEOUT(children_allocate_beside_the_auditor, 30)
{
	work_in_threads();
	for (unsigned i = 0; i < 10; i++) {
		int status;
		const pid_t pid = fork();
		if (pid == 0) {
			CHECK_EQ(getppid(), AUDIT_ANSWER);
			work(NULL);
			work_in_threads();
			exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}
