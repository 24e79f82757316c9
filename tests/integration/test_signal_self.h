/* SPDX-License-Identifier: MIT */
/*
 * A thread that single-steps itself: after each instruction the processor raises SIGTRAP in it, and
 * at the k-th the thread calls a function of the test, as if a signal had come just then. It needs
 * no tracer and no permission, and takes a few microseconds an instruction. x86-64 only: other
 * processors let nobody but a tracer step.
 */
#pragma once

#include <stdbool.h>

/* Installs the handler of SIGTRAP; ends the subtest as skipped where there is no stepping. */
void step_init(void);

/*
 * From the next instruction on; calls `at` once, behind the k-th (from 0). It may leave by
 * siglongjmp().
 */
void step_begin(long k, void (*at)(void));

/* Ends stepping; returns how many instructions there were, or -1 when `at` was called before. */
long step_end(void);
