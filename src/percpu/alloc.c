/* SPDX-License-Identifier: MIT */
/*
 * Allocating and freeing. The usual case takes an element from the thread's bin, or puts it there,
 * and changes one bit of the chunk's map of live elements. The rest takes the pool's lock.
 */
#include <errno.h>
#include <string.h>

#include "percpu/bits.h"
#include "percpu/cache.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

#define EXPORT __attribute__((visibility("default")))
#define COLD __attribute__((cold, noinline))

/* What an allocation asks for, looked through. */
struct request {
	struct allod_percpu_pool *pool;
	uint32_t size;      /* in granules */
	unsigned align_log; /* in granules */
	bool is_zero;
};

/* An element that is at hand becomes the program's. Orders nothing: the pointer's way does. */
static inline void element_start(uintptr_t element)
{
	struct percpu_chunk *chunk = chunk_of(element);
	uint32_t bit = chunk_bit_of(chunk, element);

	a_or_rlx(&chunk->live[bit / 64], 1ull << bit % 64);
}

bool percpu_pool_may_grow(const struct allod_percpu_pool *pool)
{
	return !pool->options.max_chunks || pool->chunk_count < pool->options.max_chunks;
}

bool percpu_pool_is_frozen(const struct allod_percpu_pool *pool)
{
	for (const struct percpu_chunk *c = pool->chunks; c; c = c->next_of_pool) {
		if (c->is_file)
			return percpu_content_is_frozen(c);
	}
	return false;
}

/* Makes a chunk that has room for the request; 0 or a negative errno. Takes and leaves the locks. */
int percpu_pool_grow(struct allod_percpu_pool *pool, enum chunk_kind kind, uint32_t size,
	uint32_t align)
{
	const struct allod_percpu_options *o = &pool->options;
	size_t bytes = (size_t)size << GRANULE_SHIFT;
	size_t unit;
	int error = -ENOMEM;

	percpu_lock(&percpu_root->lock);
	percpu_pool_lock(pool);
	unit = pool->next_unit_bytes;
	if (pool_has(pool, ALLOD_PERCPU_GUARD))
		bytes += BLOCK_BYTES;
	if (bytes > unit && !o->unit_bytes && pool->stride == ALLOD_PERCPU_STRIDE)
		unit = round_up(bytes, SLOT_BYTES);
	if (bytes <= unit && percpu_pool_may_grow(pool))
		percpu_chunk_make(pool, kind, unit, (size_t)align << GRANULE_SHIFT, &error);
	/* Chunks are as large as what there is, so that most of one is used. */
	if (!error && !o->unit_bytes && pool->stride == ALLOD_PERCPU_STRIDE &&
		pool->next_unit_bytes < UNIT_MOST_BYTES &&
		pool->unit_bytes >= 2 * pool->next_unit_bytes)
		pool->next_unit_bytes *= 2;
	percpu_pool_unlock(pool);
	percpu_unlock(&percpu_root->lock);
	return error;
}

static void note_size(struct allod_percpu_pool *pool, uint32_t size)
{
	uint32_t bytes = size << GRANULE_SHIFT;

	pool->smallest = bytes < pool->smallest ? bytes : pool->smallest;
	pool->largest = bytes > pool->largest ? bytes : pool->largest;
}

/* Where elements of a size are: coarse chunks have no other sizes than multiples of their grain. */
static enum chunk_kind kind_for(const struct allod_percpu_pool *pool, uint32_t size)
{
	enum { GRAIN = 1 << (COARSE_SHIFT - GRANULE_SHIFT) };

	if (pool->options.content == ALLOD_PERCPU_CONTENT_INIT)
		return CHUNK_FILE;
	return pool->has_coarse && size % GRAIN == 0 && size >= COARSE_LEAST_BYTES >> GRANULE_SHIFT
		? CHUNK_COARSE
		: CHUNK_PLAIN;
}

/* Elements by the lock. Returns their number; 0 and a negative errno if there are none. */
static uint32_t take_locked(const struct request *rq, uint32_t want, uintptr_t *ret,
	uint32_t *ret_clean, int *ret_error)
{
	struct allod_percpu_pool *pool = rq->pool;
	enum chunk_kind kind = kind_for(pool, rq->size);
	uint32_t align = 1u << rq->align_log;
	uint32_t count = 0;

	*ret_error = 0;
	while (!count && !*ret_error) {
		percpu_pool_lock(pool);
		count = percpu_pool_take_many(pool, kind, rq->size, align, want, ret, ret_clean);
		note_size(pool, rq->size);
		percpu_pool_unlock(pool);
		if (count)
			break;
		*ret_error = percpu_pool_grow(pool, kind, rq->size, align);
		/* What is free elsewhere will do. */
		if (*ret_error && kind == CHUNK_COARSE) {
			*ret_error = 0;
			kind = CHUNK_PLAIN;
		}
	}
	return count;
}

static void *fail(int error)
{
	errno = -error;
	return NULL;
}

/* An element is about to be given out: it has to be zero, or its poison intact. */
static int element_prepare(const struct request *rq, uintptr_t element, bool is_clean)
{
	if (rq->is_zero && !is_clean)
		return percpu_content_zero_many(&element, 1, rq->size);
	return 0;
}

/* The next element of a bin that has one; if it has to be zero, one that is clean. */
static inline uintptr_t bin_pop(struct percpu_bin *bin, bool is_zero)
{
	uintptr_t element;

	if (is_zero) {
		uint32_t at = --bin->clean;
		element = bin->element[at];
		bin->element[at] = bin->element[--bin->count];
	} else {
		element = bin->element[--bin->count];
		if (bin->clean > bin->count)
			bin->clean = bin->count;
	}
	a_store_rlx(&bin->allocs, a_load_rlx(&bin->allocs) + 1);
	return element;
}

/* An element that is not kept at hand: large, or there is no cache. */
static COLD void *alloc_direct(const struct request *rq)
{
	uintptr_t element;
	uint32_t clean = 0;
	int error;

	if (!take_locked(rq, 1, &element, &clean, &error))
		return fail(error);
	error = element_prepare(rq, element, clean);
	percpu_pool_lock(rq->pool);
	if (error)
		percpu_pool_give(&element, 1, rq->size);
	else
		rq->pool->allocs++;
	percpu_pool_unlock(rq->pool);
	if (error)
		return fail(error);
	element_start(element);
	return (void *)element;
}

/*
 * Elements for a bin that has none, or none that is clean. Those that were freed are cleaned many
 * at a time, since the kernel has to be asked where they have memory: until there are enough,
 * others are taken.
 */
static int bin_fill(struct percpu_bin *bin, const struct request *rq)
{
	uint32_t most = bin_limit_zeroed(a_load_rlx(&bin->key));
	uint32_t enough = most - most / 8;
	uint32_t want = bin->batch;
	uint32_t clean = 0;
	uint32_t count = 0;
	int error = 0;

	if (bin->count && !rq->is_zero)
		return 0;
	if (bin->count)
		bin->limit = most;
	if (bin->count < enough)
		count = take_locked(rq, want, bin->element + bin->count, &clean, &error);
	if (!count && !bin->count)
		return error;
	if (bin->batch < bin_batch_most(a_load_rlx(&bin->key)) &&
		(bin->batch < bin->limit / 2 || !a_load_rlx(&bin->frees)))
		bin->batch *= 2;
	if (bin->limit != most)
		bin->limit = bin_limit(a_load_rlx(&bin->key));
	/* What is clean goes to the front. */
	for (uint32_t i = 0; i < clean; i++) {
		uintptr_t element = bin->element[bin->count + i];
		bin->element[bin->count + i] = bin->element[i];
		bin->element[i] = element;
	}
	bin->count += count;
	bin->clean = clean;
	if (!rq->is_zero || clean)
		return 0;
	error = percpu_content_zero_many(bin->element, bin->count, rq->size);
	if (!error)
		bin->clean = bin->count;
	return error;
}

/* The bin is another's, or empty, or has nothing clean. */
static COLD void *alloc_slow(const struct request *rq)
{
	struct percpu_cache *cache = rq->size <= BIN_GRANULES ? percpu_cache_get() : NULL;
	uint64_t key = bin_key(a_load_rlx(&rq->pool->serial), rq->size, rq->align_log);
	struct percpu_bin *bin;
	int error;

	if (!cache || rq->align_log > 8)
		return alloc_direct(rq);
	bin = bin_of(cache, key);
	if (a_load_rlx(&bin->key) != key)
		percpu_bin_evict(bin, key, rq->pool);
	error = bin_fill(bin, rq);
	if (error)
		return fail(error);
	uintptr_t element = bin_pop(bin, rq->is_zero);
	element_start(element);
	return (void *)element;
}

/* Poisoned pools, and file chunks: one element at a time, by the lock. */
static COLD void *alloc_careful(const struct request *rq)
{
	struct allod_percpu_pool *pool = rq->pool;
	uintptr_t element;
	uint32_t clean = 0;
	int error;

	if (!take_locked(rq, 1, &element, &clean, &error))
		return fail(error);
	percpu_pool_lock(pool);
	struct percpu_chunk *chunk = chunk_of(element);
	uint32_t bit = chunk_bit_of(chunk, element);
	uint32_t bits = chunk_bits_of(chunk, rq->size);
	if (pool_has(pool, ALLOD_PERCPU_ROBUST) && pool_has(pool, ALLOD_PERCPU_POISON) && !clean &&
		!percpu_content_is_poison(chunk, bit, bits))
		percpu_fatal("allod: percpu: poison overwritten\n");
	if (rq->is_zero && !clean)
		error = percpu_content_put(chunk, bit, bits, (struct content){ NULL, 0 });
	if (error)
		percpu_pool_give(&element, 1, rq->size);
	else
		pool->allocs++;
	percpu_pool_unlock(pool);
	if (error)
		return fail(error);
	element_start(element);
	return (void *)element;
}

/* A request that is not usual, looked at from all sides. */
static COLD void *alloc_checked(struct allod_percpu_pool *pool, size_t bytes, size_t align,
	bool is_zero)
{
	size_t most = pool->stride - (pool_has(pool, ALLOD_PERCPU_GUARD) ? BLOCK_BYTES : 0);
	struct request rq = {
		.pool = pool, .size = granules(bytes ? bytes : 1), .is_zero = is_zero
	};

	if (align && !is_power_of_two(align))
		return fail(-EINVAL);
	if (pool->options.max_element && bytes > pool->options.max_element)
		return fail(-EINVAL);
	if (bytes > most || align > most)
		return fail(-ENOMEM);
	rq.align_log = size_align_log(rq.size);
	if (align >> GRANULE_SHIFT > 1u << rq.align_log)
		rq.align_log = (unsigned)__builtin_ctzll(align >> GRANULE_SHIFT);
	if (pool->is_careful)
		return alloc_careful(&rq);
	return alloc_slow(&rq);
}

static inline void *alloc(struct allod_percpu_pool *pool, size_t bytes, size_t align, bool is_zero)
{
	struct percpu_cache *cache = percpu_cache_self;
	uint32_t size = granules(bytes);

	if (__builtin_expect(bytes - 1 < pool->usual_bytes && align <= ALIGN_UNASKED &&
			    !(align & (align - 1)) && cache &&
			    a_load_rlx(&cache->epoch) == a_load_rlx(percpu_epoch_word),
		    1)) {
		unsigned log = size_align_log(size);
		if (align >> GRANULE_SHIFT > 1u << log)
			log = (unsigned)__builtin_ctzll(align >> GRANULE_SHIFT);
		uint64_t key = bin_key(a_load_rlx(&pool->serial), size, log);
		struct percpu_bin *bin = bin_of(cache, key);
		if (__builtin_expect(a_load_rlx(&bin->key) == key &&
				    (is_zero ? bin->clean : bin->count),
			    1)) {
			uintptr_t element = bin_pop(bin, is_zero);
			element_start(element);
			return (void *)element;
		}
	}
	return alloc_checked(pool, bytes, align, is_zero);
}

EXPORT void ALLOD_PERCPU *allod_percpu_alloc(struct allod_percpu_pool *pool, size_t bytes,
	size_t align)
{
	return alloc(pool, bytes, align, false);
}

EXPORT void ALLOD_PERCPU *allod_percpu_zalloc(struct allod_percpu_pool *pool, size_t bytes,
	size_t align)
{
	return alloc(pool, bytes, align, true);
}

/* Gives an element back by the lock. */
static COLD void free_direct(struct percpu_chunk *chunk, uintptr_t element, uint32_t size)
{
	struct allod_percpu_pool *pool = chunk->pool;

	percpu_pool_lock(pool);
	pool->frees++;
	percpu_pool_give(&element, 1, size);
	percpu_pool_settle(pool);
	percpu_pool_unlock(pool);
}

static COLD void free_careful(struct percpu_chunk *chunk, uint32_t bit, uint32_t size)
{
	struct allod_percpu_pool *pool = chunk->pool;
	uintptr_t element = chunk_element(chunk, bit);

	percpu_pool_lock(pool);
	pool->frees++;
	if (chunk->is_file)
		percpu_content_freed(chunk, bit);
	if (pool_has(pool, ALLOD_PERCPU_POISON))
		percpu_content_poison(chunk, bit, chunk_bits_of(chunk, size));
	percpu_pool_give(&element, 1, size);
	percpu_pool_settle(pool);
	percpu_pool_unlock(pool);
}

/* The bin is full, another's, or not yet the thread's. */
static COLD void free_slow(struct percpu_chunk *chunk, uintptr_t element, uint32_t size,
	uint64_t key)
{
	struct percpu_cache *cache = size <= BIN_GRANULES ? percpu_cache_get() : NULL;
	struct percpu_bin *bin = cache ? bin_of(cache, key) : NULL;

	if (bin && a_load_rlx(&bin->key) != key && (!bin->count || ++bin->misses > BIN_MISSES))
		percpu_bin_evict(bin, key, chunk->pool);
	if (!bin || a_load_rlx(&bin->key) != key) {
		free_direct(chunk, element, size);
		return;
	}
	if (bin->count >= bin->limit)
		percpu_bin_relieve(bin);
	bin->element[bin->count++] = element;
	a_store_rlx(&bin->frees, a_load_rlx(&bin->frees) + 1);
}

/* What is no element, or nothing. */
static COLD void free_nothing(uintptr_t element)
{
	if (element)
		percpu_fatal_free(element);
}

/* The pool is its parent's still. */
static COLD void free_in_child(struct percpu_chunk *chunk, void ALLOD_PERCPU *pointer)
{
	percpu_pool_need(chunk->pool);
	allod_percpu_free(pointer);
}

/* No bin takes the element as it is. */
static COLD void free_unusual(struct percpu_chunk *chunk, uintptr_t element, uint32_t size,
	uint64_t key)
{
	if (chunk->is_careful)
		free_careful(chunk, chunk_bit_of(chunk, element), size);
	else if (size <= BIN_GRANULES)
		free_slow(chunk, element, size, key);
	else
		free_direct(chunk, element, size);
}

/* Nothing that is called here comes back, so that the usual way keeps no registers. */
EXPORT void allod_percpu_free(void ALLOD_PERCPU *pointer)
{
	uintptr_t element = (uintptr_t)(ALLOD_PERCPU_FORCE void *)pointer;
	struct percpu_cache *cache = percpu_cache_self;
	struct percpu_chunk *chunk = percpu_root ? chunk_of(element) : NULL;
	uint32_t epoch = a_load_rlx(percpu_epoch_word);

	if (__builtin_expect(!chunk || element & chunk->grain_mask, 0)) {
		free_nothing(element);
		return;
	}
	/* In a child, first of all: an element that is not live any more would be made free twice.
	 * [percpu.10] acq: what made the maps found it live; pairs with percpu_pool_recover(). */
	if (__builtin_expect(a_load_acq(&chunk->pool->epoch) != epoch, 0)) {
		free_in_child(chunk, pointer);
		return;
	}
	uint32_t bit = chunk_bit_of(chunk, element);
	uint64_t mask = 1ull << bit % 64;
	/* The next thing to be read; an atomic instruction would hold it up, and itself waits less for
	 * a line that was asked for by a load: a third of the time where maps miss the caches. */
	__builtin_prefetch(&chunk->end[bit / 64]);
	if (__builtin_expect(!(a_load_rlx(&chunk->live[bit / 64]) & mask), 0))
		percpu_fatal_free(element);
	if (__builtin_expect(!(a_and_rlx(&chunk->live[bit / 64], ~mask) & mask), 0))
		percpu_fatal_free(element);
	uint32_t size = chunk_size_at(chunk, bit);
	uint64_t key = bin_key(a_load_rlx(&chunk->pool->serial), size, size_align_log(size));
	/* Elements are aligned as their size is, at least, so each is one for its bin. */
	ASSERT(chunk->is_careful ||
		!(element & (((uintptr_t)ALLOD_PERCPU_GRANULE << size_align_log(size)) - 1)));
	if (__builtin_expect(size <= BIN_GRANULES && !chunk->is_careful && cache &&
			    a_load_rlx(&cache->epoch) == epoch,
		    1)) {
		struct percpu_bin *bin = bin_of(cache, key);
		if (__builtin_expect(a_load_rlx(&bin->key) == key && bin->count < bin->limit, 1)) {
			bin->element[bin->count++] = element;
			a_store_rlx(&bin->frees, a_load_rlx(&bin->frees) + 1);
			return;
		}
	}
	free_unusual(chunk, element, size, key);
}
