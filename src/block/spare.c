/* SPDX-License-Identifier: MIT */
/*
 * Spare runs: larger runs freed lately, some for each processor, from which others of any size are
 * cut. A run is taken off the end of the shortest one that has as much, so what is left stays where
 * it is: neither page's bitmap nor the run's word is touched. When there is no place for one more,
 * the shortest goes back to page, where it joins its neighbours.
 *
 * Operations        spare_take, spare_put, spare_flush
 * Synchronization   any of them beside any other. A place holds the position and length of granules
 *                   that belong to nobody else, or 0; who changes it has what it held more than it
 *                   holds now. A place that reads the same again may speak of another run, which is
 *                   then just as good
 * Linearization     the compare-and-swap of a place
 * Ordering          [block.8]: what was written to the granules is before what their taker does
 * Progress          lock-free; a thread stopped here keeps one run out of use
 * Reclamation       none
 *
 * Bound: a run waits only if it is not more than a 64th of what is in use, by the number of
 * processors; there are eight places for each.
 */
#include "core.h"

enum {
	SPARE_CPUS = 64, /* power of two; processors beyond share */
	PLACES = 8,
	/* 16 MiB at most. */
	SPARE_MOST = 256,
	SPARE_SHARE = 64,
	/* A block may be larger than was asked for by this part. */
	SPARE_WASTE = 16,
};

/* A place: the position in the low half; above it the length, and whether a flush saw it there. */
#define LENGTH_SHIFT 32
#define SEEN ((uint64_t)1 << 63)

struct places {
	_Alignas(64) _Atomic(uint64_t) place[PLACES];
};

static struct places spares[SPARE_CPUS];

static uint64_t place_make(size_t pos, size_t granules)
{
	return (uint64_t)granules << LENGTH_SHIFT | pos;
}

static size_t place_length(uint64_t place)
{
	return (place & ~SEEN) >> LENGTH_SHIFT;
}

static char *place_address(uint64_t place)
{
	return unit_address(unit_at((uint32_t)place));
}

static struct places *mine(void)
{
	return &spares[os_cpu() & (SPARE_CPUS - 1)];
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * The place with the shortest run that is as long as wanted, and what it holds; PLACES if there is
 * none. What is in a place sorts by length; its number stands in for the lowest bits of the
 * position. Nothing here branches on what is found, and little waits for something else.
 */
static unsigned shortest(struct places *s, size_t least, uint64_t *ret_place)
{
	const uint64_t want = place_make(0, least);
	uint64_t key[PLACES];
	unsigned found;

	for (unsigned i = 0; i < PLACES; i++) {
		uint64_t place = a_load_rlx(&s->place[i]) & ~SEEN;
		key[i] = place >= want ? (place & ~(uint64_t)(PLACES - 1)) | i : ~(uint64_t)0;
	}
	for (unsigned half = PLACES / 2; half > 0; half /= 2)
		for (unsigned i = 0; i < half; i++)
			key[i] = min_u64(key[i], key[i + half]);
	if (key[0] == ~(uint64_t)0)
		return PLACES;
	found = key[0] & (PLACES - 1);
	*ret_place = a_load_rlx(&s->place[found]);
	return found;
}

char *spare_take(size_t granules, size_t *ret_granules)
{
	struct places *s = mine();
	uint64_t place = 0;
	unsigned i = shortest(s, granules, &place);
	size_t rest = place_length(place) - granules;

	/* It may have changed since it was found. */
	if (i == PLACES || place_length(place) < granules)
		return NULL;
	/* What is left is not worth the work that it makes. */
	if (rest <= granules / SPARE_WASTE)
		rest = 0;
	granules = place_length(place) - rest;
	/* [block.8] acq: the granules are ours with what was done to them before. */
	if (!a_cas_strong_acq(&s->place[i], &place, rest ? place_make((uint32_t)place, rest) : 0))
		return NULL;
	*ret_granules = granules;
	return place_address(place) + (rest << PAGE_GRANULE_SHIFT);
}

/* Whether a run of that length is little beside what is in use. */
static bool may_wait(size_t granules)
{
	return granules <= SPARE_MOST &&
		granules * os_facts()->cpus_usable <= page_used_granules() / SPARE_SHARE;
}

bool spare_put(char *base, size_t granules)
{
	const uint64_t new = place_make(unit_position(unit_of(base)), granules);
	struct places *s = mine();
	uint64_t old = 0;
	unsigned i;

	if (!may_wait(granules))
		return false;
	i = shortest(s, 0, &old);
	if (i == PLACES || place_length(old) >= granules)
		return false;
	/* [block.8] acqrel: what was done to the new one is before, and to the old one too. */
	if (!a_cas_strong_acqrel(&s->place[i], &old, new))
		return false;
	if (old)
		run_drop(place_address(old), place_length(old));
	return true;
}

static size_t flush_place(_Atomic(uint64_t) *at, bool everything)
{
	uint64_t place = a_load_rlx(at);

	if (!place)
		return 0;
	if (!everything && !(place & SEEN)) {
		(void)a_cas_strong_rlx(at, &place, place | SEEN);
		return 0;
	}
	/* [block.8] acq: as in spare_take(). */
	if (!a_cas_strong_acq(at, &place, 0))
		return 0;
	run_drop(place_address(place), place_length(place));
	return place_length(place) << PAGE_GRANULE_SHIFT;
}

size_t spare_flush(bool everything)
{
	size_t bytes = 0;

	for (unsigned cpu = 0; cpu < SPARE_CPUS; cpu++)
		for (unsigned i = 0; i < PLACES; i++)
			bytes += flush_place(&spares[cpu].place[i], everything);
	return bytes;
}

size_t spare_bytes(void)
{
	size_t granules = 0;

	for (unsigned cpu = 0; cpu < SPARE_CPUS; cpu++)
		for (unsigned i = 0; i < PLACES; i++)
			granules += place_length(a_load_rlx(&spares[cpu].place[i]));
	return granules << PAGE_GRANULE_SHIFT;
}
