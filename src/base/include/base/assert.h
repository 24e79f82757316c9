/* SPDX-License-Identifier: MIT */
/*
 * Checks of internal invariants.
 *
 * ASSERT(cond) is checked when the build says -Dassertions=true and vanishes otherwise: the
 * condition is then compiled but not evaluated, so it must have no side effect. A failed check
 * writes one line to standard error with write(2) and aborts; it allocates nothing and may be used
 * in a signal handler. May be called by every layer.
 */
#pragma once

#ifndef ALLOD_ASSERTIONS
#define ALLOD_ASSERTIONS 0
#endif

#define ASSERT_TEXT__(x) #x
#define ASSERT_TEXT_(x) ASSERT_TEXT__(x)

/* Writes the line, which ends in a newline, to standard error and aborts. */
__attribute__((noreturn, cold, noinline)) void assert_fail(const char *line);

#if ALLOD_ASSERTIONS
#define ASSERT(cond)                                                                          \
	(__builtin_expect(!(cond), 0)                                                         \
			? assert_fail("allod: " __FILE__                                      \
				      ":" ASSERT_TEXT_(__LINE__) ": assertion failed: " #cond \
								 "\n")                        \
			: (void)0)
#else
#define ASSERT(cond) ((void)sizeof(!(cond)))
#endif
