/* SPDX-License-Identifier: MIT */
/*
 * The end of a failed ASSERT. Empty in builds without assertions, so that base needs nothing of
 * libc there but mem* and str*.
 */
#include "base/assert.h"

#if ALLOD_ASSERTIONS

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void assert_fail(const char *line)
{
	/* There is nobody to tell if this fails. */
	ssize_t written = write(STDERR_FILENO, line, strlen(line));

	(void)written;
	abort();
}

#else

typedef int assert_unused;

#endif
