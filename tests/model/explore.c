/* SPDX-License-Identifier: MIT */
/*
 * Runs a scenario's executions in the three ways and makes the result, with the string that replays
 * a failure:
 *
 *   NAME[@WEAKENING][!THREAD.OPERATIONS]:NEWEST.STALE.FAILURES/CHOICES
 *
 * the weakening in force, the stopped thread, the limits that shape the choices, and the choices.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore_internal.h"
#include "harness.h"

enum {
	DEFAULT_EXECUTIONS = 1000000,
	FIRST_HORIZON = 50,
};

bool trace_on;

void trace(const char *fmt, ...)
{
	char line[256];
	va_list args;

	if (!trace_on)
		return;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	test_note("  %s", line);
}

void explore_note(const char *text, uint64_t value)
{
	trace("T%d %s %llu", sched_self, text, (unsigned long long)value);
}

static void describe_failure(const struct explore_scenario *s, const struct explore_limits *limits,
	struct explore_result *ret)
{
	const char *weakened = site_weakened_name();
	char stopped[32] = "";

	if (sched_stop_thread >= 0)
		snprintf(stopped, sizeof(stopped), "!%d.%u", sched_stop_thread, sched_stop_after);
	ret->failed = true;
	ret->complete = false;
	memcpy(ret->message, sched_message, sizeof(ret->message));
	snprintf(ret->replay, sizeof(ret->replay), "%s%s%s%s:%d.%u.%u/%s", s->name,
		weakened[0] ? "@" : "", weakened, stopped, limits->newest_only, limits->stale_reads,
		limits->weak_failures, choice_text());
}

/* One execution; false when it failed. */
static bool execute(const struct explore_scenario *s, const struct explore_limits *limits,
	struct explore_result *ret)
{
	enum sched_end end = sched_execute(s, limits);

	ret->executions++;
	ret->pruned += end == SCHED_REPEATED;
	if (ret->longest < sched_steps())
		ret->longest = sched_steps();
	if (end == SCHED_FAILED)
		describe_failure(s, limits, ret);
	return end != SCHED_FAILED;
}

/* Reads what stands before the choices; false if the string is not of this scenario. */
static bool parse_replay(const struct explore_scenario *s, const char *replay,
	struct explore_limits *limits, const char **ret_choices)
{
	size_t name = strcspn(replay, "@!:/");
	const char *slash = strrchr(replay, '/');
	const char *p = replay + name;
	unsigned newest = 0;
	char weakened[128];
	size_t n;

	if (!slash || strncmp(replay, s->name, name) != 0 || s->name[name])
		return false;
	if (*p == '@') {
		n = strcspn(++p, "!/");
		/* The name has colons too: the limits follow the last one before the slash. */
		if (p[n] == '/')
			for (n = (size_t)(slash - p); n > 0 && p[n] != ':'; n--)
				;
		snprintf(weakened, sizeof(weakened), "%.*s", (int)n, p);
		explore_weaken_name(weakened);
		p += n;
	}
	if (*p == '!') {
		sscanf(p, "!%d.%u", &sched_stop_thread, &sched_stop_after);
		p += strcspn(p, ":/");
	}
	if (sscanf(p, ":%u.%u.%u/", &newest, &limits->stale_reads, &limits->weak_failures) != 3)
		return false;
	limits->newest_only = newest;
	*ret_choices = slash + 1;
	return true;
}

struct explore_result explore_replay(const struct explore_scenario *s,
	const struct explore_limits *limits, const char *replay)
{
	struct explore_result result = { 0 };
	struct explore_limits own = *limits;
	struct explore_weakening none = { 0 };
	const char *choices;

	sched_stop_thread = -1;
	if (!parse_replay(s, replay, &own, &choices))
		return result;
	choice_begin(CHOICE_REPLAY, &own);
	choice_replay(choices);
	test_note("replaying %s", replay);
	trace_on = true;
	execute(s, &own, &result);
	trace_on = false;
	sched_stop_thread = -1;
	explore_weaken(&none);
	if (result.failed)
		test_note("%s", result.message);
	return result;
}

/* Replays what the environment asks for, if it is of this scenario. */
static bool is_replay(const struct explore_scenario *s, const struct explore_limits *limits,
	struct explore_result *ret)
{
	const char *replay = getenv("EXPLORE_REPLAY");
	size_t name = replay ? strcspn(replay, "@!:/") : 0;

	if (!replay || strncmp(replay, s->name, name) != 0 || s->name[name])
		return false;
	*ret = explore_replay(s, limits, replay);
	return true;
}

static void search(const struct explore_scenario *s, const struct explore_limits *limits,
	struct explore_result *ret)
{
	uint64_t most =
		ret->executions + (limits->executions ? limits->executions : DEFAULT_EXECUTIONS);

	choice_begin(CHOICE_SEARCH, limits);
	ret->complete = true;
	do {
		if (ret->executions >= most) {
			ret->complete = false;
			return;
		}
		if (!execute(s, limits, ret))
			return;
	} while (choice_advance());
}

struct explore_result explore_search(const struct explore_scenario *s,
	const struct explore_limits *limits)
{
	struct explore_result result = { 0 };

	if (!is_replay(s, limits, &result))
		search(s, limits, &result);
	return result;
}

struct explore_result explore_random(const struct explore_scenario *s,
	const struct explore_limits *limits, uint64_t seed, uint64_t runs, unsigned changes)
{
	struct explore_result result = { .longest = FIRST_HORIZON };

	if (is_replay(s, limits, &result))
		return result;
	choice_begin(CHOICE_RANDOM, limits);
	while (result.executions < runs && !result.failed) {
		choice_seed(seed + result.executions, changes, result.longest);
		execute(s, limits, &result);
	}
	return result;
}

struct explore_result explore_stopped(const struct explore_scenario *s,
	const struct explore_limits *limits)
{
	struct explore_result result = { 0 };
	bool complete = true;

	if (is_replay(s, limits, &result))
		return result;
	for (int t = 0; t < s->threads && !result.failed; t++) {
		bool did_stop = true;

		/* When no execution gets so far that the thread stops, all its steps are done. */
		for (unsigned after = 0; did_stop && !result.failed; after++) {
			sched_stop_thread = t;
			sched_stop_after = after;
			sched_ever_stopped = false;
			search(s, limits, &result);
			complete = complete && result.complete;
			did_stop = sched_ever_stopped;
		}
	}
	sched_stop_thread = -1;
	result.complete = complete && !result.failed;
	return result;
}
