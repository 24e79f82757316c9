/* SPDX-License-Identifier: MIT */
/*
 * Fibers, and the running of one execution.
 *
 * Every fiber that has not finished waits in sched_point() with its next operation announced, so
 * the search knows what each could do. A fiber chooses its successor itself and switches to it
 * directly. Fibers outlive executions: one that finished waits for the next execution; one that was
 * left in the middle is made anew. Switches use _setjmp and _longjmp, which enter no kernel.
 */
#undef _FORTIFY_SOURCE /* its longjmp refuses to go to another stack */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/assert.h"
#include "explore_internal.h"

enum { STACK_BYTES = 256 << 10 };

struct fiber {
	jmp_buf env;
	ucontext_t start;
	char *stack;
	struct explore_access pending;
	unsigned performed;
	bool is_made;     /* has run and waits at the end of a scenario or inside it */
	bool is_finished; /* waits at the end */
};

int sched_self = -1;
int sched_stop_thread = -1;
unsigned sched_stop_after;
bool sched_ever_stopped;
char sched_message[EXPLORE_MESSAGE_BYTES];

static struct fiber fibers[EXPLORE_THREADS];
static const struct explore_scenario *scenario;
static unsigned steps, step_limit;
static bool is_starting, is_executing;
static jmp_buf main_env; /* where fibers return to */
static jmp_buf fail_env; /* where a failed or pruned execution ends */
static ucontext_t unused_context;

enum { ENDED_BY_FAILURE = 1, ENDED_AS_REPETITION };

unsigned sched_steps(void)
{
	return steps;
}

const struct explore_access *sched_pending(int thread)
{
	return &fibers[thread].pending;
}

static bool is_stopped(int thread)
{
	return thread == sched_stop_thread && fibers[thread].performed >= sched_stop_after;
}

bool explore_is_stopped(int thread)
{
	return is_stopped(thread) && !fibers[thread].is_finished;
}

unsigned sched_runnable(void)
{
	unsigned mask = 0;

	for (int t = 0; t < scenario->threads; t++)
		if (!fibers[t].is_finished && !is_stopped(t))
			mask |= 1u << t;
	return mask;
}

_Noreturn static void resume(int thread)
{
	struct fiber *f = &fibers[thread];

	sched_self = thread;
	if (f->is_made)
		_longjmp(f->env, 1);
	f->is_made = true;
	setcontext(&f->start);
	__builtin_unreachable();
}

_Noreturn static void leave_to_main(void)
{
	sched_self = -1;
	_longjmp(main_env, 1);
}

void explore_fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(sched_message, sizeof(sched_message), fmt, args);
	va_end(args);
	sched_message[strcspn(sched_message, "\n")] = '\0';
	sched_self = -1;
	_longjmp(fail_env, ENDED_BY_FAILURE);
}

/* The sources' assertions end the execution, not the process. */
void assert_fail(const char *line)
{
	explore_fail("%s", line);
}

/* Goes on with the chosen fiber; returns when it is the calling one or that one's turn again. */
static void pass_on(void)
{
	struct fiber *f = &fibers[sched_self];
	unsigned runnable = sched_runnable();
	int next;

	if (runnable == 0)
		leave_to_main();
	next = choice_thread(runnable, sched_self);
	if (next < 0) {
		sched_self = -1;
		_longjmp(fail_env, ENDED_AS_REPETITION);
	}
	if (next != sched_self && _setjmp(f->env) == 0)
		resume(next);
}

void sched_point(const struct explore_access *access)
{
	struct fiber *f = &fibers[sched_self];

	f->pending = *access;
	if (is_starting) {
		if (_setjmp(f->env) == 0)
			leave_to_main();
	} else {
		pass_on();
	}
	if (++steps > step_limit)
		explore_fail("no end after %u steps: no progress", step_limit);
	history_step(sched_self);
}

void sched_performed(bool wrote)
{
	struct fiber *f = &fibers[sched_self];
	struct explore_access access = f->pending;

	access.write = wrote;
	f->performed++;
	choice_performed(sched_self, &access);
}

/* A fiber's whole life: one scenario after the other. */
static void fiber_main(void)
{
	for (;;) {
		struct fiber *f = &fibers[sched_self];

		scenario->run(sched_self);
		f->is_finished = true;
		if (_setjmp(f->env) == 0) {
			if (is_starting)
				leave_to_main();
			pass_on();
		}
	}
}

static void make_fiber(struct fiber *f)
{
	if (!f->stack) {
		f->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
		if (f->stack == MAP_FAILED)
			explore_fail("no memory for a fiber's stack");
	}
	getcontext(&f->start);
	f->start.uc_stack.ss_sp = f->stack;
	f->start.uc_stack.ss_size = STACK_BYTES;
	f->start.uc_link = &unused_context;
	makecontext(&f->start, fiber_main, 0);
	f->is_made = false;
}

static void on_crash(int signal)
{
	if (is_executing)
		explore_fail("killed by signal %d", signal);
	_exit(128 + signal);
}

/* A crash of the sources under test is a failed execution with its schedule, not the end. */
static void catch_crashes(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	static char stack[64 << 10];
	static bool done;
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_NODEFER };

	if (done)
		return;
	done = true;
	sigaltstack(&alternate, NULL);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
}

/* Runs each fiber up to its first operation. */
static void start_fibers(void)
{
	for (volatile int t = 0; t < scenario->threads; t = t + 1) {
		struct fiber *f = &fibers[t];

		if (!f->is_made || !f->is_finished)
			make_fiber(f);
		f->is_finished = false;
		f->performed = 0;
		is_starting = true;
		if (_setjmp(main_env) == 0)
			resume(t);
	}
	is_starting = false;
}

static void run_fibers(void)
{
	unsigned runnable = sched_runnable();

	if (runnable == 0)
		return;
	if (_setjmp(main_env) == 0)
		resume(choice_thread(runnable, -1));
}

static void run_scenario(const struct explore_limits *limits)
{
	undo_execution();
	if (scenario->set_up)
		scenario->set_up();
	memory_begin_execution(limits, scenario->threads);
	history_begin_execution(limits->newest_only);
	choice_begin_execution();
	start_fibers();
	run_fibers();
	if (sched_stop_thread >= 0 && explore_is_stopped(sched_stop_thread))
		sched_ever_stopped = true;
	if (scenario->finish)
		scenario->finish();
	history_judge(scenario);
}

enum sched_end sched_execute(const struct explore_scenario *s, const struct explore_limits *limits)
{
	int ended;

	scenario = s;
	steps = 0;
	step_limit = limits->steps ? limits->steps : 2000;
	catch_crashes();
	is_executing = true;
	ended = _setjmp(fail_env);
	if (ended == 0)
		run_scenario(limits);
	is_executing = false;
	if (ended == ENDED_BY_FAILURE)
		return SCHED_FAILED;
	return ended == ENDED_AS_REPETITION ? SCHED_REPEATED : SCHED_PASSED;
}
