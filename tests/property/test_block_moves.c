/* SPDX-License-Identifier: MIT */
/*
 * Blocks that are resized, exchanged, released and freed at random by several threads, each with a
 * shadow that says what each of its pages holds, while another thread gives free slots back and
 * forks children that look at what they inherited.
 *
 * A page of a block holds its stamp at both ends, or zeroes. So a page that came from elsewhere, or
 * was lost, is seen at the next look, which each operation begins with.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "slot.h"

enum {
	WORKERS = 3,
	BLOCKS = 24,
	STEPS_USUAL = 2500,
	STEPS_LONG = 1200000,
	PAGE = 4096,
	/* Pages of a block that are followed one by one; those behind are zero or unknown. */
	PAGES = 1024,
	FORKS = 10,
};

/* What is known of a page. */
enum { UNKNOWN = UINT32_MAX, ZERO = 0 };

struct shadow {
	char *p;
	size_t bytes;
	unsigned flags;
	uint32_t stamps[PAGES]; /* ZERO, UNKNOWN, or what the page holds */
};

struct worker {
	pthread_t thread;
	unsigned number;
	uint64_t random;
	uint32_t next_stamp;
	struct shadow *blocks;
};

static struct worker workers[WORKERS];
static _Atomic(uint32_t) running;

static size_t followed(const struct shadow *s)
{
	size_t pages = s->bytes / PAGE;

	return pages < PAGES ? pages : PAGES;
}

static uint32_t *page_ends(const struct shadow *s, size_t page, uint32_t **ret_last)
{
	char *p = s->p + page * PAGE;

	*ret_last = (uint32_t *)(void *)(p + PAGE - sizeof(uint32_t));
	return (uint32_t *)(void *)p;
}

static void look(const struct shadow *s)
{
	for (size_t i = 0; i < followed(s); i++) {
		uint32_t *last;
		const uint32_t *first = page_ends(s, i, &last);
		if (s->stamps[i] == UNKNOWN)
			continue;
		CHECK_EQ(*first, s->stamps[i]);
		CHECK_EQ(*last, s->stamps[i]);
	}
}

/* Writes some pages. */
static void scribble(struct worker *w, struct shadow *s)
{
	size_t n = followed(s);
	size_t step = 1 + test_random(&w->random) % 7;

	for (size_t i = test_random(&w->random) % step; i < n; i += step) {
		uint32_t *last;
		uint32_t *first = page_ends(s, i, &last);
		s->stamps[i] = *first = *last = ++w->next_stamp << 3 | (w->number + 1);
	}
}

/* Mostly small, some large enough for slots of either class, few that are never touched whole. */
static size_t random_bytes(struct worker *w)
{
	unsigned bits = test_random(&w->random) % 11;
	size_t bytes = (size_t)PAGE << bits;

	if (test_random(&w->random) % 64 == 0)
		return (size_t)40 << 20;
	return bytes + test_random(&w->random) % bytes / PAGE * PAGE;
}

static void mark(struct shadow *s, size_t from, uint32_t stamp)
{
	for (size_t i = from; i < PAGES; i++)
		s->stamps[i] = stamp;
}

static void op_alloc(struct worker *w, struct shadow *s)
{
	static const unsigned flags[] = { 0, 0, ALLOD_PAGE_ZEROED, ALLOD_PAGE_SWAPPABLE,
		ALLOD_PAGE_SWAPPABLE | ALLOD_PAGE_ZEROED, ALLOD_PAGE_FIXED, ALLOD_PAGE_NO_COMMIT };
	struct block_want want = {
		.flags = flags[test_random(&w->random) % 7],
		.reserve_bytes = test_random(&w->random) % 4 ? 0 : (size_t)8 << 20,
	};
	struct block found;
	void *p;

	CHECK_EQ(block_alloc(random_bytes(w), &want, &p), 0);
	CHECK(block_find(p, &found));
	s->p = p;
	s->bytes = found.bytes;
	s->flags = want.flags;
	mark(s, 0, want.flags & ALLOD_PAGE_ZEROED ? ZERO : UNKNOWN);
}

static void op_resize(struct worker *w, struct shadow *s)
{
	static const unsigned flags[] = { 0, 0, ALLOD_PAGE_ZEROED, ALLOD_PAGE_IN_PLACE,
		ALLOD_PAGE_NO_COPY, ALLOD_PAGE_NO_COPY | ALLOD_PAGE_ZEROED,
		ALLOD_PAGE_CONSTANT_TIME };
	unsigned chosen = flags[test_random(&w->random) % 7];
	size_t old = followed(s);
	struct block found;
	void *p;
	int ret = block_resize(s->p, random_bytes(w), chosen, &p);

	if (ret) {
		CHECK(ret == -ENOSPC || ret == -EAGAIN);
		CHECK(chosen & ~(unsigned)ALLOD_PAGE_ZEROED || s->flags & ALLOD_PAGE_FIXED);
		return;
	}
	CHECK(p == s->p || !(chosen & ALLOD_PAGE_IN_PLACE || s->flags & ALLOD_PAGE_FIXED));
	CHECK(block_find(p, &found));
	s->p = p;
	s->bytes = found.bytes;
	if (followed(s) < old)
		old = followed(s);
	mark(s, old, chosen & ALLOD_PAGE_ZEROED ? ZERO : UNKNOWN);
}

static void op_swap(struct worker *w, struct shadow *a, struct shadow *b)
{
	unsigned flags = test_random(&w->random) % 4 ? 0 : ALLOD_PAGE_NO_COPY;
	struct shadow x = *a;
	struct block found;
	int ret = block_swap(a->p, b->p, flags);

	if (ret) {
		CHECK_EQ(ret, -ENOSPC);
		return;
	}
	memcpy(a->stamps, b->stamps, sizeof(a->stamps));
	memcpy(b->stamps, x.stamps, sizeof(b->stamps));
	CHECK(block_find(a->p, &found));
	CHECK(found.bytes >= b->bytes);
	if (found.bytes > b->bytes)
		mark(a, followed(b), UNKNOWN);
	a->bytes = found.bytes;
	CHECK(block_find(b->p, &found));
	CHECK(found.bytes >= x.bytes);
	if (found.bytes > x.bytes)
		mark(b, followed(&x), UNKNOWN);
	b->bytes = found.bytes;
}

static void op_release(struct worker *w, struct shadow *s)
{
	size_t from = test_random(&w->random) % followed(s);
	size_t n = 1 + test_random(&w->random) % (followed(s) - from);

	CHECK_EQ(block_release(s->p + from * PAGE, n * PAGE), 0);
	for (size_t i = from; i < from + n; i++)
		s->stamps[i] = ZERO;
}

static void step(struct worker *w)
{
	struct shadow *s = &w->blocks[test_random(&w->random) % BLOCKS];
	struct shadow *other = &w->blocks[test_random(&w->random) % BLOCKS];
	unsigned op = test_random(&w->random) % 16;

	if (!s->p) {
		op_alloc(w, s);
		return;
	}
	look(s);
	if (op < 3) {
		block_free(s->p);
		s->p = NULL;
	} else if (op < 8) {
		op_resize(w, s);
	} else if (op < 11 && other->p && other != s) {
		look(other);
		op_swap(w, s, other);
	} else if (op < 12) {
		op_release(w, s);
	} else {
		scribble(w, s);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned steps = test_count(STEPS_USUAL, STEPS_LONG);

	for (unsigned i = 0; i < steps; i++)
		step(w);
	for (size_t i = 0; i < BLOCKS; i++) {
		if (!w->blocks[i].p)
			continue;
		look(&w->blocks[i]);
		block_free(w->blocks[i].p);
	}
	a_sub_rlx(&running, 1);
	return NULL;
}

/*
 * In a child, whose other threads are gone wherever they were: the blocks of the thread that forked
 * hold what they held, moved and exchanged ones too, and all of it can be used at once.
 */
static void in_child(struct worker *w)
{
	page_fork_child();
	for (size_t i = 0; i < BLOCKS; i++)
		if (w->blocks[i].p)
			look(&w->blocks[i]);
	for (unsigned i = 0; i < 300; i++)
		step(w);
	_exit(0);
}

static void fork_once(struct worker *w)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (!pid)
		in_child(w);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void run(unsigned threads, bool forks)
{
	struct worker self = { .number = WORKERS, .random = test_seed() + WORKERS };
	unsigned forked = 0;

	CHECK_EQ(page_init(), 0);
	self.blocks = calloc(BLOCKS, sizeof(*self.blocks));
	a_store_rlx(&running, threads);
	for (unsigned i = 0; i < threads; i++) {
		workers[i] = (struct worker){ .number = i, .random = test_seed() + i };
		workers[i].blocks = calloc(BLOCKS, sizeof(struct shadow));
		CHECK_EQ(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	while (a_load_rlx(&running)) {
		size_t waiting = 0;
		(void)slot_giveback(UINT64_MAX, forked & 1, (size_t)16 << 20, &waiting);
		for (unsigned i = 0; i < 20; i++)
			step(&self);
		if (forks && forked < FORKS) {
			fork_once(&self);
			forked++;
		}
		usleep(2000);
	}
	for (unsigned i = 0; i < threads; i++)
		CHECK_EQ(pthread_join(workers[i].thread, NULL), 0);
	for (size_t i = 0; i < BLOCKS; i++)
		if (self.blocks[i].p)
			block_free(self.blocks[i].p);
	(void)block_trim();
	/* The janitor is in the layer as well, at times. */
	page_exit();
	CHECK(page_check());
}

TEST_TIMEOUT(one_thread, 60)
{
	run(1, false);
}

TEST_TIMEOUT(several_threads, 60)
{
	run(WORKERS, false);
}

TEST_TIMEOUT(several_threads_and_forks, 60)
{
	run(WORKERS, true);
}

/* What the contract of exchanging says of who reads meanwhile. */
static _Atomic(uint64_t) *watched[2];
static _Atomic(uint64_t) looks;

static void *watch(void *arg)
{
	while (a_load_rlx(&running)) {
		for (unsigned i = 0; i < 2; i++) {
			uint64_t value = a_load_rlx(watched[i]);
			CHECK(value == 0 || value == 1111 || value == 2222);
		}
		a_add_rlx(&looks, 1);
	}
	return NULL;
}

TEST(a_reader_sees_either_contents_or_zero)
{
	const struct block_want want = { .flags = ALLOD_PAGE_SWAPPABLE };
	pthread_t thread;
	void *p[2];

	CHECK_EQ(page_init(), 0);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQ(block_alloc((size_t)1 << 20, &want, &p[i]), 0);
		watched[i] = (_Atomic(uint64_t) *)p[i] + 1000;
		a_store_rlx(watched[i], 1111 * (i + 1));
	}
	if (block_swap(p[0], p[1], ALLOD_PAGE_NO_COPY))
		SKIP("mremap without MREMAP_DONTUNMAP (Linux 5.7)");
	a_store_rlx(&running, 1);
	CHECK_EQ(pthread_create(&thread, NULL, watch, NULL), 0);
	/* On one processor the thread may not come to run before all is done. */
	while (!a_load_rlx(&looks))
		sched_yield();
	for (unsigned i = 0; i < 3000; i++) {
		CHECK_EQ(block_swap(p[0], p[1], ALLOD_PAGE_NO_COPY), 0);
		CHECK_EQ(a_load_rlx(watched[0]), i % 2 ? 2222 : 1111);
		CHECK_EQ(a_load_rlx(watched[1]), i % 2 ? 1111 : 2222);
	}
	a_store_rlx(&running, 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}
