/* SPDX-License-Identifier: MIT */
/* Exchange of the contents of two blocks. */
#include "core.h"

#include <errno.h>
#include <string.h>

enum { CHUNK_BYTES = 4096 };

int block_swap(void *a, void *b, unsigned flags)
{
	struct block x;
	struct block y;
	char chunk[CHUNK_BYTES];

	block_must_find(a, &x);
	block_must_find(b, &y);
	if (flags & ALLOD_PAGE_NO_COPY || x.bytes != y.bytes)
		return -ENOSPC;
	for (size_t i = 0; i < x.bytes; i += CHUNK_BYTES) {
		memcpy(chunk, x.base + i, CHUNK_BYTES);
		memcpy(x.base + i, y.base + i, CHUNK_BYTES);
		memcpy(y.base + i, chunk, CHUNK_BYTES);
	}
	return 0;
}
