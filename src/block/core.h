/* SPDX-License-Identifier: MIT */
/*
 * What the files of this layer share: the words that tell what each granule is, and the four kinds'
 * functions. See docs/design/block.md for how they fit together.
 *
 * A unit speaks of a granule. Its word is zero, or
 *
 *   kind:4 | listed:4 | 0:8 | zero:16 | begin:16 | live:16     pieces: a bit for each page
 *   kind:4 | 0:12 | flags:16 | granules:32                     a run, at its first granule
 *   kind:4 | 0:60                                              was freed, when it last was a block
 *
 * In a granule of pieces the two bits of a page say: begin and live, a live block begins; begin
 * alone, a block begins that waits in a cache; live alone, the page is free; none, it belongs to
 * the block that begins before it.
 *
 * Synchronization   the word of pieces is changed by compare-and-swap, by any thread. That of a run
 *                   is changed by who allocates it and, from live to freed or idle, by one CAS, so
 *                   that of two frees one is told
 * Ordering          [block.1] to [block.4] in docs/design/memory-orders.md; what is written to the
 *                   memory of a run is ordered by page's bitmap
 */
#pragma once

#include "allod/page.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "base/bitmap.h"
#include "block/block.h"
#include "os/os.h"
#include "page/page.h"

enum {
	/* 32 MiB: above, a block gets a slot. */
	RUN_MOST_GRANULES = 512,
	/* 8 MiB: up to there nothing is asked but whether it is a run. */
	RUN_PLAIN_GRANULES = 128,
	/* Base pages in a granule, where they are 4 KiB. */
	PIECE_PAGES = 16,
};

/* 64 MiB: a greater alignment takes a mapping of its own. */
#define RUN_ALIGN_MOST_BYTES ((size_t)64 << 20)

/* Among the flags of a run or loose block: room was reserved, and stays when it shrinks. */
#define KEEPS_ROOM (1u << 15)

enum unit_kind {
	UNIT_NONE = 0,
	UNIT_PIECES,
	UNIT_RUN,
	UNIT_IDLE, /* a run that waits in a cache */
	UNIT_FREED,
};

struct unit {
	_Atomic(uint64_t) word;
	_Atomic(uint32_t) room; /* of a run: granules that are its own, those in use included */
	_Atomic(uint16_t) tag;
	_Atomic(uint16_t) seen;
};

#define UNIT_KIND_SHIFT 60

static inline enum unit_kind unit_kind(uint64_t word)
{
	return (enum unit_kind)(word >> UNIT_KIND_SHIFT);
}

static inline uint64_t unit_word(enum unit_kind kind)
{
	return (uint64_t)kind << UNIT_KIND_SHIFT;
}

/* The word of a run. */
static inline uint64_t unit_run(enum unit_kind kind, size_t granules, unsigned flags)
{
	return unit_word(kind) | (uint64_t)flags << 32 | granules;
}

static inline size_t unit_run_granules(uint64_t word)
{
	return (uint32_t)word;
}

static inline unsigned unit_run_flags(uint64_t word)
{
	return (uint16_t)(word >> 32);
}

/* table.c: arrays in addresses of their own, made accessible as far as they are used. */

struct table {
	_Atomic(uintptr_t) base;
	/* Entries from 0 on that are accessible; only grows. */
	_Atomic(size_t) reach;
};

/* Makes entry `index` of `count` accessible; 0, -ENOMEM, or -EAGAIN if that needed the system. */
int table_need(struct table *t, size_t index, size_t count, size_t entry_bytes, bool may_call);

extern struct table block_units __attribute__((visibility("hidden")));

/* How many entries may be looked at. */
static inline size_t table_reach(const struct table *t)
{
	/* [block.1] acq: the entries below are accessible; pairs with table_grow(). */
	return a_load_acq(&t->reach);
}

/* The unit of that granule, which is within reach. */
static inline struct unit *unit_at(size_t pos)
{
	return (struct unit *)a_load_rlx(&block_units.base) + pos;
}

static inline size_t unit_position(const struct unit *unit)
{
	return (size_t)(unit - (struct unit *)a_load_rlx(&block_units.base));
}

/* The unit of the granule that holds `p`, or NULL: no block of the arena can be there. */
static inline struct unit *unit_of(const void *p)
{
	uintptr_t pos = ((uintptr_t)p - a_load_rlx(&page_arena.base)) >> PAGE_GRANULE_SHIFT;

	return pos < table_reach(&block_units) ? unit_at(pos) : NULL;
}

/* So many granules the arena may have, at most; 0: there is none. */
size_t arena_granules(void);

/* Makes the unit of an address in the arena accessible; errors as of table_need(). */
int unit_need(const void *p, bool may_call, struct unit **ret_unit);

static inline char *unit_address(const struct unit *unit)
{
	return (char *)(a_load_rlx(&page_arena.base) + (unit_position(unit) << PAGE_GRANULE_SHIFT));
}

/* The binary logarithm of a page's size once somebody asked; 0 before. */
extern _Atomic(uint32_t) block_page_shift __attribute__((visibility("hidden")));

uint32_t page_shift_ask(void);

static inline uint32_t page_shift(void)
{
	uint32_t shift = a_load_rlx(&block_page_shift);

	return __builtin_expect(shift != 0, 1) ? shift : page_shift_ask();
}

static inline size_t page_bytes(void)
{
	return (size_t)1 << page_shift();
}

/* Rounds up to whole pages; 0 if that is beyond all numbers. */
static inline size_t round_pages(size_t bytes)
{
	return (bytes + page_bytes() - 1) & -page_bytes();
}

static inline size_t granules_for(size_t bytes)
{
	return (bytes >> PAGE_GRANULE_SHIFT) + ((bytes & (PAGE_GRANULE_BYTES - 1)) != 0);
}

/*
 * The four kinds. Each gives a block whose contents are as the flags want them, or a negative errno
 * with nothing changed: -ENOMEM, -EAGAIN, or -ENOTSUP: it may be had as one of another kind.
 */

/* piece.c */

/* Pages that a piece has at most; 0 where a granule is but one page. */
size_t piece_most(void);
int piece_alloc(size_t pages, unsigned flags, char **ret_base);
/* Allocates up to `count`; returns how many. What is missing may yet be had by piece_alloc(). */
size_t piece_alloc_many(size_t pages, unsigned flags, size_t count, void **ret_blocks);
/* Frees the live pieces of a granule at these pages, by one change; false: one of them is none. */
bool piece_free_many(struct unit *unit, uint32_t begins);
/* Frees the piece that begins at `p`; false when no live one does. */
bool piece_free(struct unit *unit, uint64_t word, char *p);
/* The live piece of the page, told to hold it or to begin with it. */
bool piece_find(const struct unit *unit, uint64_t word, const char *p, bool begins,
	struct block *ret_block);
/*
 * Resizes a live piece where it is; 0 or -ENOSPC. As in the other kinds' functions, `flags` are
 * those of the call: ALLOD_PAGE_ZEROED speaks of what is added.
 */
int piece_resize(struct unit *unit, char *p, size_t pages, unsigned flags);
/* The size up to which it could be resized so, now. */
size_t piece_room(const struct unit *unit, const char *p);
/* Whether a piece began there that was freed. */
bool piece_was_freed(uint64_t word, const char *p);
/* Puts a piece that waited in a cache back among the free pages. */
void piece_drop(char *base);
/* Where piece_giveback() goes on; zeroed at first. */
struct piece_cursor {
	unsigned list;
	size_t pos;
};
/*
 * Drops free pages of granules that have pieces, from the cursor on, up to `budget` bytes: all of
 * them, or those that were free at the last such walk too. Returns the bytes, and whether there is
 * more to walk in *ret_more; adds to *ret_waiting what is to be dropped later.
 */
size_t piece_giveback(struct piece_cursor *cursor, bool everything, size_t budget, bool *ret_more,
	size_t *ret_waiting);
/* A piece from a cache is live again. */
void piece_revive(char *base);

/* run.c */

int run_alloc(size_t bytes, const struct block_want *want, char **ret_base);
bool run_free(struct unit *unit, uint64_t word, char *p);
bool run_find(const struct unit *unit, uint64_t word, const char *p, struct block *ret_block);
/* The live run that holds `p`, whose granule does not begin one. */
bool run_holding(const struct unit *unit, const char *p, struct block *ret_block);
void run_drop(char *base, size_t granules);
/* Frees a live run whose pages have been moved elsewhere. */
void run_free_empty(struct unit *unit);
int run_resize(struct unit *unit, size_t bytes, unsigned flags);
size_t run_room(const struct unit *unit);

/* loose.c */

int loose_alloc(size_t bytes, const struct block_want *want, char **ret_base);
/* Makes a block of a direct run; on failure the run is still the caller's. */
int loose_begin(char *base, size_t granules, size_t room, const struct block_want *want);
bool loose_free(char *p);
bool loose_find(const char *p, bool begins, struct block *ret_block);
bool loose_was_freed(const char *p);
int loose_resize(char *p, size_t bytes, unsigned flags);
/*
 * To another place, larger, by moving its mapping; `zeroed` as ALLOD_PAGE_ZEROED. 0, or -ENOTSUP:
 * not possible, nothing has changed.
 */
int loose_move(char *p, size_t bytes, bool zeroed, void **ret_block);
_Atomic(uint16_t) *loose_tag(const char *p);
/* How many there are, and their bytes. */
void loose_count(size_t *ret_blocks, size_t *ret_bytes);

/* slot.c */

int slot_alloc(size_t bytes, const struct block_want *want, char **ret_base);
bool slot_free(char *p);
/* How much the slots of the block that begins at p may hold; false: none does. */
bool slot_holds(const char *p, size_t *ret_bytes);
bool slot_find(const char *p, bool begins, struct block *ret_block);
bool slot_was_freed(const char *p);

/* cache.c: blocks freed lately, of one size each class. */

enum {
	CACHE_RUN_MOST = 4, /* granules */
	CACHE_CLASSES = PIECE_PAGES - 1 + CACHE_RUN_MOST,
};

static inline unsigned cache_class_of_pages(size_t pages)
{
	return (unsigned)pages - 1;
}

static inline unsigned cache_class_of_granules(size_t granules)
{
	return PIECE_PAGES - 2 + (unsigned)granules;
}

/* A block of that class, or NULL. */
char *cache_take(unsigned class);
/* Room for one more, or NULL; it is not the caller's. */
_Atomic(uintptr_t) *cache_room(unsigned class);
/* Takes a block over whose word says that it waits; false: another one came to be there. */
bool cache_put(_Atomic(uintptr_t) *room, char *base);
/*
 * Puts back what waits in caches, all of it or what was there at the last call too; bytes.
 */
size_t cache_flush(bool everything);
/* What waits there; a hint. */
size_t cache_bytes(void);

/* keeper.c: has page's janitor look after what waits here. Cheap; before anything can wait. */
void block_keep(void);
/* Bytes that wait in caches and free slots. */
size_t block_waiting(void);

/* commit.c: whether the range is not empty and lies in a live block. */
bool block_has_range(const char *address, size_t bytes);

/* tag.c: numbers for names; 0 is none, or one too many. */
unsigned tag_number(const char *name);

/* misuse.c: ends the process with the line that fits. */
_Noreturn void block_fatal(const void *p);
