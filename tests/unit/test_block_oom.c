/* SPDX-License-Identifier: MIT */
/*
 * Blocks while the system refuses, swept: a scenario that uses every call on every kind of block is
 * run over and over, each time with another system call refused, once or from then on. Whatever is
 * refused, a call fails cleanly or succeeds; blocks keep their contents; and once the system grants
 * again all works as ever and nothing was lost.
 *
 * Each run is a process of its own, so that the refusal of the first calls of all is tried as well.
 */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allod/page.h"
#include "base/options.h"
#include "block/block.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { HELD_MOST = 256 };

struct held {
	char *p;
	size_t bytes;
	uint64_t seed;
};

struct actor {
	struct held held[HELD_MOST];
	size_t count;
	uint64_t seeds;
	unsigned failures;
};

/* Facts and options of a sweep. */
struct setting {
	const char *name;
	enum option_page page;
	uint64_t arena_bytes;
	bool strict;  /* overcommit */
	bool limited; /* address space */
};

/* Of a large block few words are looked at, so that it takes few pages. */
static size_t stride(size_t bytes)
{
	return bytes <= MIB ? 64 * KIB : 4 * MIB;
}

/* Words at some places of a block, and the last one. */
static void fill(const struct held *h)
{
	for (size_t i = 0; i < h->bytes; i += stride(h->bytes))
		*(uint64_t *)(void *)(h->p + i) = h->seed + i;
	*(uint64_t *)(void *)(h->p + h->bytes - 8) = h->seed;
}

static void check(const struct held *h, size_t bytes)
{
	for (size_t i = 0; i + 8 < bytes; i += stride(h->bytes))
		CHECK_EQ(*(uint64_t *)(void *)(h->p + i), h->seed + i);
	if (bytes == h->bytes)
		CHECK_EQ(*(uint64_t *)(void *)(h->p + bytes - 8), h->seed);
}

static void take(struct actor *a, size_t bytes, const struct block_want *want)
{
	struct held *h = &a->held[a->count];
	struct block b;
	void *p;
	int ret = block_alloc(bytes, want, &p);

	if (ret) {
		CHECK_EQ(ret, want->flags & ALLOD_PAGE_CONSTANT_TIME ? -EAGAIN : -ENOMEM);
		a->failures++;
		return;
	}
	CHECK(a->count < HELD_MOST && block_find(p, &b) && b.bytes >= bytes);
	for (size_t i = 0; want->flags & ALLOD_PAGE_ZEROED && i < b.bytes; i += 4096)
		CHECK_EQ(((char *)p)[i], 0);
	*h = (struct held){ p, b.bytes, ++a->seeds << 32 };
	fill(h);
	a->count++;
}

static void take_all(struct actor *a)
{
	static const unsigned flags[] = { 0, ALLOD_PAGE_ZEROED, ALLOD_PAGE_NO_COMMIT,
		ALLOD_PAGE_CONSTANT_TIME, ALLOD_PAGE_SWAPPABLE, ALLOD_PAGE_NODE };
	static const size_t sizes[] = { 4 * KIB, 20 * KIB, 64 * KIB, 300 * KIB };

	for (size_t i = 0; i < 6; i++)
		for (size_t k = 0; k < 4; k++)
			take(a, sizes[k], &(struct block_want){ .flags = flags[i] });
	take(a, 3 * MIB, &(struct block_want){ .flags = ALLOD_PAGE_NO_COMMIT });
	/* Under limits nothing moves, and so much would be copied over and over. */
	if (os_facts()->overcommit_mode != 2)
		take(a, 40 * MIB, &(struct block_want){ .flags = ALLOD_PAGE_NO_COMMIT });
	take(a, 100 * KIB, &(struct block_want){ .reserve_bytes = 2 * MIB, .tag = "tagged" });
	take(a, 100 * KIB, &(struct block_want){ .align_bytes = 4 * MIB });
	take(a, 100 * KIB, &(struct block_want){ .align_bytes = 128 * MIB });
}

static void resize(struct actor *a, struct held *h, size_t bytes, unsigned flags)
{
	struct block b;
	size_t least;
	void *p;
	int ret = block_resize(h->p, bytes, flags, &p);

	if (ret) {
		CHECK(ret == -ENOMEM || ret == -ENOSPC || ret == -EAGAIN);
		check(h, h->bytes);
		a->failures++;
		return;
	}
	CHECK(block_find(p, &b) && b.bytes >= bytes);
	h->p = p;
	least = b.bytes < h->bytes ? b.bytes : h->bytes;
	check(h, least);
	h->bytes = b.bytes;
	fill(h);
}

static void swap(struct actor *a, struct held *x, struct held *y)
{
	struct held old = *x;
	struct block b;

	if (block_swap(x->p, y->p, 0)) {
		a->failures++;
		check(x, x->bytes);
		check(y, y->bytes);
		return;
	}
	x->seed = y->seed;
	x->bytes = y->bytes;
	y->seed = old.seed;
	y->bytes = old.bytes;
	check(x, x->bytes);
	check(y, y->bytes);
	CHECK(block_find(x->p, &b));
	x->bytes = b.bytes;
	CHECK(block_find(y->p, &b));
	y->bytes = b.bytes;
	fill(x);
	fill(y);
}

static void change_all(struct actor *a)
{
	for (size_t i = 0; i < a->count; i++) {
		struct held *h = &a->held[i];
		size_t bytes = h->bytes;
		resize(a, h, 2 * bytes, i % 3 ? 0 : ALLOD_PAGE_ZEROED);
		resize(a, h, bytes / 2 + 1, 0);
		resize(a, h, bytes, ALLOD_PAGE_NO_COPY);
		int ret = block_commit(h->p, h->bytes < MIB ? h->bytes : MIB);
		CHECK(ret == 0 || ret == -ENOMEM);
		check(h, h->bytes);
		if (!block_release(h->p, h->bytes))
			CHECK_EQ(h->p[0], 0);
		fill(h);
	}
	for (size_t i = 0; i + 7 < a->count; i += 7)
		swap(a, &a->held[i], &a->held[i + 6]);
}

static void free_all(struct actor *a)
{
	while (a->count) {
		struct held *h = &a->held[--a->count];
		check(h, h->bytes);
		block_free(h->p);
	}
}

static void play(struct actor *a, int rounds)
{
	for (int round = 0; round < rounds; round++) {
		take_all(a);
		change_all(a);
		free_all(a);
		(void)block_trim();
		(void)page_trim();
	}
}

static void set_up(const struct setting *s)
{
	options.page = s->page;
	options.arena_bytes = s->arena_bytes;
	options.background = OPTION_BACKGROUND_OFF;
	mock_reset();
	if (s->strict)
		mock_facts()->overcommit_mode = 2;
	if (s->limited)
		mock_facts()->address_limit_bytes = (uint64_t)64 << 30;
}

/* One run; 0 when the call to be refused was never made. */
static int run(const struct setting *s, enum os_call kind, unsigned nth, bool all)
{
	static struct actor actor;
	struct block_stats stats;
	bool refused;

	set_up(s);
	if (all)
		mock_fail_all_after(kind, nth - 1);
	else
		mock_fail(kind, nth, ENOMEM);
	play(&actor, 2);
	refused = mock_count(kind) >= nth;
	/* The system grants again. */
	set_up(s);
	actor.failures = 0;
	play(&actor, 1);
	CHECK(page_check());
	block_stats_read(&stats);
	for (int k = 0; k <= BLOCK_LOOSE; k++)
		CHECK_EQ(stats.blocks[k], 0);
	return refused;
}

/* How a run says that the call was never made; a failed check ends it with 1. */
enum { NEVER_MADE = 2 };

/* In a process of its own; whether the call was refused. */
static bool run_apart(const struct setting *s, enum os_call kind, unsigned nth, bool all)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid)
		_exit(run(s, kind, nth, all) ? 0 : NEVER_MADE);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (status && status != NEVER_MADE << 8)
		test_fail(__FILE__, __LINE__, "%s: %s number %u%s refused: status %d", s->name,
			mock_call_name(kind), nth, all ? " and all after" : "", status);
	return status == 0;
}

/* The first refusals of each kind one by one, then ever fewer; the long form: all of them. */
static void sweep(const struct setting *s)
{
	unsigned runs = 0;

	for (int kind = 0; kind < OS_CALL_KINDS; kind++) {
		for (unsigned nth = 1; nth < 2000; nth += test_count(1 + nth, 1)) {
			bool refused = run_apart(s, (enum os_call)kind, nth, false);
			refused |= run_apart(s, (enum os_call)kind, nth, true);
			runs += 2;
			if (!refused)
				break;
		}
	}
	test_note("%s: %u runs", s->name, runs);
}

TEST_TIMEOUT(arena, 100)
{
	sweep(&(struct setting){ .name = "arena" });
}

TEST_TIMEOUT(small_arena, 100)
{
	sweep(&(struct setting){ .name = "small arena", .arena_bytes = 16 * MIB });
}

TEST_TIMEOUT(no_arena, 100)
{
	sweep(&(struct setting){ .name = "no arena", .page = OPTION_PAGE_MMAP });
}

TEST_TIMEOUT(limits, 100)
{
	sweep(&(struct setting){ .name = "limits", .strict = true, .limited = true });
}
