/* SPDX-License-Identifier: MIT */
/*
 * Taking elements from a pool's chunks and giving them back, many of one size at a time. The caller
 * holds the pool's lock.
 */
#include "percpu/bits.h"
#include "percpu/cache.h"
#include "percpu/percpu.h"

/* A bit for each `step` of a word, from `phase` on; `step` divides 64. */
static uint64_t every(uint32_t step, uint32_t phase)
{
	uint64_t first = step == 64 ? 1 : ~0ull / ((1ull << step) - 1);

	return first << phase;
}

/* Marks elements `step` apart, and holes between them; `step` divides 64. */
static void mark_by_words(struct percpu_chunk *chunk, uint32_t at, uint32_t stop, uint32_t bits,
	uint32_t step)
{
	uint64_t ends = every(step, (at + bits - 1) % step);
	uint64_t used = 0;

	for (uint32_t i = 0; i < bits; i++)
		used |= every(step, (at + i) % step);
	for (; at < stop; at = (at | 63) + 1) {
		uint64_t mask = bits_mask(at, stop);
		_Atomic(uint64_t) *end = &chunk->end[at / 64];

		chunk->alloc[at / 64] |= used & mask;
		a_store_rlx(end, a_load_rlx(end) | (ends & mask));
	}
}

static void mark_one_by_one(struct percpu_chunk *chunk, uint32_t at, uint32_t stop, uint32_t bits,
	uint32_t step)
{
	for (; at < stop; at += step) {
		_Atomic(uint64_t) *end = &chunk->end[(at + bits - 1) / 64];

		if (step != bits)
			bits_set(chunk->alloc, at, at + bits);
		a_store_rlx(end, a_load_rlx(end) | 1ull << (at + bits - 1) % 64);
	}
}

/* Elements of one size begin here, `step` apart; they get their ends. */
static uint32_t carve(struct percpu_chunk *chunk, uint32_t at, uint32_t bits, uint32_t align,
	uint32_t want)
{
	uint32_t step = (bits + align - 1) & ~(align - 1);
	uint32_t limit = chunk->bits - at < want * step ? chunk->bits - at : want * step;
	uint32_t room = bits_next_set(chunk->alloc, at, at + limit) - at;
	uint32_t count = (room - bits) / step + 1;
	uint32_t stop = at + (count - 1) * step + bits;

	if (step == bits || count == 1) {
		percpu_chunk_take(chunk, at, stop - at);
		mark_one_by_one(chunk, at, stop, bits, bits);
		return count;
	}
	chunk->free_bits -= count * bits;
	if (is_power_of_two(step) && step <= 64)
		mark_by_words(chunk, at, stop, bits, step);
	else
		mark_one_by_one(chunk, at, stop, bits, step);
	percpu_hints_take_strided(chunk, at, stop, at + bits);
	return count;
}

/* Whether nothing of the run was given out since its blocks were all initial. */
static bool is_fresh(const struct percpu_chunk *chunk, uint32_t start, uint32_t bits)
{
	uint32_t first = block_of(chunk, start);

	if (chunk->block[first].fresh > bit_in_block(chunk, start))
		return false;
	for (uint32_t i = first + 1; i <= block_of(chunk, start + bits - 1); i++) {
		if (chunk->block[i].fresh)
			return false;
	}
	return true;
}

static void mark_used(struct percpu_chunk *chunk, uint32_t start, uint32_t bits)
{
	uint32_t end = start + bits;

	for (uint32_t at = start; at < end;) {
		uint32_t index = block_of(chunk, at);
		uint32_t stop = block_stop(chunk, at, end);

		percpu_block_touch(chunk, index, stop - block_base(chunk, index));
		at = stop;
	}
}

/* Puts what was carved into `ret`: what is known to be zero first. */
static uint32_t carved(struct percpu_chunk *chunk, uint32_t at, uint32_t bits, uint32_t step,
	uint32_t count, uintptr_t *ret)
{
	uint32_t whole = (count - 1) * step + bits;
	bool is_all_fresh = is_fresh(chunk, at, whole);
	uint32_t clean = 0;
	uint32_t last = count;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t start = at + i * step;
		uintptr_t element = chunk_element(chunk, start);
		bool is_clean = is_all_fresh || is_fresh(chunk, start, bits);

		ret[is_clean ? clean : last - 1] = element;
		clean += is_clean;
		last -= !is_clean;
	}
	mark_used(chunk, at, whole);
	return clean;
}

/* The first of the blocks that a block shares a line of the maps with. */
static uint32_t line_of(const struct percpu_chunk *chunk, uint32_t block)
{
	return block & ~(line_blocks(chunk) - 1);
}

/* The blocks of the chunk that this thread and others took from last. */
static struct percpu_avoid avoid_of(const struct allod_percpu_pool *pool,
	const struct percpu_chunk *chunk, bool is_apart)
{
	struct percpu_avoid avoid = { .own = NOWHERE, .is_apart = is_apart };

	for (uint32_t i = 0; i < pool->taker_count; i++) {
		const struct percpu_taker *taker = &pool->takers[i];
		if (taker->chunk != chunk)
			continue;
		if (taker->who == percpu_cache_self)
			avoid.own = line_of(chunk, taker->block);
		else
			avoid.block[avoid.count++] = line_of(chunk, taker->block);
	}
	return avoid;
}

/* Notes that this thread took from the block; of too many threads some are forgotten. */
static void taker_note(struct allod_percpu_pool *pool, struct percpu_chunk *chunk, uint32_t block)
{
	uint32_t i = 0;

	while (i < pool->taker_count && pool->takers[i].who != percpu_cache_self)
		i++;
	if (i == TAKERS_MAX)
		i = pool->taker_next++ % TAKERS_MAX;
	else if (i == pool->taker_count)
		pool->takers[pool->taker_count++].chunk = NULL;

	struct percpu_taker *taker = &pool->takers[i];
	/* What was left there is anybody's, and was not looked at by the others' searches. */
	if (taker->chunk && (taker->chunk != chunk || taker->block != block))
		percpu_hints_look_again(taker->chunk, line_of(taker->chunk, taker->block));
	*taker = (struct percpu_taker){ percpu_cache_self, chunk, block };
}

void percpu_takers_forget(struct allod_percpu_pool *pool, const struct percpu_chunk *chunk)
{
	for (uint32_t i = 0; i < pool->taker_count; i++) {
		if (pool->takers[i].chunk == chunk)
			pool->takers[i].chunk = NULL;
	}
}

/* In grains of the chunks that are looked at. */
struct wish {
	enum chunk_kind kind;
	uint32_t bits;
	uint32_t align;
	uint32_t want;
	bool is_apart; /* where no other thread takes from */
};

static uint32_t take_in(struct percpu_chunk *chunk, const struct wish *wish, uintptr_t *ret,
	uint32_t *ret_clean)
{
	uint32_t step = (wish->bits + wish->align - 1) & ~(wish->align - 1);
	struct percpu_avoid avoid = avoid_of(chunk->pool, chunk, wish->is_apart);
	uint32_t want = wish->want;
	uint32_t count;
	uint32_t at;

	if (wish->align > (uint32_t)SLOT_BYTES >> chunk->shift &&
		(chunk->base >> chunk->shift) % wish->align)
		return 0;
	at = percpu_chunk_find(chunk, wish->bits, wish->align, &avoid);
	if (at == NOWHERE)
		return 0;
	/* The next block may be another's. */
	uint32_t room = line_blocks(chunk) * block_bits(chunk);
	room -= at & (room - 1);
	if (wish->is_apart && avoid.count && want > room / step)
		want = room / step;
	count = carve(chunk, at, wish->bits, wish->align, want ? want : 1);
	*ret_clean = carved(chunk, at, wish->bits, step, count, ret);
	if (wish->bits <= block_bits(chunk))
		taker_note(chunk->pool, chunk, block_of(chunk, at + (count - 1) * step));
	percpu_chunk_relist(chunk);
	return count;
}

static uint32_t take(struct allod_percpu_pool *pool, const struct wish *wish, uintptr_t *ret,
	uint32_t *ret_clean)
{
	uint32_t count = 0;

	for (unsigned list = percpu_chunk_list_of(wish->bits); list < CHUNK_LISTS; list++) {
		for (struct percpu_chunk *c = pool->lists[wish->kind][list]; c; c = c->next) {
			count = take_in(c, wish, ret, ret_clean);
			if (count)
				return count;
		}
	}
	return count;
}

uint32_t percpu_pool_take_many(struct allod_percpu_pool *pool, enum chunk_kind kind, uint32_t size,
	uint32_t align, uint32_t want, uintptr_t *ret, uint32_t *ret_clean)
{
	unsigned by = percpu_grain_shift(kind) - GRANULE_SHIFT;
	struct wish wish = { .kind = kind, .bits = size >> by, .want = want };
	uint32_t count;

	wish.align = align >> by ? align >> by : 1;
	wish.is_apart = pool->taker_count > 1;

	/* The first time, this thread is not among those who take yet. */
	wish.is_apart |= pool->taker_count == 1 && pool->takers[0].who != percpu_cache_self;
	count = take(pool, &wish, ret, ret_clean);
	if (!count && wish.is_apart) {
		wish.is_apart = false;
		count = take(pool, &wish, ret, ret_clean);
	}
	return count;
}

/* Where an element of the chunk begins; NOWHERE if it is another's. */
static uint32_t start_in(const struct percpu_chunk *chunk, uintptr_t element)
{
	uintptr_t bit = (element - chunk->base) >> chunk->shift;

	return bit < chunk->bits ? (uint32_t)bit : NOWHERE;
}

/* Takes the end off an element that is given back. */
static void end_off(struct percpu_chunk *chunk, uint32_t start, uint32_t bits)
{
	uint32_t last = start + bits - 1;
	_Atomic(uint64_t) *end = &chunk->end[last / 64];

	a_store_rlx(end, a_load_rlx(end) & ~(1ull << last % 64));
}

/* Gives back elements that are neighbours, from the first on, as one run; returns their number. */
static uint32_t give_run(struct percpu_chunk *chunk, const uintptr_t *elements, uint32_t count,
	uint32_t bits, struct percpu_run *longest)
{
	uint32_t low = start_in(chunk, elements[0]);
	uint32_t high = low + bits;
	uint32_t n = 1;

	end_off(chunk, low, bits);
	for (; n < count; n++) {
		uint32_t start = start_in(chunk, elements[n]);
		if (start == NOWHERE || (start != high && start + bits != low))
			break;
		end_off(chunk, start, bits);
		low = start < low ? start : low;
		high = start == high ? start + bits : high;
	}
	percpu_chunk_give(chunk, low, high - low, longest);
	return n;
}

/* Granules of a block that come back, a word of the maps at a time. */
struct giving {
	uint32_t word;
	uint64_t used;
	uint64_t ends;
	uint32_t low;
	uint32_t high;
};

static void giving_flush(struct percpu_chunk *chunk, const struct giving *g)
{
	_Atomic(uint64_t) *end = &chunk->end[g->word];

	ASSERT((chunk->alloc[g->word] & g->used) == g->used);
	chunk->alloc[g->word] &= ~g->used;
	a_store_rlx(end, a_load_rlx(end) & ~g->ends);
}

static void giving_add(struct percpu_chunk *chunk, struct giving *g, uint32_t start, uint32_t bits)
{
	uint32_t last = start + bits - 1;

	g->low = start < g->low ? start : g->low;
	g->high = last >= g->high ? last + 1 : g->high;
	if (start / 64 != last / 64) {
		end_off(chunk, start, bits);
		bits_clear(chunk->alloc, start, last + 1);
		return;
	}
	if (start / 64 != g->word) {
		giving_flush(chunk, g);
		*g = (struct giving){ .word = start / 64, .low = g->low, .high = g->high };
	}
	g->used |= ~0ull >> (64 - bits) << start % 64;
	g->ends |= 1ull << last % 64;
}

/*
 * Gives back the elements that lie in one block, from the first on: the block is told of one run, or
 * looked through once. Returns their number, 0 if the first reaches into the next block.
 */
static uint32_t give_block(struct percpu_chunk *chunk, const uintptr_t *elements, uint32_t count,
	uint32_t bits, struct percpu_run *longest)
{
	uint32_t start = start_in(chunk, elements[0]);
	const uint32_t block = block_of(chunk, start);
	const uint32_t base = block_base(chunk, block);
	const uint32_t room = block_bits(chunk) - bits;
	struct giving g = { .word = start / 64, .low = start, .high = start };
	uint32_t n = 0;

	/* What is in another chunk is nowhere in this one. */
	while (start - base <= room) {
		giving_add(chunk, &g, start, bits);
		if (++n == count)
			break;
		start = start_in(chunk, elements[n]);
	}
	if (!n)
		return 0;
	giving_flush(chunk, &g);
	chunk->free_bits += n * bits;
	if (g.high - g.low == n * bits)
		percpu_hints_give(chunk, g.low, g.high, longest);
	else
		percpu_hints_give_block(chunk, block, longest);
	ASSERT(!percpu_block_check(chunk, block));
	return n;
}

/* The same in a coarse chunk, whose blocks have a word of each map. */
static uint32_t give_word(struct percpu_chunk *chunk, const uintptr_t *elements, uint32_t count,
	uint32_t bits, struct percpu_run *longest)
{
	const uint64_t mask = ~0ull >> (64 - bits);
	const uint32_t room = 64 - bits;
	uint32_t start = start_in(chunk, elements[0]);
	const uint32_t word = start / 64;
	uint64_t used = 0;
	uint64_t lasts = 0;
	uint32_t n = 0;

	while (start - word * 64 <= room) {
		used |= mask << start % 64;
		lasts |= 1ull << start % 64;
		if (++n == count)
			break;
		start = start_in(chunk, elements[n]);
	}
	if (!n)
		return 0;
	ASSERT((chunk->alloc[word] & used) == used);
	chunk->alloc[word] &= ~used;
	a_store_rlx(&chunk->end[word], a_load_rlx(&chunk->end[word]) & ~(lasts << (bits - 1)));
	chunk->free_bits += n * bits;
	percpu_hints_give_block(chunk, word, longest);
	return n;
}

/* Gives back elements, from the first on, in the way that suits them; returns their number. */
static uint32_t give_some(struct percpu_chunk *chunk, const uintptr_t *elements, uint32_t count,
	uint32_t bits, struct percpu_run *longest)
{
	/* Larger ones are a run, or so few in a block that each is told to it. */
	enum { PART = 8 };
	uint32_t n = 0;

	if (chunk->kind == CHUNK_COARSE) {
		n = bits <= 64 ? give_word(chunk, elements, count, bits, longest) : 0;
	} else if (bits <= block_bits(chunk) / PART) {
		uint32_t first = start_in(chunk, elements[0]);
		uint32_t next = count > 1 ? start_in(chunk, elements[1]) : NOWHERE;

		if (bits <= 64 || (next != first + bits && next + bits != first))
			n = give_block(chunk, elements, count, bits, longest);
	}
	return n ? n : give_run(chunk, elements, count, bits, longest);
}

/*
 * Asks for the words and hints that giving an element back will change, unless they lie in the lines
 * of the one before.
 */
static void give_soon(uintptr_t element, uintptr_t before, uint32_t size)
{
	const struct percpu_chunk *chunk = chunk_of(element);

	if ((element ^ before) >> chunk->shift < LINE_BITS)
		return;
	uint32_t start = chunk_bit_of(chunk, element);
	uint32_t bits = chunk_bits_of(chunk, size);

	__builtin_prefetch(&chunk->alloc[start / 64], 1);
	__builtin_prefetch(&chunk->end[(start + bits - 1) / 64], 1);
	__builtin_prefetch(&chunk->block[block_of(chunk, start)], 1);
}

/* Gives back elements of one chunk, from the first on; returns their number. */
static uint32_t give_in(struct percpu_chunk *chunk, const uintptr_t *elements, uint32_t count,
	uint32_t size)
{
	enum { AHEAD = 8 };
	struct percpu_run longest = { 0, 0 };
	uint32_t bits = chunk_bits_of(chunk, size);
	uint32_t done = 0;

	do {
		uint32_t n = give_some(chunk, elements + done, count - done, bits, &longest);

		/* Those that share a word of a coarse chunk's maps need one look. */
		uint32_t step = chunk->kind == CHUNK_COARSE ? n : 1;

		for (uint32_t i = done + AHEAD; i < done + AHEAD + n && i < count; i += step)
			give_soon(elements[i], elements[i - 1], size);
		done += n;
	} while (done < count && start_in(chunk, elements[done]) != NOWHERE);
	percpu_chunk_gave(chunk, &longest);
	percpu_chunk_relist(chunk);
	return done;
}

void percpu_pool_give(const uintptr_t *elements, uint32_t count, uint32_t size)
{
	while (count) {
		uint32_t n = give_in(chunk_of(elements[0]), elements, count, size);

		elements += n;
		count -= n;
	}
}
