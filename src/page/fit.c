/* SPDX-License-Identifier: MIT */
/*
 * Where free runs of 320 KiB to 64 MiB may be, by length: so that such a run is found at once, and
 * fits as well as any, however many used ones lie between. A class has runs of one length below 512
 * KiB, of one eighth of a power of two from there on, each in the way that its position says, where
 * it goes for another one that has the same.
 *
 * The shortest run that is long enough is taken, of those the lowest, so that what is in use stays
 * dense. When there is none the bitmap is searched from the front, which finds long ones, and what
 * was lost here.
 *
 * What becomes free is joined with its neighbours before it is entered, and theirs are taken out.
 * Whoever takes from the bitmap alone leaves the place here as it was: when it is tried, what is
 * left of it is entered again.
 *
 * All of it is a hint, also when threads race: a run is taken from the bitmap, which alone says what
 * is free.
 *
 * Operations        fit_take, fit_put, fit_left
 * Synchronization   any of them beside any other; all is changed by single stores that carry no
 *                   order, and a place that is lost by a race is found by the bitmap's search
 * Progress          wait-free but for the bitmap
 */
#include "arena.h"

enum {
	/* From 2^3 granules on there is a class for each eighth of a power of two. */
	FIT_EIGHTHS_SHIFT = 3,
	FIT_EIGHTHS_CLASS = (1 << FIT_EIGHTHS_SHIFT) - FIT_LEAST_GRANULES,
	/* From there on a run is as good as a longer one: the bitmap's search finds the lowest. */
	FIT_LONG = 1024,
	/* So many places are tried before the bitmap is searched. */
	FIT_TRIES = 16,
	FIT_WAYS_ALL = (1 << FIT_WAYS) - 1,
};

/* The class of runs of n granules; those at least as long as its least lie in it. */
static inline unsigned class_of(size_t n)
{
	unsigned shift = 63 - (unsigned)__builtin_clzll(n);

	if (shift < FIT_EIGHTHS_SHIFT)
		return (unsigned)n - FIT_LEAST_GRANULES;
	return FIT_EIGHTHS_CLASS + ((shift - FIT_EIGHTHS_SHIFT) << 3 | (n >> (shift - 3) & 7));
}

/*
 * A place is ~(length << 32 | position), or 0 for none: the best of several is the greatest.
 */
static inline uint64_t place_make(size_t pos, size_t n)
{
	return ~((uint64_t)n << 32 | pos);
}

static inline size_t place_position(uint64_t place)
{
	return (uint32_t)~place;
}

static inline size_t place_length(uint64_t place)
{
	return (size_t)(~place >> 32);
}

/* Where the run of n granules at pos is known, if it is. */
static inline unsigned way_of(size_t pos, size_t n)
{
	return class_of(n) * FIT_WAYS + ((uint32_t)pos * 0x9e3779b1u >> (32 - FIT_WAYS_SHIFT));
}

/* Says whether the way has a place. Of changes that race one may be lost. */
static inline void way_mark(struct arena *a, unsigned way, bool known)
{
	_Atomic(uint64_t) *word = &a->fit_known[way / 64];
	const uint64_t bit = (uint64_t)1 << way % 64;
	const uint64_t value = a_load_rlx(word);

	a_store_rlx(word, known ? value | bit : value & ~bit);
}

/* Enters the free run of n granules at pos, if its length has a class; another one may go for it. */
static inline void enter(struct arena *a, size_t pos, size_t n)
{
	unsigned way;

	if (n < FIT_LEAST_GRANULES || n >= FIT_LONG)
		return;
	way = way_of(pos, n);
	a_store_rlx(&a->fit[way], place_make(pos, n));
	way_mark(a, way, true);
}

/* Takes out the run of n granules at pos, if it is there. */
static inline void leave(struct arena *a, size_t pos, size_t n)
{
	unsigned way;

	if (n < FIT_LEAST_GRANULES || n >= FIT_LONG)
		return;
	way = way_of(pos, n);
	if (a_load_rlx(&a->fit[way]) == place_make(pos, n))
		way_mark(a, way, false);
}

bool fit_put(struct arena *a, size_t pos, size_t n)
{
	size_t from;
	size_t to;

	if (!bitmap_put_joined(&a->map, pos, n, FIT_LONG, &from, &to))
		return false;
	leave(a, from, pos - from);
	leave(a, pos + n, to - pos - n);
	enter(a, from, to - from);
	return true;
}

/* A place that turned out to be another than was known: enters what is left of it. */
static __attribute__((noinline)) void renew(struct arena *a, uint64_t place)
{
	const size_t end = place_position(place) + place_length(place);
	size_t pos = place_position(place);
	size_t run;

	while ((pos = bitmap_next_free(&a->map, pos, end, &run)) != BITMAP_NONE) {
		enter(a, pos, run);
		pos += run;
	}
}

/* Takes n granules at a place of that class. */
static inline bool place_take(struct arena *a, unsigned way, uint64_t place, size_t n)
{
	const size_t pos = place_position(place);
	const size_t known = pos + place_length(place);
	size_t end;

	way_mark(a, way, false);
	if (!bitmap_take_front(&a->map, pos, n, &end)) {
		renew(a, place);
		return false;
	}
	/* Where the word in which it ends tells nothing, what was known is true. */
	if (end < known && end % 64 == 0)
		end = known;
	enter(a, pos + n, end - pos - n);
	return true;
}

/* The best place of at least n granules among some ways of one class; 0: all are shorter. */
static inline uint64_t best_of(const struct arena *a, unsigned first, unsigned ways, size_t n)
{
	const uint64_t enough = place_make(0, n);
	uint64_t best = 0;

	for (; ways; ways &= ways - 1) {
		uint64_t place = a_load_rlx(&a->fit[first + (unsigned)__builtin_ctz(ways)]);
		/* Without a branch, which nobody could guess. */
		place &= -(uint64_t)(place <= enough);
		best = place > best ? place : best;
	}
	return best;
}

/* The best place of at least n granules; 0: none is known. */
static inline uint64_t find(const struct arena *a, size_t n)
{
	const unsigned own = class_of(n) * FIT_WAYS;
	size_t word = own / 64;
	uint64_t ways = a_load_rlx(&a->fit_known[word]) >> own % 64 << own % 64;

	for (;;) {
		while (ways) {
			unsigned first = (unsigned)__builtin_ctzll(ways) & -FIT_WAYS;
			uint64_t place = best_of(a, (unsigned)(word * 64) + first,
				(unsigned)(ways >> first) & FIT_WAYS_ALL, n);
			if (place)
				return place;
			/* In its own class are some that are too short. */
			ways &= ~((uint64_t)FIT_WAYS_ALL << first);
		}
		if (++word == FIT_WORDS)
			return 0;
		ways = a_load_rlx(&a->fit_known[word]);
	}
}

size_t fit_take(struct arena *a, size_t n)
{
	uint64_t place;

	if (n >= FIT_LONG)
		return BITMAP_NONE;
	/* What is left of a place that was cut may be the best, so all is looked at again. */
	for (int i = 0; i < FIT_TRIES && (place = find(a, n)); i++)
		if (place_take(a, way_of(place_position(place), place_length(place)), place, n))
			return place_position(place);
	return BITMAP_NONE;
}

void fit_left(struct arena *a, size_t pos)
{
	enter(a, pos, bitmap_free_end(&a->map, pos, pos + FIT_LONG) - pos);
}
