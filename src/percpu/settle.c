/* SPDX-License-Identifier: MIT */
/* When a pool gives memory back of itself, and trimming. */
#include "percpu/cache.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

enum {
	/* Blocks that a pool keeps for what comes next: this many, or a quarter of those in use. */
	IDLE_KEPT = 16,
	IDLE_PART = 4,
};

void percpu_pool_settle(struct allod_percpu_pool *pool)
{
	if (pool->idle_blocks > IDLE_KEPT && pool->idle_blocks > pool->dirty_blocks / IDLE_PART)
		percpu_content_shrink(pool);
}

static void drop_empty(struct allod_percpu_pool *pool)
{
	struct percpu_chunk *next;

	for (struct percpu_chunk *c = pool->chunks; c; c = next) {
		next = c->next_of_pool;
		if (percpu_chunk_is_empty(c))
			percpu_chunk_drop(c);
	}
}

__attribute__((visibility("default"))) size_t allod_percpu_pool_trim(struct allod_percpu_pool *pool)
{
	size_t bytes;

	percpu_cache_flush(pool);
	percpu_lock(&percpu_root->lock);
	percpu_pool_lock(pool);
	percpu_pool_check_inactive(pool);
	bytes = percpu_content_shrink(pool);
	drop_empty(pool);
	percpu_pool_unlock(pool);
	percpu_unlock(&percpu_root->lock);
	return bytes;
}
