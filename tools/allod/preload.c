/* SPDX-License-Identifier: MIT */
/*
 * Search for the library. See preload.h; the directories are given by the build.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload.h"

/* The directory of the running command; an empty string if it cannot be told. */
static void own_directory(char ret[static PATH_MAX])
{
	ssize_t length = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	char *slash;

	ret[length > 0 ? length : 0] = '\0';
	slash = strrchr(ret, '/');
	if (slash)
		*slash = '\0';
}

bool preload_find(char *ret_path, int cap)
{
	static const char *const places[] = { "", ALLOD_LIBDIR_FROM_BINDIR "/" };
	char directory[PATH_MAX], candidate[PATH_MAX], real[PATH_MAX];

	own_directory(directory);
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		int length = snprintf(candidate, sizeof(candidate), "%s/%s%s", directory, places[i],
			PRELOAD_LIBRARY);

		if (length < (int)sizeof(candidate) && realpath(candidate, real) &&
			access(real, R_OK) == 0)
			return snprintf(ret_path, (size_t)cap, "%s", real) < cap;
	}
	return snprintf(ret_path, (size_t)cap, "%s/%s", ALLOD_LIBDIR, PRELOAD_LIBRARY) < cap &&
		access(ret_path, R_OK) == 0;
}
