/* SPDX-License-Identifier: MIT */
/*
 * The bitmap with block hints.
 *
 * Words hold 64 bits each, 1 = free. A block is 512 bits, one cache line, and has a hint: an upper
 * bound, at most 512, on the length of the free runs that *start* in the block. A run of up to 512
 * bits that starts in block k lies in blocks k and k+1, so the bound of k depends on those two. A
 * search for n bits skips every block whose bound is below min(n, 512); it reads eight bytes a
 * block for that instead of 64.
 *
 * A hint is  epoch:53 | mark:1 | lack:10,  where the bound is 512 - lack. It is *open* when there
 * is neither lack nor mark; so it is at first, and a map in which no search fails touches no hint's
 * page.
 *
 * Operations
 *   put        raise high_blocks; set the bits word by word; open the hints
 *   take       near path in the word of `start`; else search from `start` to high_blocks, then from
 *              0 to the block of `start`; claim word by word, put back on conflict
 *   settle     after a whole block was searched in vain: mark the hint, fence, search the block
 *              again, and lower the bound to n - 1 if the marked value is still there
 *
 * Synchronization   any operation beside any other. Every change of a word or of a hint is a CAS.
 *
 * Linearization   Within a word, take and put happen at their CAS. A run over several words is
 *   taken in ascending order of words, and is taken once the last is; others see its bits as used
 *   from each CAS on. A put counts as complete when it returns. A failing take is right in the
 *   sense that bitmap.h gives; it is no snapshot of the whole map.
 *
 * Ordering
 *   [bitmap.1] the CAS that frees bits releases, the CAS that takes them acquires: the taker sees
 *     what was written to the run before. All changes of a word are read-modify-writes, so those
 *     that come between carry the release on.
 *   [bitmap.2] put:    W (set bits)           H (look at the hint; CAS unless open)
 *              settle: M (CAS a fresh mark)   F (fence)    R (read words)   L (CAS the mark to n-1)
 *     W, H and F are sequentially consistent, so they have one order, in which W is before H. If W
 *     comes before F, R sees the bits that W set, or that they have been taken since, and the lowered
 *     bound is true of them. If F comes before W, and so before H, H sees M or something later. If
 *     it sees M or the lowered bound, it opens the hint, after L or so that L fails. If it sees an
 *     open hint, that is later than M, so another put opened the hint in between, and L fails, for
 *     each opening and each mark has an epoch of its own. So when put has returned, the bound of its
 *     blocks is true of its bits until they are taken. (W is a locked instruction anyway; a fence
 *     between W and H instead would be one more.)
 *   [bitmap.3] a failing search looks whether a take put bits back meanwhile, and then goes round
 *     again: the bits may have been missed only because two takes stood in each other's way.
 *   high_blocks needs no order: a put that has returned has raised it or read it raised.
 *
 * Progress   Lock-free. A CAS on a word fails when another call changed that word. A claim fails
 *   because another took bits in between; claims go upward, so along a chain of claims that block
 *   each other the topmost is not blocked by one of them. A search repeats only when another take
 *   put bits back meanwhile. A thread that stops in put before opening the hints, or in take
 *   between two words, keeps those bits out of use and nothing else. A mark left behind costs the
 *   next put a CAS, and never hides a run.
 *
 * Reclamation   none: words and hints live as long as the map.
 */
#include "base/assert.h"

#include "bitmap_word.h"

/* What a take looks for. */
struct request {
	size_t n;
	size_t align;
	size_t phase;     /* positions that fit are congruent to it modulo align */
	uint64_t pattern; /* a bit for each multiple of align in a word */
};

/* Takes all bits of the mask, or none and returns false; *value is what the word held lately. */
static inline bool word_take(_Atomic(uint64_t) *word, uint64_t *value, uint64_t mask)
{
	while ((*value & mask) == mask) {
		/* [bitmap.1] acq: sees what was written before word_put(). */
		if (a_cas_weak_acq(word, value, *value & ~mask))
			return true;
	}
	return false;
}

/*
 * Frees all bits of the mask, or none and returns false if one is free already. *ret_was: the word
 * before.
 */
static inline bool word_put(_Atomic(uint64_t) *word, uint64_t mask, uint64_t *ret_was)
{
	uint64_t value = a_load_rlx(word);

	while ((value & mask) == 0) {
		/* [bitmap.1] rel: gives the run's memory to who takes it in word_take().
		 * [bitmap.2] seq: the bits are set before hint_open() looks; pairs with
		 * block_settle(). */
		if (a_cas_weak_seq(word, &value, value | mask)) {
			*ret_was = value;
			return true;
		}
	}
	return false;
}

static inline bool hint_is_open(uint64_t hint)
{
	return (hint & (HINT_LACK_MASK | HINT_MARK)) == 0;
}

/* The hint of the next epoch with these low bits. */
static inline uint64_t hint_next(uint64_t hint, uint64_t low)
{
	return ((hint & ~(HINT_EPOCH - 1)) + HINT_EPOCH) | low;
}

/* Makes the hint say that any run may start in the block. */
static inline void hint_open(struct bitmap *b, size_t block)
{
	/* [bitmap.2] seq: the bits are set before the hint is looked at; pairs with block_settle(). */
	uint64_t hint = a_load_seq(&b->hints[block]);

	while (!hint_is_open(hint)) {
		if (a_cas_weak_rlx(&b->hints[block], &hint, hint_next(hint, 0)))
			return;
	}
}

/* Opens the hints that depend on bits just freed: those of their blocks and of the one before. */
static inline void hints_open(struct bitmap *b, size_t pos, size_t n)
{
	size_t first = pos / BITMAP_BLOCK_BITS;
	size_t last = (pos + n - 1) / BITMAP_BLOCK_BITS;

	for (size_t block = first ? first - 1 : 0; block <= last; block++)
		hint_open(b, block);
}

/* Each bit of the low word at which n <= 64 free bits start, the next word included. */
static inline uint64_t run_starts(uint64_t word, uint64_t next, size_t n)
{
	unsigned __int128 starts = (unsigned __int128)next << WORD_BITS | word;

	for (size_t have = 1; have < n;) {
		size_t step = min_size(have, n - have);
		starts &= starts >> step;
		have += step;
	}
	return (uint64_t)starts;
}

/* The next position at or behind `from` that is aligned as the request wants. */
static inline size_t request_align(const struct request *rq, size_t from)
{
	return from + ((rq->phase - from) & (rq->align - 1));
}

/* A bit for each aligned position of the word whose first bit is `base`. */
static inline uint64_t request_mask(const struct request *rq, size_t base)
{
	size_t first = (rq->phase - base) & (rq->align - 1);

	return first < WORD_BITS ? rq->pattern << first : 0;
}

/* block_find() for runs that fit in two words. */
static size_t block_find_short(const struct bitmap *b, const struct request *rq, size_t from)
{
	size_t end = (from / BITMAP_BLOCK_BITS + 1) * BLOCK_WORDS;
	uint64_t keep = ~0ull << from % WORD_BITS;

	for (size_t i = from / WORD_BITS; i < end; i++, keep = ~0ull) {
		uint64_t word = word_read(b, i);
		if (!word)
			continue;
		uint64_t next = rq->n > 1 ? word_read(b, i + 1) : 0;
		uint64_t starts = run_starts(word, next, rq->n);
		starts &= keep & request_mask(rq, i * WORD_BITS);
		if (starts)
			return i * WORD_BITS + (size_t)__builtin_ctzll(starts);
	}
	return BITMAP_NONE;
}

/*
 * block_find() for runs of more than 64 bits, which start in the free bits at the upper end of a
 * word. When the lowest start in a word is blocked by a used bit behind the word, so are
 * the others of the word, and all up to that bit.
 */
static size_t block_find_long(const struct bitmap *b, const struct request *rq, size_t from)
{
	size_t end = (from / BITMAP_BLOCK_BITS + 1) * BITMAP_BLOCK_BITS;

	while (from < end) {
		size_t base = from / WORD_BITS * WORD_BITS;
		uint64_t used = ~word_read(b, base / WORD_BITS);
		size_t low = used ? WORD_BITS - (size_t)__builtin_clzll(used) : 0;
		uint64_t starts = low < WORD_BITS ? ~0ull << low : 0;
		starts &= request_mask(rq, base) & ~0ull << from % WORD_BITS;
		from = base + WORD_BITS;
		if (!starts)
			continue;
		size_t pos = base + (size_t)__builtin_ctzll(starts);
		if (rq->n > b->bits - pos)
			return BITMAP_NONE;
		size_t blocked = first_used(b, from, pos + rq->n);
		if (blocked == pos + rq->n)
			return pos;
		from = blocked;
	}
	return BITMAP_NONE;
}

/* The first position that fits at or behind `from` and starts in its block, or BITMAP_NONE. */
static inline size_t block_find(const struct bitmap *b, const struct request *rq, size_t from)
{
	return rq->n <= WORD_BITS ? block_find_short(b, rq, from) : block_find_long(b, rq, from);
}

/*
 * Lowers the hint of a block in which a search from its first bit found nothing. Returns false, or
 * true if there is a run by now.
 */
static __attribute__((noinline)) bool block_settle(struct bitmap *b, const struct request *rq,
	size_t block)
{
	uint64_t hint = a_load_rlx(&b->hints[block]);
	uint64_t marked = hint_next(hint, (hint & HINT_LACK_MASK) | HINT_MARK);

	if (hint_bound(hint) < rq->n || !a_cas_strong_rlx(&b->hints[block], &hint, marked))
		return false;
	/* [bitmap.2] seq: the mark is set before the words are read; pairs with word_put(). */
	a_fence_seq();
	if (block_find(b, rq, block * BITMAP_BLOCK_BITS) != BITMAP_NONE)
		return true;
	a_cas_strong_rlx(&b->hints[block], &marked,
		hint_next(marked, BITMAP_BLOCK_BITS - (rq->n - 1)));
	return false;
}

/* Puts back what a take had claimed before it met a conflict at `end`. */
static __attribute__((cold, noinline)) void claim_undo(struct bitmap *b, size_t pos, size_t end)
{
	if (pos == end)
		return;
	for (size_t at = pos; at < end; at = word_end(at)) {
		uint64_t was;
		bool was_ours = word_put(&b->words[at / WORD_BITS], word_mask(at, end), &was);
		ASSERT(was_ours);
		(void)was_ours;
	}
	hints_open(b, pos, end - pos);
	/* [bitmap.3] rel: the bits are back before the count tells; pairs with bitmap_take(). */
	a_add_rel(&b->rollbacks, 1);
}

/* A run as its words have it; in a run within one word both masks are the same. */
struct span {
	size_t first;
	size_t last;
	uint64_t first_mask;
	uint64_t last_mask;
};

static inline struct span span_of(size_t pos, size_t n)
{
	struct span s = {
		.first = pos / WORD_BITS,
		.last = (pos + n - 1) / WORD_BITS,
		.first_mask = ~0ull << pos % WORD_BITS,
		.last_mask = ~0ull >> (WORD_BITS - 1 - (pos + n - 1) % WORD_BITS),
	};

	if (s.first == s.last)
		s.first_mask = s.last_mask = s.first_mask & s.last_mask;
	return s;
}

/* Whether all words between the first and the last are `value`. */
static inline bool span_inner_is(const struct bitmap *b, const struct span *s, uint64_t value)
{
	for (size_t i = s->first + 1; i < s->last; i++)
		if (a_load_rlx(&b->words[i]) != value)
			return false;
	return true;
}

/*
 * Takes the bits [pos, pos + n) upward word by word, or nothing and returns false. *ret_last: what
 * the last word was.
 */
static inline bool claim(struct bitmap *b, size_t pos, size_t n, uint64_t *ret_last)
{
	const struct span s = span_of(pos, n);
	uint64_t value = a_load_rlx(&b->words[s.first]);
	uint64_t last = a_load_rlx(&b->words[s.last]);

	/* A look first: a claim that fails half-way would be in the way of others. */
	if ((value & s.first_mask) != s.first_mask || (last & s.last_mask) != s.last_mask ||
		!span_inner_is(b, &s, ~0ull))
		return false;
	if (!word_take(&b->words[s.first], &value, s.first_mask))
		return false;
	*ret_last = value;
	for (size_t i = s.first + 1; i <= s.last; i++) {
		*ret_last = i < s.last ? ~0ull : last;
		if (!word_take(&b->words[i], ret_last, i < s.last ? ~0ull : s.last_mask)) {
			claim_undo(b, pos, i * WORD_BITS);
			return false;
		}
	}
	return true;
}

/* Takes the first run that starts in the block of `from`, at or behind it. */
static size_t block_take(struct bitmap *b, const struct request *rq, size_t from)
{
	bool may_settle =
		from % BITMAP_BLOCK_BITS == 0 && rq->align == 1 && rq->n <= BITMAP_BLOCK_BITS;

	for (;;) {
		size_t pos = block_find(b, rq, from);
		uint64_t last;
		if (pos != BITMAP_NONE) {
			if (claim(b, pos, rq->n, &last))
				return pos;
		} else if (!may_settle || !block_settle(b, rq, from / BITMAP_BLOCK_BITS)) {
			return BITMAP_NONE;
		}
	}
}

/* The first block in [block, end) whose hint allows a run of `want` bits, or end. */
static inline size_t hints_skip(const struct bitmap *b, size_t block, size_t end, size_t want)
{
	while (block < end && hint_bound(a_load_rlx(&b->hints[block])) < want)
		block++;
	return block;
}

/* Takes the first run that starts at or behind `from` and in a block below `end`. */
static size_t search(struct bitmap *b, const struct request *rq, size_t from, size_t end)
{
	size_t want = min_size(rq->n, BITMAP_BLOCK_BITS);

	for (;;) {
		from = request_align(rq, from);
		size_t block = hints_skip(b, from / BITMAP_BLOCK_BITS, end, want);
		if (block >= end)
			return BITMAP_NONE;
		if (block > from / BITMAP_BLOCK_BITS)
			from = request_align(rq, block * BITMAP_BLOCK_BITS);
		if (block == from / BITMAP_BLOCK_BITS) {
			size_t pos = block_take(b, rq, from);
			if (pos != BITMAP_NONE)
				return pos;
			from = (block + 1) * BITMAP_BLOCK_BITS;
		}
	}
}

/* The whole of bitmap_take(), for requests that the word of `start` cannot serve. */
static __attribute__((noinline)) size_t take_anywhere(struct bitmap *b, size_t n, size_t align,
	size_t align_offset, size_t start)
{
	struct request rq = {
		.n = n,
		.align = align,
		.phase = (0 - align_offset) & (align - 1),
		.pattern = align < WORD_BITS ? ~0ull / ((1ull << align) - 1) : 1,
	};

	if (start >= b->bits)
		start = 0;
	for (;;) {
		/* [bitmap.3] acq: a change tells of bits put back; pairs with claim_undo(). */
		uint64_t rollbacks = a_load_acq(&b->rollbacks);
		size_t high = a_load_rlx(&b->high_blocks);
		size_t pos = search(b, &rq, start, high);
		if (pos == BITMAP_NONE && start)
			pos = search(b, &rq, 0, min_size(start / BITMAP_BLOCK_BITS + 1, high));
		/* [bitmap.3] acq: as above; the next round sees them. */
		if (pos != BITMAP_NONE || a_load_acq(&b->rollbacks) == rollbacks)
			return pos;
	}
}

/* Takes a run that lies wholly in the word of `start`, if there is one. */
static inline size_t take_near(struct bitmap *b, size_t n, size_t start)
{
	_Atomic(uint64_t) *word = &b->words[start / WORD_BITS];
	uint64_t value = a_load_rlx(word);
	uint64_t starts = value & ~0ull << start % WORD_BITS;

	for (size_t have = 1; have < n;) {
		size_t step = min_size(have, n - have);
		starts &= starts >> step;
		have += step;
	}
	if (!starts)
		return BITMAP_NONE;
	size_t low = (size_t)__builtin_ctzll(starts);
	uint64_t mask = (n < WORD_BITS ? (1ull << n) - 1 : ~0ull) << low;
	return word_take(word, &value, mask) ? (start & ~(size_t)(WORD_BITS - 1)) + low
					     : BITMAP_NONE;
}

size_t bitmap_take(struct bitmap *b, size_t n, size_t align, size_t align_offset, size_t start)
{
	ASSERT(n > 0);
	ASSERT(align > 0 && (align & (align - 1)) == 0);
	/* The storage behind high_blocks may be untouched and shall stay so. */
	if (align == 1 && n <= WORD_BITS &&
		start / BITMAP_BLOCK_BITS < a_load_rlx(&b->high_blocks)) {
		size_t pos = n == 1 ? take_near(b, 1, start) : take_near(b, n, start);
		if (pos != BITMAP_NONE)
			return pos;
	}
	return take_anywhere(b, n, align, align_offset, start);
}

bool bitmap_take_at(struct bitmap *b, size_t pos, size_t n)
{
	size_t end;

	return bitmap_take_front(b, pos, n, &end);
}

bool bitmap_take_front(struct bitmap *b, size_t pos, size_t n, size_t *ret_end)
{
	const size_t end = pos + n;
	const size_t high = end % WORD_BITS;
	uint64_t used = 0;

	ASSERT(n > 0);
	if (pos >= b->bits || n > b->bits - pos)
		return false;
	if (!claim(b, pos, n, &used))
		return false;
	used = high ? ~used >> high : 1;
	*ret_end = used ? end + (size_t)__builtin_ctzll(used) : word_end(end);
	return true;
}

/* Notes that the blocks below `blocks` have had a free bit. */
static __attribute__((cold, noinline)) void high_raise(struct bitmap *b, uint64_t blocks)
{
	uint64_t high = a_load_rlx(&b->high_blocks);

	while (high < blocks && !a_cas_weak_rlx(&b->high_blocks, &high, blocks))
		;
}

/*
 * Frees the bits [pos, pos + n), or none and returns false if one of them is free already. Tells
 * what the first and the last word were.
 */
static inline bool words_put(struct bitmap *b, size_t pos, size_t n, uint64_t *ret_first,
	uint64_t *ret_last)
{
	const struct span s = span_of(pos, n);

	if (s.first != s.last &&
		(a_load_rlx(&b->words[s.first]) & s.first_mask ||
			a_load_rlx(&b->words[s.last]) & s.last_mask || !span_inner_is(b, &s, 0)))
		return false;
	if (!word_put(&b->words[s.first], s.first_mask, ret_first))
		return false;
	*ret_last = *ret_first;
	for (size_t i = s.first + 1; i <= s.last; i++)
		if (!word_put(&b->words[i], i < s.last ? ~0ull : s.last_mask, ret_last))
			return false;
	return true;
}

static inline bool put(struct bitmap *b, size_t pos, size_t n, uint64_t *ret_first,
	uint64_t *ret_last)
{
	const size_t last_block = (pos + n - 1) / BITMAP_BLOCK_BITS;

	ASSERT(n > 0 && pos < b->bits && n <= b->bits - pos);
	if (last_block >= a_load_rlx(&b->high_blocks))
		high_raise(b, last_block + 1);
	if (!words_put(b, pos, n, ret_first, ret_last))
		return false;
	hints_open(b, pos, n);
	return true;
}

bool bitmap_put(struct bitmap *b, size_t pos, size_t n)
{
	uint64_t first;
	uint64_t last;

	return put(b, pos, n, &first, &last);
}

bool bitmap_put_joined(struct bitmap *b, size_t pos, size_t n, size_t reach, size_t *ret_from,
	size_t *ret_to)
{
	const size_t end = pos + n;
	const size_t low = pos % WORD_BITS;
	const size_t high = end % WORD_BITS;
	uint64_t first;
	uint64_t last;

	if (!put(b, pos, n, &first, &last))
		return false;
	/* The words that were just changed tell most often; a used bit beside ours ends the run. */
	first = low ? ~first << (WORD_BITS - low) : 0;
	if (first)
		*ret_from = pos - (size_t)__builtin_clzll(first);
	else
		*ret_from = free_begin(b, pos - low, pos > reach ? pos - reach : 0);
	last = high ? ~last >> high : 0;
	if (last)
		*ret_to = end + (size_t)__builtin_ctzll(last);
	else
		*ret_to = first_used(b, high ? word_end(end) : end, end + reach);
	return true;
}

bool bitmap_is_free(const struct bitmap *b, size_t pos)
{
	return pos < b->bits && (word_read(b, pos / WORD_BITS) >> pos % WORD_BITS & 1);
}

size_t bitmap_storage_bytes(size_t bits)
{
	size_t blocks = (bits + BITMAP_BLOCK_BITS - 1) / BITMAP_BLOCK_BITS;
	size_t bytes = blocks * (BLOCK_WORDS + 1) * sizeof(uint64_t);

	return (bytes + 63) & ~(size_t)63;
}

void bitmap_init(struct bitmap *b, void *storage, size_t bits)
{
	ASSERT(bits > 0);
	ASSERT((uintptr_t)storage % 64 == 0);
	b->bits = bits;
	b->blocks = (bits + BITMAP_BLOCK_BITS - 1) / BITMAP_BLOCK_BITS;
	b->words = storage;
	b->hints = b->words + b->blocks * BLOCK_WORDS;
	a_store_rlx(&b->high_blocks, 0);
	a_store_rlx(&b->rollbacks, 0);
}
