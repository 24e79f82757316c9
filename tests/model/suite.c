/* SPDX-License-Identifier: MIT */
/* See suite.h. */
#include "suite.h"

#include <string.h>

#include "harness.h"

enum { WEAKENINGS = 64, RANDOM_RUNS = 1500 };

static void report(const char *name, const struct explore_result *r)
{
	test_note("%s: %llu executions, %llu cut short, longest %u steps, %s", name,
		(unsigned long long)r->executions, (unsigned long long)r->pruned, r->longest,
		r->complete ? "complete" : "not complete");
}

void suite_require_pass(const struct explore_scenario *s, const struct explore_result *r)
{
	report(s->name, r);
	if (!r->failed)
		return;
	test_note("EXPLORE_REPLAY='%s'", r->replay);
	test_fail(__FILE__, __LINE__, "%s: %s", s->name, r->message);
}

/* Spurious failures multiply the executions of three threads beyond what they teach. */
static struct explore_limits limits_for(const struct suite *suite, int i)
{
	struct explore_limits limits = suite->limits;

	if (suite->scenarios[i].threads > 2)
		limits.weak_failures = 0;
	return limits;
}

void suite_search(const struct suite *suite)
{
	for (int i = 0; i < suite->count; i++) {
		struct explore_limits limits = limits_for(suite, i);
		struct explore_result r = explore_search(&suite->scenarios[i], &limits);
		suite_require_pass(&suite->scenarios[i], &r);
	}
}

void suite_search_newest(const struct suite *suite)
{
	struct suite newest = *suite;

	newest.limits.newest_only = true;
	suite_search(&newest);
}

void suite_stopped(const struct suite *suite)
{
	for (int i = 0; i < suite->count; i++) {
		struct explore_limits limits = limits_for(suite, i);
		struct explore_result r;

		limits.newest_only = true;
		r = explore_stopped(&suite->scenarios[i], &limits);
		suite_require_pass(&suite->scenarios[i], &r);
	}
}

/* Exemptions name no line. */
static bool is_exempt(const char *const *exempt, const char *name)
{
	for (; exempt && *exempt; exempt++) {
		size_t n = strlen(*exempt);
		if (strncmp(*exempt, name, n) == 0 && name[n] == '~')
			return true;
	}
	return false;
}

/*
 * The first scenario that notices the weakening, or NULL. What lies deep is found sooner by chance.
 */
static const char *who_notices(const struct suite *suite, const struct explore_weakening *w,
	uint64_t random_runs)
{
	const char *who = NULL;

	explore_weaken(w);
	for (int i = 0; i < suite->count && !who; i++)
		if (explore_random(&suite->scenarios[i], &suite->limits, 7, random_runs, 3).failed)
			who = suite->scenarios[i].name;
	for (int i = 0; i < suite->count && !who; i++) {
		struct explore_limits limits = limits_for(suite, i);
		if (explore_search(&suite->scenarios[i], &limits).failed)
			who = suite->scenarios[i].name;
	}
	explore_weaken(NULL);
	return who;
}

void suite_weaken(const struct suite *suite, const char *file, const char *const *exempt)
{
	static struct explore_weakening list[WEAKENINGS];
	int count, unexpected = 0;

	suite_search(suite); /* comes by all sites */
	count = explore_weakenings(file, list, WEAKENINGS);
	CHECK(count > 0);
	for (int i = 0; i < count; i++) {
		bool exempted = is_exempt(exempt, list[i].name);
		uint64_t runs = exempted ? RANDOM_RUNS / 10 : RANDOM_RUNS;
		const char *who = who_notices(suite, &list[i], runs);

		test_note("%s: %s%s", list[i].name, who ? "noticed by " : "not noticed",
			who                ? who
				: exempted ? ", as expected"
					   : "");
		unexpected += exempted ? who != NULL : who == NULL;
	}
	CHECK_EQ(unexpected, 0);
}

void suite_random(const struct explore_scenario *s, uint64_t runs)
{
	struct explore_limits limits = { .weak_failures = 2 };
	struct explore_result r = explore_random(s, &limits, test_seed(), runs, 3);

	suite_require_pass(s, &r);
}

void suite_must_fail(const struct explore_scenario *s, const struct explore_limits *limits,
	const char *message)
{
	struct explore_result r = explore_search(s, limits), again;

	report(s->name, &r);
	CHECK(r.failed);
	test_note("found: %s", r.message);
	test_note("EXPLORE_REPLAY='%s'", r.replay);
	CHECK(strstr(r.message, message));
	again = explore_replay(s, limits, r.replay);
	CHECK(again.failed);
	CHECK_STR_EQ(again.message, r.message);
}
