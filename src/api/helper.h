/* SPDX-License-Identifier: MIT */
/* Threads of allod's own, made for calls that ask for work to be done elsewhere. */
#pragma once

#include <stdbool.h>

/*
 * Makes a thread that nobody joins and that gets no signals: those are the program's. False when the
 * system has none.
 */
bool helper_make(void *(*run)(void *arg), void *arg);

/* Has `child` called in each child of fork(), where the helpers are not. */
void helper_watch_fork(void (*child)(void));

/* job.c: the thread carries out what would be a helper's. The tests reach in. */
extern __thread _Atomic(bool) job_calls_inside;
