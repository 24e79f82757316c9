/* SPDX-License-Identifier: MIT */
/*
 * Chunks: finding room in one, taking and giving back, and the pool's lists of them.
 *
 * A pool has a list of chunks for each length (as a power of two) of the longest free run, so that
 * the fullest chunk that has room is used first. The caller holds the pool's lock, for making and
 * dropping a chunk root.lock besides.
 */
#include "percpu/bits.h"
#include "percpu/percpu.h"

unsigned percpu_chunk_list_of(uint32_t contig)
{
	return contig ? 32 - (unsigned)__builtin_clz(contig) : 0;
}

static void list_remove(struct percpu_chunk *chunk)
{
	struct percpu_chunk **head = &chunk->pool->lists[chunk->kind][chunk->list];

	if (chunk->prev)
		chunk->prev->next = chunk->next;
	else
		*head = chunk->next;
	if (chunk->next)
		chunk->next->prev = chunk->prev;
}

static void list_insert(struct percpu_chunk *chunk, unsigned list)
{
	struct percpu_chunk **head = &chunk->pool->lists[chunk->kind][list];

	chunk->list = list;
	chunk->prev = NULL;
	chunk->next = *head;
	if (*head)
		(*head)->prev = chunk;
	*head = chunk;
}

void percpu_chunk_list(struct percpu_chunk *chunk)
{
	list_insert(chunk, percpu_chunk_list_of(chunk->hint.contig));
}

void percpu_chunk_unlist(struct percpu_chunk *chunk)
{
	list_remove(chunk);
}

void percpu_chunk_relist(struct percpu_chunk *chunk)
{
	unsigned list = percpu_chunk_list_of(chunk->hint.contig);

	if (list == chunk->list)
		return;
	list_remove(chunk);
	list_insert(chunk, list);
}

static uint32_t align_up(uint32_t at, uint32_t align)
{
	return (at + align - 1) & ~(align - 1);
}

/* A bit for each multiple of `align` in the word whose first bit is `base`. */
static uint64_t align_mask(uint32_t base, uint32_t align)
{
	if (align >= 64)
		return base & (align - 1) ? 0 : 1;
	return align == 1 ? ~0ull : ~0ull / ((1ull << align) - 1);
}

/* A run in a block of `words` words, whose first bit is `base`. */
static uint32_t find_short(const uint64_t *map, uint32_t words, uint32_t from, uint32_t bits,
	uint32_t align, uint32_t base)
{
	uint64_t keep = ~0ull << from % 64;

	for (uint32_t word = from / 64; word < words; word++, keep = ~0ull) {
		uint64_t free = ~map[word];
		if (!free)
			continue;
		uint64_t next = bits > 1 && word + 1 < words ? ~map[word + 1] : 0;
		uint64_t starts = bits_run_starts(free, next, bits) & keep &
			align_mask(base + word * 64, align);
		if (starts)
			return word * 64 + (uint32_t)__builtin_ctzll(starts);
	}
	return NOWHERE;
}

static uint32_t find_long(const uint64_t *map, uint32_t size, uint32_t from, uint32_t bits,
	uint32_t align, uint32_t base)
{
	while (from + bits <= size) {
		uint32_t start = bits_next_clear(map, from, size);
		start = align_up(base + start, align) - base;
		if (start + bits > size)
			break;
		uint32_t used = bits_next_set(map, start, start + bits);
		if (used == start + bits)
			return start;
		from = used + 1;
	}
	return NOWHERE;
}

/* The first place in a block for a run that lies in it wholly. */
uint32_t percpu_block_find(const struct percpu_chunk *chunk, uint32_t block, uint32_t bits,
	uint32_t align)
{
	const struct percpu_hint *hint = &chunk->block[block];
	const uint64_t *map = chunk->alloc + block * block_words(chunk);
	uint32_t base = block_base(chunk, block);
	uint32_t from = hint->first;
	uint32_t at;

	if (hint->contig < bits)
		return NOWHERE;
	/* What lies in front of the longest run is at most as long as the scan hint. */
	if (hint->scan && hint->scan_start < hint->contig_start && bits > hint->scan)
		from = hint->scan_start + hint->scan;
	at = bits <= 64 ? find_short(map, block_words(chunk), from, bits, align, base)
			: find_long(map, block_bits(chunk), from, bits, align, base);
	return at == NOWHERE ? NOWHERE : base + at;
}

static bool is_avoided(const struct percpu_chunk *chunk, const struct percpu_avoid *avoid,
	uint32_t block)
{
	for (uint32_t i = 0; avoid->is_apart && i < avoid->count; i++) {
		if (block - avoid->block[i] < line_blocks(chunk))
			return true;
	}
	return false;
}

/* Whether a run may lie in the block, or begin in it. */
static bool may_have(const struct percpu_chunk *chunk, uint32_t block, uint32_t bits)
{
	const struct percpu_hint *hint = &chunk->block[block];

	return hint->contig >= bits ||
		(hint->right && block + 1 < chunk->blocks && hint->right + hint[1].left >= bits);
}

/*
 * Of the blocks that have room, up to the first that is wholly free, the one whose longest run is the
 * shortest. Long runs are kept for what needs them: the holes of a pool whose elements come and go
 * are a third smaller than if the first block that has room were taken. *ret_first: the first that
 * may have room; what is looked at behind it is bounded, since a chunk may be large.
 */
static uint32_t tightest_block(const struct percpu_chunk *chunk, uint32_t from, uint32_t bits,
	const struct percpu_avoid *avoid, uint32_t *ret_first)
{
	enum { LOOKS = UNIT_MOST_BYTES / BLOCK_BYTES };
	uint32_t stop = chunk->blocks;
	uint32_t best = NOWHERE;
	uint32_t least = NOWHERE;
	uint32_t whole = block_bits(chunk);

	*ret_first = chunk->blocks;
	for (uint32_t i = from; i < stop && least > bits && least != whole; i++) {
		uint32_t contig = chunk->block[i].contig;
		if (is_avoided(chunk, avoid, i))
			continue;
		if (*ret_first > i && may_have(chunk, i, bits)) {
			*ret_first = i;
			stop = stop - i < LOOKS ? stop : i + LOOKS;
		}
		if (contig >= bits && contig < least) {
			least = contig;
			best = i;
		} else if (contig == whole) {
			break;
		}
	}
	return best;
}

/* Searches from a block on. */
static uint32_t find_from(const struct percpu_chunk *chunk, uint32_t from, uint32_t bits,
	uint32_t align, const struct percpu_avoid *avoid)
{
	uint32_t start = 0;
	uint32_t len = 0;

	for (uint32_t i = from; i < chunk->blocks; i++) {
		const struct percpu_hint *hint = &chunk->block[i];
		uint32_t base = block_base(chunk, i);

		if (is_avoided(chunk, avoid, i)) {
			if (len && align_up(start, align) + bits <= base)
				return align_up(start, align);
			len = 0;
			continue;
		}
		if (len) {
			uint32_t at = align_up(start, align);
			if (at + bits <= base + hint->left)
				return at;
		}
		uint32_t at = percpu_block_find(chunk, i, bits, align);
		if (at != NOWHERE)
			return at;
		if (hint->left == block_bits(chunk)) {
			start = len ? start : base;
			len += block_bits(chunk);
		} else {
			start = base + block_bits(chunk) - hint->right;
			len = hint->right;
		}
	}
	return len && align_up(start, align) + bits <= chunk->bits ? align_up(start, align)
								   : NOWHERE;
}

/* Where a search may begin: what others take from may have room below what was passed over. */
static uint32_t find_begin(const struct percpu_chunk *chunk, bool is_like,
	const struct percpu_avoid *avoid)
{
	uint32_t first = block_of(chunk, chunk->hint.first);
	uint32_t from = is_like && chunk->skip_block > first ? chunk->skip_block : first;

	for (uint32_t i = 0; !avoid->is_apart && i < avoid->count; i++) {
		/* A run may begin in the block before. */
		uint32_t block = avoid->block[i] ? avoid->block[i] - 1 : 0;
		from = block < from ? block : from;
	}
	return from > first ? from : first;
}

/* What was passed over: for larger runs only if that is much more than is known for these. */
static void skip_note(struct percpu_chunk *chunk, uint32_t block, uint32_t bits, uint32_t align)
{
	enum { WORTH = 4 };
	bool is_same = bits == chunk->skip_bits && align == chunk->skip_align;
	bool is_like = bits >= chunk->skip_bits && align >= chunk->skip_align;

	if (chunk->skip_bits && is_like && !is_same && block <= chunk->skip_block + WORTH)
		return;
	chunk->skip_block = block;
	chunk->skip_bits = bits;
	chunk->skip_align = align;
}

/* A place in the caller's own blocks, as far as the search would not come to them. */
static uint32_t find_own(const struct percpu_chunk *chunk, uint32_t from, uint32_t bits,
	uint32_t align, const struct percpu_avoid *avoid)
{
	uint32_t stop = avoid->own == NOWHERE ? 0 : avoid->own + line_blocks(chunk);
	uint32_t at = NOWHERE;

	stop = stop < from ? stop : from;
	for (uint32_t i = avoid->own; i < stop && at == NOWHERE; i++)
		at = percpu_block_find(chunk, i, bits, align);
	return at;
}

/*
 * A place in the chunk for a run, or NOWHERE: in the block that it fits best, or the first if it does
 * not fit in one. `align` in granules. What a search passes
 * over, for want of alignment perhaps, the next one like it need not look at: without that, small
 * elements of large alignment would look at all holes that they leave. The blocks that threads take
 * from are looked at all the same, the caller's first: if one of them that is idle held up the
 * others' searches, these would look at all that was taken since.
 */
uint32_t percpu_chunk_find(struct percpu_chunk *chunk, uint32_t bits, uint32_t align,
	const struct percpu_avoid *avoid)
{
	bool is_like = bits >= chunk->skip_bits && align >= chunk->skip_align;
	uint32_t from = find_begin(chunk, is_like, avoid);
	uint32_t first;
	uint32_t at;

	if (chunk->hint.contig < bits)
		return NOWHERE;
	if (bits > block_bits(chunk))
		return find_from(chunk, from, bits, align, avoid);
	at = find_own(chunk, from, bits, align, avoid);
	if (at != NOWHERE)
		return at;
	uint32_t block = tightest_block(chunk, from, bits, avoid, &first);
	if (block != NOWHERE)
		at = percpu_block_find(chunk, block, bits, align);
	if (at == NOWHERE) {
		at = find_from(chunk, from, bits, align, avoid);
		first = at == NOWHERE ? chunk->blocks : block_of(chunk, at);
	}
	skip_note(chunk, first, bits, align);
	return at;
}

static void assert_blocks(const struct percpu_chunk *chunk, uint32_t start, uint32_t end)
{
	if (!ALLOD_ASSERTIONS)
		return;
	for (uint32_t i = block_of(chunk, start); i <= block_of(chunk, end - 1); i++)
		ASSERT(!percpu_block_check(chunk, i));
}

static void assert_chunk(const struct percpu_chunk *chunk)
{
	ASSERT(chunk->hint.contig <= chunk->free_bits);
	ASSERT(!chunk->free_bits == !chunk->hint.contig);
}

void percpu_chunk_take(struct percpu_chunk *chunk, uint32_t start, uint32_t bits)
{
	ASSERT(bits_next_set(chunk->alloc, start, start + bits) == start + bits);
	bits_set(chunk->alloc, start, start + bits);
	chunk->free_bits -= bits;
	percpu_hints_take(chunk, start, start + bits);
	assert_blocks(chunk, start, start + bits);
	assert_chunk(chunk);
}

void percpu_chunk_give(struct percpu_chunk *chunk, uint32_t start, uint32_t bits,
	struct percpu_run *longest)
{
	ASSERT(bits_next_clear(chunk->alloc, start, start + bits) == start + bits);
	bits_clear(chunk->alloc, start, start + bits);
	chunk->free_bits += bits;
	percpu_hints_give(chunk, start, start + bits, longest);
	assert_blocks(chunk, start, start + bits);
}

void percpu_chunk_gave(struct percpu_chunk *chunk, const struct percpu_run *longest)
{
	percpu_hints_gave(chunk, longest);
	assert_chunk(chunk);
}
