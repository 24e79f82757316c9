/* SPDX-License-Identifier: MIT */
/*
 * A signal at every instruction. A tracer steps a process through one operation of the heap up to the
 * k-th instruction and sends it a signal there, whose handler uses the heap in turn: it allocates,
 * frees (also what the interrupted code holds), resizes, trims and reads statistics. When the
 * operation has ended everything is freed, and the heap must be whole and empty. Short operations are
 * tried at each k, long ones at a random sample.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "heap/heap.h"
#include "test_signal_ops.h"

enum {
	MARK_SIGNAL =
		SIGUSR2, /* the traced process is at the beginning or the end of an operation */
	INJECT_SIGNAL = SIGUSR1,  /* runs the handler */
	EVERY_HANDLER_BELOW = 90, /* operations of fewer instructions meet every handler at each */
	EVERY_STEP_BELOW = 400,   /* of fewer than these, one handler at each instruction */
	STEP_BUDGET = 6000,       /* longer ones are sampled; a step takes some microseconds */
	SAMPLES_LEAST = 6,
	LENGTH_MOST = 12000, /* of an operation's instructions: a long copy is one for each word */
};

/* What the tracer tells the traced process. */
static struct order {
	unsigned op;
	unsigned handler;
	bool quit;
} * order;

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

enum { HANDLERS = sizeof handlers / sizeof handlers[0], NEVER_RETURN = HANDLERS };

static sigjmp_buf around;

static void on_signal(int number)
{
	const int saved_errno = errno;
	if (order->handler == NEVER_RETURN)
		siglongjmp(around, 1);
	handlers[order->handler]();
	errno = saved_errno;
}

/* The traced process. */

static void mark(void)
{
	syscall(SYS_tgkill, getpid(), getpid(), MARK_SIGNAL);
}

static void check_whole(uint64_t used_blocks)
{
	struct heap_stats stats;
	heap_check();
	heap_stats_read(&stats);
	CHECK_EQ(stats.used_blocks, used_blocks);
}

static void traced_round(const struct op *op)
{
	op->prepare();
	mark();
	op->run();
	mark();
	if (subject != NULL)
		hold(subject);
	subject = NULL;
	release_many(block_count);
	check_whole(0);
}

static void traced_start(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigaction(INJECT_SIGNAL, &action, NULL);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(77);
	mark();
}

_Noreturn static void traced_main(void)
{
	traced_start();
	while (!order->quit)
		traced_round(&ops[order->op]);
	_exit(0);
}

/* The tracer. */

/* The signal at which the process has stopped, or 0 when it has ended. */
static int wait_stop(pid_t pid)
{
	int status;
	if (waitpid(pid, &status, 0) != pid)
		test_fail(__FILE__, __LINE__, "waitpid: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("ptrace is not permitted here");
	return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
}

static void resume(pid_t pid, int request, int signal)
{
	if (ptrace(request, pid, NULL, (void *)(uintptr_t)signal) != 0)
		test_fail(__FILE__, __LINE__, "ptrace: %s", strerror(errno));
}

static void go_to_mark(pid_t pid, int signal, long step)
{
	resume(pid, PTRACE_CONT, signal);
	const int stop = wait_stop(pid);
	if (stop != MARK_SIGNAL)
		test_fail(__FILE__, __LINE__, "%s, handler %u, instruction %ld: ended by %s",
			ops[order->op].name, order->handler, step, strsignal(stop));
}

/* Steps `count` instructions from the mark on; false when the operation ended before. */
static bool step_to(pid_t pid, long count, long *ret_steps)
{
	for (long i = 0; i < count; i++) {
		resume(pid, PTRACE_SINGLESTEP, 0);
		const int stop = wait_stop(pid);
		if (stop == MARK_SIGNAL) {
			*ret_steps = i;
			return false;
		}
		CHECK_EQ(stop, SIGTRAP);
	}
	return true;
}

static pid_t start_traced(void (*run)(void))
{
	const pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		run();
		_exit(0);
	}
	CHECK_EQ(wait_stop(pid), MARK_SIGNAL);
	return pid;
}

static void share_order(void)
{
	order = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		0);
	CHECK(order != MAP_FAILED);
}

/* The number of instructions of an operation that nobody interrupts. */
static long measure(pid_t pid)
{
	long steps = LENGTH_MOST;
	go_to_mark(pid, 0, -1);
	if (step_to(pid, LENGTH_MOST, &steps))
		go_to_mark(pid, 0, -1);
	return steps;
}

/* Interrupts at the k-th instruction; false when the operation was shorter this time. */
static bool interrupt_at(pid_t pid, long k)
{
	long steps;
	go_to_mark(pid, 0, k);
	if (!step_to(pid, k, &steps))
		return false;
	go_to_mark(pid, INJECT_SIGNAL, k);
	return true;
}

static void interrupt_everywhere(pid_t pid, unsigned op, uint64_t *random)
{
	order->op = op;
	order->handler = 0;
	measure(pid);
	const long length = measure(pid);
	const long rounds = length < EVERY_HANDLER_BELOW ? HANDLERS : 1;
	for (long i = 0; i < length * rounds && length < EVERY_STEP_BELOW; i++) {
		order->handler = (unsigned)(i / length + i) % HANDLERS;
		interrupt_at(pid, i % length);
	}
	const long samples = 2 * STEP_BUDGET / length + SAMPLES_LEAST;
	for (long i = 0; i < samples && length >= EVERY_STEP_BELOW; i++) {
		order->handler = (unsigned)i % HANDLERS;
		interrupt_at(pid, (long)(test_random(random) % (uint64_t)length));
	}
	test_note("%s: %ld of %ld instructions", ops[op].name,
		length < EVERY_STEP_BELOW ? length : samples, length);
}

static void trace(unsigned first, unsigned last)
{
	uint64_t random = test_seed();
	share_order();
	const pid_t pid = start_traced(traced_main);
	for (unsigned op = first; op < last; op++)
		interrupt_everywhere(pid, op, &random);
	order->quit = true;
	resume(pid, PTRACE_CONT, 0);
	CHECK_EQ(wait_stop(pid), 0);
}

TEST_TIMEOUT(a_signal_at_every_instruction_of_the_fast_paths, 60)
{
	trace(0, FAST_OPS);
}

TEST_TIMEOUT(a_signal_in_the_slow_paths, 60)
{
	trace(FAST_OPS, op_count);
}

/* The first operation of a process: the arena, the options and the heap are made meanwhile. */
static void traced_first(void)
{
	traced_start();
	mark();
	subject = heap_alloc(FINE);
	mark();
	hold(subject);
	release_many(block_count);
	check_whole(0);
}

TEST_TIMEOUT(a_signal_in_the_first_allocation, 60)
{
	uint64_t random = test_seed();
	share_order();
	long length = 0;
	pid_t pid = start_traced(traced_first);
	length = measure(pid);
	resume(pid, PTRACE_CONT, 0);
	CHECK_EQ(wait_stop(pid), 0);
	for (unsigned i = 0; i < 18; i++) {
		order->handler = i % HANDLERS;
		pid = start_traced(traced_first);
		interrupt_at(pid, (long)(test_random(&random) % (uint64_t)length));
		resume(pid, PTRACE_CONT, 0);
		CHECK_EQ(wait_stop(pid), 0);
	}
	test_note("%ld instructions", length);
}

/*
 * A handler that leaves by siglongjmp: the thread's heap stays busy for ever, and the thread goes on
 * with others. What it held before stays usable.
 */
static void traced_jump(void)
{
	traced_start();
	hold_many(FINE, 50);
	ops[order->op].prepare();
	const size_t before = block_count;
	if (sigsetjmp(around, 1) == 0) {
		mark();
		ops[order->op].run();
	}
	mark();
	block_count = before;
	hold_many(FINE, 3000);
	hold_many(COARSE, 300);
	release_many(block_count);
	heap_trim();
}

TEST_TIMEOUT(a_handler_that_never_returns, 60)
{
	static const unsigned jump_ops[] = { 0, 1, 5, 6, 7, 9, 16 };
	uint64_t random = test_seed();
	share_order();
	order->handler = NEVER_RETURN;
	for (unsigned i = 0; i < sizeof jump_ops / sizeof jump_ops[0]; i++) {
		order->op = jump_ops[i];
		pid_t pid = start_traced(traced_jump);
		const long length = measure(pid);
		resume(pid, PTRACE_CONT, 0);
		CHECK_EQ(wait_stop(pid), 0);
		for (unsigned sample = 0; sample < 8; sample++) {
			pid = start_traced(traced_jump);
			interrupt_at(pid, (long)(test_random(&random) % (uint64_t)length));
			resume(pid, PTRACE_CONT, 0);
			CHECK_EQ(wait_stop(pid), 0);
		}
	}
}
