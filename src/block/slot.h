/* SPDX-License-Identifier: MIT */
/*
 * Slots: addresses aligned to their size, of two classes, each in a zone of its own. What lies in a
 * slot can be hung elsewhere as one, by moving page tables instead of pages or bytes.
 *
 * A zone is one reservation. Its slots below the frontier are readable and writable, and not
 * charged to anybody's account of committed memory: pages come when they are touched. A free slot
 * keeps the pages that its last block had, until they are given back (slot_idle.c).
 *
 * Files: slot.c blocks in slots; slot_zone.c zones, taking and putting back; slot_move.c moving;
 * slot_exchange.c exchanging; slot_berth.c destinations made ready; slot_idle.c giving back.
 *
 * Operations        zone_get, zone_take, zone_put and the calls of core.h over them
 * Synchronization   all of them beside each other, in any number of threads and in signal handlers.
 *                   Who holds a slot (took its bit) owns its record; others may read it
 * Linearization     take and put: those of the bitmap. Growth: the CAS of `frontier`. Birth: the
 *                   CAS of the pointer to the zone. Free: the CAS of the record's head
 * Ordering          [slot.1] to [slot.3] in docs/design/memory-orders.md; the bitmap orders what is
 *                   written to a slot and to its record, and that it is accessible, before the
 *                   next taker's reads
 * Progress          lock-free; a thread stopped anywhere keeps the slots in its hands, no more
 * Reclamation       none: zones live as long as the process
 */
#pragma once

#include "core.h"

enum slot_class { SLOT_SMALL, SLOT_LARGE, SLOT_CLASSES };

enum {
	SLOT_SMALL_SHIFT = 25, /* 32 MiB */
	SLOT_LARGE_SHIFT = 30, /* 1 GiB: what one entry of the third page table level covers */
	/* A slot in more pieces than this and one is copied, and is in one again. */
	SLOT_CUTS = 4,
	SLOT_CUT_SHIFT = 12,
	/* Slots freed lately that are remembered. */
	SLOT_RECENT = 64,
	/* Clean slots kept for exchanges under way. */
	SLOT_PARKED = 4,
	/* Places ready for blocks that outgrow their slot: one call in so many makes them. */
	SLOT_BERTHS = 4,
	/* Each has room for a block of a slot and a page, eight times. */
	SLOT_BERTH_SLOTS = 9,
	/* Small slots become accessible so many at a time: 1 GiB. */
	SLOT_STEP_SMALL = 32,
	/*
	 * Of large ones as many again as are in use become accessible with those that are wanted,
	 * but no more than these, so that few blocks wait for that call. Memory that is locked later
	 * is filled as far as it is accessible.
	 */
	SLOT_AHEAD_LARGE = 64,
};

/* The mapping of a slot's pages began neither here nor in another slot of the zone. */
#define SLOT_ORIGIN_ELSEWHERE UINT32_MAX

/*
 * What is known of a slot. All of it is zero at first, which means: free, clean, and mapped where
 * it began.
 *
 * `origin` is 0, or tells whose addresses the mapping had at first (number + 1): the kernel cannot
 * join it with those around then. A slot may also consist of several mappings, which meet at its
 * `cuts`. So a zone has at most one mapping more than the sum of slot_cost() over its slots.
 */
struct slot {
	_Atomic(uint64_t) head;     /* see slot_head() */
	_Atomic(uint64_t) bytes;    /* size of the block that begins here */
	_Atomic(uint64_t) dirty;    /* from so many bytes on, the slot reads as zero */
	_Atomic(uint64_t) freed_ns; /* when it was put back */
	_Atomic(uint32_t) count;    /* slots of the block that begins here */
	_Atomic(uint32_t) back;     /* slots from the beginning of its block to this one */
	_Atomic(uint32_t) origin;
	_Atomic(uint16_t) tag;
	_Atomic(uint8_t) n_cuts;
	_Atomic(uint8_t) lazy;             /* the kernel may take its pages already */
	_Atomic(uint32_t) cuts[SLOT_CUTS]; /* bytes >> SLOT_CUT_SHIFT, rising */
};

struct zone {
	/* Const after publication. */
	uintptr_t base; /* aligned to a slot */
	unsigned shift;
	uint32_t slots;
	enum slot_class class;
	struct slot *table;
	size_t metadata_bytes;
	struct bitmap map; /* 1 = free slot below the frontier */

	_Atomic(uint64_t) frontier; /* slots below are accessible */
	_Atomic(uint64_t) lost;     /* slots that a refused move made unusable */
	_Atomic(uint32_t) refusals; /* of moves, since one succeeded */
	/* Hints: slots (number + 1) freed lately, around recent_top. */
	_Atomic(uint32_t) recent_top;
	_Atomic(uint32_t) recent[SLOT_RECENT];
	/* Slots (number + 1) that belong to the zone itself: clean, and out of the bitmap. */
	_Atomic(uint32_t) parked[SLOT_PARKED];
	/* The first slots (number + 1) of what is ready for blocks that move; by [slot.2]. */
	_Atomic(uint32_t) berths[SLOT_BERTHS];
	_Atomic(bool) outgrown; /* a block has outgrown its slot before */
};

/*
 * The head of a block's first slot:
 *	live:1 | freed:1 | 0:6 | flags:16 | kept:16 | 0:4 | offset:20
 * `kept` slots stay with the block when it shrinks; `offset`, in units of 4 KiB, is where the block
 * begins within the slot. Of a block that was freed `freed` and the offset stay.
 */
enum {
	SLOT_LIVE = 1,
	SLOT_FREED = 2,
	SLOT_FLAGS_SHIFT = 8,
	SLOT_KEPT_SHIFT = 24,
	SLOT_OFFSET_SHIFT = 44,
};

static inline uint64_t slot_head(unsigned flags, size_t kept, size_t offset)
{
	return SLOT_LIVE | (uint64_t)(flags & 0xffff) << SLOT_FLAGS_SHIFT |
		(uint64_t)kept << SLOT_KEPT_SHIFT |
		(uint64_t)(offset >> SLOT_CUT_SHIFT) << SLOT_OFFSET_SHIFT;
}

static inline unsigned slot_flags(uint64_t head)
{
	return (uint16_t)(head >> SLOT_FLAGS_SHIFT);
}

static inline size_t slot_kept(uint64_t head)
{
	return (uint16_t)(head >> SLOT_KEPT_SHIFT);
}

static inline size_t slot_offset(uint64_t head)
{
	return (size_t)(head >> SLOT_OFFSET_SHIFT) << SLOT_CUT_SHIFT;
}

/* A live block in slots, with what block.h does not tell of it. */
struct slot_ref {
	struct zone *zone;
	size_t pos;   /* its first slot */
	size_t count; /* its slots */
	size_t offset;
	size_t bytes;
	uint64_t head;
};

/* slot_zone.c */

extern _Atomic(struct zone *) slot_zones[SLOT_CLASSES] __attribute__((visibility("hidden")));

/* The zone, or NULL if nobody needed it yet. */
static inline struct zone *zone_peek(enum slot_class class)
{
	/* [slot.1] acq: the zone is filled in; pairs with zone_publish(). */
	return a_load_acq(&slot_zones[class]);
}

/* The same; makes it if may_call. NULL: there is none here, or not now. */
struct zone *zone_get(enum slot_class class, bool may_call);

/*
 * Takes n adjacent slots, the first at a multiple of `align` slots; rather those that hold pages
 * than others. BITMAP_NONE: none are free, or that would need the system and `may_call` is false.
 */
size_t zone_take(struct zone *z, size_t n, size_t align, bool may_call);

enum zone_prefer {
	ZONE_EMPTY, /* slots without pages */
	ZONE_CLEAN, /* the same, in one mapping with their surroundings */
};

/* Takes n adjacent slots, of which the first `empty` are as preferred if there are such. */
size_t zone_take_empty(struct zone *z, size_t n, size_t empty, enum zone_prefer prefer);
/* Takes n adjacent slots that are clean and accessible, where a short look finds some. */
size_t zone_take_clean(struct zone *z, size_t n);
/* Takes exactly the slots [pos, pos + n), or none. */
bool zone_take_at(struct zone *z, size_t pos, size_t n, bool may_call);
/* How many slots from pos on, `most` at most, could be taken now. */
size_t zone_free_at(const struct zone *z, size_t pos, size_t most);
/* Puts slots back that the caller holds. */
void zone_put(struct zone *z, size_t pos, size_t n);

static inline size_t slot_bytes(const struct zone *z)
{
	return (size_t)1 << z->shift;
}

static inline char *slot_address(const struct zone *z, size_t pos)
{
	return (char *)(z->base + ((uintptr_t)pos << z->shift));
}

/* So many slots hold so many bytes. */
static inline size_t slots_for(const struct zone *z, size_t bytes)
{
	return (bytes >> z->shift) + ((bytes & (slot_bytes(z) - 1)) != 0);
}

/* How many mappings the slot may cost beyond those of its zone. */
static inline size_t slot_cost(const struct slot *s)
{
	return (a_load_rlx(&s->origin) ? 2 : 0) + a_load_rlx(&s->n_cuts);
}

/* slot.c */

/* The live block that begins at p, or, not `begins`, holds p. */
bool slot_ref_find(const char *p, bool begins, struct slot_ref *ret_ref);
/* Begins a block in slots that the caller holds; its pages may hold anything. */
void slot_begin(const struct slot_ref *ref, unsigned tag);
/* Notes that the block may write up to `end`, counted from its first slot; from `from` on. */
void slot_note_dirty(struct zone *z, size_t pos, size_t from, size_t end);
/* Makes [from, end) of the slots from pos on read as zero, by a call only if it may. */
void slot_clear(struct zone *z, size_t pos, size_t from, size_t end, bool may_call);
/*
 * Resizes in place: 0, -ENOSPC, -EAGAIN (that needs the system and may_call is false).
 * ALLOD_PAGE_ZEROED in `flags` speaks of what is added.
 */
int slot_resize(const struct slot_ref *ref, size_t bytes, unsigned flags);
/*
 * A block in one slot that has room for `room` bytes and already holds pages for the first `warm`;
 * NULL if there is none. `zeroed`: what lies behind those shall read as zero.
 */
char *slot_alloc_warm(size_t bytes, size_t room, size_t warm, unsigned flags, bool zeroed);
/* Takes the slots behind a block, so that it has `count`; 0, -ENOSPC. */
int slot_take_behind(const struct slot_ref *ref, size_t count, unsigned flags);
/* The size up to which slot_resize() could grow it now. */
size_t slot_room(const struct slot_ref *ref);

/* slot_move.c */

/*
 * Moves a block that has outgrown its slots to others with room for `room` bytes, if there are so
 * many, but for `bytes` at least. 0, or -ENOTSUP: not possible, nothing has changed.
 */
int slot_outgrow(const struct slot_ref *ref, size_t bytes, size_t room, unsigned flags,
	void **ret_block);
/*
 * Makes a block of `bytes` of a block of another kind, whose pages lie in one mapping, by moving
 * them into a slot with room for `room` bytes. The old range stays mapped, reads as zero, and is
 * still the old block. `zeroed`: what is added shall read as zero. 0, or -ENOTSUP as above.
 */
int slot_adopt(const struct block *block, size_t bytes, size_t room, unsigned tag, bool zeroed,
	void **ret_block);
/*
 * Makes a held slot clean and one with its surroundings; false: it must never be used again.
 */
bool slot_refresh(struct zone *z, size_t pos);
/* The same only if it is not in one mapping with its surroundings, and too many are not. */
bool slot_refresh_if_crowded(struct zone *z, size_t pos);

enum slot_hung {
	SLOT_HUNG,
	SLOT_HUNG_REFUSED, /* both are as they were, but the destination may have lost its contents */
	SLOT_HUNG_LOST,    /* likewise, and the destination must never be used again */
};

/* Whether moving may be tried at all. */
bool slot_may_move(struct zone *z);
/*
 * Moves all that one slot holds to another of the zone, both held by the caller; `to_is_live`: that
 * one is a live block's.
 */
enum slot_hung slot_hang(struct zone *z, size_t pos, size_t to_pos, bool to_is_live);
/* Counts a slot that must never be used again. */
void slot_lose(struct zone *z);

/* slot_exchange.c */

/*
 * Exchanges the contents of two blocks, slot by slot, and their sizes. -ENOTSUP: not possible,
 * nothing has changed.
 */
int slot_exchange(const struct slot_ref *a, const struct slot_ref *b);

/* slot_berth.c */

/*
 * Takes `count` slots, SLOT_BERTH_SLOTS at most, of which the first one has no pages and is a
 * mapping of its own, so that a move into it divides none. BITMAP_NONE: nobody has made any ready.
 */
size_t berth_take(struct zone *z, size_t count);
/*
 * Where none is left, makes some ready for the next calls, of slots that are accessible and clean.
 * Not the first time: a block that moves once needs none.
 */
void berths_fill(struct zone *z);

/* realloc.c */

/* Whether the process has no other threads, as far as the C library tells. */
bool block_is_alone(void);

/* swap.c */

/* Exchanges what two ranges hold that do not overlap. */
void swap_bytes(char *a, char *b, size_t bytes);

/* slot_idle.c: giving back what free slots hold. */

/* A free slot that holds pages, seen in passing. */
struct slot_idle {
	struct zone *zone; /* NULL before the first */
	size_t pos;
	size_t bytes;      /* from its beginning on, that may hold pages */
	uint64_t freed_ns; /* when it was put back */
	bool lazy;         /* the kernel may take them already */
	bool taken;
};

/*
 * The next free slot that holds pages, in an order of no meaning; false: there are no more. Begin
 * with a zeroed struct. It may be taken and put back by others at any time.
 */
bool slot_idle_next(struct slot_idle *it);
/* Takes it, so that nobody else uses it; false: somebody has it. The fields are as of now then. */
bool slot_idle_take(struct slot_idle *it);
/* Has the kernel free its pages: when memory is short (lazily), or now. Bytes; 0: refused. */
size_t slot_idle_drop(struct slot_idle *it, bool lazily);
/* The same, now, for about the last `most` bytes of it. */
size_t slot_idle_drop_tail(struct slot_idle *it, size_t most);
/* Puts it back. A thread that is stopped before keeps this slot, and no more. */
void slot_idle_put(struct slot_idle *it);

/*
 * All of it: drops what was put back before `before_ns`, up to `budget` bytes. Returns the bytes,
 * and adds to *ret_waiting what is to be dropped later.
 */
size_t slot_giveback(uint64_t before_ns, bool lazily, size_t budget, size_t *ret_waiting);
