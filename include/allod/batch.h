/* SPDX-License-Identifier: MIT */
/*
 * Many blocks by one call, and blocks that grow where they are: the interface that N. Douglas
 * proposed to WG14 as N1527 (2010, revised 2011), under names with a prefix, on allod's heap.
 * Compiles alone as C99 and as C++17.
 *
 * What these calls allocate are blocks of the heap (allod/heap.h): allod_free(), allod_realloc()
 * and allod_malloc_usable_size() take each of them, and these calls take what allod_malloc() and
 * its relations gave. They follow the rules at the top of allod/heap.h.
 *
 * An element of a batch is one operation, told by its pointer and its size:
 *   both 0         nothing; counts as a success
 *   size 0         the block is freed, and the pointer becomes NULL
 *   pointer NULL   a block is allocated
 *   neither        the block is resized
 * Elements are carried out in any order, frees first as a rule, so no block may occur twice in one
 * batch. Each succeeds or fails by itself: an element that fails is as it was, and says why in its
 * member of `errnos`; the others are not affected. A thread that is stopped for ever in the middle
 * keeps what its batch has taken so far.
 *
 * Errors of an element:
 *   ENOMEM  no memory or address space, or the size exceeds PTRDIFF_MAX
 *   ENOSPC  ALLOD_M2_PREVENT_MOVE: the block cannot grow where it is, or is not aligned so
 *   EINVAL  an alignment that is neither 0 nor a power of two, or an unknown flag
 * A pointer that is no block ends the process, as in allod_free().
 *
 * A reservation is a size to which a block may grow without moving, in bytes all told. It is a
 * hint: it is honoured when it exceeds 32 KiB and the block has at least 4 KiB, and costs addresses
 * but no memory. What cannot be had is no error.
 */
#ifndef ALLOD_BATCH_H
#define ALLOD_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "allod/attributes.h"

#ifdef __cplusplus
extern "C" {
#define ALLOD_BATCH_BOOL bool
#define ALLOD_BATCH_RESTRICT __restrict
#else
#define ALLOD_BATCH_BOOL _Bool
#define ALLOD_BATCH_RESTRICT restrict
#endif

/* Flags of an element; unknown ones are refused with EINVAL, but ignored where a block is freed. */

/* New space reads as zero: of a resized block, what lies behind its old usable size. */
#define ALLOD_M2_ZERO_MEMORY ((uintmax_t)1 << 0)
/* A block that is resized keeps its address, or fails with ENOSPC. */
#define ALLOD_M2_PREVENT_MOVE ((uintmax_t)1 << 1)
/* No housekeeping in this call: nothing is given back to the kernel, no idle thread's memory is
 * looked for. What is needed is done, system calls included. */
#define ALLOD_M2_CONSTANT_TIME ((uintmax_t)1 << 2)
/* The reservation is this many times the usable size. */
#define ALLOD_M2_RESERVE_IS_MULT ((uintmax_t)1 << 3)
/* Every element allocates. allod_batch_alloc1() does not look at the pointers then, so the array
 * need not be cleared. */
#define ALLOD_M2_BATCH_IS_ALL_ALLOC ((uintmax_t)1 << 4)
/* Every element resizes; every element frees. Hints without an effect: an element that does
 * something else is carried out as what it is. */
#define ALLOD_M2_BATCH_IS_ALL_REALLOC ((uintmax_t)1 << 5)
#define ALLOD_M2_BATCH_IS_ALL_FREE ((uintmax_t)1 << 6)
/* The bits that N1527 leaves to extensions; allod defines none of them. */
#define ALLOD_M2_USERFLAGS_FIRST ((uintmax_t)1 << 16)
#define ALLOD_M2_USERFLAGS_LAST ((uintmax_t)1 << 31)

/* An element of allod_batch_alloc2(). */
struct allod_mallocation2 {
	void *ptr;
	size_t size; /* bytes; on success the usable size */
};

/* An element of allod_batch_alloc5(). */
struct allod_mallocation5 {
	void *ptr;
	size_t size;      /* bytes; on success the usable size */
	size_t alignment; /* power of two; 0: that of allod_malloc() */
	size_t reserve;   /* bytes, or times; on success the bytes up to which it need not move */
	uintmax_t flags;  /* ALLOD_M2_* */
};

/*
 * Allocates, resizes or frees up to *count blocks of one size.
 *
 * errnos:  NULL, or an array of *count members: 0 or an error number for each element.
 * ptrs:    an array of *count blocks or NULLs, which the call changes; or NULL: an array of *count
 *          new blocks is allocated as well and returned, to be freed by allod_free().
 * count:   elements; on return, how many succeeded.
 * size:    NULL or 0: the blocks are freed. Else the bytes of each; on return the smallest usable
 *          size of the blocks allocated or resized, or what it was if there are none.
 * alignment, reserve, flags: of each element, see above. A reservation that is multiplied is so by
 *          the usable size.
 * Returns: ptrs, or the array allocated for NULL (all of its members NULL if size is NULL or 0). If
 *          there is no memory for it: NULL, and *count is 0.
 * Errors:  by element, see above; errno is kept, but ENOMEM when NULL is returned.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  N1527 7.22.3.3.
 */
void **allod_batch_alloc1(int *errnos, void **ptrs, size_t *ALLOD_BATCH_RESTRICT count,
	size_t *ALLOD_BATCH_RESTRICT size, size_t alignment, size_t reserve,
	uintmax_t flags) ALLOD_NOTHROW;

/*
 * Allocates, resizes and frees up to *count blocks, each of a size of its own.
 *
 * elements: an array of *count pointers to elements; NULL is an element that does nothing.
 * errnos, count, alignment, reserve, flags: as in allod_batch_alloc1().
 * Returns: whether all succeeded.
 * Errors:  by element, see above; errno is kept.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  N1527 7.22.3.4.
 */
ALLOD_BATCH_BOOL allod_batch_alloc2(int *errnos,
	struct allod_mallocation2 **ALLOD_BATCH_RESTRICT elements,
	size_t *ALLOD_BATCH_RESTRICT count, size_t alignment, size_t reserve,
	uintmax_t flags) ALLOD_NOTHROW;

/*
 * Allocates, resizes and frees up to *count blocks, each with a size, an alignment, a reservation
 * and flags of its own.
 *
 * errnos, elements, count: as in allod_batch_alloc2().
 * Returns: whether all succeeded.
 * Errors:  by element, see above; errno is kept.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  N1527 7.22.3.5.
 */
ALLOD_BATCH_BOOL allod_batch_alloc5(int *errnos,
	struct allod_mallocation5 **ALLOD_BATCH_RESTRICT elements,
	size_t *ALLOD_BATCH_RESTRICT count) ALLOD_NOTHROW;

/*
 * allod_realloc() to a multiple of `alignment`. The block is moved if it lies at none.
 *
 * block:   as for allod_free(); NULL makes this allod_aligned_alloc(alignment, size).
 * alignment: bytes, a power of two.
 * size:    bytes; 0 with a block frees it and returns NULL, without an error.
 * Returns: the block, perhaps at a new address, or NULL. On failure the old block is untouched.
 * Errors:  EINVAL: alignment is no power of two. ENOMEM: as for allod_malloc().
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  N1527 7.22.3.2.
 */
void *allod_aligned_realloc(void *block, size_t alignment, size_t size) ALLOD_NOTHROW
	ALLOD_ATTR_SIZE(3) ALLOD_ATTR_USE_RESULT;

/*
 * Changes the size of a block where it is, or not at all. A small block has room up to its usable
 * size; one above 32 KiB up to its reservation, and beyond that as long as what lies behind is
 * free.
 *
 * block:   as for allod_free(); NULL makes this allod_malloc(size).
 * size:    bytes; 0 with a block frees it and returns NULL, without an error.
 * Returns: block, or NULL; the block is untouched then.
 * Errors:  ENOSPC: it cannot grow where it is. ENOMEM: the size exceeds PTRDIFF_MAX.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  N1527 7.22.3.12.
 */
void *allod_try_realloc(void *block, size_t size) ALLOD_NOTHROW
	ALLOD_ATTR_SIZE(2) ALLOD_ATTR_USE_RESULT;

/*
 * allod_try_realloc() that also wants the block at a multiple of `alignment`, where it must lie
 * already.
 *
 * block:   as for allod_free(); NULL makes this allod_aligned_alloc(alignment, size).
 * Returns: block, or NULL; the block is untouched then.
 * Errors:  ENOSPC: it cannot grow where it is, or is not aligned so. EINVAL: alignment is no power
 *          of two. ENOMEM: the size exceeds PTRDIFF_MAX.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  N1527 7.22.3.11.
 */
void *allod_try_aligned_realloc(void *block, size_t alignment, size_t size) ALLOD_NOTHROW
	ALLOD_ATTR_SIZE(3) ALLOD_ATTR_USE_RESULT;

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_BATCH_H */
