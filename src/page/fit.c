/* SPDX-License-Identifier: MIT */
/*
 * Where free runs of 512 KiB and more may be, by length: so that a large run is found at once, and
 * fits as well as any, however many used ones lie between. A class has runs of one eighth of a power
 * of two; each keeps a few places. The shortest run that is long enough is taken, of those the
 * lowest, so that what is in use stays dense.
 *
 * What becomes free is joined with its neighbours before it is entered, and theirs are taken out.
 * Whoever takes from the bitmap alone leaves the place here as it was: when it is tried, what is
 * left of it is entered again.
 *
 * All of it is a hint, also when threads race: a run is taken from the bitmap, which alone says what
 * is free, and one that is not known here is found by searching that.
 *
 * Operations        fit_take, fit_put
 * Synchronization   any of them beside any other; all is changed by single stores that carry no
 *                   order, and a place that is lost by a race is found by the bitmap's search
 * Progress          wait-free but for the bitmap
 */
#include "arena.h"

enum {
	/* 2^3 granules are the least; a class for each eighth of a power of two from there. */
	FIT_LEAST_SHIFT = 3,
	/* From there on a run is as good as a longer one: which is lowest counts. */
	FIT_LONG = 1024,
	/* Free bits behind a run's known end are counted so far. */
	FIT_REACH = 1024,
	/* So many places are tried before the bitmap is searched. */
	FIT_TRIES = 16,
};

/* The class of runs of n granules, n >= 8; those at least as long as its least lie in it. */
static inline unsigned class_of(size_t n)
{
	unsigned shift = 63 - (unsigned)__builtin_clzll(n);
	unsigned class = (shift - FIT_LEAST_SHIFT) << 3 | (n >> (shift - 3) & 7);

	return class < FIT_CLASSES ? class : FIT_CLASSES - 1;
}

/*
 * A place is ~(length << 32 | position), or 0 for none: the best of several is the greatest.
 */
static inline uint64_t place_make(size_t pos, size_t n)
{
	return ~((uint64_t)(n < FIT_LONG ? n : FIT_LONG) << 32 | pos);
}

static inline size_t place_position(uint64_t place)
{
	return (uint32_t)~place;
}

static inline size_t place_length(uint64_t place)
{
	return (size_t)(~place >> 32);
}

/*
 * Says whether places of that class may be known. Of changes that race one may be lost: then they
 * are not found until another one is entered.
 */
static inline void classes_change(struct arena *a, unsigned class, bool known)
{
	const uint64_t classes = a_load_rlx(&a->fit_classes);

	if ((classes >> class & 1) != known)
		a_store_rlx(&a->fit_classes, classes ^ (uint64_t)1 << class);
}

/* Enters the free run of n granules at pos, if it is long enough. Without room the worst goes. */
static inline void enter(struct arena *a, size_t pos, size_t n)
{
	const uint64_t place = place_make(pos, n);
	_Atomic(uint64_t) *ways;
	uint64_t worst = place;
	unsigned class;
	unsigned found = FIT_WAYS;

	if (n < FIT_LEAST_GRANULES)
		return;
	class = class_of(n);
	ways = a->fit[class];
	for (unsigned i = 0; i < FIT_WAYS; i++) {
		uint64_t way = a_load_rlx(&ways[i]);
		if (way == place)
			return;
		found = way < worst ? i : found;
		worst = way < worst ? way : worst;
	}
	if (found == FIT_WAYS)
		return;
	a_store_rlx(&ways[found], place);
	classes_change(a, class, true);
}

/* Takes out the run of n granules at pos, if it is there. */
static inline void leave(struct arena *a, size_t pos, size_t n)
{
	const uint64_t place = place_make(pos, n);
	_Atomic(uint64_t) *ways;

	if (n < FIT_LEAST_GRANULES)
		return;
	ways = a->fit[class_of(n)];
	for (unsigned i = 0; i < FIT_WAYS; i++)
		if (a_load_rlx(&ways[i]) == place)
			a_store_rlx(&ways[i], 0);
}

bool fit_put(struct arena *a, size_t pos, size_t n)
{
	size_t from;
	size_t to;

	if (!bitmap_put_joined(&a->map, pos, n, FIT_REACH, &from, &to))
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
static inline bool place_take(struct arena *a, _Atomic(uint64_t) *way, uint64_t place, size_t n)
{
	const size_t pos = place_position(place);
	const size_t known = pos + place_length(place);
	size_t end;

	a_store_rlx(way, 0);
	if (!bitmap_take_front(&a->map, pos, n, &end)) {
		renew(a, place);
		return false;
	}
	/* Where the word in which it ends tells nothing, what was known is true. */
	if (end < known && end % 64 == 0)
		end = known;
	if (place_length(place) == FIT_LONG)
		end = bitmap_free_end(&a->map, end, end + FIT_REACH);
	enter(a, pos + n, end - pos - n);
	return true;
}

/* The way of the best place of at least n granules, or FIT_WAYS. */
static inline unsigned best_way(const _Atomic(uint64_t) *ways, size_t n, uint64_t *ret_place)
{
	const uint64_t most = place_make(0, n);
	uint64_t best = 0;
	unsigned found = FIT_WAYS;

	for (unsigned i = 0; i < FIT_WAYS; i++) {
		uint64_t way = a_load_rlx(&ways[i]);
		bool is_better = way <= most && way > best;
		found = is_better ? i : found;
		best = is_better ? way : best;
	}
	*ret_place = best;
	return found;
}

/* The best place of at least n granules; NULL if none is known. */
static inline _Atomic(uint64_t) *find(struct arena *a, size_t n, uint64_t *ret_place)
{
	const unsigned own = class_of(n);
	uint64_t classes = a_load_rlx(&a->fit_classes) >> own << own;

	for (; classes; classes &= classes - 1) {
		const unsigned class = (unsigned)__builtin_ctzll(classes);
		unsigned way = best_way(a->fit[class], n, ret_place);
		if (way < FIT_WAYS)
			return &a->fit[class][way];
		/* In its own class are some that are too short. */
		if (class != own)
			classes_change(a, class, false);
	}
	return NULL;
}

size_t fit_take(struct arena *a, size_t n)
{
	_Atomic(uint64_t) *way;
	uint64_t place;

	if (n > FIT_LONG)
		return BITMAP_NONE;
	/* What is left of a place that was cut may be the best, so all is looked at again. */
	for (int i = 0; i < FIT_TRIES && (way = find(a, n, &place)); i++)
		if (place_take(a, way, place, n))
			return place_position(place);
	return BITMAP_NONE;
}
