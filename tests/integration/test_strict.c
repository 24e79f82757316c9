/* SPDX-License-Identifier: MIT */
/*
 * Strict overcommit (vm.overcommit_memory=2) for real: what can be had before the kernel refuses,
 * what a refusal leaves, and forks. Skipped wherever the system is not set so; `CONFIGS=vm ./dev test`
 * boots one that is. Built twice: on allod's page calls, and on the preloaded malloc.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

#ifdef FACE_PAGE
#include "allod/page.h"
#define take(bytes) allod_page_alloc(bytes, NULL)
#define give(p) allod_page_free(p)
#define resize(p, bytes) allod_page_realloc(p, bytes, 0)
#else
#define take(bytes) malloc(bytes)
#define give(p) free(p)
#define resize(p, bytes) realloc(p, bytes)
#endif

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { PAGE = 4096, BLOCKS_MOST = 4096 };

static char *blocks[BLOCKS_MOST];

/* What may still be committed. */
static size_t left_to_commit(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	size_t limit = 0, used = 0;
	char line[128];

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		(void)sscanf(line, "CommitLimit: %zu", &limit);
		(void)sscanf(line, "Committed_AS: %zu", &used);
	}
	fclose(f);
	return limit > used ? (limit - used) * KIB : 0;
}

static void need_strict(void)
{
	FILE *f = fopen("/proc/sys/vm/overcommit_memory", "r");
	int mode = 0;

	if (!f || fscanf(f, "%d", &mode) != 1 || mode != 2)
		SKIP("vm.overcommit_memory is not 2");
	fclose(f);
	/* The helper task of a process that has ended frees its memory a moment later. */
	for (int i = 0; i < 100 && left_to_commit() < 256 * MIB; i++)
		nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
	if (left_to_commit() > 2048 * MIB)
		SKIP("more than 2 GiB may be committed: too much to use all of it");
	if (left_to_commit() < 256 * MIB)
		SKIP("less than 256 MiB may be committed");
}

static void fill(char *p, size_t bytes, char mark)
{
	for (size_t i = 0; i < bytes; i += PAGE)
		p[i] = mark;
	p[bytes - 1] = mark;
}

static void check(const char *p, size_t bytes, char mark)
{
	for (size_t i = 0; i < bytes; i += PAGE)
		CHECK_EQ(p[i], mark);
	CHECK_EQ(p[bytes - 1], mark);
}

/* Takes blocks until the kernel refuses; how many there are. */
static size_t take_all(size_t bytes)
{
	size_t count = 0;

	while (count < BLOCKS_MOST) {
		errno = 0;
		blocks[count] = take(bytes);
		if (!blocks[count]) {
			CHECK_EQ(errno, ENOMEM);
			break;
		}
		fill(blocks[count], bytes, (char)(count % 127));
		count++;
	}
	CHECK(count < BLOCKS_MOST);
	return count;
}

static void give_all(size_t count, size_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		check(blocks[i], bytes, (char)(i % 127));
		give(blocks[i]);
	}
}

TEST_TIMEOUT(blocks_of_all_sizes, 30)
{
	need_strict();
	for (size_t bytes = PAGE; bytes <= 32 * MIB; bytes *= 2) {
		char *p = take(bytes);
		CHECK(p != NULL);
		fill(p, bytes, 1);
		/* Nothing is moved; it is copied. */
		p = resize(p, bytes + bytes / 2);
		CHECK(p != NULL);
		check(p, bytes, 1);
		give(p);
	}
}

/* At least three quarters of what may be committed is had, and twice the same. */
static void to_the_limit(size_t bytes)
{
	size_t may_bytes;
	size_t first, second;

	need_strict();
	may_bytes = left_to_commit();
	first = take_all(bytes);
	give_all(first, bytes);
	second = take_all(bytes);
	test_note("of %zu MiB: %zu, then %zu", may_bytes / MIB, first * bytes / MIB,
		second * bytes / MIB);
	CHECK(first * bytes >= may_bytes / 4 * 3 - 16 * MIB);
	CHECK(second + 1 >= first - first / 16);
	/* Others get what is left, or nothing; the blocks are whole. */
	void *other =
		mmap(NULL, 512 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(other == MAP_FAILED);
	give_all(second, bytes);
}

TEST_TIMEOUT(to_the_limit_by_256_kib, 60)
{
	to_the_limit(256 * KIB);
}

TEST_TIMEOUT(to_the_limit_by_1_mib, 60)
{
	to_the_limit(MIB);
}

TEST_TIMEOUT(to_the_limit_by_40_mib, 60)
{
	to_the_limit(40 * MIB);
}

/* A refused growth leaves the block, and the next smaller wish is met. */
TEST_TIMEOUT(a_refused_growth, 30)
{
	char *p, *q;

	need_strict();
	p = take(64 * MIB);
	CHECK(p != NULL);
	fill(p, 64 * MIB, 3);
	errno = 0;
	CHECK(resize(p, 4096 * MIB) == NULL);
	CHECK_EQ(errno, ENOMEM);
	check(p, 64 * MIB, 3);
	q = resize(p, 65 * MIB);
	CHECK(q != NULL);
	check(q, 64 * MIB, 3);
	give(q);
}

static int status_of(pid_t pid)
{
	int status = 1;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

/* A child is charged for all that is writable. Where there is room for it twice, it can do all. */
TEST_TIMEOUT(a_child_allocates, 30)
{
	char *p;
	pid_t pid;

	need_strict();
	p = take(32 * MIB);
	CHECK(p != NULL);
	fill(p, 32 * MIB, 1);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		char *q = take(16 * MIB);
		if (!q)
			_exit(1);
		fill(q, 16 * MIB, 2);
		fill(p, 32 * MIB, 4);
		give(p);
		_exit(0);
	}
	CHECK_EQ(status_of(pid), 0);
	check(p, 32 * MIB, 1);
	give(p);
}

/* Where there is none, fork() says so, and says yes when something was freed for good. */
TEST_TIMEOUT(a_child_that_is_refused, 60)
{
	size_t count;
	pid_t pid;

	need_strict();
	count = take_all(MIB);
	errno = 0;
	pid = fork();
	if (pid == 0)
		_exit(0);
	CHECK_EQ(pid, -1);
	CHECK_EQ(errno, ENOMEM);
	give_all(count, MIB);
}

/* In a child whose memory is refused, errors are errors too. */
TEST_TIMEOUT(a_child_to_the_limit, 60)
{
	pid_t pid;

	need_strict();
	fflush(NULL);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		size_t count = take_all(MIB);
		give_all(count, MIB);
		_exit(count > 64 ? 0 : 1);
	}
	CHECK_EQ(status_of(pid), 0);
}
