/* SPDX-License-Identifier: MIT */
/* What the programs about pools share: a pool for a simulated number of processors. */
#pragma once

#include <stdio.h>

#include <allod/percpu.h>

#include "timing.h"

/* The first call of the library finds the number in the environment. */
static inline struct allod_percpu_pool *pool_for(const char *cpus,
	const struct allod_percpu_options *options)
{
	struct allod_percpu_pool *pool;

	if (setenv("ALLOD_PERCPU_CPUS", cpus, 1))
		fail("no memory");
	pool = allod_percpu_pool_create("bench", options);
	if (!pool)
		fail("no pool");
	/* Two processors are used, however many are possible. */
	if (allod_percpu_mark_active(0) || allod_percpu_mark_active(1))
		fail("no processor");
	return pool;
}

/* A number of /proc/self/FILE behind a name, times 1024. */
static inline size_t proc_bytes(const char *path, const char *name)
{
	char line[256];
	size_t kib = 0;
	FILE *file = fopen(path, "r");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, name, &kib) == 1)
			break;
	}
	if (file)
		fclose(file);
	return kib * 1024;
}

/*
 * What a process has of its own, and what its page tables take. Pages of programs' files are not among
 * it: how many are mapped, and how many processes share one, depends on what else runs.
 */
static inline size_t own_bytes(void)
{
	return proc_bytes("/proc/self/smaps_rollup", "Pss_Anon: %zu") +
		proc_bytes("/proc/self/smaps_rollup", "Pss_Shmem: %zu") +
		proc_bytes("/proc/self/status", "VmPTE: %zu");
}

static inline size_t mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	size_t count = 0;

	for (int c; file && (c = getc(file)) != EOF;)
		count += c == '\n';
	if (file)
		fclose(file);
	return count;
}
