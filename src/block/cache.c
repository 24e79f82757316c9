/* SPDX-License-Identifier: MIT */
/*
 * Blocks freed lately, one class a size, for each processor. The number of the processor is a hint
 * that keeps processors out of each other's lines: any thread may use any way.
 *
 * Operations        cache_take, cache_room, cache_put, cache_flush
 * Synchronization   any of them beside any other. A way holds the address of a block that belongs to
 *                   nobody else, or 0; who exchanges it for 0 has the block
 * Linearization     the exchange and the compare-and-swap of a way
 * Ordering          [block.4]: what was written to the block is before what its taker does
 * Progress          wait-free; a thread stopped here keeps one block out of use
 * Reclamation       none
 *
 * How much may wait is bounded by the ways that a class may use: 3.4 MiB for each processor.
 */
#include "core.h"

enum {
	CACHE_CPUS = 64, /* power of two; processors beyond share */
	WAYS = 8,
	/* Set in a way by cache_flush() for blocks that it saw there; addresses are of pages. */
	SEEN = 1,
};

struct line {
	_Alignas(64) _Atomic(uintptr_t) way[WAYS];
};

static struct line cache[CACHE_CPUS][CACHE_CLASSES];
/* A bit for each processor whose part was ever used. */
static _Atomic(uint64_t) cpus_used;

/*
 * 4 to 16 KiB in 8, to 64 KiB in 4, 128 to 256 KiB in 2. What waits lies between free runs, which
 * cannot join then: with runs up to 512 KiB an arena of 2 GiB spread by another 40 MiB.
 */
static const uint8_t ways[CACHE_CLASSES] = { 8, 8, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 2,
	2 };

static unsigned cpu_now(void)
{
	return os_cpu() & (CACHE_CPUS - 1);
}

char *cache_take(unsigned class)
{
	struct line *line = &cache[cpu_now()][class];

	for (unsigned i = 0; i < ways[class]; i++) {
		uintptr_t entry = a_load_rlx(&line->way[i]);
		if (!entry)
			continue;
		/* [block.4] acq: the block is ours with what was done to it before. */
		entry = a_xchg_acq(&line->way[i], 0);
		if (entry)
			return (char *)(entry & ~(uintptr_t)SEEN);
	}
	return NULL;
}

_Atomic(uintptr_t) *cache_room(unsigned class)
{
	const unsigned cpu = cpu_now();
	struct line *line = &cache[cpu][class];

	for (unsigned i = 0; i < ways[class]; i++) {
		if (a_load_rlx(&line->way[i]))
			continue;
		/* That this processor's part may hold something hardly ever is new. */
		if (!(a_load_rlx(&cpus_used) >> cpu & 1))
			(void)a_or_rlx(&cpus_used, (uint64_t)1 << cpu);
		return &line->way[i];
	}
	return NULL;
}

bool cache_put(_Atomic(uintptr_t) *room, char *base)
{
	uintptr_t none = 0;

	/* [block.4] rel: what was done to the block is before; pairs with cache_take(). */
	return a_cas_strong_rel(room, &none, (uintptr_t)base);
}

static size_t class_bytes(unsigned class)
{
	if (class < PIECE_PAGES - 1)
		return (class + 1) * page_bytes();
	return (size_t)(class - (PIECE_PAGES - 2)) << PAGE_GRANULE_SHIFT;
}

/* Puts a block back into the store; its bytes. */
static size_t drop(unsigned class, char *base)
{
	if (class < PIECE_PAGES - 1)
		piece_drop(base);
	else
		run_drop(base, class - (PIECE_PAGES - 2));
	return class_bytes(class);
}

static size_t flush_way(_Atomic(uintptr_t) *way, unsigned class, bool everything)
{
	uintptr_t entry = a_load_rlx(way);

	if (!entry)
		return 0;
	if (!everything && !(entry & SEEN)) {
		/* Whatever it is by now: who changed it has used it. */
		(void)a_cas_strong_rlx(way, &entry, entry | SEEN);
		return 0;
	}
	/* [block.4] acq: as in cache_take(). */
	if (!a_cas_strong_acq(way, &entry, 0))
		return 0;
	return drop(class, (char *)(entry & ~(uintptr_t)SEEN));
}

size_t cache_flush(bool everything)
{
	size_t bytes = 0;

	for (uint64_t cpus = a_load_rlx(&cpus_used); cpus; cpus &= cpus - 1) {
		struct line *lines = cache[__builtin_ctzll(cpus)];
		for (unsigned class = 0; class < CACHE_CLASSES; class ++)
			for (unsigned i = 0; i < ways[class]; i++)
				bytes += flush_way(&lines[class].way[i], class, everything);
	}
	return bytes;
}

size_t cache_bytes(void)
{
	size_t bytes = 0;

	for (uint64_t cpus = a_load_rlx(&cpus_used); cpus; cpus &= cpus - 1) {
		struct line *lines = cache[__builtin_ctzll(cpus)];
		for (unsigned class = 0; class < CACHE_CLASSES; class ++)
			for (unsigned i = 0; i < ways[class]; i++)
				bytes += a_load_rlx(&lines[class].way[i]) ? class_bytes(class) : 0;
	}
	return bytes;
}
