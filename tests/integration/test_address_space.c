/* SPDX-License-Identifier: MIT */
/*
 * What a preloaded program takes of its address space, and that a limit which it sets on that while
 * it runs leaves room for its own mappings, its threads and its malloc.
 */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>

#define MIB ((size_t)1 << 20)

enum { THREADS = 8 };

/* The first number in the text, in pages of memory. */
static size_t pages_in(const char *text)
{
	return strtoul(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t own_bytes(void)
{
	char text[64] = "";
	int fd = open("/proc/self/statm", O_RDONLY);

	CHECK(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return pages_in(text);
}

/* The address space of a small program, with this library preloaded or none. */
static size_t program_bytes(const char *preload)
{
	char text[64] = "";
	int ends[2];
	pid_t pid;

	CHECK_EQ(pipe(ends), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		dup2(ends[1], 1);
		if (preload)
			setenv("LD_PRELOAD", preload, 1);
		else
			unsetenv("LD_PRELOAD");
		execlp("cat", "cat", "/proc/self/statm", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	CHECK(read(ends[0], text, sizeof(text) - 1) > 0);
	close(ends[0]);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	return pages_in(text);
}

TEST(an_empty_program_takes_little)
{
	size_t plain = program_bytes(NULL);
	size_t preloaded = program_bytes(getenv("LD_PRELOAD"));

	test_note("%zu KiB, and %zu KiB without allod", preloaded / 1024, plain / 1024);
	CHECK(plain > 0 && preloaded > plain + MIB);
	CHECK(preloaded <= plain + 100 * MIB);
}

struct node {
	struct node *next;
};

static pthread_barrier_t all_begun; /* else there might be no room for the stack of the last */
static pthread_barrier_t all_full;

/*
 * Allocates until there is no more, and frees it when all have come so far. Returns how much it
 * was.
 */
static void *fill(void *arg)
{
	size_t size = (size_t)arg;
	struct node *head = NULL;
	size_t total = 0;

	pthread_barrier_wait(&all_begun);
	for (;;) {
		struct node *node = malloc(size);
		if (!node)
			break;
		memset(node, 1, size);
		node->next = head;
		head = node;
		total += size;
	}
	CHECK_EQ(errno, ENOMEM);
	pthread_barrier_wait(&all_full);
	while (head) {
		struct node *next = head->next;
		free(head);
		head = next;
	}
	return (void *)total;
}

/* Threads fill the memory with blocks of this size; returns how much they got together. */
static size_t fill_by_threads(size_t size)
{
	pthread_t threads[THREADS];
	pthread_attr_t attr;
	size_t total = 0;

	CHECK_EQ(pthread_barrier_init(&all_begun, NULL, THREADS), 0);
	CHECK_EQ(pthread_barrier_init(&all_full, NULL, THREADS), 0);
	CHECK_EQ(pthread_attr_init(&attr), 0);
	CHECK_EQ(pthread_attr_setstacksize(&attr, 256 * 1024), 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], &attr, fill, (void *)size), 0);
	for (size_t i = 0; i < THREADS; i++) {
		void *got;
		CHECK_EQ(pthread_join(threads[i], &got), 0);
		total += (size_t)got;
	}
	return total;
}

TEST_TIMEOUT(a_limit_set_by_the_program, 60)
{
	static const size_t sizes[] = { 144, 5000, 70000, 1000000, 144 };
	struct rlimit limit;
	char *p = malloc(1);

	CHECK(p != NULL);
	free(p);
	limit.rlim_cur = limit.rlim_max = own_bytes() + 100 * MIB;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t got = fill_by_threads(sizes[i]);
		test_note("%zu KiB in blocks of %zu bytes", got / 1024, sizes[i]);
		CHECK(got >= 60 * MIB && got <= 200 * MIB);
	}
	p = malloc(10 * MIB);
	CHECK(p != NULL);
	free(p);
}
