/* SPDX-License-Identifier: MIT */
/*
 * Where free runs of 512 KiB and more may be, by length: so that a large run is found at once, and
 * fits well, however many used ones lie between. A class has runs of one eighth of a power of two;
 * each keeps the places of a few runs that became free lately.
 *
 * All of it is a hint, also when threads race: a run is taken from the bitmap, which alone says what
 * is free, and one that is not known here is found by searching that.
 *
 * Operations        fit_take, fit_note
 * Synchronization   any of them beside any other; all is changed by single stores that carry no
 *                   order, and a place that is lost by a race is found by the bitmap's search
 * Progress          wait-free but for the bitmap
 */
#include "arena.h"

enum {
	/* 2^3 granules are the least; a class for each eighth of a power of two from there. */
	FIT_LEAST_SHIFT = 3,
};

/* The class of runs of n granules, n >= 8; those at least as long as its least lie in it. */
static unsigned class_of(size_t n)
{
	unsigned shift = 63 - (unsigned)__builtin_clzll(n);
	unsigned class = (shift - FIT_LEAST_SHIFT) << 3 | (n >> (shift - 3) & 7);

	return class < FIT_CLASSES ? class : FIT_CLASSES - 1;
}

/*
 * Says whether places of that class may be known. Of changes that race one may be lost: then they
 * are not found until another one is entered.
 */
static void classes_change(struct arena *a, unsigned class, bool known)
{
	const uint64_t classes = a_load_rlx(&a->fit_classes);

	if ((classes >> class & 1) != known)
		a_store_rlx(&a->fit_classes, classes ^ (uint64_t)1 << class);
}

/* Enters the free run that begins at pos. */
static void enter(struct arena *a, size_t pos, size_t n)
{
	const unsigned class = class_of(n);
	_Atomic(uint32_t) *ways = a->fit[class];
	unsigned way = 0;

	while (way < FIT_WAYS - 1 && a_load_rlx(&ways[way]) != 0)
		way++;
	a_store_rlx(&ways[way], (uint32_t)pos + 1);
	classes_change(a, class, true);
}

void fit_note(struct arena *a, size_t pos, size_t n)
{
	size_t from;
	size_t to;

	bitmap_around(&a->map, pos, n, FIT_REACH, &from, &to);
	if (to - from >= FIT_LEAST_GRANULES)
		enter(a, from, to - from);
}

/* Takes n granules at a place that a way names. */
static bool way_take(struct arena *a, _Atomic(uint32_t) *way, size_t n, size_t *ret_pos)
{
	uint32_t entry = a_load_rlx(way);
	size_t end;

	if (!entry)
		return false;
	if (!bitmap_take_at(&a->map, entry - 1, n)) {
		/* Not free any more, or shorter than it was. */
		a_store_rlx(way, 0);
		return false;
	}
	*ret_pos = entry - 1;
	a_store_rlx(way, 0);
	end = bitmap_free_end(&a->map, *ret_pos + n, *ret_pos + n + FIT_REACH);
	if (end - *ret_pos - n >= FIT_LEAST_GRANULES)
		enter(a, *ret_pos + n, end - *ret_pos - n);
	return true;
}

/* The way with the lowest place, so that what is in use stays dense; NULL if there is none. */
static _Atomic(uint32_t) *lowest(_Atomic(uint32_t) *ways)
{
	uint32_t best = UINT32_MAX;
	unsigned found = 0;

	for (unsigned i = 0; i < FIT_WAYS; i++) {
		/* No place wraps round, to be the highest. */
		uint32_t place = a_load_rlx(&ways[i]) - 1;
		bool is_better = place < best;
		found = is_better ? i : found;
		best = is_better ? place : best;
	}
	return best == UINT32_MAX ? NULL : &ways[found];
}

/* Takes one of n's own class, of which some are too short: they fit best. */
static bool own_take(struct arena *a, size_t n, size_t *ret_pos)
{
	_Atomic(uint32_t) *ways = a->fit[class_of(n)];

	for (unsigned i = 0; i < FIT_WAYS; i++) {
		size_t pos = (size_t)a_load_rlx(&ways[i]) - 1;
		if (pos != SIZE_MAX && bitmap_free_end(&a->map, pos, pos + n) == pos + n &&
			way_take(a, &ways[i], n, ret_pos))
			return true;
	}
	return false;
}

size_t fit_take(struct arena *a, size_t n)
{
	unsigned class;
	_Atomic(uint32_t) *way;
	uint64_t classes;
	size_t pos;

	if (n < FIT_LEAST_GRANULES)
		return BITMAP_NONE;
	/* All of the next class are long enough; so are those of its own if n is its least. */
	class = n > FIT_LEAST_GRANULES ? class_of(n - 1) + 1 : 0;
	if (class >= FIT_CLASSES)
		return BITMAP_NONE;
	if (own_take(a, n, &pos))
		return pos;
	classes = a_load_rlx(&a->fit_classes) >> class << class;
	for (; classes; classes &= classes - 1) {
		class = (unsigned)__builtin_ctzll(classes);
		for (int i = 0; i < FIT_WAYS && (way = lowest(a->fit[class])); i++)
			if (way_take(a, way, n, &pos))
				return pos;
		classes_change(a, class, false);
	}
	return BITMAP_NONE;
}
