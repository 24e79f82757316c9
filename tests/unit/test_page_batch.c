/* SPDX-License-Identifier: MIT */
/*
 * Batches of operations on page blocks, on the mock operating system: each with its own result, as
 * its call would tell it, also where the system refuses in the middle.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "allod/page.h"
#include "base/options.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define UNSET 12345

static void start(void)
{
	mock_reset();
	options.background = OPTION_BACKGROUND_OFF;
	allod_page_free(allod_page_alloc(1, NULL));
}

static struct allod_page_op op_alloc(size_t bytes)
{
	return (struct allod_page_op){ .verb = ALLOD_PAGE_OP_ALLOC, .bytes = bytes };
}

/* As many operations as there are verbs, good and bad. */
TEST(each_has_its_result)
{
	static const struct allod_page_options bad_align = { .struct_bytes = sizeof(bad_align),
		.align_bytes = 3 };
	struct allod_page_op ops[16] = { { 0 } };
	size_t n = 0;

	start();
	char *a = allod_page_alloc(64 * KIB, NULL);
	char *b = allod_page_alloc(1 * MIB, NULL);
	char *c = allod_page_alloc(8 * KIB, NULL);
	memset(a, 1, 64 * KIB);
	memset(b, 2, 1 * MIB);
	ops[n++] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_NOTHING, .result = UNSET };
	ops[n++] = op_alloc(100 * KIB);
	ops[n++] = op_alloc(0);
	ops[n++] = (struct allod_page_op){
		.verb = ALLOD_PAGE_OP_ALLOC, .bytes = 1, .options = &bad_align
	};
	ops[n++] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_FREE, .block = c };
	ops[n++] = (struct allod_page_op){
		.verb = ALLOD_PAGE_OP_RESIZE, .block = a, .bytes = 300 * KIB
	};
	ops[n++] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_RESIZE, .bytes = 5 * KIB };
	ops[n++] = (struct allod_page_op){
		.verb = ALLOD_PAGE_OP_COMMIT, .block = b + 64 * KIB, .bytes = 64 * KIB
	};
	ops[n++] = (struct allod_page_op){
		.verb = ALLOD_PAGE_OP_RELEASE, .block = b + 512 * KIB, .bytes = 64 * KIB
	};
	ops[n++] = (struct allod_page_op){
		.verb = ALLOD_PAGE_OP_COMMIT, .block = b, .bytes = 2 * MIB
	};
	ops[n++] = (struct allod_page_op){ .verb = (enum allod_page_verb)77 };
	ops[n++] = (struct allod_page_op){ .verb = ALLOD_PAGE_OP_ALLOC, .bytes = SIZE_MAX };
	errno = UNSET;
	CHECK_EQ(allod_page_batch(ops, n), 7);
	CHECK_EQ(errno, UNSET);
	const int want[] = { 0, 0, -EINVAL, -EINVAL, 0, 0, 0, 0, 0, -EINVAL, -EINVAL, -ENOMEM };
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(ops[i].result, want[i]);
	CHECK_EQ(allod_page_size(ops[1].block), 128 * KIB);
	CHECK(ops[2].block == NULL && ops[3].block == NULL && ops[4].block == NULL);
	CHECK_EQ(((char *)ops[5].block)[64 * KIB - 1], 1);
	CHECK(allod_page_size(ops[5].block) >= 300 * KIB);
	CHECK_EQ(b[512 * KIB - 1], 2);
	CHECK_EQ(b[512 * KIB], 0);
	CHECK_EQ(b[576 * KIB], 2);
	CHECK_EQ(allod_page_batch(NULL, 0), 0);
	CHECK(page_check());
}

/* What no free memory lies together for is composed, as for a call of its own. */
TEST(a_batch_gets_what_lies_scattered)
{
	struct allod_page_op ops[3] = { op_alloc(4 * MIB), op_alloc(4 * MIB), op_alloc(8 * MIB) };
	struct page_stats stats;
	char *pieces[25];

	start();
	mock_facts()->overcommit_mode = 0;
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	for (int i = 0; i < 25; i++)
		memset(pieces[i] = allod_page_alloc(2 * MIB, NULL), i, 2 * MIB);
	for (int i = 1; i < 25; i += 2)
		allod_page_free(pieces[i]);
	CHECK_EQ(allod_page_batch(ops, 3), 3);
	page_stats(&stats);
	if (!stats.composed_runs)
		SKIP("mremap without MREMAP_DONTUNMAP (Linux 5.7)");
	/* The first; of the others, those for which that was not dearer than fresh pages. */
	CHECK(stats.composed_bytes >= 2 * MIB);
	for (int i = 0; i < 3; i++)
		memset(ops[i].block, 99, ops[i].bytes);
	for (int i = 0; i < 25; i += 2)
		for (size_t at = 0; at < 2 * MIB; at += 512)
			CHECK_EQ(pieces[i][at], i);
	CHECK(page_check());
}

/* Blocks of one size, then all freed, then more than fit in caches; none lies in another. */
static void many_of(size_t bytes, size_t count, unsigned order)
{
	static struct allod_page_op ops[1000];

	for (size_t i = 0; i < count; i++)
		ops[i] = op_alloc(bytes);
	CHECK_EQ(allod_page_batch(ops, count), count);
	for (size_t i = 0; i < count; i++) {
		CHECK_EQ(ops[i].result, 0);
		CHECK(allod_page_size(ops[i].block) >= bytes);
		memset(ops[i].block, (int)(i % 251 + 1), bytes < 8 * KIB ? bytes : 8 * KIB);
	}
	for (size_t i = 0; i < count; i++) {
		const char *p = ops[i].block;
		CHECK_EQ(p[0], (char)(i % 251 + 1));
		CHECK_EQ(p[bytes < 8 * KIB ? bytes - 1 : 8 * KIB - 1], (char)(i % 251 + 1));
	}
	for (size_t i = 0; order == 1 && i < count / 2; i++) {
		const struct allod_page_op other = ops[i];
		ops[i] = ops[count - 1 - i];
		ops[count - 1 - i] = other;
	}
	for (size_t i = 0; order == 2 && i < count; i++) {
		const size_t j = i * 7919 % count;
		const struct allod_page_op other = ops[i];
		ops[i] = ops[j];
		ops[j] = other;
	}
	for (size_t i = 0; i < count; i++)
		ops[i].verb = ALLOD_PAGE_OP_FREE;
	CHECK_EQ(allod_page_batch(ops, count), count);
	for (size_t i = 0; i < count; i++)
		CHECK(ops[i].block == NULL);
	CHECK(page_check());
}

TEST(many_of_one_size)
{
	start();
	for (unsigned order = 0; order < 3; order++) {
		many_of(4 * KIB, 1000, order);
		many_of(12 * KIB, 700, order);
		many_of(60 * KIB, 300, order);
		many_of(64 * KIB, 1000, order);
		many_of(200 * KIB, 200, order);
		many_of(5 * MIB, 20, order);
		many_of(40 * MIB, 6, order);
	}
}

/* Zeroed means zeroed for each, whatever the memory was before. */
TEST(many_zeroed)
{
	static const struct allod_page_options zeroed = { .struct_bytes = sizeof(zeroed),
		.flags = ALLOD_PAGE_ZEROED };
	static struct allod_page_op ops[300];

	start();
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < 300; i++) {
			ops[i] = op_alloc(i < 150 ? 8 * KIB : 64 * KIB);
			ops[i].options = &zeroed;
		}
		CHECK_EQ(allod_page_batch(ops, 300), 300);
		for (size_t i = 0; i < 300; i++) {
			const size_t bytes = allod_page_size(ops[i].block);
			for (size_t j = 0; j < bytes; j += 64)
				CHECK_EQ(((char *)ops[i].block)[j], 0);
			memset(ops[i].block, 0xff, bytes);
			ops[i].verb = ALLOD_PAGE_OP_FREE;
		}
		CHECK_EQ(allod_page_batch(ops, 300), 300);
	}
}

/* Ranges side by side, and those that are not; a bad one in the middle concerns nobody else. */
TEST(ranges)
{
	struct allod_page_op ops[64];

	start();
	char *p = allod_page_alloc(4 * MIB, NULL);
	memset(p, 7, 4 * MIB);
	for (size_t i = 0; i < 64; i++)
		ops[i] = (struct allod_page_op){
			.verb = ALLOD_PAGE_OP_RELEASE, .block = p + i * 32 * KIB, .bytes = 32 * KIB
		};
	ops[20].bytes = 8 * MIB;
	ops[30].block = ops;
	ops[40].bytes = 100;
	CHECK_EQ(allod_page_batch(ops, 64), 62);
	for (size_t i = 0; i < 64; i++) {
		CHECK_EQ(ops[i].result, i == 20 || i == 30 ? -EINVAL : 0);
		CHECK_EQ(p[i * 32 * KIB], i == 20 || i == 30 || i == 40 ? 7 : 0);
		CHECK_EQ(p[i * 32 * KIB + 32 * KIB - 1], i == 20 || i == 30 || i == 40 ? 7 : 0);
	}
	for (size_t i = 0; i < 64; i++)
		ops[i].verb = ALLOD_PAGE_OP_COMMIT;
	CHECK_EQ(allod_page_batch(ops, 64), 62);
	CHECK_EQ(p[20 * 32 * KIB], 7);
	allod_page_free(p);
}

/* The system refuses from some call on: exactly those fail that got nothing, with ENOMEM. */
TEST(memory_ends_in_the_middle)
{
	static struct allod_page_op ops[400];

	start();
	for (unsigned more = 0; more < 3; more++) {
		for (size_t i = 0; i < 400; i++)
			ops[i] = op_alloc(i % 2 ? 64 * KIB : 1 * MIB);
		mock_fail_all_after(OS_CALL_COMMIT, more);
		mock_fail_all_after(OS_CALL_MAP, 0);
		mock_fail_all_after(OS_CALL_RESERVE, 0);
		mock_fail_all_after(OS_CALL_RESERVE_AT, 0);
		const size_t good = allod_page_batch(ops, 400);
		mock_reset();
		size_t have = 0;
		for (size_t i = 0; i < 400; i++) {
			CHECK_EQ(ops[i].result, ops[i].block ? 0 : -ENOMEM);
			have += ops[i].block != NULL;
			ops[i].verb = ALLOD_PAGE_OP_FREE;
		}
		CHECK_EQ(good, have);
		CHECK(more > 0 || good < 400);
		CHECK_EQ(allod_page_batch(ops, 400), 400);
		CHECK(page_check());
	}
}

/* Neighbours take one system call, in whatever order they come; each has its own if that fails. */
TEST(neighbours_take_one_call)
{
	struct allod_page_op ops[60];

	start();
	char *p = allod_page_alloc(4 * MIB, NULL);
	for (unsigned verb = 0; verb < 2; verb++) {
		const enum os_call call = verb ? OS_CALL_POPULATE : OS_CALL_DECOMMIT;
		memset(p, 9, 4 * MIB);
		for (size_t i = 0; i < 60; i++)
			ops[i] = (struct allod_page_op){ .verb = verb ? ALLOD_PAGE_OP_COMMIT
								      : ALLOD_PAGE_OP_RELEASE,
				.block = p + (i * 7 % 60) * 16 * KIB,
				.bytes = 16 * KIB };
		unsigned before = mock_count(call);
		CHECK_EQ(allod_page_batch(ops, 60), 60);
		CHECK_EQ(mock_count(call), before + 1);
		/* With a gap: two. */
		ops[30].verb = ALLOD_PAGE_OP_NOTHING;
		before = mock_count(call);
		CHECK_EQ(allod_page_batch(ops, 60), 60);
		CHECK_EQ(mock_count(call), before + 2);
		/* The first is refused: each by itself. */
		before = mock_count(call);
		mock_fail(call, 1, ENOMEM);
		CHECK_EQ(allod_page_batch(ops, 60), 60);
		CHECK(mock_count(call) > before + 2);
		/* And one of those. */
		mock_fail_all_after(call, 1);
		const size_t good = allod_page_batch(ops, 60);
		size_t failed = 0;
		for (size_t i = 0; i < 60; i++)
			failed += ops[i].result == -ENOMEM;
		CHECK(failed > 0 && good == 60 - failed);
		mock_reset();
	}
	allod_page_free(p);
}

/* A batch is served from what blocks of other sizes left, before memory without pages. */
TEST(warm_memory_first)
{
	static struct allod_page_op small[512];
	static struct allod_page_op large[32];

	start();
	for (size_t i = 0; i < 512; i++)
		small[i] = op_alloc(64 * KIB);
	CHECK_EQ(allod_page_batch(small, 512), 512);
	for (size_t i = 0; i < 512; i++)
		small[i].verb = ALLOD_PAGE_OP_FREE;
	CHECK_EQ(allod_page_batch(small, 512), 512);
	const unsigned populated = mock_count(OS_CALL_POPULATE);
	CHECK(populated > 0);
	for (size_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < 32; i++)
			large[i] = op_alloc(1 * MIB);
		CHECK_EQ(allod_page_batch(large, 32), 32);
		for (size_t i = 0; i < 32; i++)
			large[i].verb = ALLOD_PAGE_OP_FREE;
		CHECK_EQ(allod_page_batch(large, 32), 32);
	}
	CHECK_EQ(mock_count(OS_CALL_POPULATE), populated);
	CHECK(page_check());
}

/* Random batches against what is held: each page of a block bears the block's number. */
struct held {
	char *p;
	size_t bytes;
	uint64_t id;
};

enum { HELD = 400 };

static void stamp(const struct held *h)
{
	for (size_t i = 0; i < h->bytes; i += 4 * KIB)
		*(uint64_t *)(void *)(h->p + i) = h->id + i;
}

static void check_stamps(const char *p, size_t bytes, uint64_t id)
{
	for (size_t i = 0; i < bytes; i += 4 * KIB)
		CHECK_EQ(*(const uint64_t *)(const void *)(p + i), id + i);
}

static size_t pick_bytes(uint64_t *random)
{
	const size_t most[] = { 16 * KIB, 60 * KIB, 300 * KIB, 3 * MIB };

	return 1 + test_random(random) % most[test_random(random) % 4];
}

/* Makes the operation that the block's state allows; released ranges are zero at once. */
static struct allod_page_op pick_op(struct held *h, uint64_t *random)
{
	struct allod_page_op op = { .block = h->p };

	if (!h->p) {
		op.verb = test_random(random) % 8 ? ALLOD_PAGE_OP_ALLOC : ALLOD_PAGE_OP_NOTHING;
		op.bytes = test_random(random) % 2 ? pick_bytes(random) : 12 * KIB;
		return op;
	}
	switch (test_random(random) % 6) {
	case 0: op.verb = ALLOD_PAGE_OP_COMMIT, op.bytes = h->bytes; break;
	case 1: op.verb = ALLOD_PAGE_OP_RELEASE, op.bytes = h->bytes; break;
	case 2: op.verb = ALLOD_PAGE_OP_RESIZE, op.bytes = pick_bytes(random); break;
	default: op.verb = ALLOD_PAGE_OP_FREE;
	}
	return op;
}

static void check_op(struct held *h, const struct allod_page_op *op, uint64_t *last_id)
{
	const bool is_new = op->verb == ALLOD_PAGE_OP_ALLOC || op->verb == ALLOD_PAGE_OP_RESIZE;

	CHECK_EQ(op->result, 0);
	if (op->verb == ALLOD_PAGE_OP_RESIZE)
		check_stamps(op->block, h->bytes < op->bytes ? h->bytes : op->bytes, h->id);
	if (op->verb == ALLOD_PAGE_OP_COMMIT)
		check_stamps(h->p, h->bytes, h->id);
	for (size_t i = 0; op->verb == ALLOD_PAGE_OP_RELEASE && i < h->bytes; i += 4 * KIB)
		CHECK_EQ(h->p[i], 0);
	h->p = op->block;
	if (is_new) {
		CHECK(allod_page_size(h->p) >= op->bytes);
		h->bytes = allod_page_size(h->p);
	}
	if (h->p) {
		h->id = *last_id += 1ull << 32;
		stamp(h);
	}
}

struct world {
	struct held held[HELD];
	struct allod_page_op ops[HELD];
	uint64_t random;
	uint64_t last_id;
};

static void round_of(struct world *w)
{
	const size_t from = test_random(&w->random) % HELD;
	const size_t count = 1 + test_random(&w->random) % (HELD - from);

	for (size_t i = 0; i < count; i++)
		w->ops[i] = pick_op(&w->held[from + i], &w->random);
	CHECK_EQ(allod_page_batch(w->ops, count), count);
	for (size_t i = 0; i < count; i++)
		check_op(&w->held[from + i], &w->ops[i], &w->last_id);
	/* By the calls for one, too. */
	struct held *h = &w->held[test_random(&w->random) % HELD];
	if (h->p)
		check_stamps(h->p, h->bytes, h->id);
	allod_page_free(h->p);
	h->p = NULL;
}

static void free_all(struct world *w)
{
	for (size_t i = 0; i < HELD; i++)
		w->ops[i] =
			(struct allod_page_op){ .verb = ALLOD_PAGE_OP_FREE, .block = w->held[i].p };
	CHECK_EQ(allod_page_batch(w->ops, HELD), HELD);
}

TEST_TIMEOUT(random_batches, 60)
{
	static struct world world;

	start();
	world.random = test_seed();
	for (unsigned i = 0; i < test_count(60, 3000); i++) {
		round_of(&world);
		CHECK(page_check());
	}
	free_all(&world);
}

enum { THREADS = 3 };

static void *batches_in_thread(void *arg)
{
	for (unsigned i = 0; i < test_count(20, 1000); i++)
		round_of(arg);
	free_all(arg);
	return NULL;
}

TEST_TIMEOUT(random_batches_of_threads, 60)
{
	static struct world worlds[THREADS];
	pthread_t threads[THREADS];

	start();
	for (unsigned i = 0; i < THREADS; i++)
		worlds[i].random = test_seed() + i;
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, batches_in_thread, &worlds[i]), 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK(page_check());
}

static _Atomic(unsigned) parked;

static void park(int signal)
{
	a_add_rlx(&parked, 1);
	for (;;)
		pause();
}

static void *batches_until_parked(void *arg)
{
	for (;;)
		round_of(arg);
	return NULL;
}

/* Threads that are stopped for ever anywhere in a batch stop no other. */
TEST_TIMEOUT(threads_stopped_in_batches, 60)
{
	enum { STOPPED = 24 };
	static struct world worlds[STOPPED + 1];
	struct sigaction action = { .sa_handler = park };

	if (TEST_SANITIZED)
		SKIP("a sanitizer delays signals until a thread waits");
	start();
	CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	worlds[STOPPED].random = test_seed();
	for (unsigned i = 0; i < STOPPED; i++) {
		pthread_t thread;
		worlds[i].random = test_seed() + i;
		CHECK_EQ(pthread_create(&thread, NULL, batches_until_parked, &worlds[i]), 0);
		usleep(2000 + (unsigned)(test_random(&worlds[STOPPED].random) % 5000));
		CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
		while (a_load_rlx(&parked) <= i)
			usleep(100);
		for (unsigned round = 0; round < 4; round++)
			round_of(&worlds[STOPPED]);
	}
	free_all(&worlds[STOPPED]);
}
