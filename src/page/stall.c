/* SPDX-License-Identifier: MIT */
/*
 * The janitor looks, once a round, for how long tasks were stalled for want of memory: its group's
 * and the machine's. What is free here is then let go, without anybody having subscribed to
 * anything. The thresholds are those that programs are told of, as shares of the round.
 */
#include "arena.h"

enum {
	/* In thousandths of the time since the last look. */
	SOME_SEVERITY_1 = 50,
	SOME_SEVERITY_2 = 200,
	FULL_SEVERITY_3 = 100,
};

static uint64_t thousandths(uint64_t now_us, uint64_t before_us, uint64_t span_ns)
{
	return now_us > before_us ? (now_us - before_us) * 1000000 / span_ns : 0;
}

static unsigned severity_of(uint64_t some, uint64_t full)
{
	if (full >= FULL_SEVERITY_3)
		return 3;
	if (some >= SOME_SEVERITY_2)
		return 2;
	return some >= SOME_SEVERITY_1;
}

void stall_round(struct stall_seen *seen, const struct os_headroom_files *files)
{
	const uint64_t now_ns = os_now_ns();
	const struct stall_seen before = *seen;
	unsigned severity;

	os_stalls_read(files, &seen->stalls);
	seen->ns = now_ns;
	/* The first look of a janitor, or time stood still: there is nothing to compare with. */
	if (!before.ns || now_ns <= before.ns)
		return;
	severity = severity_of(thousandths(seen->stalls.some_us, before.stalls.some_us,
				       now_ns - before.ns),
		thousandths(seen->stalls.full_us, before.stalls.full_us, now_ns - before.ns));
	if (severity)
		(void)page_trim_by(severity);
}
