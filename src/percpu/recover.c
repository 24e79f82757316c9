/* SPDX-License-Identifier: MIT */
/*
 * A pool in a forked child: whatever another thread was doing to it at the fork, it is made whole
 * from `live` and `end`. What was at hand in the threads' caches is free again.
 *
 * An element that another thread was just allocating or freeing is either live or not, by its bit.
 * Live elements' ends do not change while they live. File chunks' pages may still be written by
 * the parent: nothing of them counts as fresh any more.
 */
#include "percpu/bits.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

/* `alloc` and `end` as the live elements need them. */
static void maps_recover(struct percpu_chunk *chunk)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < chunk->bits / 64; i++)
		chunk->alloc[i] = 0;
	while ((at = bits_next_live(chunk->live, at, chunk->bits)) < chunk->bits) {
		uint32_t end = chunk_end_of(chunk, at) + 1;
		bits_set(chunk->alloc, at, end);
		at = end;
	}
	/* Ends of what is not live go; of live ones just one each is left. */
	for (uint32_t i = 0; i < chunk->bits / 64; i++)
		a_store_rlx(&chunk->end[i], a_load_rlx(&chunk->end[i]) & chunk->alloc[i]);
}

static void guard_recover(struct percpu_chunk *chunk)
{
	uint32_t guard = percpu_chunk_guard_bits(chunk);

	if (guard) {
		bits_set(chunk->alloc, chunk->bits - guard, chunk->bits);
		chunk->end[(chunk->bits - 1) / 64] |= 1ull << 63;
	}
}

static void chunk_recover(struct percpu_chunk *chunk)
{
	maps_recover(chunk);
	guard_recover(chunk);
	if (percpu_content_is_frozen(chunk)) {
		for (uint32_t i = 0; i < chunk->blocks; i++)
			chunk->block[i].fresh = block_bits(chunk);
	}
	percpu_hints_rebuild(chunk);
	chunk->pool->idle_blocks += chunk->idle_blocks;
	chunk->pool->dirty_blocks += percpu_chunk_dirty_blocks(chunk);
}

void percpu_pool_recover(struct allod_percpu_pool *pool)
{
	uint64_t live;

	for (unsigned kind = 0; kind < CHUNK_KINDS; kind++) {
		for (unsigned list = 0; list < CHUNK_LISTS; list++)
			pool->lists[kind][list] = NULL;
	}
	pool->idle_blocks = 0;
	pool->dirty_blocks = 0;
	pool->chunk_count = 0;
	pool->unit_bytes = 0;
	for (struct percpu_chunk *c = pool->chunks, *prev = NULL; c;
		prev = c, c = c->next_of_pool) {
		c->prev_of_pool = prev;
		chunk_recover(c);
		percpu_chunk_list(c);
		pool->chunk_count++;
		pool->unit_bytes += (size_t)c->blocks << BLOCK_SHIFT;
	}
	for (unsigned i = 0; i < CLASSES_MAX; i++)
		pool->classes[i].bits = 0;
	pool->taker_count = 0;
	live = percpu_pool_live(pool);
	/* Caches of threads that are not here counted; what they had is not known to the pool. */
	pool->frees = pool->allocs > live ? pool->allocs - live : 0;
	pool->allocs = pool->frees + live;
	/* [percpu.10] rel: the maps are as `live` was; pairs with allod_percpu_free(). */
	a_store_rel(&pool->epoch, percpu_epoch());
}

__attribute__((cold, noinline)) void percpu_pool_need(struct allod_percpu_pool *pool)
{
	percpu_pool_lock(pool);
	percpu_pool_unlock(pool);
}
