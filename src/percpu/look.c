/* SPDX-License-Identifier: MIT */
/* Looking at pools and elements: sizes, walks, statistics, what is resident. */
#include <errno.h>
#include <string.h>

#include "os/area.h"
#include "os/os.h"
#include "percpu/bits.h"
#include "percpu/cache.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

#define EXPORT __attribute__((visibility("default")))

/* The chunk in which a live element begins, or NULL. */
static struct percpu_chunk *live_chunk(uintptr_t element, uint32_t *ret_bit)
{
	struct percpu_chunk *chunk = percpu_root ? chunk_of(element) : NULL;

	if (!chunk || element & chunk->grain_mask)
		return NULL;
	*ret_bit = chunk_bit_of(chunk, element);
	return a_load_rlx(&chunk->live[*ret_bit / 64]) >> *ret_bit % 64 & 1 ? chunk : NULL;
}

EXPORT size_t allod_percpu_size(const void ALLOD_PERCPU *element)
{
	uint32_t bit;
	struct percpu_chunk *chunk =
		live_chunk((uintptr_t)(ALLOD_PERCPU_FORCE const void *)element, &bit);

	return chunk ? (size_t)chunk_size_at(chunk, bit) << GRANULE_SHIFT : 0;
}

EXPORT struct allod_percpu_pool *allod_percpu_pool_of(const void ALLOD_PERCPU *element)
{
	uint32_t bit;
	struct percpu_chunk *chunk =
		live_chunk((uintptr_t)(ALLOD_PERCPU_FORCE const void *)element, &bit);

	return chunk ? chunk->pool : NULL;
}

EXPORT void *allod_percpu_place(const void ALLOD_PERCPU *element, int cpu)
{
	uintptr_t at = (uintptr_t)(ALLOD_PERCPU_FORCE const void *)element;
	uint32_t bit;
	struct percpu_chunk *chunk = live_chunk(at, &bit);

	if (!chunk || cpu < 0 || (unsigned)cpu >= chunk->pool->cpus) {
		errno = EINVAL;
		return NULL;
	}
	return (void *)allod_percpu_at_(at, cpu, chunk->stride);
}

EXPORT const void *allod_percpu_peek(const void ALLOD_PERCPU *element, int cpu)
{
	uintptr_t at = (uintptr_t)(ALLOD_PERCPU_FORCE const void *)element;
	uint32_t bit;
	struct percpu_chunk *chunk = live_chunk(at, &bit);

	if (!chunk || cpu < 0 || (unsigned)cpu >= chunk->pool->cpus) {
		errno = EINVAL;
		return NULL;
	}
	if (!allod_percpu_is_active(cpu) && chunk->is_file &&
		a_load_rlx(&chunk->over[bit / 64]) >> bit % 64 & 1)
		return (const void *)(chunk->overlay + ((uintptr_t)bit << chunk->shift));
	return chunk_place(chunk, (unsigned)cpu, bit);
}

EXPORT int allod_percpu_is_active(int cpu)
{
	/* [percpu.8] acq: who reads the processor's memory because of this finds what was written
	 * for it; pairs with allod_percpu_mark_active(). */
	return cpu >= 0 && cpu < ALLOD_PERCPU_CPUS_MAX &&
		a_load_acq((_Atomic(unsigned char) *)&allod_percpu_active_[cpu]);
}

EXPORT int allod_percpu_next_active(int cpu)
{
	for (cpu = cpu < -1 ? 0 : cpu + 1; cpu < ALLOD_PERCPU_CPUS_MAX; cpu++) {
		if (allod_percpu_is_active(cpu))
			return cpu;
	}
	return -1;
}

EXPORT int allod_percpu_each(struct allod_percpu_pool *pool,
	int (*fn)(void *arg, void ALLOD_PERCPU *element, size_t bytes), void *arg)
{
	int stop = 0;

	percpu_pool_lock(pool);
	for (struct percpu_chunk *c = pool->chunks; c && !stop; c = c->next_of_pool) {
		uint32_t at = 0;
		while (!stop && (at = bits_next_live(c->live, at, c->bits)) < c->bits) {
			uint32_t end = chunk_end_of(c, at) + 1;
			stop = fn(arg, (void *)chunk_element(c, at),
				(size_t)(end - at) << c->shift);
			at = end;
		}
	}
	percpu_pool_unlock(pool);
	return stop;
}

/* Sizes in granules: one class for each below 64, then sixteen for each power of two. */
enum { SIZES_EXACT = 64, SIZES_LOG = 6, SIZES_PART = 16, SIZES = SIZES_EXACT + 25 * SIZES_PART };

struct sizes {
	uint64_t count[SIZES];
};

static unsigned size_class(uint32_t bits)
{
	unsigned log = 31 - (unsigned)__builtin_clz(bits);

	if (bits < SIZES_EXACT)
		return bits;
	return SIZES_EXACT + (log - SIZES_LOG) * SIZES_PART + (bits >> (log - 4)) % SIZES_PART;
}

/* The least size of a class. */
static uint64_t size_of_class(unsigned class)
{
	unsigned over = class - SIZES_EXACT;

	if (class < SIZES_EXACT)
		return class;
	return (uint64_t)(SIZES_PART + over % SIZES_PART) << (over / SIZES_PART + SIZES_LOG - 4);
}

static void chunk_count_free(const struct percpu_chunk *c, struct allod_percpu_stats *s)
{
	uint32_t at = 0;

	while ((at = bits_next_clear(c->alloc, at, c->bits)) < c->bits) {
		uint32_t end = bits_next_set(c->alloc, at, c->bits);
		uint64_t bytes = (uint64_t)(end - at) << c->shift;
		/* Free memory in front of something used is what fragmentation costs. */
		uint64_t fragment = end < c->bits ? bytes : 0;
		s->free_runs++;
		s->contig_bytes = bytes > s->contig_bytes ? bytes : s->contig_bytes;
		s->fragmented_bytes += fragment;
		s->fragment_bytes = fragment > s->fragment_bytes ? fragment : s->fragment_bytes;
		at = end;
	}
}

/* One chunk's share of the statistics. */
static void chunk_count(const struct percpu_chunk *c, struct allod_percpu_stats *s,
	struct sizes *sizes)
{
	uint32_t at = 0;

	chunk_count_free(c, s);
	while ((at = bits_next_live(c->live, at, c->bits)) < c->bits) {
		uint32_t end = chunk_end_of(c, at) + 1;
		uint64_t bytes = (uint64_t)(end - at) << c->shift;
		if (!s->live || bytes < s->live_smallest_bytes)
			s->live_smallest_bytes = bytes;
		if (bytes > s->live_largest_bytes)
			s->live_largest_bytes = bytes;
		sizes->count[size_class((uint32_t)(bytes >> GRANULE_SHIFT))]++;
		s->live_bytes += bytes;
		s->live++;
		at = end;
	}
	s->free_bytes += (uint64_t)c->free_bits << c->shift;
	s->metadata_bytes += c->meta_bytes + percpu_content_known_bytes(c);
}

static uint64_t median(const struct sizes *sizes, uint64_t live)
{
	uint64_t below = 0;
	unsigned class = 0;

	if (!live)
		return 0;
	while ((below += sizes->count[class]) <= (live - 1) / 2)
		class ++;
	return size_of_class(class) << GRANULE_SHIFT;
}

static void pool_count(struct allod_percpu_pool *pool, struct allod_percpu_stats *s)
{
	struct sizes sizes = { { 0 } };
	uint64_t allocs = pool->allocs;
	uint64_t frees = pool->frees;

	percpu_cache_counts(pool, &allocs, &frees);
	s->unit_bytes = pool->unit_bytes;
	s->allocs = allocs;
	s->frees = frees;
	s->chunks = pool->chunk_count;
	s->chunks_peak = pool->chunk_peak;
	s->smallest_bytes = pool->largest ? pool->smallest : 0;
	s->largest_bytes = pool->largest;
	s->touched_bytes = pool->dirty_blocks << BLOCK_SHIFT;
	s->idle_bytes = pool->idle_blocks << BLOCK_SHIFT;
	for (struct percpu_chunk *c = pool->chunks; c; c = c->next_of_pool)
		chunk_count(c, s, &sizes);
	s->live_median_bytes = median(&sizes, s->live);
	pool->live_peak = s->live > pool->live_peak ? s->live : pool->live_peak;
	s->live_peak = pool->live_peak;
}

EXPORT int allod_percpu_pool_stats(struct allod_percpu_pool *pool,
	struct allod_percpu_stats *ret_stats)
{
	struct allod_percpu_stats s = { .size = sizeof(s) };

	if (ret_stats->size != sizeof(s))
		return -EINVAL;
	percpu_pool_lock(pool);
	pool_count(pool, &s);
	percpu_pool_unlock(pool);
	*ret_stats = s;
	return 0;
}

static uint64_t chunk_resident(const struct percpu_chunk *chunk, unsigned cpu, int *ret_error)
{
	enum { STEP = 256 };
	size_t page = os_facts()->page_bytes;
	size_t pages = ((size_t)chunk->blocks << BLOCK_SHIFT) / page;
	uint8_t kinds[STEP];
	uint64_t own = 0;

	for (size_t at = 0; at < pages && !*ret_error; at += STEP) {
		size_t now = pages - at < STEP ? pages - at : STEP;
		*ret_error = os_pages(chunk_place(chunk, cpu, 0) + at * page, now, kinds);
		for (size_t i = 0; i < now && !*ret_error; i++)
			own += kinds[i] == OS_PAGE_OWN;
	}
	return own * page;
}

EXPORT int64_t allod_percpu_pool_resident(struct allod_percpu_pool *pool, int cpu)
{
	uint64_t bytes = 0;
	int error = cpu < 0 || (unsigned)cpu >= pool->cpus ? -EINVAL : 0;

	percpu_pool_lock(pool);
	for (struct percpu_chunk *c = pool->chunks; c && !error; c = c->next_of_pool)
		bytes += chunk_resident(c, (unsigned)cpu, &error);
	percpu_pool_unlock(pool);
	return error ? error : (int64_t)bytes;
}

EXPORT const char *allod_percpu_pool_check(struct allod_percpu_pool *pool)
{
	const char *wrong;

	percpu_pool_lock(pool);
	wrong = percpu_pool_check(pool);
	percpu_pool_unlock(pool);
	return wrong;
}

EXPORT const char *allod_percpu_pool_name(const struct allod_percpu_pool *pool)
{
	return pool->name;
}

EXPORT int allod_percpu_pools_each(int (*fn)(void *arg, struct allod_percpu_pool *pool), void *arg)
{
	int stop = 0;

	if (percpu_start())
		return 0;
	percpu_lock(&percpu_root->lock);
	for (struct allod_percpu_pool *p = a_load_rlx(&percpu_root->pools); p && !stop; p = p->next)
		stop = fn(arg, p);
	percpu_unlock(&percpu_root->lock);
	return stop;
}
