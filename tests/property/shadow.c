/* SPDX-License-Identifier: MIT */
#include "shadow.h"

#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "heap/class.h"
#include "heap/heap.h"
#include "page/page.h"

enum {
	/* Blocks up to this are stamped whole; of larger ones the ends and a word of each page. */
	WHOLE_BYTES = 32 << 10,
	EDGE_BYTES = 512,
	PAGE_BYTES = 4096,
	LARGE_BYTES_MOST = 4 << 20,
	ALIGN_LOG_MOST = 22, /* 4 MiB */
};

static uint64_t below(struct shadow *s, uint64_t limit)
{
	return test_random(&s->random) % limit;
}

static unsigned char stamp_at(uint64_t id, size_t at)
{
	return (unsigned char)(id * 131 + (id >> 8) + at + (at >> 8) * 7 + (at >> 16) * 13);
}

/* The next place after `at` that bears the pattern. */
static size_t stamp_next(size_t at, size_t bytes)
{
	at++;
	if (bytes <= WHOLE_BYTES || at < EDGE_BYTES || at >= bytes - EDGE_BYTES ||
		at % PAGE_BYTES < 8)
		return at;
	const size_t next_page = (at + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
	return next_page < bytes - EDGE_BYTES ? next_page : bytes - EDGE_BYTES;
}

static void stamp(const struct shadow_block *b)
{
	for (size_t at = 0; at < b->bytes; at = stamp_next(at, b->bytes))
		b->p[at] = stamp_at(b->id, at);
}

/* The first `bytes` of the block, which was stamped when it had b->bytes. */
static void check_stamp(const struct shadow_block *b, const unsigned char *p, size_t bytes)
{
	for (size_t at = 0; at < bytes; at = stamp_next(at, b->bytes)) {
		if (p[at] != stamp_at(b->id, at))
			test_fail(__FILE__, __LINE__,
				"block %llu of %zu bytes at %p: byte %zu is %#x, not %#x",
				(unsigned long long)b->id, b->bytes, (const void *)p, at, p[at],
				stamp_at(b->id, at));
	}
}

static void check_zero(const unsigned char *p, size_t bytes)
{
	for (size_t at = 0; at < bytes; at = stamp_next(at, bytes))
		CHECK_EQ(p[at], 0);
}

void shadow_init(struct shadow *s, uint64_t seed, size_t bytes_most)
{
	memset(s, 0, sizeof *s);
	s->random = seed;
	s->bytes_most = bytes_most;
	s->next_id = seed << 20;
}

/* A size from any class, or a large one. */
static size_t random_size(struct shadow *s)
{
	const uint64_t kind = below(s, 100);
	if (kind < 3)
		return CLASS_BYTES_MAX + 1 + below(s, LARGE_BYTES_MOST);
	if (kind < 60)
		return below(s, 1025);
	const unsigned class = 1 + (unsigned)below(s, CLASS_COUNT - 1);
	const size_t bytes = heap_classes[class].bytes;
	const size_t under = heap_classes[class - 1].bytes;
	/* The class's own size, and the least one that it serves, more often than those between. */
	const uint64_t where = below(s, 4);
	return where == 0 ? bytes : where == 1 ? under + 1 : under + 1 + below(s, bytes - under);
}

static size_t random_align(struct shadow *s)
{
	const size_t most = below(s, 20) == 0 ? ALIGN_LOG_MOST : 14;
	return (size_t)1 << (4 + below(s, most - 3));
}

void shadow_put(struct shadow *s, struct shadow_block block)
{
	s->blocks[s->count++] = block;
	s->bytes += block.bytes;
}

static struct shadow_block take_at(struct shadow *s, size_t i)
{
	const struct shadow_block block = s->blocks[i];
	s->blocks[i] = s->blocks[--s->count];
	s->bytes -= block.bytes;
	return block;
}

bool shadow_take(struct shadow *s, struct shadow_block *ret_block)
{
	if (s->count == 0)
		return false;
	*ret_block = take_at(s, below(s, s->count));
	return true;
}

/* Checks a block that the heap has just given out, and keeps it. */
static void keep(struct shadow *s, unsigned char *p, size_t align, size_t size)
{
	CHECK(p != NULL);
	CHECK_EQ((uintptr_t)p & (align - 1), 0);
	struct shadow_block block = { p, heap_usable_size(p), ++s->next_id };
	CHECK(block.bytes >= size);
	stamp(&block);
	shadow_put(s, block);
}

static void step_alloc(struct shadow *s)
{
	const size_t size = random_size(s);
	unsigned char *p = heap_alloc(size);
	CHECK(p != NULL);
	CHECK_EQ(heap_usable_size(p), heap_good_size(size));
	keep(s, p, HEAP_ALIGN_MIN, size);
}

static void step_alloc_zeroed(struct shadow *s)
{
	const size_t size = random_size(s);
	unsigned char *p = heap_alloc_zeroed(size);
	CHECK(p != NULL);
	check_zero(p, size);
	keep(s, p, HEAP_ALIGN_MIN, size);
}

static void step_alloc_aligned(struct shadow *s)
{
	const size_t align = random_align(s);
	const size_t size = random_size(s);
	keep(s, heap_alloc_aligned(align, size), align > HEAP_ALIGN_MIN ? align : HEAP_ALIGN_MIN,
		size);
}

/* Half of the new sizes are near the old one, or its double. */
static size_t random_new_size(struct shadow *s, size_t old)
{
	const uint64_t kind = below(s, 4);
	if (kind == 0)
		return old / 2 + below(s, old / 2 + 1) + 1;
	return kind == 1 && old < LARGE_BYTES_MOST ? old * 2 : random_size(s) + 1;
}

static void step_resize(struct shadow *s)
{
	struct shadow_block block;
	if (!shadow_take(s, &block))
		return;
	const size_t size = random_new_size(s, block.bytes);
	unsigned char *p = heap_resize(block.p, size);
	CHECK(p != NULL);
	check_stamp(&block, p, size < block.bytes ? size : block.bytes);
	keep(s, p, HEAP_ALIGN_MIN, size);
}

static void step_resize_in_place(struct shadow *s)
{
	struct shadow_block block;
	if (!shadow_take(s, &block))
		return;
	const size_t size = random_new_size(s, block.bytes);
	const bool done = heap_resize_in_place(block.p, size);
	const size_t usable = heap_usable_size(block.p);
	CHECK(done ? usable >= size : usable == block.bytes);
	check_stamp(&block, block.p, usable < block.bytes ? usable : block.bytes);
	keep(s, block.p, HEAP_ALIGN_MIN, done ? size : 0);
}

void shadow_free_one(struct shadow *s)
{
	struct shadow_block block;
	if (!shadow_take(s, &block))
		return;
	CHECK_EQ(heap_usable_size(block.p), block.bytes);
	check_stamp(&block, block.p, block.bytes);
	heap_free(block.p);
}

void shadow_free_all(struct shadow *s)
{
	while (s->count > 0)
		shadow_free_one(s);
}

void shadow_step(struct shadow *s)
{
	if (s->count == SHADOW_BLOCKS_MAX || s->bytes > s->bytes_most) {
		/* In bulk at times, so that slabs become empty. */
		const size_t keep_count = below(s, 8) ? s->count - 1 : s->count / 4;
		while (s->count > keep_count)
			shadow_free_one(s);
		return;
	}
	const uint64_t kind = below(s, 100);
	if (kind < 40)
		step_alloc(s);
	else if (kind < 47)
		step_alloc_zeroed(s);
	else if (kind < 54)
		step_alloc_aligned(s);
	else if (kind < 64)
		step_resize(s);
	else if (kind < 67)
		step_resize_in_place(s);
	else
		shadow_free_one(s);
}

static int by_address(const void *a, const void *b)
{
	const struct shadow_block *left = a;
	const struct shadow_block *right = b;
	return left->p < right->p ? -1 : left->p > right->p;
}

void shadow_check_overlap(const struct shadow *shadows, size_t count)
{
	size_t total = 0;
	for (size_t i = 0; i < count; i++)
		total += shadows[i].count;
	struct shadow_block *all = malloc((total + 1) * sizeof *all);
	size_t used = 0;
	CHECK(all != NULL);
	for (size_t i = 0; i < count; i++) {
		memcpy(all + used, shadows[i].blocks, shadows[i].count * sizeof *all);
		used += shadows[i].count;
	}
	qsort(all, total, sizeof *all, by_address);
	for (size_t i = 1; i < total; i++)
		CHECK(all[i - 1].p + all[i - 1].bytes <= all[i].p);
	free(all);
}

void shadow_check_account(const struct shadow *shadows, size_t count)
{
	struct heap_stats stats;
	size_t blocks = 0;
	size_t bytes = 0;
	for (size_t i = 0; i < count; i++) {
		blocks += shadows[i].count;
		bytes += shadows[i].bytes;
	}
	heap_check();
	heap_stats_read(&stats);
	CHECK_EQ(stats.used_blocks, blocks);
	CHECK_EQ(stats.used_bytes, bytes);
	CHECK_EQ(stats.used_bytes - stats.large_bytes + stats.free_bytes <= stats.slab_bytes, true);
}
