/* SPDX-License-Identifier: MIT */
/*
 * What the files of the percpu layer know of each other: the structures, and who calls what.
 *
 * Terms   granule: 4 bytes, the unit of sizes. grain: what a bit of a chunk's maps stands for: a
 *         granule, or 64 bytes in a coarse chunk. block: 4 KiB of a chunk, with hints. unit: the
 *         part of a chunk that one processor has. chunk: units of the same size for all processors,
 *         `stride` apart. arena: addresses that chunks are cut from. Sizes in granules are called
 *         `size`, what counts grains `bits`, the number of a grain in its chunk a bit.
 *
 * What is true of a chunk: `live` has a bit where a live element begins, `end` a bit at the last
 * grain of each element, live or at hand in a thread's cache. All else (`alloc`, the hints, the
 * lists) follows from these two, and a forked child makes it anew from them (recover.c).
 *
 * Locks   pool->lock guards the pool, its chunks and everything in them but `live`, whose words
 *         are atomic, and `end`, which the lock's holder writes and a free reads. root.lock guards
 *         the registry, the arenas, the active processors and the metadata; it is taken first.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "allod/percpu.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "base/bitmap.h"
#include "percpu/lock.h"

enum {
	GRANULE_SHIFT = 2,
	BLOCK_SHIFT = 12,
	BLOCK_BYTES = 1 << BLOCK_SHIFT,
	/* Of coarse chunks: a block has a word of each map, eight have a cache line. */
	COARSE_SHIFT = 6,
	COARSE_LEAST_BYTES = 128,
	COARSE_LINE_BLOCKS = 8,
	LINE_BITS = 512,
	/* Arenas give out addresses in multiples of this. */
	SLOT_SHIFT = 16,
	SLOT_BYTES = 1 << SLOT_SHIFT,
	/* Units of a pool grow from the first to the second. */
	UNIT_FIRST_BYTES = 64 << 10,
	UNIT_MOST_BYTES = 1 << 20,
	/* Lists of a pool's chunks, by the length of their longest free run. */
	CHUNK_LISTS = 32,
	ARENAS_MAX = 16,
	NAME_BYTES = 32,
	/* The largest alignment that elements get unasked. */
	ALIGN_UNASKED = 64,
};

#define NOWHERE UINT32_MAX

/*
 * Hints of a block or of a whole chunk, in grains, relative to its beginning.
 *
 *   contig       the longest free run: exact in a block, in a chunk never more than there is
 *   scan         a free run in front of it, or 0; what is longer need not be looked for up to its
 *                end. scan < contig => scan_start < contig_start;
 *                scan_start > contig_start => scan == contig
 *   left, right  the free runs at both edges (of a block; exact)
 *   first        the first free grain, or the number of grains
 *   fresh        of a block: from here on nothing was given out since it was last all initial
 */
struct percpu_hint {
	uint32_t contig;
	uint32_t contig_start;
	uint32_t scan;
	uint32_t scan_start;
	uint32_t left;
	uint32_t right;
	uint32_t first;
	uint32_t fresh;
};

/* Free grains [start, end) of a chunk; empty at first. */
struct percpu_run {
	uint32_t start;
	uint32_t end;
};

/* What a chunk is for; each kind has its lists. */
enum chunk_kind { CHUNK_PLAIN, CHUNK_FILE, CHUNK_COARSE, CHUNK_KINDS };

struct percpu_chunk {
	struct allod_percpu_pool *pool; /* this and the next eleven: const while the chunk lives */
	uintptr_t base;                 /* the unit of processor 0 */
	_Atomic(uint64_t) *live;
	_Atomic(uint64_t) *end;
	uint64_t stride;
	uint32_t bits;
	uint32_t blocks;
	uint32_t grain_mask;        /* an element begins where these bits of its address are 0 */
	uint8_t shift;              /* of a grain's bytes */
	uint8_t kind;               /* enum chunk_kind */
	bool is_file;               /* processors share pages until they write */
	bool is_careful;            /* each element is looked at: nothing is kept at hand */
	struct percpu_arena *arena; /* NULL: the chunk has a mapping of its own */
	uint8_t *image; /* the initial content, writable, if image_epoch is the process's */
	uint32_t image_epoch;

	struct percpu_hint hint; /* of the chunk */
	uint32_t free_bits;
	uint32_t list;        /* index of the pool's list that it is on */
	uint32_t idle_blocks; /* blocks that are free, and may have memory */
	uint32_t known_rows;  /* processors that `known` has room for */
	uint32_t
		skip_block; /* none below but takers' has room for runs of skip_bits at skip_align */
	uint32_t skip_bits;
	uint32_t skip_align;
	uint64_t *alloc; /* a bit for each grain that is not free */
	struct percpu_hint *block;
	uint64_t *known;         /* row for each active index, bit for each block: has memory */
	_Atomic(uint64_t) *over; /* bit where an element begins that the overlay has content of */
	uint16_t *tag;           /* for each block, the class of contents it was filled for */
	uint64_t overlay;        /* address of the overlay, 0: none */
	struct percpu_chunk *next;
	struct percpu_chunk *prev;
	struct percpu_chunk *next_of_pool;
	struct percpu_chunk *prev_of_pool;
	size_t meta_bytes;
	size_t mapped_bytes; /* of a mapping of its own */
};

enum arena_kind { ARENA_FILE = 1, ARENA_HUGE = 2, ARENA_NUMA = 4 };

/* Addresses for `cpus` processors, ALLOD_PERCPU_STRIDE apart; all const once it is published. */
struct percpu_arena {
	uintptr_t base;
	size_t window; /* how much of the stride is mapped */
	unsigned cpus;
	unsigned kind;
	uint32_t epoch; /* of the process that made it: the window of another is gone */
	uint8_t *image; /* of a file: all of it, shared and writable */
	struct bitmap slots;
	size_t slots_known; /* how many of them the bitmap has been told of; guarded by root.lock */
	_Atomic(struct percpu_chunk *) *chunk; /* by slot */
};

/* Contents that come again and again get blocks filled with them in advance. */
enum { CLASSES_MAX = 32, CLASS_BYTES = 64, RECENT_MAX = 8 };

/* The tag of a block that was filled with the content of one element. */
#define TAG_ONCE 0xffff

struct percpu_class {
	uint32_t bits;  /* 0: unused */
	uint32_t bytes; /* of the content; the rest of the element is zero */
	struct percpu_chunk
		*hint_chunk; /* where to look first; NULL: if has_room, from the front */
	uint32_t hint_block;
	bool has_room; /* an element of the class was freed since all were looked at */
	uint8_t content[CLASS_BYTES];
};

/*
 * Where threads last took elements. Each keeps to a block of its own, or to the blocks whose maps
 * share a cache line, as long as there are others with room: else the line is shared at every element.
 */
enum { TAKERS_MAX = 8 };

struct percpu_taker {
	const void *who;            /* a thread's cache */
	struct percpu_chunk *chunk; /* NULL: it is gone */
	uint32_t block;
};

/* Blocks of a chunk that threads take from. */
struct percpu_avoid {
	uint32_t own;  /* the first of the caller's, or NOWHERE */
	bool is_apart; /* nothing is to be found in the others' */
	uint32_t count;
	uint32_t block[TAKERS_MAX]; /* the first of each of the others' */
};

struct allod_percpu_pool {
	struct percpu_lock lock;
	/* What every call reads lies apart from the lock. */
	_Alignas(64) _Atomic(uint64_t) serial; /* never used twice; 0: no pool */
	_Atomic(uint32_t) epoch;               /* of the process for which the pool is whole */
	struct allod_percpu_options options;
	size_t stride;
	size_t next_unit_bytes;
	unsigned cpus;
	size_t usual_bytes; /* requests of up to so many may be served from a bin */
	bool is_careful;    /* each element is looked at: nothing is kept at hand */
	bool has_coarse;    /* elements of suitable sizes go to coarse chunks */
	char name[NAME_BYTES];
	struct percpu_chunk *lists[CHUNK_KINDS][CHUNK_LISTS];
	struct percpu_chunk *chunks;
	size_t chunk_count;
	size_t chunk_peak;
	uint64_t unit_bytes; /* of all chunks */
	uint64_t idle_blocks;
	uint64_t dirty_blocks;
	uint64_t allocs; /* what caches do not count any more */
	uint64_t frees;
	uint64_t live_peak;
	uint32_t smallest;
	uint32_t largest;
	struct percpu_class classes[CLASSES_MAX];
	struct percpu_taker takers[TAKERS_MAX];
	uint32_t taker_count;
	uint32_t taker_next;
	uint64_t recent[RECENT_MAX];
	uint32_t recent_next;
	bool has_overlays;
	bool wrote_everywhere; /* contents of anonymous pages, to inactive processors too */
	struct allod_percpu_pool *next; /* in the registry, or among the unused */
};

/* The first thing of the metadata; `allod stat` finds it there. */
#define ROOT_MAGIC 0x616c6c6f64706370ull
#define ROOT_LAYOUT 2

struct percpu_root {
	uint64_t magic;
	uint32_t layout;
	uint32_t pool_bytes;
	struct percpu_lock lock;
	_Atomic(uint32_t) arena_count;
	struct percpu_arena arenas[ARENAS_MAX];
	_Atomic(struct allod_percpu_pool *) pools;
	struct allod_percpu_pool *unused;
	_Atomic(struct percpu_cache *) caches;
	uint64_t last_serial;
	uint32_t possible;
	_Atomic(uint32_t) active_count;
	uint16_t active[ALLOD_PERCPU_CPUS_MAX]; /* in the order in which they became so */
};

extern struct percpu_root *percpu_root;

/* pool.c */
int percpu_start(void);
static inline size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static inline bool is_power_of_two(size_t n)
{
	return n && !(n & (n - 1));
}

static inline bool pool_has(const struct allod_percpu_pool *pool, unsigned flag)
{
	return (pool->options.flags & flag) != 0;
}

void percpu_pool_lock(struct allod_percpu_pool *pool);
void percpu_pool_unlock(struct allod_percpu_pool *pool);

/* A pool that is seen for the first time in this process is made whole; under its lock, or by it. */
void percpu_pool_recover(struct allod_percpu_pool *pool);
void percpu_pool_need(struct allod_percpu_pool *pool);
/* After elements came back: memory that is not needed goes back. The caller holds the lock. */
void percpu_pool_settle(struct allod_percpu_pool *pool);
/* Blocks of a chunk of which something was given out. */
uint32_t percpu_chunk_dirty_blocks(const struct percpu_chunk *chunk);
uint64_t percpu_pool_live(const struct allod_percpu_pool *pool);
/* Makes a chunk that has room for the request, without locks held. 0 or a negative errno. */
int percpu_pool_grow(struct allod_percpu_pool *pool, enum chunk_kind kind, uint32_t size,
	uint32_t align);
bool percpu_pool_may_grow(const struct allod_percpu_pool *pool);
/* A child, whose file chunks are the parent's. */
bool percpu_pool_is_frozen(const struct allod_percpu_pool *pool);
/* NULL, or what is wrong with a pool. */
const char *percpu_pool_check(struct allod_percpu_pool *pool);
/* In builds with assertions: ends the process if an inactive processor's memory was stored to. */
void percpu_pool_check_inactive(struct allod_percpu_pool *pool);
/* For robust pools at their end. */
void percpu_pool_check_or_die(struct allod_percpu_pool *pool, uint64_t live);

/* meta.c: metadata, zeroed; never unmapped. Has a lock of its own, which is taken last. */
int percpu_meta_start(void);
void *percpu_meta_alloc(size_t bytes);
void percpu_meta_free(void *block, size_t bytes);
size_t percpu_meta_used_bytes(void);

/* arena.c */
struct percpu_arena *percpu_arena_get(unsigned kind, unsigned cpus, int *ret_error);
struct percpu_chunk *percpu_arena_chunk_of(uintptr_t element);
uintptr_t percpu_arena_take(struct percpu_arena *arena, size_t bytes, size_t align);
void percpu_arena_put(struct percpu_arena *arena, uintptr_t base, size_t bytes);
void percpu_arena_set_chunk(struct percpu_arena *arena, uintptr_t base, size_t bytes,
	struct percpu_chunk *chunk);
int percpu_radix_set(uintptr_t base, size_t bytes, struct percpu_chunk *chunk);
struct percpu_chunk *percpu_radix_get(uintptr_t at);

static inline struct percpu_chunk *chunk_of(uintptr_t element)
{
	const struct percpu_arena *first = &percpu_root->arenas[0];
	uintptr_t offset = element - first->base;
	if (__builtin_expect(offset < first->window, 1))
		return a_load_rlx(&first->chunk[offset >> SLOT_SHIFT]);
	return percpu_arena_chunk_of(element);
}

/* chunk.c: the caller holds the pool's lock. */
struct percpu_chunk *percpu_chunk_make(struct allod_percpu_pool *pool, enum chunk_kind kind,
	size_t bytes, size_t align, int *ret_error);
void percpu_chunk_drop(struct percpu_chunk *chunk);
uint32_t percpu_chunk_guard_bits(const struct percpu_chunk *chunk);
bool percpu_chunk_is_empty(const struct percpu_chunk *chunk);
/* A processor that becomes active, or a chunk that is new: guard and callback. */
int percpu_chunk_activate(struct percpu_chunk *chunk, unsigned cpu);
/* The list for runs of so many bits; chunks that surely have room are in it or behind. */
/* A chunk that goes is nobody's place any more. */
void percpu_takers_forget(struct allod_percpu_pool *pool, const struct percpu_chunk *chunk);
unsigned percpu_chunk_list_of(uint32_t bits);
void percpu_chunk_list(struct percpu_chunk *chunk);
void percpu_chunk_unlist(struct percpu_chunk *chunk);
void percpu_chunk_relist(struct percpu_chunk *chunk);
uint32_t percpu_chunk_find(struct percpu_chunk *chunk, uint32_t bits, uint32_t align,
	const struct percpu_avoid *avoid);
uint32_t percpu_block_find(const struct percpu_chunk *chunk, uint32_t block, uint32_t bits,
	uint32_t align);
/* Marks a run as not free, or free again. Hints and lists follow. */
/* Notes that the first `upto` grains of a block may be given out, or hold more than zero. */
void percpu_block_touch(struct percpu_chunk *chunk, uint32_t block, uint32_t upto);
/* Blocks in a page of the host. */
uint32_t percpu_page_blocks(void);
void percpu_chunk_take(struct percpu_chunk *chunk, uint32_t start, uint32_t bits);
/* Of several runs, the chunk is told of the longest: percpu_chunk_gave() ends them. */
void percpu_chunk_give(struct percpu_chunk *chunk, uint32_t start, uint32_t bits,
	struct percpu_run *longest);
void percpu_chunk_gave(struct percpu_chunk *chunk, const struct percpu_run *longest);

/* hints.c */
void percpu_hint_learn(struct percpu_hint *hint, uint32_t start, uint32_t end, uint32_t bits);
void percpu_hints_take(struct percpu_chunk *chunk, uint32_t start, uint32_t end);
void percpu_hints_take_strided(struct percpu_chunk *chunk, uint32_t start, uint32_t end,
	uint32_t hole);
void percpu_hints_give(struct percpu_chunk *chunk, uint32_t start, uint32_t end,
	struct percpu_run *longest);
void percpu_hints_give_block(struct percpu_chunk *chunk, uint32_t index,
	struct percpu_run *longest);
void percpu_hints_gave(struct percpu_chunk *chunk, const struct percpu_run *longest);
/* A block may have room again that searches passed over. */
void percpu_hints_look_again(struct percpu_chunk *chunk, uint32_t block);
void percpu_hints_rebuild(struct percpu_chunk *chunk);
/* NULL, or what is wrong with the hints or maps of a chunk. */
const char *percpu_hints_check(const struct percpu_chunk *chunk);
const char *percpu_block_check(const struct percpu_chunk *chunk, uint32_t block);

/* misuse.c */
_Noreturn void percpu_fatal(const char *line);
_Noreturn void percpu_fatal_free(uintptr_t element);

static inline uint32_t granules(size_t bytes)
{
	return (uint32_t)((bytes + ALLOD_PERCPU_GRANULE - 1) >> GRANULE_SHIFT);
}

static inline unsigned percpu_grain_shift(enum chunk_kind kind)
{
	return kind == CHUNK_COARSE ? COARSE_SHIFT : GRANULE_SHIFT;
}

/* What a size is in a chunk. */
static inline uint32_t chunk_bits_of(const struct percpu_chunk *chunk, uint32_t size)
{
	return size >> (chunk->shift - GRANULE_SHIFT);
}

/* The element that begins at a bit, and the bit at which one begins. */
static inline uintptr_t chunk_element(const struct percpu_chunk *chunk, uint32_t bit)
{
	return chunk->base + ((uintptr_t)bit << chunk->shift);
}

static inline uint32_t chunk_bit_of(const struct percpu_chunk *chunk, uintptr_t element)
{
	return (uint32_t)((element - chunk->base) >> chunk->shift);
}

static inline uint8_t *chunk_place(const struct percpu_chunk *chunk, unsigned cpu, uint32_t bit)
{
	return (uint8_t *)(chunk_element(chunk, bit) + cpu * chunk->stride);
}

/* Grains of a block, and words of each map: at least one. */
static inline uint32_t block_bits(const struct percpu_chunk *chunk)
{
	return BLOCK_BYTES >> chunk->shift;
}

static inline uint32_t block_words(const struct percpu_chunk *chunk)
{
	return block_bits(chunk) / 64;
}

/* The block that a bit lies in, and a block's first bit. */
static inline uint32_t block_of(const struct percpu_chunk *chunk, uint32_t bit)
{
	return bit >> (BLOCK_SHIFT - chunk->shift);
}

static inline uint32_t block_base(const struct percpu_chunk *chunk, uint32_t block)
{
	return block << (BLOCK_SHIFT - chunk->shift);
}

static inline uint32_t bit_in_block(const struct percpu_chunk *chunk, uint32_t bit)
{
	return bit & (block_bits(chunk) - 1);
}

/* Where the part of [at, end) ends that lies in the block of `at`. */
static inline uint32_t block_stop(const struct percpu_chunk *chunk, uint32_t at, uint32_t end)
{
	uint32_t stop = block_base(chunk, block_of(chunk, at) + 1);

	return end < stop ? end : stop;
}

/* How many blocks share a cache line of a map, a power of two; no fewer than one. */
static inline uint32_t line_blocks(const struct percpu_chunk *chunk)
{
	return chunk->kind == CHUNK_COARSE ? COARSE_LINE_BLOCKS : 1;
}

/* The last grain of the element that begins at `start`. */
static inline uint32_t chunk_end_of(const struct percpu_chunk *chunk, uint32_t start)
{
	uint32_t word = start / 64;
	uint64_t value = a_load_rlx(&chunk->end[word]) & ~0ull << start % 64;
	while (!value)
		value = a_load_rlx(&chunk->end[++word]);
	return word * 64 + (uint32_t)__builtin_ctzll(value);
}

/* The size of the element that begins at `start`. */
static inline uint32_t chunk_size_at(const struct percpu_chunk *chunk, uint32_t start)
{
	return (chunk_end_of(chunk, start) + 1 - start) << (chunk->shift - GRANULE_SHIFT);
}
