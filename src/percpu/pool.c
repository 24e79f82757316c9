/* SPDX-License-Identifier: MIT */
/*
 * Pools: making, destroying, the registry, and the start of the layer.
 */
#include <errno.h>
#include <string.h>

#include "os/area.h"
#include "os/os.h"
#include "percpu/cache.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

#define KNOWN_FLAGS                                                                           \
	(ALLOD_PERCPU_ROBUST | ALLOD_PERCPU_POISON | ALLOD_PERCPU_GUARD | ALLOD_PERCPU_HUGE | \
		ALLOD_PERCPU_NUMA | ALLOD_PERCPU_GLOBAL | ALLOD_PERCPU_INIT_EVERY)

/* Or STATE_BUSY + the process that is starting: a child of it finds that nobody is. */
enum { STATE_NONE, STATE_READY, STATE_BUSY };

static _Atomic(uint32_t) state;

/* The number of processors for measurements and tests, or those of the machine. */
static uint32_t possible_read(void)
{
	const char *text = os_is_secure() ? NULL : os_env("ALLOD_PERCPU_CPUS");
	uint32_t cpus = 0;

	for (; text && *text >= '0' && *text <= '9' && cpus < ALLOD_PERCPU_CPUS_MAX; text++)
		cpus = cpus * 10 + (uint32_t)(*text - '0');
	if (!cpus)
		cpus = os_cpus_possible();
	return cpus < ALLOD_PERCPU_CPUS_MAX ? cpus : ALLOD_PERCPU_CPUS_MAX;
}

static int start(void)
{
	int error;

	os_init();
	error = percpu_epoch_start();
	if (error)
		return error;
	error = percpu_meta_start();
	if (error)
		return error;
	percpu_root->possible = possible_read();
	error = percpu_content_start();
	if (error)
		return error;
	percpu_cache_start();
	percpu_root->magic = ROOT_MAGIC;
	return 0;
}

/* The first call of the layer, by whichever thread. A second one that comes meanwhile waits. */
static int start_once(void)
{
	const uint32_t busy = STATE_BUSY + (uint32_t)os_pid();
	uint32_t seen;
	int error = 0;

	/* [percpu.4] acq: finds the root; pairs with the store below. */
	while ((seen = a_load_acq(&state)) != STATE_READY) {
		if (seen == busy || !a_cas_strong_rlx(&state, &seen, busy)) {
			os_wait_while(&state, busy, 1000000);
			continue;
		}
		error = start();
		/* [percpu.4] rel: publishes the root; pairs with the load above. */
		a_store_rel(&state, error ? STATE_NONE : STATE_READY);
		if (error)
			return error;
	}
	return 0;
}

/* Signals are kept away: a handler of this thread would wait for it. */
int percpu_start(void)
{
	uint64_t signals;
	int error;

	/* [percpu.4] acq: as above. */
	if (__builtin_expect(a_load_acq(&state) == STATE_READY, 1))
		return 0;
	os_signals_block(&signals);
	error = start_once();
	os_signals_restore(&signals);
	return error;
}

void percpu_pool_lock(struct allod_percpu_pool *pool)
{
	percpu_lock(&pool->lock);
	if (__builtin_expect(a_load_rlx(&pool->epoch) != percpu_epoch(), 0))
		percpu_pool_recover(pool);
}

void percpu_pool_unlock(struct allod_percpu_pool *pool)
{
	percpu_unlock(&pool->lock);
}

static int options_check(const struct allod_percpu_options *o, size_t page)
{
	size_t stride = o->stride ? o->stride : ALLOD_PERCPU_STRIDE;

	if (o->size != sizeof(*o) || o->flags & ~KNOWN_FLAGS)
		return -EINVAL;
	if (!is_power_of_two(stride) || stride < page || o->unit_bytes > stride)
		return -EINVAL;
	if (o->max_cpus > ALLOD_PERCPU_CPUS_MAX || o->index > ALLOD_PERCPU_BY_CID ||
		o->content > ALLOD_PERCPU_CONTENT_INIT)
		return -EINVAL;
	return 0;
}

static void pool_fill(struct allod_percpu_pool *pool, const char *name,
	const struct allod_percpu_options *o)
{
	size_t page = os_facts()->page_bytes;

	pool->options = *o;
	pool->stride = o->stride ? o->stride : ALLOD_PERCPU_STRIDE;
	pool->cpus = o->max_cpus ? o->max_cpus : percpu_root->possible;
	if (pool_has(pool, ALLOD_PERCPU_GLOBAL))
		pool->cpus = 1;
	pool->next_unit_bytes = o->unit_bytes ? round_up(o->unit_bytes, page) : UNIT_FIRST_BYTES;
	/* A chunk with a mapping of its own is as large as its stride allows. */
	if (o->stride && o->stride != ALLOD_PERCPU_STRIDE && !o->unit_bytes)
		pool->next_unit_bytes = o->stride;
	pool->smallest = UINT32_MAX;
	/* A pool with a limit is full when all of it is in use, not when the rest is at hand in other
	 * threads, or for another alignment. */
	pool->is_careful = pool_has(pool, ALLOD_PERCPU_POISON) ||
		o->content == ALLOD_PERCPU_CONTENT_INIT || o->max_chunks;
	/* Two kinds of chunks where one is the limit, or has to be looked at, would be one too many. */
	pool->has_coarse = !pool->is_careful && pool->stride == ALLOD_PERCPU_STRIDE && !o->init_cpu;
	pool->usual_bytes = pool->is_careful ? 0 : BIN_GRANULES << GRANULE_SHIFT;
	if (o->max_element && o->max_element < pool->usual_bytes)
		pool->usual_bytes = o->max_element;
	if (name)
		strncpy(pool->name, name, sizeof(pool->name) - 1);
}

/* A pool's structure, which may have been another's: only its lock goes on. */
static struct allod_percpu_pool *pool_take(void)
{
	struct allod_percpu_pool *pool = percpu_root->unused;
	size_t keep = offsetof(struct allod_percpu_pool, serial);

	if (!pool)
		return percpu_meta_alloc(sizeof(*pool));
	percpu_root->unused = pool->next;
	memset((char *)pool + keep, 0, sizeof(*pool) - keep);
	return pool;
}

/* A mapping of its own is made at once, so that a pool that cannot exist fails here. */
static int pool_first_chunk(struct allod_percpu_pool *pool)
{
	bool is_file = pool->options.content == ALLOD_PERCPU_CONTENT_INIT;
	int error = 0;

	if (pool->stride == ALLOD_PERCPU_STRIDE && !is_file && !pool->options.init_cpu)
		return 0;
	percpu_chunk_make(pool, is_file ? CHUNK_FILE : CHUNK_PLAIN, pool->next_unit_bytes, 1,
		&error);
	return error;
}

static struct allod_percpu_pool *pool_create(const char *name, const struct allod_percpu_options *o,
	int *ret_error)
{
	struct allod_percpu_pool *pool;
	int error;

	percpu_lock(&percpu_root->lock);
	pool = pool_take();
	error = pool ? 0 : -ENOMEM;
	if (!error) {
		percpu_lock(&pool->lock);
		a_store_rlx(&pool->epoch, percpu_epoch());
		pool_fill(pool, name, o);
		error = pool_first_chunk(pool);
		if (!error) {
			a_store_rlx(&pool->serial, ++percpu_root->last_serial);
			pool->next = a_load_rlx(&percpu_root->pools);
			/* A child that is made in between finds the pool or does not. */
			a_signal_fence();
			a_store_rlx(&percpu_root->pools, pool);
		}
		percpu_unlock(&pool->lock);
		if (error) {
			pool->next = percpu_root->unused;
			percpu_root->unused = pool;
		}
	}
	percpu_unlock(&percpu_root->lock);
	*ret_error = error;
	return error ? NULL : pool;
}

__attribute__((visibility("default"))) struct allod_percpu_pool *allod_percpu_pool_create(
	const char *name, const struct allod_percpu_options *options)
{
	static const struct allod_percpu_options usual = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool = NULL;
	int error = percpu_start();

	if (!options)
		options = &usual;
	if (!error)
		error = options_check(options, os_facts()->page_bytes);
	if (!error)
		pool = pool_create(name, options, &error);
	if (error)
		errno = -error;
	return pool;
}

static void registry_remove(struct allod_percpu_pool *pool)
{
	struct allod_percpu_pool *at = a_load_rlx(&percpu_root->pools);

	if (at == pool) {
		a_store_rlx(&percpu_root->pools, pool->next);
		return;
	}
	while (at && at->next != pool)
		at = at->next;
	if (at)
		at->next = pool->next;
}

static uint64_t live_of(const struct percpu_chunk *chunk)
{
	uint64_t live = 0;

	for (uint32_t i = 0; i < chunk->bits / 64; i++)
		live += (uint64_t)__builtin_popcountll(a_load_rlx(&chunk->live[i]));
	return live;
}

uint64_t percpu_pool_live(const struct allod_percpu_pool *pool)
{
	uint64_t live = 0;

	for (const struct percpu_chunk *c = pool->chunks; c; c = c->next_of_pool)
		live += live_of(c);
	return live;
}

__attribute__((visibility("default"))) size_t allod_percpu_pool_destroy(
	struct allod_percpu_pool *pool)
{
	uint64_t live;

	if (!pool)
		return 0;
	percpu_lock(&percpu_root->lock);
	percpu_pool_lock(pool);
	live = percpu_pool_live(pool);
	if (pool_has(pool, ALLOD_PERCPU_ROBUST))
		percpu_pool_check_or_die(pool, live);
	percpu_pool_check_inactive(pool);
	registry_remove(pool);
	a_store_rlx(&pool->serial, 0);
	while (pool->chunks)
		percpu_chunk_drop(pool->chunks);
	percpu_pool_unlock(pool);
	pool->next = percpu_root->unused;
	percpu_root->unused = pool;
	percpu_unlock(&percpu_root->lock);
	return live;
}

__attribute__((visibility("default"))) size_t allod_percpu_pool_stride(
	const struct allod_percpu_pool *pool)
{
	return pool->stride;
}

__attribute__((visibility("default"))) unsigned allod_percpu_pool_cpus(
	const struct allod_percpu_pool *pool)
{
	return pool->cpus;
}

__attribute__((visibility("default"))) enum allod_percpu_index allod_percpu_pool_index(
	const struct allod_percpu_pool *pool)
{
	return pool->options.index;
}

__attribute__((visibility("default"))) unsigned allod_percpu_possible_cpus(void)
{
	return percpu_start() ? os_cpus_possible() : percpu_root->possible;
}
