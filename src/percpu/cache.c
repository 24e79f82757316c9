/* SPDX-License-Identifier: MIT */
/* Threads' caches: making, emptying, the end of a thread. See percpu/cache.h. */
#include "percpu/cache.h"

#include <pthread.h>
#include <string.h>

__thread struct percpu_cache *percpu_cache_self;

static pthread_key_t exit_key;
static bool has_exit_key;

/* The pool that a bin was for, locked; NULL when that is gone. */
static struct allod_percpu_pool *bin_pool_lock(const struct percpu_bin *bin)
{
	struct allod_percpu_pool *pool = a_load_rlx(&bin->pool);

	if (!a_load_rlx(&bin->key))
		return NULL;
	percpu_pool_lock(pool);
	if (a_load_rlx(&pool->serial) == a_load_rlx(&bin->key) >> 16)
		return pool;
	percpu_pool_unlock(pool);
	return NULL;
}

static void counts_fold(struct percpu_bin *bin, struct allod_percpu_pool *pool)
{
	pool->allocs += a_load_rlx(&bin->allocs);
	pool->frees += a_load_rlx(&bin->frees);
	a_store_rlx(&bin->allocs, 0);
	a_store_rlx(&bin->frees, 0);
}

void percpu_bin_drain(struct percpu_bin *bin, uint32_t count)
{
	struct allod_percpu_pool *pool = bin_pool_lock(bin);

	if (pool) {
		percpu_pool_give(bin->element, count, bin_size(a_load_rlx(&bin->key)));
		counts_fold(bin, pool);
		percpu_pool_settle(pool);
		percpu_pool_unlock(pool);
	}
	bin->count -= count;
	bin->clean -= count < bin->clean ? count : bin->clean;
	memmove(bin->element, bin->element + count, bin->count * sizeof(bin->element[0]));
}

/* Who frees and frees is helped by larger steps; what is kept is bounded as for small elements. */
void percpu_bin_relieve(struct percpu_bin *bin)
{
	bool is_row = !a_load_rlx(&bin->allocs);

	percpu_bin_drain(bin, bin->count - bin->limit / 2);
	if (is_row && bin->limit < BIN_ELEMENTS)
		bin->limit = 2 * bin->limit < BIN_ELEMENTS ? 2 * bin->limit : BIN_ELEMENTS;
}

void percpu_bin_evict(struct percpu_bin *bin, uint64_t key, struct allod_percpu_pool *pool)
{
	percpu_bin_drain(bin, bin->count);
	/* What a pool counted that is gone is not the next one's. */
	a_store_rlx(&bin->allocs, 0);
	a_store_rlx(&bin->frees, 0);
	a_store_rlx(&bin->key, key);
	/* [percpu.11] rel: the counts are the new pool's; pairs with percpu_cache_counts(). */
	a_store_rel(&bin->pool, pool);
	bin->batch = 1;
	bin->limit = bin_limit(key);
	bin->misses = 0;
}

void percpu_cache_flush(struct allod_percpu_pool *pool)
{
	struct percpu_cache *cache = percpu_cache_self;

	if (!cache || a_load_rlx(&cache->epoch) != percpu_epoch())
		return;
	for (unsigned i = 0; i < CACHE_BINS; i++) {
		struct percpu_bin *bin = &cache->bin[i];
		if (a_load_rlx(&bin->key) && a_load_rlx(&bin->pool) == pool)
			percpu_bin_drain(bin, bin->count);
	}
}

void percpu_cache_counts(const struct allod_percpu_pool *pool, uint64_t *ret_allocs,
	uint64_t *ret_frees)
{
	/* [percpu.5] acq: finds caches zeroed; pairs with cache_make(). */
	const struct percpu_cache *cache = a_load_acq(&percpu_root->caches);
	const uint64_t serial = a_load_rlx(&pool->serial);
	const uint32_t epoch = a_load_rlx(&pool->epoch);

	for (; cache; cache = cache->next) {
		for (unsigned i = 0; i < CACHE_BINS && a_load_rlx(&cache->epoch) == epoch; i++) {
			const struct percpu_bin *bin = &cache->bin[i];
			/* A pool that is gone may have had the same place.
			 * [percpu.11] acq: finds this pool's counts; pairs with percpu_bin_evict(). */
			if (a_load_acq(&bin->pool) != pool || a_load_rlx(&bin->key) >> 16 != serial)
				continue;
			*ret_allocs += a_load_rlx(&bin->allocs);
			*ret_frees += a_load_rlx(&bin->frees);
		}
	}
}

static void thread_exit(void *arg)
{
	struct percpu_cache *cache = arg;

	percpu_cache_self = NULL;
	if (a_load_rlx(&cache->epoch) == percpu_epoch()) {
		for (unsigned i = 0; i < CACHE_BINS; i++)
			percpu_bin_evict(&cache->bin[i], 0, NULL);
	}
	/* [percpu.6] rel: the bins are empty; pairs with cache_reuse(). */
	a_store_rel(&cache->is_used, 0);
}

void percpu_cache_start(void)
{
	has_exit_key = pthread_key_create(&exit_key, thread_exit) == 0;
}

static void cache_reset(struct percpu_cache *cache, uint32_t epoch)
{
	for (unsigned i = 0; i < CACHE_BINS; i++) {
		struct percpu_bin *bin = &cache->bin[i];
		a_store_rlx(&bin->key, 0);
		bin->count = bin->clean = 0;
		a_store_rlx(&bin->pool, NULL);
		bin->limit = BIN_ELEMENTS;
		bin->element = cache->elements[i];
	}
	a_store_rlx(&cache->epoch, epoch);
}

/* One that a thread left, or that a thread of the parent had. */
static struct percpu_cache *cache_reuse(uint32_t epoch)
{
	/* [percpu.5] acq: finds caches whole; pairs with cache_make(). */
	struct percpu_cache *cache = a_load_acq(&percpu_root->caches);

	for (; cache; cache = cache->next) {
		uint32_t none = 0;
		/* [percpu.6] acq: finds the bins empty; pairs with thread_exit(). */
		if (a_cas_strong_acq(&cache->is_used, &none, epoch))
			return cache;
		/* [percpu.6] acq: as above. */
		if (none != epoch && a_cas_strong_acq(&cache->is_used, &none, epoch))
			return cache;
	}
	return NULL;
}

static struct percpu_cache *cache_make(uint32_t epoch)
{
	struct percpu_cache *cache = percpu_meta_alloc(sizeof(*cache));

	if (!cache)
		return NULL;
	a_store_rlx(&cache->is_used, epoch);
	percpu_lock(&percpu_root->lock);
	cache->next = a_load_rlx(&percpu_root->caches);
	/* [percpu.5] rel: publishes the zeroed cache; pairs with percpu_cache_counts(). */
	a_store_rel(&percpu_root->caches, cache);
	percpu_unlock(&percpu_root->lock);
	return cache;
}

struct percpu_cache *percpu_cache_get(void)
{
	uint32_t epoch = percpu_epoch();
	struct percpu_cache *cache = percpu_cache_self;

	if (cache && a_load_rlx(&cache->epoch) == epoch)
		return cache;
	if (cache) {
		/* The thread that forked: its own cache goes on, empty. */
		cache_reset(cache, epoch);
		a_store_rlx(&cache->is_used, epoch);
		return cache;
	}
	cache = cache_reuse(epoch);
	if (!cache)
		cache = cache_make(epoch);
	if (!cache)
		return NULL;
	cache_reset(cache, epoch);
	percpu_cache_self = cache;
	if (has_exit_key)
		pthread_setspecific(exit_key, cache);
	return cache;
}
