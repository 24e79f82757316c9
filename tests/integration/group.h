/* SPDX-License-Identifier: MIT */
/* Control groups with a bound on memory, of either version, for tests. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define GROUP_PATH_BYTES 128

/* Makes a group of this name and the process's number; false: none can be made here. */
bool group_make(char ret_path[GROUP_PATH_BYTES], const char *name, const char *limit);

/* Writes the text to a file of the group. */
bool group_put(const char *path, const char *file, const char *text);

/* The calling process is of the group from here on. */
bool group_enter(const char *path);

/* Waits, for two seconds at most, until those in it are gone. */
void group_remove(const char *path);
