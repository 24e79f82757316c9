/* SPDX-License-Identifier: MIT */
/*
 * The making and dropping of chunks. The caller holds root.lock and the pool's lock.
 *
 * A chunk's structure and maps are one block of metadata. Its addresses come from an arena, or, in
 * a pool with a stride of its own, are a mapping of its own.
 */
#include <errno.h>
#include <string.h>

#include "os/area.h"
#include "os/os.h"
#include "percpu/bits.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

/* Where the parts of a chunk's block of metadata begin. */
struct layout {
	size_t block;
	size_t live;
	size_t end;
	size_t alloc;
	size_t over;
	size_t tag;
	size_t bytes;
};

/*
 * The words of an element in each of the maps lie at one distance. If that is a multiple of a page,
 * the processor takes stores to one for stores to another (a tenth of the time of a free).
 */
enum { SKEW_BYTES = 11 * 64, SKEW_FROM = 8192 };

static struct layout layout_of(uint32_t blocks, enum chunk_kind kind)
{
	bool is_file = kind == CHUNK_FILE;
	size_t map = (size_t)blocks * (BLOCK_BYTES >> percpu_grain_shift(kind)) / 8;
	size_t skew = map >= SKEW_FROM ? SKEW_BYTES : 0;
	struct layout l = { .block = round_up(sizeof(struct percpu_chunk), 64) };

	l.live = l.block + round_up(blocks * sizeof(struct percpu_hint), 64);
	l.end = l.live + map + skew;
	l.alloc = l.end + map + skew;
	l.over = l.alloc + map;
	l.tag = l.over + (is_file ? map : 0);
	l.bytes = l.tag + (is_file ? round_up(blocks * sizeof(uint16_t), 64) : 0);
	return l;
}

static struct percpu_chunk *chunk_structure(struct allod_percpu_pool *pool, enum chunk_kind kind,
	size_t bytes)
{
	uint32_t blocks = (uint32_t)(bytes >> BLOCK_SHIFT);
	bool is_file = kind == CHUNK_FILE;
	struct layout l = layout_of(blocks, kind);
	uint8_t *at = percpu_meta_alloc(l.bytes);
	struct percpu_chunk *chunk = (void *)at;

	if (!at)
		return NULL;
	chunk->pool = pool;
	chunk->kind = (uint8_t)kind;
	chunk->is_file = is_file;
	chunk->is_careful = is_file || pool->is_careful;
	chunk->shift = (uint8_t)percpu_grain_shift(kind);
	chunk->grain_mask = (1u << chunk->shift) - 1;
	chunk->blocks = blocks;
	chunk->bits = block_base(chunk, blocks);
	chunk->stride = pool->stride;
	chunk->block = (void *)(at + l.block);
	chunk->live = (void *)(at + l.live);
	chunk->end = (void *)(at + l.end);
	chunk->alloc = (void *)(at + l.alloc);
	chunk->over = is_file ? (void *)(at + l.over) : NULL;
	chunk->tag = is_file ? (void *)(at + l.tag) : NULL;
	chunk->meta_bytes = l.bytes;
	return chunk;
}

/* The mapping of a pool with its own stride: its units lie side by side. */
static int own_map(struct percpu_chunk *chunk, size_t bytes)
{
	struct allod_percpu_pool *pool = chunk->pool;
	size_t areas = pool->cpus + chunk->is_file;
	int error = 0;

	chunk->mapped_bytes = areas * pool->stride;
	chunk->base = (uintptr_t)os_map_lazy(chunk->mapped_bytes, pool->stride);
	if (!chunk->base)
		return -ENOMEM;
	os_huge((void *)chunk->base, chunk->mapped_bytes, pool_has(pool, ALLOD_PERCPU_HUGE));
	if (chunk->is_file)
		error = percpu_content_map_own(chunk, bytes);
	if (!error)
		error = percpu_radix_set(chunk->base, bytes, chunk);
	if (error) {
		os_unmap((void *)chunk->base, chunk->mapped_bytes);
		chunk->base = 0;
	}
	return error;
}

static unsigned arena_kind_of(const struct allod_percpu_pool *pool, bool is_file)
{
	return (is_file ? ARENA_FILE : 0) | (pool_has(pool, ALLOD_PERCPU_HUGE) ? ARENA_HUGE : 0) |
		(pool_has(pool, ALLOD_PERCPU_NUMA) ? ARENA_NUMA : 0);
}

static int place_in_arena(struct percpu_chunk *chunk, size_t bytes, size_t align)
{
	struct allod_percpu_pool *pool = chunk->pool;
	int error = 0;

	chunk->arena = percpu_arena_get(arena_kind_of(pool, chunk->is_file), pool->cpus, &error);
	if (!chunk->arena)
		return error;
	if (pool_has(pool, ALLOD_PERCPU_HUGE) && align < (size_t)2 << 20)
		align = (size_t)2 << 20;
	chunk->base = percpu_arena_take(chunk->arena, bytes, align);
	if (!chunk->base)
		return -ENOMEM;
	if (chunk->is_file)
		percpu_content_attach(chunk);
	percpu_arena_set_chunk(chunk->arena, chunk->base, bytes, chunk);
	return 0;
}

static void addresses_drop(struct percpu_chunk *chunk)
{
	size_t bytes = (size_t)chunk->blocks << BLOCK_SHIFT;

	if (!chunk->base)
		return;
	if (!chunk->arena) {
		percpu_radix_set(chunk->base, bytes, NULL);
		percpu_content_unmap_own(chunk);
		os_unmap((void *)chunk->base, chunk->mapped_bytes);
		return;
	}
	percpu_arena_set_chunk(chunk->arena, chunk->base, bytes, NULL);
	if (percpu_content_revert(chunk))
		percpu_arena_put(chunk->arena, chunk->base, bytes);
}

/* Grains at the end of each unit that fault, never a part of an element. */
uint32_t percpu_chunk_guard_bits(const struct percpu_chunk *chunk)
{
	uint32_t bits = (uint32_t)(os_facts()->page_bytes >> chunk->shift);

	return pool_has(chunk->pool, ALLOD_PERCPU_GUARD) && chunk->bits >= 2 * bits ? bits : 0;
}

static void guard_install(struct percpu_chunk *chunk, unsigned cpu)
{
	uint32_t bits = percpu_chunk_guard_bits(chunk);

	if (bits)
		os_guard(chunk_place(chunk, cpu, chunk->bits - bits), (size_t)bits << chunk->shift);
}

/* Takes the grains of the guard, with an end as of an element that is not live. */
static void guard_take(struct percpu_chunk *chunk)
{
	uint32_t bits = percpu_chunk_guard_bits(chunk);

	if (!bits)
		return;
	percpu_chunk_take(chunk, chunk->bits - bits, bits);
	chunk->end[(chunk->bits - 1) / 64] |= 1ull << 63;
}

int percpu_chunk_activate(struct percpu_chunk *chunk, unsigned cpu)
{
	const struct allod_percpu_options *o = &chunk->pool->options;
	bool is_global = pool_has(chunk->pool, ALLOD_PERCPU_GLOBAL);

	if (cpu >= chunk->pool->cpus)
		return 0;
	guard_install(chunk, cpu);
	if (!o->init_cpu)
		return 0;
	return o->init_cpu(o->init_arg, chunk_place(chunk, cpu, 0),
		(size_t)chunk->blocks << BLOCK_SHIFT, is_global ? -1 : (int)cpu);
}

/* What is done for each processor that has to know of a new chunk. */
static int chunk_activate_all(struct percpu_chunk *chunk)
{
	const struct allod_percpu_pool *pool = chunk->pool;
	bool is_every = pool_has(pool, ALLOD_PERCPU_INIT_EVERY | ALLOD_PERCPU_GLOBAL);
	unsigned count = is_every ? pool->cpus : a_load_rlx(&percpu_root->active_count);
	int error = 0;

	for (unsigned i = 0; i < count && !error; i++)
		error = percpu_chunk_activate(chunk, is_every ? i : percpu_root->active[i]);
	return error;
}

static void chunk_first_state(struct percpu_chunk *chunk)
{
	bool is_written = chunk->pool->options.init_cpu || (chunk->is_file && !chunk->image);

	const uint32_t size = block_bits(chunk);

	for (uint32_t i = 0; i < chunk->blocks; i++) {
		chunk->block[i].contig = chunk->block[i].left = chunk->block[i].right = size;
		/* Of what a callback wrote, nothing is known to be zero. */
		chunk->block[i].fresh = is_written ? size : 0;
	}
	chunk->hint.contig = chunk->hint.left = chunk->hint.right = chunk->bits;
	chunk->free_bits = chunk->bits;
	chunk->idle_blocks = is_written ? chunk->blocks : 0;
	chunk->pool->idle_blocks += chunk->idle_blocks;
	chunk->pool->dirty_blocks += chunk->idle_blocks;
}

uint32_t percpu_page_blocks(void)
{
	return (uint32_t)(os_facts()->page_bytes >> BLOCK_SHIFT);
}

void percpu_block_touch(struct percpu_chunk *chunk, uint32_t block, uint32_t upto)
{
	struct percpu_hint *hint = &chunk->block[block];

	if (!hint->fresh) {
		chunk->pool->dirty_blocks++;
		if (hint->left == block_bits(chunk))
			chunk->idle_blocks++, chunk->pool->idle_blocks++;
	}
	if (hint->fresh < upto)
		hint->fresh = upto;
}

uint32_t percpu_chunk_dirty_blocks(const struct percpu_chunk *chunk)
{
	uint32_t dirty = 0;

	for (uint32_t i = 0; i < chunk->blocks; i++)
		dirty += chunk->block[i].fresh != 0;
	return dirty;
}

static void chunk_enter(struct percpu_chunk *chunk)
{
	struct allod_percpu_pool *pool = chunk->pool;

	chunk->next_of_pool = pool->chunks;
	if (pool->chunks)
		pool->chunks->prev_of_pool = chunk;
	pool->chunks = chunk;
	pool->chunk_count++;
	if (pool->chunk_count > pool->chunk_peak)
		pool->chunk_peak = pool->chunk_count;
	pool->unit_bytes += (size_t)chunk->blocks << BLOCK_SHIFT;
	chunk->list = CHUNK_LISTS;
	percpu_chunk_list(chunk);
}

struct percpu_chunk *percpu_chunk_make(struct allod_percpu_pool *pool, enum chunk_kind kind,
	size_t bytes, size_t align, int *ret_error)
{
	struct percpu_chunk *chunk = chunk_structure(pool, kind, bytes);

	if (!chunk) {
		*ret_error = -ENOMEM;
		return NULL;
	}
	*ret_error = pool->stride == ALLOD_PERCPU_STRIDE ? place_in_arena(chunk, bytes, align)
							 : own_map(chunk, bytes);
	if (!*ret_error) {
		chunk_first_state(chunk);
		guard_take(chunk);
		*ret_error = chunk_activate_all(chunk);
	}
	if (*ret_error) {
		pool->idle_blocks -= chunk->idle_blocks;
		pool->dirty_blocks -= percpu_chunk_dirty_blocks(chunk);
		addresses_drop(chunk);
		percpu_meta_free(chunk, chunk->meta_bytes);
		return NULL;
	}
	chunk_enter(chunk);
	return chunk;
}

void percpu_chunk_drop(struct percpu_chunk *chunk)
{
	struct allod_percpu_pool *pool = chunk->pool;

	percpu_chunk_unlist(chunk);
	if (chunk->prev_of_pool)
		chunk->prev_of_pool->next_of_pool = chunk->next_of_pool;
	else
		pool->chunks = chunk->next_of_pool;
	if (chunk->next_of_pool)
		chunk->next_of_pool->prev_of_pool = chunk->prev_of_pool;
	pool->chunk_count--;
	pool->unit_bytes -= (size_t)chunk->blocks << BLOCK_SHIFT;
	pool->idle_blocks -= chunk->idle_blocks;
	pool->dirty_blocks -= percpu_chunk_dirty_blocks(chunk);
	percpu_content_forget(chunk);
	percpu_takers_forget(pool, chunk);
	addresses_drop(chunk);
	percpu_meta_free(chunk->known, percpu_content_known_bytes(chunk));
	percpu_meta_free(chunk, chunk->meta_bytes);
}

/* Whether nothing of the chunk is in use: all is free but what the guard has. */
bool percpu_chunk_is_empty(const struct percpu_chunk *chunk)
{
	return chunk->free_bits == chunk->bits - percpu_chunk_guard_bits(chunk);
}
