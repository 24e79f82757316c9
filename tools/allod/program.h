/* SPDX-License-Identifier: MIT */
/*
 * Finds a program the way execvp() would and tells beforehand whether preloading will work.
 *
 * The dynamic loader ignores LD_PRELOAD silently for static and privileged programs; a user who
 * asked for allod must hear of it instead of measuring the wrong allocator.
 */
#pragma once

#include <limits.h>

enum program_state {
	PROGRAM_OK,
	PROGRAM_NOT_FOUND,
	PROGRAM_NOT_RUNNABLE,    /* found, but it cannot be executed */
	PROGRAM_NOT_PRELOADABLE, /* it would run, but without allod */
};

struct program {
	char path[PATH_MAX];         /* what to execute */
	char image[PATH_MAX];        /* the binary that will run: path, or its script interpreter */
	char reason[PATH_MAX + 256]; /* unless PROGRAM_OK: why, for a message */
};

/* Resolves `name` through PATH and judges it; fills in `ret` as far as it got. */
enum program_state program_inspect(const char *name, struct program *ret);
