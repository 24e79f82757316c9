/* SPDX-License-Identifier: MIT */
/*
 * The interleaving explorer: runs the product's own source under chosen interleavings and chosen
 * outcomes of weakly ordered reads, and judges what it did.
 *
 * A source compiled with ALLOD_EXPLORE hands each atomic operation to the explorer. A scenario's
 * threads are fibers of one kernel thread; every atomic operation is a scheduling point. The
 * modelled memory, and what it leaves out, is told at the top of explore_memory.c.
 *
 * A test calls explore_search() (every schedule of a small scenario, or as many as the limits
 * allow), explore_random() (priorities with random change points) or explore_stopped() (a thread
 * stops for ever after each of its operations in turn), and looks at the result. A failure carries
 * a string that replays it: EXPLORE_REPLAY=<string> <test program> <subtest>.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

enum {
	EXPLORE_THREADS = 6,     /* fibers of a scenario */
	EXPLORE_OPERATIONS = 16, /* recorded operations of one execution */
	EXPLORE_MESSAGE_BYTES = 256,
	EXPLORE_REPLAY_BYTES = 16384,
	EXPLORE_STATE_BYTES = 64,
};

/* One recorded call: what was asked and what came back. */
struct explore_operation {
	int thread;
	int kind; /* the scenario's own numbering */
	uint64_t argument;
	uint64_t result;
	bool pending; /* its thread stopped inside: the result is unknown */
};

struct explore_scenario {
	const char *name; /* no '/' or '@' in it */
	int threads;
	/* Makes everything anew but atomics: those are restored already. May be NULL. */
	void (*set_up)(void);
	void (*run)(int thread);
	void (*finish)(void); /* checks the state that is left; may be NULL */
	/*
	 * The sequential specification, if any: a state of EXPLORE_STATE_BYTES, zeroed and then
	 * made by spec_init, and a step that says whether the call may return that result in that
	 * state and if so changes the state. For a pending call any result is right: it only
	 * changes the state.
	 */
	void (*spec_init)(void *state);
	bool (*spec_step)(void *state, const struct explore_operation *op);
	/* Judges the whole history in its own way; calls explore_fail(). May be NULL. */
	void (*judge)(const struct explore_operation *ops, int count);
};

struct explore_limits {
	uint64_t executions;    /* of one search at most; 0 = a million */
	unsigned steps;         /* of one execution; more is a failure to progress; 0 = 2000 */
	bool newest_only;       /* reads see the newest store: sequential consistency */
	unsigned stale_reads;   /* at most so many older reads in an execution; 0 = any number */
	int switches;           /* at most so many preemptions; 0 = any number, partial orders */
	unsigned weak_failures; /* at most so many spurious failures of weak cas; 0 = none */
};

struct explore_result {
	bool failed;
	bool complete; /* nothing within the limits was left out */
	uint64_t executions;
	uint64_t pruned;  /* of them, found to repeat another and cut short */
	unsigned longest; /* steps of the longest execution */
	char message[EXPLORE_MESSAGE_BYTES];
	char replay[EXPLORE_REPLAY_BYTES];
};

/* Runs every execution within the limits until one fails. */
struct explore_result explore_search(const struct explore_scenario *s,
	const struct explore_limits *limits);

/* Runs `runs` executions by random priorities with `changes` change points each. */
struct explore_result explore_random(const struct explore_scenario *s,
	const struct explore_limits *limits, uint64_t seed, uint64_t runs, unsigned changes);

/*
 * For each thread and each of its operations: stops the thread for ever after that operation (and
 * before the first) and searches; the other threads must finish. explore_is_stopped() tells
 * finish() who it was.
 */
struct explore_result explore_stopped(const struct explore_scenario *s,
	const struct explore_limits *limits);
bool explore_is_stopped(int thread);

/* Runs one execution from a replay string and prints its steps. */
struct explore_result explore_replay(const struct explore_scenario *s,
	const struct explore_limits *limits, const char *replay);

/* For the code of a scenario, on a fiber. */
void explore_begin(int kind, uint64_t argument);
void explore_end(uint64_t result);
/* Makes the execution fail; on a fiber it doesn't return, nor in set_up, finish or judge. */
_Noreturn void explore_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define EXPLORE_CHECK(cond) \
	((cond) ? (void)0 : explore_fail("%s:%d: %s is false", __FILE__, __LINE__, #cond))
/* Whether call a returned, as far as call b can know, before b began. */
bool explore_is_before(const struct explore_operation *a, const struct explore_operation *b);
/* The kernel's barrier for all threads of a process: each passes a full fence at this moment. */
void explore_barrier(void);
/* From here on an access to these bytes is a failure, until they are mapped again. */
void explore_unmap(const volatile void *p, size_t bytes);
void explore_map(const volatile void *p, size_t bytes);
/* In set_up: the thread-local atomic is each fiber's own, with its present value at first. */
void explore_private(volatile void *p, size_t size);
/* Forgets what it knows of these bytes: they are given to another use by plain stores. */
void explore_forget(const volatile void *p, size_t bytes);
/* A plain mark for traces: "pushes node 3". */
void explore_note(const char *text, uint64_t value);

/*
 * Weakening: each operation of the sources under test that orders something is a site, and a site
 * has one or more weaker forms. explore_weakenings() makes the list of the forms that the
 * executions so far came by and whose file name contains `file`.
 */
struct explore_weakening {
	char name[128]; /* "stack_push_chain:a_cas_weak_rel>rlx~75": the last is the line */
	int site;
	enum explore_order order;
};
int explore_weakenings(const char *file, struct explore_weakening *ret, int capacity);
/* Applies one of them; NULL takes it back. */
void explore_weaken(const struct explore_weakening *w);
/* Applies one by name also before its site was first reached (for replays). */
void explore_weaken_name(const char *name);
