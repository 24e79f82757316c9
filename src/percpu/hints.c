/* SPDX-License-Identifier: MIT */
/*
 * The hints of blocks and chunks: how they follow what is taken and given back.
 *
 * The algorithm is that of the kernel's per-CPU allocator, with these differences. A block is
 * looked through word by word. What a free tells the chunk is counted from the chunk's beginning
 * at both ends (the kernel counts one end from the block's, and so misses holes in every block but
 * the first). A chunk's longest run is looked for again when what is left of the one it knew falls
 * below half of it, so that filling a chunk costs a number of walks that grows with the logarithm.
 *
 * The caller holds the pool's lock.
 */
#include "percpu/bits.h"
#include "percpu/percpu.h"

/* Whether a run at `start` is better than one of the same length at `other`, for alignments. */
static bool is_better_start(uint32_t start, uint32_t other)
{
	if (!other)
		return false;
	return !start || __builtin_ctz(start) > __builtin_ctz(other);
}

static void scan_drop(struct percpu_hint *hint)
{
	hint->scan = 0;
}

static void scan_set(struct percpu_hint *hint, uint32_t start, uint32_t len)
{
	hint->scan = len;
	hint->scan_start = start;
}

static void learn_longer(struct percpu_hint *hint, uint32_t start, uint32_t len)
{
	if (start > hint->contig_start) {
		/* The old longest lies in front of the new one. */
		if (hint->contig > hint->scan || start <= hint->scan_start)
			scan_set(hint, hint->contig_start, hint->contig);
	} else {
		scan_drop(hint);
	}
	hint->contig = len;
	hint->contig_start = start;
}

static void learn_equal(struct percpu_hint *hint, uint32_t start, uint32_t len)
{
	if (start == hint->contig_start)
		return;
	if (is_better_start(start, hint->contig_start)) {
		hint->contig_start = start;
		if (start < hint->scan_start && hint->contig > hint->scan)
			scan_drop(hint);
	} else if (start > hint->scan_start || hint->contig > hint->scan) {
		scan_set(hint, start, len);
	}
}

static bool overlaps(uint32_t start, uint32_t end, uint32_t other, uint32_t len)
{
	return len && start < other + len && other < end;
}

/* Tells the hints of the whole free run [start, end). */
void percpu_hint_learn(struct percpu_hint *hint, uint32_t start, uint32_t end, uint32_t bits)
{
	uint32_t len = end - start;

	if (start < hint->first)
		hint->first = start;
	if (start == 0)
		hint->left = len;
	if (end == bits)
		hint->right = len;
	if (len > hint->contig)
		learn_longer(hint, start, len);
	else if (len == hint->contig)
		learn_equal(hint, start, len);
	else if (start < hint->contig_start &&
		(len > hint->scan || (len == hint->scan && start > hint->scan_start)))
		scan_set(hint, start, len);
	/* What is a part of the run now, or lies behind a longer one, is no scan hint. */
	bool is_part = overlaps(start, end, hint->scan_start, hint->scan) &&
		(hint->scan != len || hint->contig_start == start);
	bool is_behind = hint->scan < hint->contig && hint->scan_start > hint->contig_start;
	if (is_part || is_behind)
		scan_drop(hint);
}

static void hint_all_free(struct percpu_hint *hint, uint32_t bits)
{
	hint->contig = hint->left = hint->right = bits;
	hint->contig_start = hint->first = 0;
	hint->scan = hint->scan_start = 0;
}

static void hint_none_free(struct percpu_hint *hint, uint32_t bits)
{
	hint->contig = hint->left = hint->right = 0;
	hint->contig_start = 0;
	hint->scan = hint->scan_start = 0;
	hint->first = bits;
}

/* Tells the hints of a run if it is the longest so far. */
static void learn_if_longer(struct percpu_hint *hint, uint32_t start, uint32_t len)
{
	if (len > hint->contig)
		learn_longer(hint, start, len);
}

/* The runs inside a word that touch neither of its edges, if one is longer than what is known. */
static void learn_inner(struct percpu_hint *hint, uint32_t base, uint64_t free)
{
	while (hint->contig < 64) {
		uint64_t starts = bits_run_starts(free, 0, hint->contig + 1);
		if (!starts)
			return;
		uint32_t at = (uint32_t)__builtin_ctzll(starts);
		learn_longer(hint, base + at, (uint32_t)__builtin_ctzll(~(free >> at)));
	}
}

/* The hints of a block whose map is one word: no search of it is long, so nothing is scanned for. */
static inline void word_refresh(struct percpu_hint *hint, uint64_t free)
{
	uint32_t base = 0;

	if (!free || !~free) {
		(free ? hint_all_free : hint_none_free)(hint, 64);
		return;
	}
	hint->first = (uint32_t)__builtin_ctzll(free);
	hint->left = (uint32_t)__builtin_ctzll(~free);
	hint->right = (uint32_t)__builtin_clzll(~free);
	hint->scan = hint->scan_start = 0;
	hint->contig = 0;
	while (free) {
		uint32_t skip = (uint32_t)__builtin_ctzll(free);
		uint32_t len = (uint32_t)__builtin_ctzll(~(free >> skip));

		if (len > hint->contig) {
			hint->contig_start = base + skip;
			hint->contig = len;
		}
		base += skip + len;
		free = free >> skip >> len;
	}
}

/*
 * Looks a block through, word by word. No run is longer than `bound`, so the search ends with the
 * first that is as long.
 */
static void block_refresh(struct percpu_chunk *chunk, uint32_t index, uint32_t bound)
{
	struct percpu_hint *hint = &chunk->block[index];
	const uint64_t *map = chunk->alloc + index * block_words(chunk);
	const uint32_t size = block_bits(chunk);

	if (size == 64) {
		word_refresh(hint, ~map[0]);
		return;
	}
	uint32_t first = bits_next_clear(map, hint->first, size);
	uint32_t run = 0;

	hint_none_free(hint, size);
	for (uint32_t word = first / 64; word < size / 64 && hint->contig < bound; word++) {
		uint64_t free = ~map[word];
		uint32_t base = word * 64;

		if (free == ~0ull) {
			run += 64;
			continue;
		}
		uint32_t low = (uint32_t)__builtin_ctzll(~free);
		uint32_t high = (uint32_t)__builtin_clzll(~free);
		learn_if_longer(hint, base - run, run + low);
		learn_inner(hint, base, free & ~0ull << low & ~0ull >> high);
		run = high;
	}
	learn_if_longer(hint, size - run, hint->contig < bound ? run : 0);
	hint->first = first;
	hint->left = first ? 0 : bits_next_set(map, 0, size);
	hint->right = size - bits_last_set(map, 0, size);
}

/* A block learns that [start, end) of it was taken. */
static void block_take(struct percpu_chunk *chunk, uint32_t index, uint32_t start, uint32_t end)
{
	struct percpu_hint *hint = &chunk->block[index];
	const uint64_t *map = chunk->alloc + index * block_words(chunk);
	const uint32_t size = block_bits(chunk);

	if (start == hint->first && start == hint->contig_start && start + hint->contig == size) {
		/* The only run of the block, taken from its beginning: how a fresh block fills. */
		hint->left = 0;
		hint->first = hint->contig_start = end;
		hint->contig = hint->right = size - end;
		scan_drop(hint);
		return;
	}
	if (start == hint->first)
		hint->first = bits_next_clear(map, end, size);
	if (overlaps(start, end, hint->scan_start, hint->scan))
		scan_drop(hint);
	if (overlaps(start, end, hint->contig_start, hint->contig)) {
		block_refresh(chunk, index, hint->contig);
		return;
	}
	if (start < hint->left)
		hint->left = start;
	if (end > size - hint->right)
		hint->right = size - end;
}

/* Calls percpu_hint_learn() for the free runs of the chunk, as far as block hints know them. */
static void chunk_refresh(struct percpu_chunk *chunk)
{
	struct percpu_hint *hint = &chunk->hint;
	const uint32_t size = block_bits(chunk);
	uint32_t first = hint->first;
	uint32_t start = 0;
	uint32_t len = 0;

	hint_none_free(hint, chunk->bits);
	hint->first = first;
	for (uint32_t i = block_of(chunk, first); i < chunk->blocks; i++) {
		const struct percpu_hint *block = &chunk->block[i];
		uint32_t base = block_base(chunk, i);

		if (block->left == size) {
			start = len ? start : base;
			len += size;
			continue;
		}
		if (len + block->left)
			percpu_hint_learn(hint, len ? start : base, base + block->left,
				chunk->bits);
		if (block->contig > hint->contig)
			percpu_hint_learn(hint, base + block->contig_start,
				base + block->contig_start + block->contig, chunk->bits);
		start = base + size - block->right;
		len = block->right;
	}
	if (len)
		percpu_hint_learn(hint, start, start + len, chunk->bits);
	if (hint->first < first)
		hint->first = first;
}

/* Looks for the chunk's first free grain, from a block on. */
static void first_find(struct percpu_chunk *chunk, uint32_t index)
{
	while (index < chunk->blocks && chunk->block[index].first == block_bits(chunk))
		index++;
	chunk->hint.first = index < chunk->blocks
		? block_base(chunk, index) + chunk->block[index].first
		: chunk->bits;
}

/* The chunk learns that [start, end) was taken; its blocks know already. */
static void chunk_took(struct percpu_chunk *chunk, uint32_t start, uint32_t end)
{
	struct percpu_hint *hint = &chunk->hint;

	if (start == hint->first)
		first_find(chunk, block_of(chunk, end));
	if (overlaps(start, end, hint->scan_start, hint->scan))
		scan_drop(hint);
	if (!overlaps(start, end, hint->contig_start, hint->contig))
		return;
	uint32_t stop = hint->contig_start + hint->contig;
	uint32_t rest = stop - end;
	/* Alignment may have left a hole in front, which is the scan hint at most. */
	if (start >= hint->contig_start && end < stop && rest >= end - start &&
		rest >= hint->scan && rest > hint->contig / 2) {
		hint->contig_start = end;
		hint->contig = rest;
		return;
	}
	chunk_refresh(chunk);
}

void percpu_hints_take(struct percpu_chunk *chunk, uint32_t start, uint32_t end)
{
	const uint32_t size = block_bits(chunk);

	for (uint32_t at = start; at < end;) {
		uint32_t index = block_of(chunk, at);
		uint32_t base = block_base(chunk, index);
		uint32_t stop = block_stop(chunk, at, end);

		if (chunk->block[index].left == size && chunk->block[index].fresh)
			chunk->idle_blocks--, chunk->pool->idle_blocks--;
		if (stop - at == size)
			hint_none_free(&chunk->block[index], size);
		else
			block_take(chunk, index, at - base, stop - base);
		at = stop;
	}
	chunk_took(chunk, start, end);
}

/*
 * Elements `step` apart were taken from `start` on, with holes between them. The chunk is told of
 * the first hole; of the others when they are looked for.
 */
void percpu_hints_take_strided(struct percpu_chunk *chunk, uint32_t start, uint32_t end,
	uint32_t hole)
{
	for (uint32_t i = block_of(chunk, start); i <= block_of(chunk, end - 1); i++) {
		struct percpu_hint *hint = &chunk->block[i];

		if (hint->left == block_bits(chunk) && hint->fresh)
			chunk->idle_blocks--, chunk->pool->idle_blocks--;
		block_refresh(chunk, i, hint->contig);
		ASSERT(!percpu_block_check(chunk, i));
	}
	chunk_took(chunk, start, end);
	if (hole < chunk->hint.first)
		chunk->hint.first = hole;
	if (!chunk->hint.contig)
		chunk_refresh(chunk);
}

/* A block learns that [start, end) of it was given back: the run around it is looked for. */
static void block_give(struct percpu_chunk *chunk, uint32_t index, uint32_t start, uint32_t end,
	uint32_t *ret_start, uint32_t *ret_end)
{
	struct percpu_hint *hint = &chunk->block[index];
	const uint64_t *map = chunk->alloc + index * block_words(chunk);
	const uint32_t size = block_bits(chunk);

	if (hint->contig && start == hint->contig_start + hint->contig)
		start = hint->contig_start;
	else
		start = bits_last_set(map, 0, start);
	if (hint->contig && end == hint->contig_start)
		end = hint->contig_start + hint->contig;
	else
		end = bits_next_set(map, end, size);
	if (end - start == size) {
		hint_all_free(hint, size);
		if (hint->fresh)
			chunk->idle_blocks++, chunk->pool->idle_blocks++;
	} else {
		percpu_hint_learn(hint, start, end, size);
	}
	*ret_start = block_base(chunk, index) + start;
	*ret_end = block_base(chunk, index) + end;
}

/* Neighbouring blocks that are looked at for more of a run; what lies further is left unseen. */
enum { WALK_BLOCKS = 8 };

static uint32_t run_begin(const struct percpu_chunk *chunk, uint32_t start)
{
	const struct percpu_hint *hint = &chunk->hint;

	for (unsigned i = 0; i < WALK_BLOCKS && start && !bit_in_block(chunk, start); i++) {
		if (hint->contig && start == hint->contig_start + hint->contig)
			return hint->contig_start;
		uint32_t right = chunk->block[block_of(chunk, start) - 1].right;
		start -= right;
		if (right < block_bits(chunk))
			break;
	}
	return start;
}

static uint32_t run_end(const struct percpu_chunk *chunk, uint32_t end)
{
	const struct percpu_hint *hint = &chunk->hint;

	for (unsigned i = 0; i < WALK_BLOCKS && end < chunk->bits && !bit_in_block(chunk, end);
		i++) {
		if (hint->contig && end == hint->contig_start)
			return hint->contig_start + hint->contig;
		uint32_t left = chunk->block[block_of(chunk, end)].left;
		end += left;
		if (left < block_bits(chunk))
			break;
	}
	return end;
}

/* What a search passed over may have room again: a run that begins in the block before, or here. */
void percpu_hints_look_again(struct percpu_chunk *chunk, uint32_t index)
{
	uint32_t from = index ? index - 1 : 0;

	if (from < chunk->skip_block)
		chunk->skip_block = from;
}

static void first_lower(struct percpu_chunk *chunk, uint32_t start)
{
	if (start < chunk->hint.first)
		chunk->hint.first = start;
}

static void run_longer(struct percpu_run *longest, uint32_t start, uint32_t end)
{
	if (end - start > longest->end - longest->start)
		*longest = (struct percpu_run){ start, end };
}

void percpu_hints_give(struct percpu_chunk *chunk, uint32_t start, uint32_t end,
	struct percpu_run *longest)
{
	uint32_t run_start = start;
	uint32_t run_stop = end;

	percpu_hints_look_again(chunk, block_of(chunk, start));
	first_lower(chunk, start);
	for (uint32_t at = start; at < end;) {
		uint32_t index = block_of(chunk, at);
		uint32_t base = block_base(chunk, index);
		uint32_t stop = block_stop(chunk, at, end);
		uint32_t from;
		uint32_t to;

		block_give(chunk, index, at - base, stop - base, &from, &to);
		if (at == start)
			run_start = from;
		run_stop = to;
		at = stop;
	}
	run_longer(longest, run_start, run_stop);
}

/* Several runs of a block were given back. */
void percpu_hints_give_block(struct percpu_chunk *chunk, uint32_t index, struct percpu_run *longest)
{
	struct percpu_hint *hint = &chunk->block[index];
	uint32_t base = block_base(chunk, index);

	hint->first = 0;
	if (chunk->kind == CHUNK_COARSE)
		word_refresh(hint, ~chunk->alloc[index]);
	else
		block_refresh(chunk, index, block_bits(chunk));
	ASSERT(!percpu_block_check(chunk, index));
	if (hint->left == block_bits(chunk) && hint->fresh)
		chunk->idle_blocks++, chunk->pool->idle_blocks++;
	percpu_hints_look_again(chunk, index);
	first_lower(chunk, base + hint->first);
	run_longer(longest, base + hint->contig_start, base + hint->contig_start + hint->contig);
}

/* The chunk learns of the longest of the runs that were given back; its blocks know all. */
void percpu_hints_gave(struct percpu_chunk *chunk, const struct percpu_run *longest)
{
	percpu_hint_learn(&chunk->hint, run_begin(chunk, longest->start),
		run_end(chunk, longest->end), chunk->bits);
}

void percpu_hints_rebuild(struct percpu_chunk *chunk)
{
	chunk->free_bits = 0;
	chunk->idle_blocks = 0;
	chunk->skip_block = 0;
	for (uint32_t i = 0; i < chunk->blocks; i++) {
		const uint64_t *map = chunk->alloc + i * block_words(chunk);

		chunk->block[i].first = 0;
		block_refresh(chunk, i, block_bits(chunk));
		for (uint32_t w = 0; w < block_words(chunk); w++)
			chunk->free_bits += (uint32_t)__builtin_popcountll(~map[w]);
		chunk->idle_blocks +=
			chunk->block[i].left == block_bits(chunk) && chunk->block[i].fresh;
	}
	first_find(chunk, 0);
	chunk_refresh(chunk);
}
