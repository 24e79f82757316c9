/* SPDX-License-Identifier: MIT */
/*
 * Where liballod-malloc.so lies: beside the command in a build tree, else in the library directory
 * of the installation, found relative to the command so that an installed tree may be moved.
 */
#pragma once

#include <stdbool.h>

#define PRELOAD_LIBRARY "liballod-malloc.so"

/* Writes the library's absolute path; false if it is in neither place. */
bool preload_find(char *ret_path, int cap);
