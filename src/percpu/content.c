/* SPDX-License-Identifier: MIT */
/*
 * What elements contain when they are given out; see percpu/content.h.
 *
 * A page that a processor never stored to reads as the chunk's image: zero, or the page of the file
 * that processors share. So free memory is made to contain what the image does by writing to the
 * pages that have memory, and to no others. Which these are the kernel tells; what it once told
 * is kept in `known`, until the page is given back. It is asked while the element is free: a
 * page that has no memory then may get some by stores to its other elements, but these do not
 * change this one's bytes.
 *
 * What the image does not have is written to every active processor, and to the overlay, from which
 * processors that become active later get it. So the image is never written once an element on
 * its page has been given out (init.c writes it before).
 */
#include "percpu/content.h"

#include <errno.h>
#include <string.h>

#include "os/area.h"
#include "os/os.h"
#include "percpu/bits.h"

enum { WINDOW_BLOCKS = 16 };

static bool walk_active(struct cpu_walk *walk, const struct allod_percpu_pool *pool,
	unsigned *ret_cpu, uint32_t *ret_row)
{
	/* [percpu.7] acq: finds the index in its place; pairs with mark_active(). */
	uint32_t count = a_load_acq(&percpu_root->active_count);

	while (walk->at < count) {
		uint32_t row = walk->at++;
		if (percpu_root->active[row] < pool->cpus) {
			*ret_cpu = percpu_root->active[row];
			*ret_row = row;
			return true;
		}
	}
	return false;
}

static bool walk_inactive(struct cpu_walk *walk, const struct allod_percpu_pool *pool,
	unsigned *ret_cpu, uint32_t *ret_row)
{
	while (pool->wrote_everywhere && walk->inactive < pool->cpus) {
		unsigned cpu = walk->inactive++;
		if (!allod_percpu_is_active((int)cpu)) {
			*ret_cpu = cpu;
			*ret_row = NOWHERE;
			return true;
		}
	}
	return false;
}

bool percpu_cpu_walk_next(struct cpu_walk *walk, const struct allod_percpu_pool *pool,
	unsigned *ret_cpu, uint32_t *ret_row)
{
	if (pool_has(pool, ALLOD_PERCPU_GLOBAL)) {
		*ret_cpu = *ret_row = 0;
		return walk->at++ == 0;
	}
	/* A callback wrote to all. */
	if (pool_has(pool, ALLOD_PERCPU_INIT_EVERY)) {
		*ret_cpu = *ret_row = walk->at++;
		return *ret_cpu < pool->cpus;
	}
	/* One that becomes active meanwhile comes last. */
	return walk_active(walk, pool, ret_cpu, ret_row) ||
		walk_inactive(walk, pool, ret_cpu, ret_row) ||
		walk_active(walk, pool, ret_cpu, ret_row);
}

/* A page that is written now and never again: who shares it is a child. */
static uint8_t *canary;

int percpu_content_start(void)
{
	size_t page = os_facts()->page_bytes;
	/* Large enough to be cut at page borders. */
	uint8_t *at = percpu_meta_alloc(page < 16384 ? 16384 : page);

	if (!at)
		return -ENOMEM;
	*at = 1;
	canary = at;
	return 0;
}

bool percpu_content_is_alone(void)
{
	return os_page_is_exclusive(canary);
}

/* File chunks */

void percpu_content_attach(struct percpu_chunk *chunk)
{
	struct percpu_arena *arena = chunk->arena;
	uintptr_t offset = chunk->base - arena->base;

	chunk->overlay = arena->base + arena->cpus * ALLOD_PERCPU_STRIDE + offset;
	chunk->image_epoch = arena->epoch;
	chunk->image = arena->epoch == percpu_epoch() ? arena->image + offset : NULL;
}

int percpu_content_map_own(struct percpu_chunk *chunk, size_t bytes)
{
	const struct allod_percpu_pool *pool = chunk->pool;
	int fd = os_file_make("allod-percpu", bytes);
	int error = fd < 0 ? fd : 0;

	if (error)
		return error;
	chunk->image = os_file_map_shared(fd, bytes);
	error = chunk->image ? os_hide_from_fork(chunk->image, bytes) : -ENOMEM;
	for (unsigned i = 0; !error && i < pool->cpus; i++)
		error = os_file_map_private(fd, (void *)(chunk->base + i * pool->stride), bytes);
	os_file_close(fd);
	if (error && chunk->image)
		os_unmap(chunk->image, bytes);
	chunk->image_epoch = percpu_epoch();
	chunk->overlay = chunk->base + pool->cpus * pool->stride;
	return error;
}

void percpu_content_unmap_own(struct percpu_chunk *chunk)
{
	if (chunk->is_file && chunk->image && chunk->image_epoch == percpu_epoch())
		os_unmap(chunk->image, (size_t)chunk->blocks << BLOCK_SHIFT);
}

bool percpu_content_is_frozen(const struct percpu_chunk *chunk)
{
	return chunk->is_file && (!chunk->image || chunk->image_epoch != percpu_epoch());
}

uint8_t *percpu_content_image(const struct percpu_chunk *chunk, uint32_t bit)
{
	if (!chunk->is_file || percpu_content_is_frozen(chunk))
		return NULL;
	return chunk->image + ((size_t)bit << chunk->shift);
}

/* Which blocks have memory */

static uint32_t row_words(const struct percpu_chunk *chunk)
{
	return (chunk->blocks + 63) / 64;
}

size_t percpu_content_known_bytes(const struct percpu_chunk *chunk)
{
	return (size_t)chunk->known_rows * row_words(chunk) * sizeof(uint64_t);
}

/* The row of an active processor, or NULL when there is no memory for it. */
static uint64_t *known_row(struct percpu_chunk *chunk, uint32_t row)
{
	size_t old_bytes = percpu_content_known_bytes(chunk);
	uint32_t rows = row < 2 ? 2 : row * 2;
	uint64_t *grown;

	if (row == NOWHERE)
		return NULL;
	if (row >= chunk->known_rows) {
		grown = percpu_meta_alloc((size_t)rows * row_words(chunk) * sizeof(*grown));
		if (!grown)
			return NULL;
		if (old_bytes)
			memcpy(grown, chunk->known, old_bytes);
		percpu_meta_free(chunk->known, old_bytes);
		chunk->known = grown;
		chunk->known_rows = rows;
	}
	return chunk->known + (size_t)row * row_words(chunk);
}

static bool row_has(const uint64_t *row, uint32_t block)
{
	return row[block / 64] >> block % 64 & 1;
}

/* One processor's view of a chunk while its elements are written. */
struct view {
	struct percpu_chunk *chunk;
	uint64_t *row;
	unsigned cpu;
	uint32_t asked; /* the window of blocks that the kernel was asked about, from 1 */
	bool is_blind;  /* the kernel does not tell */
	int may_swap;   /* -1: not asked yet */
	uint8_t pages[WINDOW_BLOCKS];
};

static void view_turn(struct view *v, struct percpu_chunk *chunk, uint32_t row)
{
	v->chunk = chunk;
	v->row = known_row(chunk, row);
	v->asked = 0;
}

static void view_ask(struct view *v, uint32_t block)
{
	uint32_t per = (uint32_t)(os_facts()->page_bytes >> BLOCK_SHIFT);
	uint32_t first = block & ~(uint32_t)(WINDOW_BLOCKS - 1);
	uint32_t count = v->chunk->blocks - first;
	uint8_t *at = chunk_place(v->chunk, v->cpu, block_base(v->chunk, first));
	int error = -ENOTSUP;

	count = count < WINDOW_BLOCKS ? count : WINDOW_BLOCKS;
	v->asked = first + 1;
	if (v->may_swap < 0)
		v->may_swap = os_may_swap();
	if (!v->chunk->is_file && !v->may_swap)
		error = os_pages_quick(at, (count + per - 1) / per, v->pages);
	if (error)
		error = os_pages(at, (count + per - 1) / per, v->pages);
	v->is_blind = error != 0;
	for (uint32_t i = 0; i < count && !error; i++) {
		if (v->pages[i / per] == OS_PAGE_OWN)
			v->row[(first + i) / 64] |= 1ull << (first + i) % 64;
	}
}

/*
 * What is known of a block on this processor: without touching it, unless it is present. Where the
 * kernel does not tell, it has to be read.
 */
static enum os_page view_look(struct view *v, uint32_t block)
{
	uint32_t per = (uint32_t)(os_facts()->page_bytes >> BLOCK_SHIFT);
	uint32_t first = block & ~(uint32_t)(WINDOW_BLOCKS - 1);

	if (!v->row)
		return OS_PAGE_EITHER;
	if (row_has(v->row, block))
		return OS_PAGE_OWN;
	if (v->asked != first + 1)
		view_ask(v, block);
	if (v->is_blind)
		return OS_PAGE_EITHER;
	return (enum os_page)v->pages[(block - first) / per];
}

/* The part of the content that belongs at `at` of an element, for `len` bytes. */
static void part_write(uint8_t *dst, struct content content, size_t at, size_t len)
{
	size_t have = at < content.len ? content.len - at : 0;

	have = have < len ? have : len;
	if (have)
		memcpy(dst, (const uint8_t *)content.bytes + at, have);
	memset(dst + have, 0, len - have);
}

static bool part_equals(const uint8_t *have, struct content content, size_t at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		size_t from = at + i;
		uint8_t want = from < content.len ? ((const uint8_t *)content.bytes)[from] : 0;
		if (have[i] != want)
			return false;
	}
	return true;
}

static bool part_is_zero(struct content content, size_t at, size_t len)
{
	for (size_t i = at; i < at + len && i < content.len; i++) {
		if (((const uint8_t *)content.bytes)[i])
			return false;
	}
	return true;
}

/* Writes to each block of the run that has memory; where that is not known, if it differs. */
static void view_restore(struct view *v, uint32_t start, uint32_t bits, struct content content)
{
	uint32_t end = start + bits;

	for (uint32_t at = start; at < end;) {
		uint32_t block = block_of(v->chunk, at);
		uint32_t stop = block_stop(v->chunk, at, end);
		uint8_t *place = chunk_place(v->chunk, v->cpu, at);
		size_t offset = (size_t)(at - start) << v->chunk->shift;
		size_t len = (size_t)(stop - at) << v->chunk->shift;

		enum os_page kind = view_look(v, block);
		if (kind == OS_PAGE_OWN) {
			part_write(place, content, offset, len);
		} else if (kind == OS_PAGE_EITHER && !part_equals(place, content, offset, len)) {
			part_write(place, content, offset, len);
			if (v->row)
				v->row[block / 64] |= 1ull << block % 64;
		}
		at = stop;
	}
}

static void restore(struct percpu_chunk *chunk, uint32_t start, uint32_t bits,
	struct content content)
{
	struct cpu_walk walk = { 0 };
	struct view v;
	uint32_t row;

	v.may_swap = -1;
	while (percpu_cpu_walk_next(&walk, chunk->pool, &v.cpu, &row)) {
		view_turn(&v, chunk, row);
		view_restore(&v, start, bits, content);
	}
}

/* The content goes where the image does not have it. */
static void overlay_put(struct percpu_chunk *chunk, uint32_t start, uint32_t bits,
	struct content content)
{
	struct cpu_walk walk = { 0 };
	size_t bytes = (size_t)bits << chunk->shift;
	unsigned cpu;
	uint32_t row;

	part_write((uint8_t *)chunk->overlay + ((size_t)start << chunk->shift), content, 0, bytes);
	/* A peek at a neighbour reads the word without the lock. */
	a_or_rlx(&chunk->over[start / 64], 1ull << start % 64);
	chunk->pool->has_overlays = true;
	while (percpu_cpu_walk_next(&walk, chunk->pool, &cpu, &row)) {
		uint64_t *known = known_row(chunk, row);
		part_write(chunk_place(chunk, cpu, start), content, 0, bytes);
		for (uint32_t i = block_of(chunk, start);
			known && i <= block_of(chunk, start + bits - 1); i++)
			known[i / 64] |= 1ull << i % 64;
	}
}

/* An anonymous chunk has no image but zero: the content is written to every processor. */
static void write_everywhere(struct percpu_chunk *chunk, uint32_t start, uint32_t bits,
	struct content content)
{
	chunk->pool->wrote_everywhere = true;
	for (unsigned cpu = 0; cpu < chunk->pool->cpus; cpu++)
		part_write(chunk_place(chunk, cpu, start), content, 0,
			(size_t)bits << chunk->shift);
}

/*
 * Whether the image has the content already. Of blocks that were never filled it is zero, which is
 * not looked at: reading the window would make a page of the file present.
 */
static bool image_has(const struct percpu_chunk *chunk, uint32_t start, uint32_t bits,
	struct content content)
{
	uint32_t end = start + bits;

	if (!chunk->is_file)
		return !content.len;
	if (percpu_content_is_frozen(chunk))
		return false;
	for (uint32_t at = start; at < end;) {
		uint32_t stop = block_stop(chunk, at, end);
		size_t offset = (size_t)(at - start) << chunk->shift;
		size_t len = (size_t)(stop - at) << chunk->shift;

		if (chunk->tag[block_of(chunk, at)] ? !part_equals(percpu_content_image(chunk, at),
							      content, offset, len)
						    : !part_is_zero(content, offset, len))
			return false;
		at = stop;
	}
	return true;
}

int percpu_content_put(struct percpu_chunk *chunk, uint32_t start, uint32_t bits,
	struct content content)
{
	if (image_has(chunk, start, bits, content))
		restore(chunk, start, bits, content);
	else if (chunk->is_file)
		overlay_put(chunk, start, bits, content);
	else
		write_everywhere(chunk, start, bits, content);
	return 0;
}

/* A multiple of a granule; small ones without a call, by stores that may overlap. */
static inline void zero(uint8_t *at, size_t bytes)
{
	if (bytes > 128) {
		memset(at, 0, bytes);
	} else if (bytes >= 32) {
		memset(at, 0, 32);
		memset(at + bytes - 32, 0, 32);
		memset(at + (bytes > 64 ? 32 : 0), 0, 32);
		memset(at + (bytes > 64 ? bytes - 64 : 0), 0, 32);
	} else {
		for (; bytes; bytes -= ALLOD_PERCPU_GRANULE, at += ALLOD_PERCPU_GRANULE)
			memset(at, 0, ALLOD_PERCPU_GRANULE);
	}
}

/* The blocks that elements lie in, by their addresses, and what they are on a processor. */
enum { SEEN_BLOCKS = 16 };

struct seen {
	uintptr_t at[SEEN_BLOCKS];
	enum os_page kind[SEEN_BLOCKS];
	size_t room; /* an element begins at most so far from its block's beginning, or reaches out */
	bool has_others; /* some elements lie in no block that is here, or in two */
};

static inline unsigned seen_index(const struct seen *seen, uintptr_t element)
{
	unsigned i = (element >> BLOCK_SHIFT) % SEEN_BLOCKS;

	return element - seen->at[i] <= seen->room ? i : SEEN_BLOCKS;
}

static void see_blocks(struct seen *seen, const uintptr_t *elements, uint32_t count, size_t bytes)
{
	*seen = (struct seen){ .room = BLOCK_BYTES - bytes };
	for (uint32_t i = 0; i < count; i++) {
		uintptr_t *at = &seen->at[(elements[i] >> BLOCK_SHIFT) % SEEN_BLOCKS];

		if (!*at)
			*at = elements[i] & -(uintptr_t)BLOCK_BYTES;
		seen->has_others |= elements[i] - *at > seen->room;
	}
}

static void view_turn_to(struct view *v, uintptr_t at, uint32_t row)
{
	struct percpu_chunk *chunk = chunk_of(at);

	if (chunk != v->chunk)
		view_turn(v, chunk, row);
}

/* What the blocks are on this processor; whether one of them may have memory. */
static bool look_at_blocks(struct view *v, uint32_t row, struct seen *seen)
{
	bool may_have = false;

	for (unsigned i = 0; i < SEEN_BLOCKS; i++) {
		if (!seen->at[i])
			continue;
		view_turn_to(v, seen->at[i], row);
		seen->kind[i] =
			view_look(v, block_of(v->chunk, chunk_bit_of(v->chunk, seen->at[i])));
		may_have |= seen->kind[i] == OS_PAGE_OWN || seen->kind[i] == OS_PAGE_EITHER;
	}
	return may_have;
}

/* How many elements, from the first on, are neighbours in one block; *ret_low: the lowest of them. */
static uint32_t neighbours(const struct seen *seen, const uintptr_t *elements, uint32_t count,
	size_t bytes, uintptr_t *ret_low)
{
	unsigned at = seen_index(seen, elements[0]);
	uintptr_t low = elements[0];
	uintptr_t high = low + bytes;
	uint32_t n = 1;

	for (; n < count && seen_index(seen, elements[n]) == at; n++) {
		if (elements[n] == high)
			high += bytes;
		else if (elements[n] + bytes == low)
			low -= bytes;
		else
			break;
	}
	*ret_low = low;
	return n;
}

/* One processor's part of percpu_content_zero_many(): elements of anonymous chunks. */
static void zero_on(struct view *v, uint32_t row, const uintptr_t *elements, uint32_t count,
	uint32_t size, struct seen *seen)
{
	uintptr_t distance = v->cpu * chunk_of(elements[0])->stride;
	size_t bytes = (size_t)size << GRANULE_SHIFT;

	v->chunk = NULL;
	if (!look_at_blocks(v, row, seen) && !seen->has_others)
		return;
	for (uint32_t i = 0; i < count;) {
		unsigned at = seen_index(seen, elements[i]);
		uintptr_t low = elements[i];
		uint32_t n = 1;

		if (at == SEEN_BLOCKS || seen->kind[at] == OS_PAGE_EITHER) {
			view_turn_to(v, low, row);
			view_restore(v, chunk_bit_of(v->chunk, low), chunk_bits_of(v->chunk, size),
				(struct content){ NULL, 0 });
		} else if (seen->kind[at] == OS_PAGE_OWN) {
			n = neighbours(seen, elements + i, count - i, bytes, &low);
			zero((uint8_t *)(low + distance), n * bytes);
		}
		i += n;
	}
}

/* Elements of at most a block. */
static void zero_small(struct allod_percpu_pool *pool, const uintptr_t *elements, uint32_t count,
	uint32_t size)
{
	struct cpu_walk walk = { 0 };
	struct view v = { .may_swap = -1 };
	struct seen seen;
	uint32_t row;

	see_blocks(&seen, elements, count, (size_t)size << GRANULE_SHIFT);
	while (percpu_cpu_walk_next(&walk, pool, &v.cpu, &row))
		zero_on(&v, row, elements, count, size, &seen);
}

int percpu_content_zero_many(const uintptr_t *elements, uint32_t count, uint32_t size)
{
	struct allod_percpu_pool *pool = chunk_of(elements[0])->pool;
	bool is_small = size <= BLOCK_BYTES >> GRANULE_SHIFT;

	percpu_pool_lock(pool);
	if (is_small)
		zero_small(pool, elements, count, size);
	for (uint32_t i = 0; !is_small && i < count; i++) {
		struct percpu_chunk *chunk = chunk_of(elements[i]);
		restore(chunk, chunk_bit_of(chunk, elements[i]), chunk_bits_of(chunk, size),
			(struct content){ NULL, 0 });
	}
	percpu_pool_unlock(pool);
	return 0;
}

/* Poison: in chunks whose grains are granules, since all of the pool's are. */

/* Calls with each part of a run that lies in one block. False: there is none left. */
static bool part_next(const struct percpu_chunk *chunk, uint32_t *at, uint32_t *stop, uint32_t end)
{
	*at = *stop;
	*stop = block_stop(chunk, *at, end);
	return *at < end;
}

static bool is_zeroed(const uint8_t *have, size_t bytes)
{
	uint32_t any = 0;
	uint32_t value;

	for (size_t at = 0; at < bytes; at += sizeof(value)) {
		memcpy(&value, have + at, sizeof(value));
		any |= value;
	}
	return !any;
}

/*
 * Whether a part's page has memory of its own. One that is present is looked at: if it is not zero,
 * it is no page of zeros, and need not be asked about again.
 */
static bool part_is_own(struct view *v, uint32_t at, uint32_t stop)
{
	const uint32_t block = block_of(v->chunk, at);
	enum os_page kind = view_look(v, block);

	if (kind != OS_PAGE_EITHER || v->chunk->is_file || (v->row && v->is_blind))
		return kind == OS_PAGE_OWN;
	if (is_zeroed(chunk_place(v->chunk, v->cpu, at), (size_t)(stop - at) << v->chunk->shift))
		return false;
	if (v->row)
		v->row[block / 64] |= 1ull << block % 64;
	return true;
}

/* The poison as it stands at a granule: the pattern begins with the chunk. */
static uint64_t poison_at(const struct percpu_chunk *chunk, uint32_t bit)
{
	const uint64_t poison = chunk->pool->options.poison;

	return bit & 1 ? poison >> 32 | poison << 32 : poison;
}

static void poison_write(uint8_t *dst, uint64_t poison, size_t bytes)
{
	size_t at = 0;

	for (; at + sizeof(poison) <= bytes; at += sizeof(poison))
		memcpy(dst + at, &poison, sizeof(poison));
	memcpy(dst + at, &poison, bytes - at);
}

static bool poison_equals(const uint8_t *have, uint64_t poison, size_t bytes)
{
	uint64_t differs = 0;
	uint64_t value;
	size_t at = 0;

	for (; at + sizeof(value) <= bytes; at += sizeof(value)) {
		memcpy(&value, have + at, sizeof(value));
		differs |= value ^ poison;
	}
	return !differs && !memcmp(have + at, &poison, bytes - at);
}

void percpu_content_poison(struct percpu_chunk *chunk, uint32_t start, uint32_t bits)
{
	struct cpu_walk walk = { 0 };
	struct view v = { .may_swap = -1 };
	uint32_t row;

	while (percpu_cpu_walk_next(&walk, chunk->pool, &v.cpu, &row)) {
		view_turn(&v, chunk, row);
		for (uint32_t at, stop = start; part_next(chunk, &at, &stop, start + bits);) {
			if (part_is_own(&v, at, stop))
				poison_write(chunk_place(chunk, v.cpu, at), poison_at(chunk, at),
					(size_t)(stop - at) << GRANULE_SHIFT);
		}
	}
}

/* Each granule is poison, or what a page without memory had when the element was freed. */
static bool part_is_poison(const struct percpu_chunk *chunk, unsigned cpu, uint32_t at,
	uint32_t stop)
{
	const uint8_t *have = chunk_place(chunk, cpu, at);

	if (poison_equals(have, poison_at(chunk, at), (size_t)(stop - at) << GRANULE_SHIFT))
		return true;
	for (; at < stop; at++, have += ALLOD_PERCPU_GRANULE) {
		const uint8_t *image = percpu_content_image(chunk, at);
		bool is_image = image ? !memcmp(have, image, ALLOD_PERCPU_GRANULE)
				      : is_zeroed(have, ALLOD_PERCPU_GRANULE);
		if (!is_image && !poison_equals(have, poison_at(chunk, at), ALLOD_PERCPU_GRANULE))
			return false;
	}
	return true;
}

bool percpu_content_is_poison(struct percpu_chunk *chunk, uint32_t start, uint32_t bits)
{
	struct cpu_walk walk = { 0 };
	struct view v = { .may_swap = -1 };
	uint32_t row;

	/* What the parent filled the page with, or fills it with now, is not here to compare. */
	if (percpu_content_is_frozen(chunk))
		return true;
	while (percpu_cpu_walk_next(&walk, chunk->pool, &v.cpu, &row)) {
		view_turn(&v, chunk, row);
		for (uint32_t at, stop = start; part_next(chunk, &at, &stop, start + bits);) {
			if (part_is_own(&v, at, stop) && !part_is_poison(chunk, v.cpu, at, stop))
				return false;
		}
	}
	return true;
}

/* Activation */

int percpu_content_activate(struct percpu_chunk *chunk, unsigned cpu)
{
	uint32_t at = 0;

	if (!chunk->is_file || cpu >= chunk->pool->cpus)
		return 0;
	while ((at = bits_next_live(chunk->over, at, chunk->bits)) < chunk->bits) {
		uint32_t end = chunk_end_of(chunk, at) + 1;
		memcpy(chunk_place(chunk, cpu, at),
			(uint8_t *)chunk->overlay + ((size_t)at << chunk->shift),
			(size_t)(end - at) << chunk->shift);
		at = end;
	}
	return 0;
}
