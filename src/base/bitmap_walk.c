/* SPDX-License-Identifier: MIT */
/*
 * Walks over a bitmap that only look: for purging, statistics and tests. Nothing here changes the
 * map, and what is seen may have changed when the caller learns of it.
 */
#include "bitmap_word.h"

/* The first bit in [from, end) that is free, or end; skips blocks whose hint says there is none. */
static size_t first_free(const struct bitmap *b, size_t from, size_t end)
{
	while (from < end) {
		size_t block = from / BITMAP_BLOCK_BITS;
		if (!hint_bound(a_load_rlx(&b->hints[block]))) {
			from = (block + 1) * BITMAP_BLOCK_BITS;
			continue;
		}
		uint64_t free = word_read(b, from / WORD_BITS) & word_mask(from, end);
		if (free)
			return from / WORD_BITS * WORD_BITS + (size_t)__builtin_ctzll(free);
		from = word_end(from);
	}
	return end;
}

size_t bitmap_free_count(const struct bitmap *b)
{
	size_t words = a_load_rlx(&b->high_blocks) * BLOCK_WORDS;
	size_t count = 0;

	for (size_t i = 0; i < words; i++)
		count += (size_t)__builtin_popcountll(a_load_rlx(&b->words[i]));
	return count;
}

size_t bitmap_next_free(const struct bitmap *b, size_t from, size_t limit, size_t *ret_run)
{
	size_t high = a_load_rlx(&b->high_blocks) * BITMAP_BLOCK_BITS;
	size_t end = min_size(min_size(limit, b->bits), high);
	size_t pos = first_free(b, from, end);

	if (pos >= end)
		return BITMAP_NONE;
	/* The bit may have been taken since. A run of one is then what was seen. */
	size_t run = first_used(b, pos, min_size(limit, b->bits)) - pos;
	*ret_run = run ? run : 1;
	return pos;
}

size_t bitmap_free_end(const struct bitmap *b, size_t from, size_t limit)
{
	return first_used(b, from, limit);
}

/* The longest free run, up to 512 bits, that starts in the block. */
static size_t block_longest(const struct bitmap *b, size_t block)
{
	size_t end = (block + 1) * BITMAP_BLOCK_BITS;
	size_t longest = 0;

	for (size_t pos = block * BITMAP_BLOCK_BITS; pos < end; pos++) {
		size_t used = first_used(b, pos, pos + BITMAP_BLOCK_BITS);
		if (used - pos > longest)
			longest = used - pos;
		pos = used;
	}
	return longest;
}

bool bitmap_check(const struct bitmap *b)
{
	size_t high = a_load_rlx(&b->high_blocks);

	for (size_t block = 0; block < b->blocks; block++) {
		size_t longest = block_longest(b, block);
		if (longest > hint_bound(a_load_rlx(&b->hints[block])))
			return false;
		if (longest && block >= high)
			return false;
	}
	return first_used(b, b->bits, b->bits + 1) == b->bits;
}
