/* SPDX-License-Identifier: MIT */
/*
 * A slab: a run of granules divided into blocks of one size class. Its struct is the page layer's
 * record of the run's first granule: out of line, type-stable, never unmapped, so that a thread
 * delayed for ever between reading a record and using it never touches memory that is gone.
 *
 * Life: FREED (or NONE, never used) → OWNED by a thread heap, which carves it → OPEN when it is
 * full, its owner exits or trims, or it is taken from an idle owner (seize.c) → OWNED again by
 * whoever takes it → FREED by whoever sees its last block come back.
 *
 * Invariants, with all operations at rest
 *   OWNED: capacity = used + |free| + (capacity - carved), where `used` counts the blocks that the
 *          program holds, those in the owner's bin, and the remote frees (word.count) not yet
 *          collected.
 *   OPEN:  free is empty, used is out of date, and word.count = blocks in the remote list +
 *          (capacity - carved): everything that is not held by the program is counted in the word.
 *   LISTED: the slab's one `link` is in exactly one stack (some heap's pending stack or the class's
 *          available stack), or in the hands of a thread between setting the bit and pushing, or
 *          between popping and routing. The bit outlives FREED, because the stack's entry does.
 *   holes: of a slab of at most SLAB_HOLES blocks, those that are not carved: never used, or given
 *          back to the kernel since (scavenge.c). They are in no list, and capacity - carved many.
 *          In slabs of more blocks those from index `carved` on are not.
 *   owner: 0: nobody holds the slab, or it is passing from hand to hand.
 *          The holder's heap: it lies beside the heap's current slabs, and others may take it while
 *          the heap is idle (seize.c).
 *          The heap and OWNER_KEPT: it is the heap's current slab, and nobody may.
 *          A mark: the heap's still, but another thread is about to take it. Who changes a mark
 *          does so by compare-and-swap: to 0 the one taker who made it, to the heap its thread, to
 *          a mark of his own any other taker. No two marks are equal.
 *          All else is stored by the holder. So a thread that reads its own heap here after it has
 *          named the slab knows that the slab is its own; any other value is a hint.
 *   attachment: of a slab that lies beside the current ones its entry in the heap's list of the
 *          class, else NULL. A slab that was taken leaves an entry behind, which its heap drops
 *          when it meets it (attached.c).
 *   used:  kept as mark + until, modulo 2^32: a free counts `until` down, and takes the slow path
 *          when that is 0, that is, when `used` has fallen to the mark.
 */
#pragma once

#include "base/atomic.h"
#include "heap/class.h"

struct block {
	struct block *next; /* in a free list, which ends with BLOCK_END */
	/* While free: BLOCK_KEY, so that a double free shows; cleared when given out. */
	uintptr_t key;
} __attribute__((may_alias));

/*
 * A block that holds it is free, or by chance looks so: the lists decide (misuse.c). It is no
 * address, no small number, and as a floating-point number none that a program computes; and it
 * is an operand that instructions can hold.
 */
#define BLOCK_KEY ((uintptr_t)(intptr_t)-0x4e0d0b11)

/* The end of each list of free blocks: has no key, so that malloc needs one comparison for both. */
extern const struct block heap_block_end __attribute__((visibility("hidden")));
#define BLOCK_END ((struct block *)(uintptr_t)&heap_block_end)

struct attachment;

struct slab {
	_Atomic(uintptr_t) owner; /* of frees beside the bin: see above */
	struct block *free;       /* owner only: freed by the owner */
	uint32_t until;           /* owner only, but statistics read both: see `used` above */
	uint32_t mark;            /* the value of used at which a free takes the slow path */
	_Atomic(uint32_t) magic;  /* written by the owner only: 0 while it has blocks given back */
	uint32_t bytes; /* of a block; for LARGE, 0. Const while OWNED or OPEN, as the next two */
	char *base;     /* of the run; for LARGE, the block */
	uint32_t capacity;
	/* Const while OWNED or OPEN, but read by who holds no block of it. */
	_Atomic(uint16_t) class;
	bool zeroed;              /* owner only: what is not carved yet, or room, reads as zero */
	bool keyless;             /* at birth no block had a key; kept from one life to the next */
	_Atomic(uint32_t) carved; /* written by the owner only; statistics read it */
	_Atomic(uint32_t) link;   /* the stack's, under LISTED */
	_Atomic(uint64_t) seen;   /* scavenge.c: what it saw here, and when; 0: nothing */

	/* Second cache line: what other threads write. */
	_Atomic(uint64_t) word __attribute__((aligned(64)));
	_Atomic(size_t) granules; /* of the run */
	_Atomic(uint64_t) holes;  /* written by the owner only: see above */
	_Atomic(size_t) room;     /* for LARGE: granules behind those that are the block's too */
	struct attachment *attachment; /* owner only: see above */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct slab) == 128, "a slab is a page record");

#define OWNER_KEPT ((uintptr_t)1)

/* Heaps lie at multiples of a page, so that no mark looks like one, kept or not. */
#define OWNER_MARK ((uintptr_t)2)
#define OWNER_MARK_ID_SHIFT 2
#define OWNER_MARK_NUMBER_SHIFT 22

/* The mark with this number, of a slab of the heap with this id. */
static inline uintptr_t owner_mark(uint32_t id, uint64_t number)
{
	return (uintptr_t)number << OWNER_MARK_NUMBER_SHIFT | (uintptr_t)id << OWNER_MARK_ID_SHIFT |
		OWNER_MARK;
}

/* Whether the owner is a mark of a slab of this heap. */
static inline bool owner_is_mark(uintptr_t owner, uint32_t id)
{
	return (owner & (((uintptr_t)1 << OWNER_MARK_NUMBER_SHIFT) - 1)) == owner_mark(id, 0);
}

/*
 * The word of a slab: the doubly-tagged pointer of the source's design, as indices so that it needs
 * no 128-bit operation.
 *
 *   bits  0–12  head of the remote list: index of a block plus one, 0 when empty
 *   bits 13–25  count (see the invariants)
 *   bit     26  LISTED
 *   bits 27–29  state
 *   bits 32–63  OWNED: the heap's id. INNER: distance to the run's first granule.
 */
enum slab_state {
	SLAB_NONE = 0,  /* never used: the record is zero at first */
	SLAB_OWNED = 1, /* a remote free is for the owner to collect */
	SLAB_OPEN = 2,  /* a remote free is for the slab itself: anyone may take it */
	SLAB_LARGE = 3, /* a block of its own */
	SLAB_INNER = 4, /* a granule of a slab other than its first */
	SLAB_FREED = 5, /* given back to page */
};

#define WORD_HEAD_BITS 13
#define WORD_COUNT_SHIFT 13
#define WORD_COUNT_ONE ((uint64_t)1 << WORD_COUNT_SHIFT)
#define WORD_LISTED ((uint64_t)1 << 26)
#define WORD_STATE_SHIFT 27
#define WORD_OWNER_SHIFT 32

static inline uint32_t word_head(uint64_t word)
{
	return (uint32_t)word & ((1u << WORD_HEAD_BITS) - 1);
}

static inline uint32_t word_count(uint64_t word)
{
	return (uint32_t)(word >> WORD_COUNT_SHIFT) & ((1u << WORD_HEAD_BITS) - 1);
}

static inline enum slab_state word_state(uint64_t word)
{
	return (enum slab_state)((word >> WORD_STATE_SHIFT) & 7);
}

static inline uint32_t word_owner(uint64_t word)
{
	return (uint32_t)(word >> WORD_OWNER_SHIFT);
}

static inline uint64_t word_make(enum slab_state state, uint32_t owner, uint32_t count,
	uint32_t head)
{
	return (uint64_t)owner << WORD_OWNER_SHIFT | (uint64_t)state << WORD_STATE_SHIFT |
		(uint64_t)count << WORD_COUNT_SHIFT | head;
}

/* For the owner: blocks that the program holds or a bin has, or that others freed. */
static inline uint32_t slab_used(const struct slab *slab)
{
	return slab->mark + a_data_read(&slab->until);
}

static inline void slab_set_used(struct slab *slab, uint32_t used)
{
	a_data_write(&slab->until, used - slab->mark);
}

static inline void slab_set_mark(struct slab *slab, uint32_t mark)
{
	a_data_write(&slab->until, a_data_read(&slab->until) + slab->mark - mark);
	slab->mark = mark;
}

/* Counts a free; true when `used` has reached the mark. */
static inline bool slab_count_down(struct slab *slab)
{
	const uint32_t until = a_data_read(&slab->until) - 1;
	a_data_write(&slab->until, until);
	return until == 0;
}

/* A mark that `used` never reaches. */
#define MARK_NEVER UINT32_MAX

#define SLAB_HOLES 64

/* Whether it is told by `holes` which blocks of the slab are carved. */
static inline bool slab_has_holes(const struct slab *slab)
{
	return slab->capacity <= SLAB_HOLES;
}

/* Whether the block with this index has been carved, and may thus be held by the program. */
static inline bool slab_is_carved(const struct slab *slab, uint32_t index)
{
	if (!slab_has_holes(slab))
		return index < a_load_rlx(&slab->carved);
	return index < slab->capacity && (a_load_rlx(&slab->holes) >> index & 1) == 0;
}

/* Free blocks from which the slab is listed. Who holds no block of it may get a stale answer. */
static inline uint32_t slab_threshold(const struct slab *slab)
{
	return heap_classes[a_load_rlx(&slab->class)].threshold;
}

static inline struct block *slab_block_at(const struct slab *slab, uint32_t index)
{
	return (struct block *)(void *)(slab->base + (size_t)index * slab->bytes);
}

/* The first block of the remote list. */
static inline struct block *word_list(const struct slab *slab, uint64_t word)
{
	return word_head(word) ? slab_block_at(slab, word_head(word) - 1) : BLOCK_END;
}

static inline uint32_t slab_index_of(const struct slab *slab, const void *p)
{
	return (uint32_t)((const char *)p - slab->base) / slab->bytes;
}
