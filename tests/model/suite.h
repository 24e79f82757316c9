/* SPDX-License-Identifier: MIT */
/* What the model tests of the product's structures do with their scenarios. */
#pragma once

#include "explore.h"

struct suite {
	const struct explore_scenario *scenarios;
	int count;
	struct explore_limits limits;
};

/* Each scenario under every interleaving and read; none may fail. */
void suite_search(const struct suite *suite);
/* The same where reads see the newest store: real-time order then counts for linearizability. */
void suite_search_newest(const struct suite *suite);
/* With a thread that stops for ever after each of its steps in turn. */
void suite_stopped(const struct suite *suite);
/*
 * Weakens each ordering operation of the source in turn: some scenario must fail. `exempt` lists,
 * ended by NULL, the weakenings that no scenario can notice; those that are there must stay
 * unnoticed.
 */
void suite_weaken(const struct suite *suite, const char *file, const char *const *exempt);
/* Random executions, by test_seed(). */
void suite_random(const struct explore_scenario *s, uint64_t runs);
/* A scenario with a known bug: the search must find it, with this in its message. */
void suite_must_fail(const struct explore_scenario *s, const struct explore_limits *limits,
	const char *message);
/* Prints a result, and fails the subtest if it failed. */
void suite_require_pass(const struct explore_scenario *s, const struct explore_result *r);
