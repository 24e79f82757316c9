/* SPDX-License-Identifier: MIT */
/* Calls that liballod has and the standard face lacks. */
#include "allod/version.h"
#include "face.h"
#include "heap/heap.h"

FACE_EXPORT size_t allod_malloc_good_size(size_t size)
{
	size_t good = heap_good_size(size);

	return good != 0 ? good : size;
}

FACE_EXPORT const char *allod_version(void)
{
	return ALLOD_VERSION_STRING;
}
