/* SPDX-License-Identifier: MIT */
/*
 * Elements at hand in each thread, so that the usual call takes no lock. For the percpu layer only.
 *
 * A cache has bins, each for elements of one pool, size and alignment. What is in a bin is not
 * free in its chunk (`alloc`, `end`) and not live (`live`). Of the `count` elements of a bin the
 * first `clean` are zero on every processor.
 *
 * A bin belongs to its thread. That of another process (a cache's epoch differs) holds nothing: a
 * child's pools take for free whatever is not live.
 */
#pragma once

#include "percpu/percpu.h"

enum {
	CACHE_BINS = 16,
	BIN_ELEMENTS = 64,
	/* In a bin that zeroed elements are taken from: asking the kernel is shared by more. */
	BIN_ZEROED = 512,
	BIN_BATCH = 32,
	/* Of elements up to a size, of which a refill looks at whole blocks for little. */
	BIN_BATCH_SMALL = 64,
	BIN_SMALL_BYTES = 64,
	/* What a bin keeps at most, and how many elements at least. */
	BIN_BYTES = 4096,
	BIN_ZEROED_BYTES = 24576,
	BIN_LEAST = 8,
	/* Larger elements are not kept at hand. */
	BIN_GRANULES = 256,
	/* Frees that find their bin taken by others, until they get it. */
	BIN_MISSES = 8,
};

struct percpu_bin {
	/* Pool's serial, size, alignment; 0: unused. Written by the owner alone, as is `pool`. */
	_Atomic(uint64_t) key;
	uint32_t count;
	uint32_t clean;
	uint32_t batch; /* of the next refill */
	uint32_t misses;
	uint32_t limit; /* bin_limit(), bin_limit_zeroed(), or what a row of frees made of it */
	_Atomic(struct allod_percpu_pool *) pool;
	_Atomic(uint64_t) allocs; /* written by the owner alone */
	_Atomic(uint64_t) frees;
	uintptr_t *element; /* const: the cache's own */
};

struct percpu_cache {
	_Atomic(uint32_t) epoch;
	_Atomic(uint32_t) is_used;
	struct percpu_cache *next; /* const once listed */
	struct percpu_bin bin[CACHE_BINS];
	uintptr_t elements[CACHE_BINS][BIN_ZEROED]; /* touched as far as bins are filled */
};

extern __thread struct percpu_cache *percpu_cache_self;

/* Key of a bin: `align_log` in granules. */
static inline uint64_t bin_key(uint64_t serial, uint32_t size, unsigned align_log)
{
	return serial << 16 | size << 4 | align_log;
}

static inline struct percpu_bin *bin_of(struct percpu_cache *cache, uint64_t key)
{
	return &cache->bin[(key * 0x9e3779b97f4a7c15ull) >> 60];
}

/* The alignment (log, in granules) that elements of a size have unasked. */
static inline unsigned size_align_log(uint32_t size)
{
	unsigned log = (unsigned)__builtin_ctz(size);
	return log < 3 ? log : 3;
}

/*
 * How many elements a bin keeps: fewer of large ones, so that what is at hand stays small. While
 * elements are only freed, or only allocated, it is more: BIN_ELEMENTS, and bin_batch_most() at a time.
 */
static inline uint32_t bin_size(uint64_t key)
{
	return (uint32_t)(key >> 4) & 0xfff;
}

static inline uint32_t bin_limit(uint64_t key)
{
	uint32_t size = bin_size(key);
	uint32_t fit = size ? BIN_BYTES / (size << GRANULE_SHIFT) : BIN_ELEMENTS;
	return fit > BIN_ELEMENTS ? BIN_ELEMENTS : fit < BIN_LEAST ? BIN_LEAST : fit;
}

/* The same of a bin that zeroed elements are taken from. */
static inline uint32_t bin_limit_zeroed(uint64_t key)
{
	uint32_t size = bin_size(key);
	uint32_t fit = size ? BIN_ZEROED_BYTES / (size << GRANULE_SHIFT) : BIN_ZEROED;
	return fit > BIN_ZEROED ? BIN_ZEROED : fit < BIN_BATCH ? BIN_BATCH : fit;
}

/* How many elements a refill takes at most. */
static inline uint32_t bin_batch_most(uint64_t key)
{
	return bin_size(key) <= BIN_SMALL_BYTES >> GRANULE_SHIFT ? BIN_BATCH_SMALL : BIN_BATCH;
}

void percpu_cache_start(void);
/* The thread's cache, made if need be; NULL when there is no memory. */
struct percpu_cache *percpu_cache_get(void);
/* Gives back the elements that a bin has had for longest. */
void percpu_bin_drain(struct percpu_bin *bin, uint32_t count);
/* Makes room in a full bin. */
void percpu_bin_relieve(struct percpu_bin *bin);
/* Empties a bin for another key; its pool may be gone. */
void percpu_bin_evict(struct percpu_bin *bin, uint64_t key, struct allod_percpu_pool *pool);
/* Empties the calling thread's bins of a pool, so that statistics and trimming see all. */
void percpu_cache_flush(struct allod_percpu_pool *pool);
/* What the bins of all threads count for a pool. */
void percpu_cache_counts(const struct allod_percpu_pool *pool, uint64_t *ret_allocs,
	uint64_t *ret_frees);

/* pool side: gives elements of one size back to their chunks. The caller holds the pool's lock. */
void percpu_pool_give(const uintptr_t *elements, uint32_t count, uint32_t size);
/*
 * Takes up to `want` elements from chunks of a kind; those that are all zero come first, *ret_clean
 * of them. 0 when no chunk has room. Size and alignment in granules. The caller holds the pool's lock.
 */
uint32_t percpu_pool_take_many(struct allod_percpu_pool *pool, enum chunk_kind kind, uint32_t size,
	uint32_t align, uint32_t want, uintptr_t *ret, uint32_t *ret_clean);
