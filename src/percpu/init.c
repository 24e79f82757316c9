/* SPDX-License-Identifier: MIT */
/*
 * Elements with initial contents. They lie in file chunks, whose pages all processors share until
 * they write.
 *
 * An image page is written only before any element on it is given out. So that not each element
 * needs a page of its own, a page is filled with the same content again and again: the elements
 * after the first find theirs there already. A *class* is a size and a content that pages were
 * filled for. The first content of a pool gets a class at once, others when they come a second
 * time, lest a program that gives each element another content fill a page with each. What has
 * no class goes to the overlay (content.c). File chunks have grains of a granule.
 */
#include <errno.h>
#include <string.h>

#include "percpu/bits.h"
#include "percpu/cache.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

/* Contents that get a class at once: what is alone in its pool. */
enum { CLASSES_FREE = 1, BLOCK_GRANULES = BLOCK_BYTES >> GRANULE_SHIFT };

struct init {
	struct allod_percpu_pool *pool;
	struct content content;
	uint32_t bits;
	uint32_t align;
	struct percpu_chunk *chunk; /* where it was put */
	uint32_t start;
};

static bool is_zero(struct content content)
{
	for (size_t i = 0; i < content.len; i++) {
		if (((const uint8_t *)content.bytes)[i])
			return false;
	}
	return true;
}

static uint64_t hash_of(const struct init *in)
{
	uint64_t hash = in->bits + 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < in->content.len; i++)
		hash = (hash ^ ((const uint8_t *)in->content.bytes)[i]) * 0x100000001b3ull;
	return hash | 1;
}

/* Whether the content came lately; notes it. */
static bool is_recent(const struct init *in)
{
	struct allod_percpu_pool *pool = in->pool;
	uint64_t hash = hash_of(in);

	for (unsigned i = 0; i < RECENT_MAX; i++) {
		if (pool->recent[i] == hash)
			return true;
	}
	pool->recent[pool->recent_next++ % RECENT_MAX] = hash;
	return false;
}

/* The number of the content's class from 1, or 0. Makes one if that is worth it. */
static uint16_t class_of(const struct init *in)
{
	struct percpu_class *classes = in->pool->classes;
	unsigned unused = CLASSES_MAX;

	if (in->content.len > CLASS_BYTES || in->bits > BLOCK_GRANULES / 2)
		return 0;
	for (unsigned i = CLASSES_MAX; i-- > 0;) {
		if (!classes[i].bits)
			unused = i;
		else if (classes[i].bits == in->bits && classes[i].bytes == in->content.len &&
			!memcmp(classes[i].content, in->content.bytes, in->content.len))
			return (uint16_t)(i + 1);
	}
	if (unused == CLASSES_MAX || (unused >= CLASSES_FREE && !is_recent(in)))
		return 0;
	classes[unused].bits = in->bits;
	classes[unused].bytes = (uint32_t)in->content.len;
	classes[unused].hint_chunk = NULL;
	classes[unused].has_room = false;
	memcpy(classes[unused].content, in->content.bytes, in->content.len);
	return (uint16_t)(unused + 1);
}

/* A place in a block of the class, from its hint on, or anywhere. */
static bool find_in_class(struct init *in, uint16_t number)
{
	struct percpu_class *class = &in->pool->classes[number - 1];
	struct percpu_chunk *chunk = class->hint_chunk;
	uint32_t block = class->hint_block;

	if (!chunk) {
		if (!class->has_room)
			return false;
		chunk = in->pool->chunks;
		block = 0;
	}
	for (; chunk; chunk = chunk->next_of_pool, block = 0) {
		for (; chunk->tag && block < chunk->blocks; block++) {
			if (chunk->tag[block] != number)
				continue;
			uint32_t at = percpu_block_find(chunk, block, in->bits, in->align);
			if (at == NOWHERE || (at - block * BLOCK_GRANULES) % in->bits)
				continue;
			class->hint_chunk = in->chunk = chunk;
			class->hint_block = block;
			in->start = at;
			return true;
		}
	}
	if (!class->hint_chunk)
		class->has_room = false;
	class->hint_chunk = NULL;
	return class->has_room && find_in_class(in, number);
}

/* Whether a whole page from the block on was never given out. */
static bool page_is_virgin(const struct percpu_chunk *chunk, uint32_t block, uint32_t count)
{
	uint32_t per = percpu_page_blocks();

	if (block % per || block + count > chunk->blocks)
		return false;
	for (uint32_t i = block; i < block + (count + per - 1) / per * per; i++) {
		if (i >= chunk->blocks || chunk->block[i].fresh ||
			chunk->block[i].left != BLOCK_GRANULES)
			return false;
	}
	return true;
}

static bool find_virgin(struct init *in)
{
	uint32_t count = (in->bits + BLOCK_GRANULES - 1) / BLOCK_GRANULES;
	uint32_t step = in->align > BLOCK_GRANULES ? in->align / BLOCK_GRANULES : 1;

	for (struct percpu_chunk *c = in->pool->chunks; c; c = c->next_of_pool) {
		if (!c->is_file || percpu_content_is_frozen(c))
			continue;
		for (uint32_t i = 0; i + count <= c->blocks; i += step) {
			if (page_is_virgin(c, i, count)) {
				in->chunk = c;
				in->start = i * BLOCK_GRANULES;
				return true;
			}
		}
	}
	return false;
}

/* Writes the image of virgin blocks: the content once, or again and again up to the page's end. */
static void image_fill(const struct init *in, uint16_t number)
{
	uint32_t first = in->start / BLOCK_GRANULES;
	uint32_t count = (in->bits + BLOCK_GRANULES - 1) / BLOCK_GRANULES;
	uint8_t *image = percpu_content_image(in->chunk, in->start);
	size_t bytes = (size_t)in->bits << GRANULE_SHIFT;
	size_t room = number ? BLOCK_BYTES : bytes;

	for (size_t at = 0; at + bytes <= room; at += bytes)
		memcpy(image + at, in->content.bytes, in->content.len);
	for (uint32_t i = first; i < first + count; i++) {
		in->chunk->tag[i] = number ? number : TAG_ONCE;
		percpu_block_touch(in->chunk, i, BLOCK_GRANULES);
	}
	if (number) {
		in->pool->classes[number - 1].hint_chunk = in->chunk;
		in->pool->classes[number - 1].hint_block = first;
	}
}

static bool find_anywhere(struct init *in)
{
	uintptr_t element;
	uint32_t clean;

	if (!percpu_pool_take_many(in->pool, CHUNK_FILE, in->bits, in->align, 1, &element, &clean))
		return false;
	in->chunk = chunk_of(element);
	in->start = chunk_bit_of(in->chunk, element);
	return true;
}

static void take_here(const struct init *in)
{
	uint32_t last = in->start + in->bits - 1;

	percpu_chunk_take(in->chunk, in->start, in->bits);
	in->chunk->end[last / 64] |= 1ull << last % 64;
	percpu_chunk_relist(in->chunk);
}

/* Finds room and puts the content there. False: a chunk has to be made first. */
static bool put(struct init *in, int *ret_error)
{
	uint16_t number = class_of(in);
	bool is_worth_page = (number || in->bits > BLOCK_GRANULES / 2) &&
		!in->pool->options.init_cpu && in->align <= SLOT_BYTES >> GRANULE_SHIFT;

	if (number && find_in_class(in, number)) {
		take_here(in);
	} else if (is_worth_page && find_virgin(in)) {
		image_fill(in, number);
		take_here(in);
		return true;
	} else if (is_worth_page && percpu_pool_may_grow(in->pool) &&
		!percpu_pool_is_frozen(in->pool)) {
		return false;
	} else if (!find_anywhere(in)) {
		return false;
	}
	*ret_error = percpu_content_put(in->chunk, in->start, in->bits, in->content);
	return true;
}

static void *alloc_init(struct init *in)
{
	uintptr_t element;
	int error = 0;
	bool is_put;

	for (;;) {
		percpu_pool_lock(in->pool);
		is_put = put(in, &error);
		if (is_put)
			break;
		percpu_pool_unlock(in->pool);
		error = percpu_pool_grow(in->pool, CHUNK_FILE, in->bits, in->align);
		if (error) {
			errno = -error;
			return NULL;
		}
	}
	in->pool->allocs++;
	element = chunk_element(in->chunk, in->start);
	a_or_rlx(&in->chunk->live[in->start / 64], 1ull << in->start % 64);
	percpu_pool_unlock(in->pool);
	return (void *)element;
}

/* In a pool of anonymous pages the content is written to every processor of it. */
static void *alloc_everywhere(struct allod_percpu_pool *pool, size_t bytes, size_t align,
	struct content content)
{
	void *element = allod_percpu_alloc(pool, bytes, align);
	uintptr_t at = (uintptr_t)element;

	if (!element)
		return NULL;
	percpu_pool_lock(pool);
	struct percpu_chunk *chunk = chunk_of(at);
	uint32_t start = chunk_bit_of(chunk, at);
	percpu_content_put(chunk, start, chunk_end_of(chunk, start) + 1 - start, content);
	percpu_pool_unlock(pool);
	return element;
}

__attribute__((visibility("default"))) void ALLOD_PERCPU *allod_percpu_alloc_init(
	struct allod_percpu_pool *pool, size_t bytes, size_t align, const void *content,
	size_t content_bytes)
{
	struct init in = { .pool = pool, .content = { content, content_bytes } };
	unsigned log;

	bytes += !bytes;
	in.bits = granules(bytes);
	if ((align & (align - 1)) || content_bytes > bytes ||
		(pool->options.max_element && bytes > pool->options.max_element)) {
		errno = EINVAL;
		return NULL;
	}
	if (bytes > pool->stride || align > pool->stride) {
		errno = ENOMEM;
		return NULL;
	}
	if (is_zero(in.content))
		return allod_percpu_zalloc(pool, bytes, align);
	if (pool->options.content == ALLOD_PERCPU_CONTENT_ZERO ||
		pool_has(pool, ALLOD_PERCPU_GLOBAL))
		return alloc_everywhere(pool, bytes, align, in.content);
	log = size_align_log(in.bits);
	in.align =
		align >> GRANULE_SHIFT > 1u << log ? (uint32_t)(align >> GRANULE_SHIFT) : 1u << log;
	return alloc_init(&in);
}

void percpu_content_forget(struct percpu_chunk *chunk)
{
	struct allod_percpu_pool *pool = chunk->pool;

	for (unsigned i = 0; i < CLASSES_MAX; i++) {
		if (pool->classes[i].hint_chunk == chunk)
			pool->classes[i].hint_chunk = NULL;
	}
}

/* An element's overlay ends with it, and its class has room again. */
void percpu_content_freed(struct percpu_chunk *chunk, uint32_t start)
{
	uint32_t block = block_of(chunk, start);
	struct percpu_class *class;

	a_and_rlx(&chunk->over[start / 64], ~(1ull << start % 64));
	if (!chunk->tag[block] || chunk->tag[block] == TAG_ONCE)
		return;
	class = &chunk->pool->classes[chunk->tag[block] - 1];
	class->has_room = true;
	if (class->hint_chunk == chunk && block < class->hint_block)
		class->hint_block = block;
}
