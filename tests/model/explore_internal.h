/* SPDX-License-Identifier: MIT */
/* What the explorer's own files share; not for scenarios. All of it is of one kernel thread. */
#pragma once

#include "explore.h"

/* What an operation is about to touch, for finding which steps depend on each other. */
struct explore_access {
	uintptr_t addr; /* 0 and size 0 for a fence */
	size_t size;
	bool write;
	bool sc;      /* sequentially consistent */
	bool all;     /* a sequentially consistent fence */
	bool barrier; /* one for every thread */
};

/* ---- explore_sched.c: fibers, and whose turn it is ---- */
/* The running fiber, or -1 in set_up, finish and the explorer itself. */
extern int sched_self;
/* Before an operation: lets the search choose who runs; returns when this fiber may perform it. */
void sched_point(const struct explore_access *access);
/* After it: what it turned out to be. */
void sched_performed(bool wrote);
/* The number of steps performed in this execution. */
unsigned sched_steps(void);
/* The pending access of a fiber that hasn't finished. */
const struct explore_access *sched_pending(int thread);
/* Fibers that may run, as a mask. */
unsigned sched_runnable(void);
/* Runs one execution of the scenario. */
enum sched_end { SCHED_PASSED, SCHED_FAILED, SCHED_REPEATED /* another execution: cut short */ };
enum sched_end sched_execute(const struct explore_scenario *s, const struct explore_limits *limits);
/* Set by the caller of sched_execute: this thread stops after so many operations; -1 = none. */
extern int sched_stop_thread;
extern unsigned sched_stop_after;
/* Set by sched_execute() when the stopped thread really was stopped. */
extern bool sched_ever_stopped;
/* The message of the failed execution. */
extern char sched_message[EXPLORE_MESSAGE_BYTES];

/* ---- explore_choice.c: the choices that make an execution ---- */
enum choice_mode { CHOICE_SEARCH, CHOICE_RANDOM, CHOICE_REPLAY };
void choice_begin(enum choice_mode mode, const struct explore_limits *limits);
/* Moves a search on to the next execution; false when all are done. */
bool choice_advance(void);
/* What the next random execution is made from. */
void choice_seed(uint64_t seed, unsigned changes, unsigned horizon);
/* The choices that a replay repeats. */
void choice_replay(const char *choices);
/* The choices of the last execution as text. */
const char *choice_text(void);

void choice_begin_execution(void);
/* Which of the runnable threads goes on; -1 = this execution only repeats others. */
int choice_thread(unsigned runnable, int current);
/* A number below n; 0 is the plainest choice. */
unsigned choice_number(unsigned n);
void choice_performed(int thread, const struct explore_access *access);

/* ---- explore_order.c: which steps depend on each other (partial-order reduction) ---- */
bool order_is_dependent(const struct explore_access *a, const struct explore_access *b);
void order_begin_execution(void);
/* Told of a node of the search where one of these threads (a mask) must be tried. */
typedef void order_race_fn(int node, unsigned threads);
/* Records a step; calls `race` for each earlier step that it races with. */
void order_step(int thread, const struct explore_access *access, int node, order_race_fn *race);

/* ---- explore_memory.c: stores, views, races ---- */
void memory_begin_execution(const struct explore_limits *limits, int threads);
/* This thread's knowledge: its own count of events, and of others' events it has seen. */
uint32_t memory_clock(int thread, int of);

/* ---- explore_undo.c ---- */
/* Restores every atomic that the last execution changed, static ones of the sources included. */
void undo_execution(void);

/* ---- explore_sites.c ---- */
/* The order of the site as weakened. */
enum explore_order site_order(struct explore_site *site);
/* The name of the weakening in force, or "". */
const char *site_weakened_name(void);

/* ---- explore_history.c: recorded operations ---- */
void history_begin_execution(bool real_time);
void history_step(int thread);
/* Judges the finished execution; calls explore_fail() on a failure. */
void history_judge(const struct explore_scenario *s);

/* ---- explore_trace.c ---- */
extern bool trace_on;
void trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
