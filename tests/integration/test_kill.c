/* SPDX-License-Identifier: MIT */
/*
 * What is kept of freed memory is never the reason for a kill: a process in a group of 200 MiB frees
 * 128 MiB and then needs 100 MiB, at once, a moment later or much later, by the same allocator or by
 * a mapping of its own as another library would. Built twice: on allod's page calls, and on the
 * preloaded malloc.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "group.h"
#include "harness.h"

#ifdef FACE_PAGE
#include "allod/page.h"
#include "allod/percpu.h"
#define take(bytes) allod_page_alloc(bytes, NULL)
#define give(p) allod_page_free(p)
#else
#define take(bytes) malloc(bytes)
#define give(p) free(p)
#endif

#define MIB ((size_t)1 << 20)

enum { FREED_MIB = 128, NEEDED_MIB = 100, PAGE = 4096, RUNS_MOST = 16 };

/* How what is freed was had, and is freed. */
enum way { BY_CALLS, BY_BATCH, BY_ELEMENTS, BY_POOL };

struct run {
	enum way way;
	size_t piece;
	long pause_ms;
	bool by_mmap;
	char group[GROUP_PATH_BYTES];
	pid_t pid;
};

static void pause_ms(long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

static void touch(char *p, size_t bytes, char value)
{
	for (size_t i = 0; i < bytes; i += PAGE)
		p[i] = value;
}

static void *table(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		_exit(2);
	return p;
}

static void free_by_calls(size_t piece, size_t count)
{
	char **pieces = table(count * sizeof(*pieces));

	for (size_t i = 0; i < count; i++) {
		pieces[i] = take(piece);
		if (!pieces[i])
			_exit(3);
		touch(pieces[i], piece, 1);
	}
	for (size_t i = 0; i < count; i++)
		give(pieces[i]);
}

#ifdef FACE_PAGE

static void free_by_batch(size_t piece, size_t count)
{
	struct allod_page_op *ops = table(count * sizeof(*ops));

	for (size_t i = 0; i < count; i++)
		ops[i] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_ALLOC, .bytes = piece };
	if (allod_page_batch(ops, count) != count)
		_exit(3);
	for (size_t i = 0; i < count; i++) {
		touch(ops[i].block, piece, 1);
		ops[i].verb = ALLOD_PAGE_OP_FREE;
	}
	if (allod_page_batch(ops, count) != count)
		_exit(3);
}

/* Elements of a pool with one place; with the pool, or one by one. */
static void free_elements(size_t piece, size_t count, bool with_pool)
{
	const struct allod_percpu_options options = { .size = sizeof(options),
		.flags = ALLOD_PERCPU_GLOBAL };
	struct allod_percpu_pool *pool = allod_percpu_pool_create("kill", &options);
	void ALLOD_PERCPU **elements = table(count * sizeof(*elements));

	for (size_t i = 0; i < count; i++) {
		elements[i] = allod_percpu_alloc(pool, piece, 0);
		if (!elements[i])
			_exit(3);
		touch((char *)allod_percpu_ptr(elements[i], 0), piece, 1);
	}
	for (size_t i = 0; i < count && !with_pool; i++)
		allod_percpu_free(elements[i]);
	if (with_pool)
		(void)allod_percpu_pool_destroy(pool);
}

#endif

static void free_all(const struct run *r)
{
	const size_t count = FREED_MIB * MIB / r->piece;

	switch (r->way) {
#ifdef FACE_PAGE
	case BY_BATCH: free_by_batch(r->piece, count); break;
	case BY_ELEMENTS:
	case BY_POOL: free_elements(r->piece, count, r->way == BY_POOL); break;
#endif
	default: free_by_calls(r->piece, count);
	}
}

static _Noreturn void live(const struct run *r)
{
	char *block;

	if (!group_enter(r->group))
		_exit(2);
	free_all(r);
	pause_ms(r->pause_ms);
	block = r->by_mmap ? mmap(NULL, NEEDED_MIB * MIB, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
			   : take(NEEDED_MIB * MIB);
	if (!block || block == MAP_FAILED)
		_exit(4);
	touch(block, NEEDED_MIB * MIB, 2);
	for (size_t i = 0; i < NEEDED_MIB * MIB; i += PAGE)
		if (block[i] != 2)
			_exit(5);
	_exit(0);
}

static bool make(struct run *r, int number)
{
	char name[32];

	snprintf(name, sizeof(name), "allod-kill-%d", number);
	return group_make(r->group, name, "200m");
}

/* All of them at once, each in a group of its own. */
static void live_all(struct run *runs, int count)
{
	if (!make(&runs[0], 0))
		SKIP("no control group with a memory limit can be made here");
	group_remove(runs[0].group);
	for (int i = 0; i < count; i++) {
		CHECK(make(&runs[i], i));
		runs[i].pid = fork();
		if (runs[i].pid == 0)
			live(&runs[i]);
	}
	for (int i = 0; i < count; i++) {
		int status = 1;
		CHECK_EQ(waitpid(runs[i].pid, &status, 0), runs[i].pid);
		group_remove(runs[i].group);
		if (status != 0)
			test_note("pieces of %zu KiB, %ld ms, %s: %s %d", runs[i].piece >> 10,
				runs[i].pause_ms, runs[i].by_mmap ? "mmap" : "own",
				WIFSIGNALED(status) ? "killed by signal" : "exit code",
				WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		runs[i].pid = status;
	}
	for (int i = 0; i < count; i++)
		CHECK_EQ(runs[i].pid, 0);
}

static void after(long ms)
{
	static const size_t pieces[] = { 4096, 64 << 10, 1 << 20, 8 << 20, 128 << 20 };
	struct run runs[2 * sizeof(pieces) / sizeof(pieces[0])];
	int count = 0;

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		for (int by_mmap = 0; by_mmap < 2; by_mmap++)
			runs[count++] = (struct run){
				.piece = pieces[i], .pause_ms = ms, .by_mmap = by_mmap
			};
	}
	live_all(runs, count);
}

#ifdef FACE_PAGE

static void after_by(long ms, enum way way, size_t small, size_t large)
{
	struct run runs[4];

	for (int i = 0; i < 4; i++)
		runs[i] = (struct run){ .way = way,
			.piece = i & 1 ? large : small,
			.pause_ms = ms,
			.by_mmap = i >= 2 };
	live_all(runs, 4);
}

TEST_TIMEOUT(freed_by_a_batch, 60)
{
	after_by(0, BY_BATCH, 4096, 2 * MIB);
	after_by(300, BY_BATCH, 64 << 10, 40 * MIB);
}

TEST_TIMEOUT(freed_in_pools, 60)
{
	after_by(0, BY_ELEMENTS, 4096, 64 << 10);
	after_by(300, BY_ELEMENTS, 4096, 64 << 10);
	after_by(0, BY_POOL, 4096, 64 << 10);
}

#endif

TEST_TIMEOUT(needed_at_once, 60)
{
	after(0);
}

TEST_TIMEOUT(needed_a_moment_later, 60)
{
	after(300);
}

TEST_TIMEOUT(needed_much_later, 60)
{
	after(5000);
}
