/* SPDX-License-Identifier: MIT */
/*
 * Whether maps and hints agree. Everything is computed again from the bits, one by one, so that no
 * code is shared with what is checked.
 */
#include "percpu/bits.h"
#include "percpu/percpu.h"

static bool is_used(const uint64_t *map, uint32_t bit)
{
	return map[bit / 64] >> bit % 64 & 1;
}

/* Whether [start, start + len) is free, and not a part of a longer free run unless `part`. */
static bool is_run(const uint64_t *map, uint32_t bits, uint32_t start, uint32_t len, bool part)
{
	if (len > bits || start > bits - len)
		return false;
	for (uint32_t i = 0; i < len; i++) {
		if (is_used(map, start + i))
			return false;
	}
	return part ||
		((start == 0 || is_used(map, start - 1)) &&
			(start + len == bits || is_used(map, start + len)));
}

static const char *order_check(const struct percpu_hint *h)
{
	if (!h->scan)
		return NULL;
	if (h->scan > h->contig)
		return "scan hint longer than contig hint";
	if (h->scan < h->contig && h->scan_start > h->contig_start)
		return "scan hint behind contig hint";
	return NULL;
}

/* The true values of a map, for comparison. */
struct truth {
	uint32_t longest;
	uint32_t left;
	uint32_t right;
	uint32_t first;
	uint32_t free;
};

static struct truth truth_of(const uint64_t *map, uint32_t bits)
{
	struct truth t = { .first = bits };
	uint32_t run = 0;

	for (uint32_t i = 0; i < bits; i++) {
		if (is_used(map, i)) {
			run = 0;
			continue;
		}
		run++;
		t.free++;
		t.first = t.first < i ? t.first : i;
		t.left += run == i + 1;
		t.longest = t.longest > run ? t.longest : run;
	}
	t.right = run;
	return t;
}

const char *percpu_block_check(const struct percpu_chunk *chunk, uint32_t block)
{
	const struct percpu_hint *h = &chunk->block[block];
	const uint32_t size = BLOCK_BYTES >> chunk->shift;
	const uint64_t *map = chunk->alloc + block * (size / 64);
	struct truth t = truth_of(map, size);

	if (h->contig != t.longest)
		return "block: contig hint is not the longest run";
	if (h->contig && !is_run(map, size, h->contig_start, h->contig, false))
		return "block: contig hint is no free run";
	if (h->left != t.left)
		return "block: left free is wrong";
	if (h->right != t.right)
		return "block: right free is wrong";
	if (h->first != t.first)
		return "block: first free is wrong";
	if (h->scan && !is_run(map, size, h->scan_start, h->scan, false))
		return "block: scan hint is no free run";
	return order_check(h);
}

/* Every element begins and ends in what is not free, in turn; what is not free is elements. */
static const char *maps_check(const struct percpu_chunk *chunk)
{
	bool inside = false;

	for (uint32_t i = 0; i < chunk->bits; i++) {
		bool used = is_used(chunk->alloc, i);
		bool begins = a_load_rlx(&chunk->live[i / 64]) >> i % 64 & 1;
		bool ends = a_load_rlx(&chunk->end[i / 64]) >> i % 64 & 1;

		if (!used && (begins || ends))
			return "maps: an element's edge in free memory";
		if (begins && inside)
			return "maps: an element begins inside another";
		if (!used && inside)
			return "maps: an element without an end";
		inside = used && !ends;
	}
	return inside ? "maps: an element without an end" : NULL;
}

const char *percpu_hints_check(const struct percpu_chunk *chunk)
{
	const struct percpu_hint *h = &chunk->hint;
	struct truth t = truth_of(chunk->alloc, chunk->bits);
	uint32_t idle = 0;

	if (chunk->bits != (chunk->blocks << BLOCK_SHIFT) >> chunk->shift)
		return "chunk: its grains are not its blocks'";
	for (uint32_t i = 0; i < chunk->blocks; i++) {
		const char *wrong = percpu_block_check(chunk, i);
		if (wrong)
			return wrong;
		idle += chunk->block[i].left == (uint32_t)BLOCK_BYTES >> chunk->shift &&
			chunk->block[i].fresh;
	}
	if (h->contig > t.longest ||
		!is_run(chunk->alloc, chunk->bits, h->contig_start, h->contig, true))
		return "chunk: contig hint is no free run";
	if (h->scan && !is_run(chunk->alloc, chunk->bits, h->scan_start, h->scan, true))
		return "chunk: scan hint is no free run";
	if (t.free && !h->contig)
		return "chunk: free memory that no hint tells of";
	if (h->first != t.first)
		return "chunk: first free is wrong";
	if (chunk->free_bits != t.free)
		return "chunk: count of free granules is wrong";
	if (chunk->idle_blocks != idle)
		return "chunk: count of idle blocks is wrong";
	if (order_check(h))
		return order_check(h);
	return maps_check(chunk);
}
