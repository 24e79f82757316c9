/* SPDX-License-Identifier: MIT */
/*
 * The heap: a lock-free general allocator on top of page.
 *
 * This is the contract for the faces above it (src/api, src/preload). It has malloc's semantics
 * where a function of malloc's family is named; the faces add the edge cases of each standard
 * function. Every function here may be called from any thread, from a signal handler that
 * interrupted any of them, from a destructor of a thread that is ending, and in the child of a fork
 * at any time. None waits for another thread. A failed allocation returns NULL and sets errno to
 * ENOMEM; success and heap_free() leave errno alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Largest request that can succeed: as in glibc, nothing above PTRDIFF_MAX. */
#define HEAP_SIZE_MAX ((size_t)PTRDIFF_MAX)
/* Every block has at least this alignment. */
#define HEAP_ALIGN_MIN ((size_t)16)

/* heap/fast.h holds the inline fast paths; these are the same operations out of line. */
void *heap_alloc(size_t size);
void *heap_alloc_zeroed(size_t size);
/* `align` is a power of two; of any size. */
void *heap_alloc_aligned(size_t align, size_t size);
/* NULL is allowed. Ends the process with a fixed message when p is not a live block. */
void heap_free(void *p);
/* p is not NULL and size is not 0. On failure the old block is untouched. */
void *heap_resize(void *p, size_t size);
/* Changes the size without moving, or returns false. */
bool heap_resize_in_place(void *p, size_t size);
/* Bytes that the caller may use at p, 0 for NULL. */
size_t heap_usable_size(const void *p);
/* What heap_usable_size() will say of a block of `size` bytes; 0 when no block can have it. */
size_t heap_good_size(size_t size);
/*
 * Gives back what is free: opens the calling thread's slabs, so that the empty ones go; then free
 * pages in slabs that are nobody's (scavenge.c), and page_trim(). Returns bytes of the last two.
 */
size_t heap_trim(void);

/* The start, by the first call of whatever kind; idempotent. -ENOMEM: the next call tries again. */
int heap_init(void);
/* Asks to be told of forks; once, by the library's constructor. */
void heap_register_hooks(void);

/*
 * Another allocator, which serves every request when the first call finds `enabled:false`. A block
 * that was nevertheless allod's stays freeable.
 */
struct heap_delegate {
	void *(*alloc)(size_t size);
	void *(*alloc_zeroed)(size_t size);
	void *(*alloc_aligned)(size_t align, size_t size);
	void (*free)(void *p);
	void *(*resize)(void *p, size_t size);
	size_t (*usable_size)(const void *p);
};

/* Weak: a face that has a libc to hand over to defines it; NULL when there is none. */
extern const struct heap_delegate *heap_libc(void) __attribute__((weak));

/* Numbers of the whole heap; a snapshot that other threads may change while it is read. */
struct heap_stats {
	uint64_t used_bytes; /* in blocks that the program holds */
	uint64_t free_bytes; /* free blocks inside slabs, ready to use */
	uint64_t used_blocks;
	uint64_t free_blocks;
	uint64_t large_bytes; /* part of used_bytes in runs of their own */
	uint64_t large_blocks;
	uint64_t slabs;
	uint64_t slab_bytes;      /* address space of slabs, touched or not */
	uint64_t heaps;           /* thread heaps ever made */
	uint64_t heaps_active;    /* held by a thread now */
	uint64_t committed_bytes; /* from page: readable and writable */
	uint64_t cached_bytes;    /* from page: free, kept mapped */
	uint64_t peak_bytes;      /* from page: most bytes in use by runs */
};

void heap_stats_read(struct heap_stats *ret_stats);

/* One size class: for malloc_info() and the statistics at the end. */
struct heap_class_stats {
	size_t block_bytes;
	uint64_t slabs;
	uint64_t used_blocks;
	uint64_t free_blocks;
};

/* Fills up to `cap` rows and returns how many classes exist; row i is class i. */
size_t heap_class_stats_read(struct heap_class_stats *ret_rows, size_t cap);

/*
 * Hooks for sampling, probes and the hardened mode, for the whole process. While they are set the
 * fast paths are closed (hooks.c), so that each call comes by the slow paths, which call them.
 */
struct heap_hooks {
	void (*allocated)(void *p, size_t size);
	void (*freeing)(void *p);
};

void heap_hooks_set(const struct heap_hooks *hooks);

/*
 * Checks every invariant of the heap; only for tests, at rest. Ends the process if one is broken.
 */
void heap_check(void);
