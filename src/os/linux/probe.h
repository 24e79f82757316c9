/* SPDX-License-Identifier: MIT */
/* What the probes share. For src/os/linux/probe*.c only. */
#pragma once

#include "base/format.h"
#include "os/os.h"

/* How a text begins that tells what a later version makes of the feature: nothing uses it yet. */
#define LATER "later: "

/* One probe of a table. */
struct probe {
	const char *name;
	const char *enables;
	const char *lost;

	/*
	 * Tries the feature. 0: it works, or a plain fact was found; a negative errno: it does not.
	 * May write what it found into `value`; the reason of a failure is added where it wrote
	 * nothing.
	 */
	int (*run)(struct format *value);
};

/* The tables, each ended by an entry without a name; in the order in which they are shown. */
extern const struct probe probes_host[];
extern const struct probe probes_limits[];
extern const struct probe probes_memory[];
extern const struct probe probes_watch[];
extern const struct probe probes_system[];

/*
 * Runs fn in a forked process and gives what it returned (0 or negative errno). -ETIME when it
 * takes longer than a second, -EFAULT when it dies. For what might hang, crash or change the
 * process; fn makes raw system calls only.
 */
int probe_forked(int (*fn)(void));
