/* SPDX-License-Identifier: MIT */
/*
 * A signal at every instruction. The thread steps itself through one operation of the heap up to
 * the k-th instruction and there runs what a signal handler would, which uses the heap in turn: it
 * allocates, frees (also what the interrupted code holds), resizes, trims and reads statistics.
 * When the operation has ended everything is freed, and the heap must be whole and empty.
 * Operations of fewer than EVERY_STEP_BELOW instructions are tried at each k, longer ones at a
 * random sample.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "harness.h"
#include "heap/heap.h"
#include "test_signal_ops.h"
#include "test_signal_self.h"

enum {
	EVERY_HANDLER_BELOW = 90, /* operations of fewer instructions meet every handler at each */
	EVERY_STEP_BELOW = 270,   /* of fewer than these, one handler at each instruction */
	STEP_BUDGET = 15000,      /* longer ones are sampled; a step takes some microseconds */
	SAMPLES_LEAST = 6,
	LENGTH_MOST = 12000, /* of an operation's instructions: a long copy is one for each word */
};

/* What is tried at the moment, for the message when it fails. */
static struct {
	unsigned op;
	unsigned handler;
	long step;
} now;

/* The handlers. */

static void handle_same_class(void)
{
	hold_many(FINE, 5);
	release_many(2);
	uint64_t *p = heap_alloc(FINE);
	heap_free(heap_resize(p, 200));
}

/* Uses up the slabs that the interrupted code looked at. */
static void handle_use_up(void)
{
	hold_many(FINE, 1500);
	hold_many(COARSE, 100);
	release_many(50);
}

static void handle_trim(void)
{
	hold_many(FINE, 3);
	heap_trim();
	release_many(1);
}

/* Frees what the interrupted code holds, down to nothing. */
static void handle_free_all(void)
{
	release_many(block_count);
	hold(heap_alloc(FINE));
}

static void handle_large(void)
{
	struct heap_stats stats;
	uint64_t *p = heap_alloc(300000);
	CHECK(p != NULL);
	*p = 42;
	p = heap_resize(p, 2 << 20);
	CHECK(p != NULL && *p == 42);
	CHECK(heap_usable_size(p) >= 2 << 20);
	hold(heap_alloc_aligned(1 << 17, 10));
	heap_free(p);
	heap_stats_read(&stats);
}

/* The slabs of a class go round: used up, opened, taken again. */
static void handle_turn_over(void)
{
	hold_many(COARSE, 130);
	release_many(120);
	heap_trim();
	hold_many(COARSE, 5);
	hold_many(FINE, 5);
}

static void (*const handlers[])(void) = { handle_same_class, handle_use_up, handle_trim,
	handle_free_all, handle_large, handle_turn_over };

enum { HANDLERS = sizeof handlers / sizeof handlers[0] };

static void handle(void)
{
	handlers[now.handler]();
}

/* The heap has found fault with itself: says where. */
static void on_abort(int number)
{
	test_note("%s, handler %u, instruction %ld", ops[now.op].name, now.handler, now.step);
}

static void check_whole(void)
{
	struct heap_stats stats;
	heap_check();
	heap_stats_read(&stats);
	if (stats.used_blocks != 0)
		on_abort(0);
	CHECK_EQ(stats.used_blocks, 0);
}

/*
 * One operation, interrupted at the k-th instruction; returns its length if it is shorter, or -1.
 */
static long round_with(const struct op *op, long k)
{
	now.step = k;
	op->prepare();
	step_begin(k, handle);
	op->run();
	const long length = step_end();
	if (subject != NULL)
		hold(subject);
	subject = NULL;
	release_many(block_count);
	check_whole();
	return length;
}

static long length_of(unsigned op)
{
	now.op = op;
	now.handler = 0;
	round_with(&ops[op], LENGTH_MOST);
	const long length = round_with(&ops[op], LENGTH_MOST);
	return length < 0 ? LENGTH_MOST : length;
}

static void interrupt_everywhere(unsigned op, uint64_t *random)
{
	const long length = length_of(op);
	const long rounds = length < EVERY_HANDLER_BELOW ? HANDLERS : 1;
	for (long i = 0; i < length * rounds && length < EVERY_STEP_BELOW; i++) {
		now.handler = (unsigned)(i / length + i) % HANDLERS;
		round_with(&ops[op], i % length);
	}
	const long samples = 2 * STEP_BUDGET / length + SAMPLES_LEAST;
	for (long i = 0; i < samples && length >= EVERY_STEP_BELOW; i++) {
		now.handler = (unsigned)i % HANDLERS;
		round_with(&ops[op], (long)(test_random(random) % (uint64_t)length));
	}
	test_note("%s: %ld of %ld instructions", ops[op].name,
		length < EVERY_STEP_BELOW ? length : samples, length);
}

/* A small arena, because checking takes time in proportion to it. */
static void begin(void)
{
	options.arena_bytes = (uint64_t)128 << 20;
	signal(SIGABRT, on_abort);
	step_init();
}

static void interrupt_all(unsigned first, unsigned last)
{
	uint64_t random = test_seed();
	begin();
	for (unsigned op = first; op < last; op++)
		interrupt_everywhere(op, &random);
}

TEST_TIMEOUT(a_signal_at_every_instruction_of_the_fast_paths, 60)
{
	interrupt_all(0, FAST_OPS);
}

TEST_TIMEOUT(a_signal_in_the_slow_paths, 60)
{
	interrupt_all(FAST_OPS, op_count);
}

/*
 * Runs in a process of its own, which has not used the heap yet; the length comes back by a pipe.
 */
static long in_new_process(long (*run)(long k), long k)
{
	int fds[2];
	int status;
	long length = 0;
	CHECK_EQ(pipe(fds), 0);
	const pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		length = run(k);
		CHECK_EQ(write(fds[1], &length, sizeof length), sizeof length);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (status != 0)
		test_fail(__FILE__, __LINE__, "instruction %ld, handler %u: status %#x", k,
			now.handler, status);
	CHECK_EQ(read(fds[0], &length, sizeof length), sizeof length);
	close(fds[0]);
	close(fds[1]);
	return length;
}

/* The first operation of a process: the arena, the options and the heap are made meanwhile. */
static long first_allocation(long k)
{
	step_begin(k, handle);
	subject = heap_alloc(FINE);
	const long length = step_end();
	hold(subject);
	release_many(block_count);
	check_whole();
	return length;
}

TEST_TIMEOUT(a_signal_in_the_first_allocation, 60)
{
	uint64_t random = test_seed();
	begin();
	const long length = in_new_process(first_allocation, 100000);
	CHECK(length > 100);
	for (unsigned i = 0; i < 60; i++) {
		now.handler = i % HANDLERS;
		in_new_process(first_allocation, (long)(test_random(&random) % (uint64_t)length));
	}
	test_note("%ld instructions", length);
}

/*
 * A handler that leaves by siglongjmp: the thread's heap stays busy for ever, and the thread goes
 * on with others. What it held before stays usable.
 */
static sigjmp_buf around;

static void jump(void)
{
	siglongjmp(around, 1);
}

static long jump_out(long k)
{
	volatile long length = -1;
	hold_many(FINE, 50);
	ops[now.op].prepare();
	const size_t before = block_count;
	if (sigsetjmp(around, 1) == 0) {
		step_begin(k, jump);
		ops[now.op].run();
		length = step_end();
	}
	CHECK_EQ(block_count, before);
	hold_many(FINE, 3000);
	hold_many(COARSE, 300);
	release_many(block_count);
	heap_trim();
	return length;
}

TEST_TIMEOUT(a_handler_that_never_returns, 60)
{
	static const unsigned jump_ops[] = { 0, 1, 5, 6, 7, 8, 9, 10, 12, 16, 18, 20 };
	uint64_t random = test_seed();
	begin();
	for (unsigned i = 0; i < sizeof jump_ops / sizeof jump_ops[0]; i++) {
		now.op = jump_ops[i];
		const long length = in_new_process(jump_out, LENGTH_MOST);
		CHECK(length > 0);
		for (unsigned sample = 0; sample < 12; sample++)
			in_new_process(jump_out, (long)(test_random(&random) % (uint64_t)length));
	}
}
