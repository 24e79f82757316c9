/* SPDX-License-Identifier: MIT */
/* What is kept of contents that come again: see init.c. */
#include "percpu/content.h"

void percpu_content_forget(struct percpu_chunk *chunk)
{
	struct allod_percpu_pool *pool = chunk->pool;

	for (unsigned i = 0; i < CLASSES_MAX; i++) {
		if (pool->classes[i].hint_chunk == chunk)
			pool->classes[i].hint_chunk = NULL;
	}
}

void percpu_content_freed(struct percpu_chunk *chunk, uint32_t start)
{
	chunk->over[start / 64] &= ~(1ull << start % 64);
}
