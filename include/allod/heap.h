/* SPDX-License-Identifier: MIT */
/*
 * The general heap: the malloc family under names of its own, so that it lives beside the malloc
 * of the process. liballod-malloc.so gives the same calls under their standard names.
 * Compiles alone as C99 and as C++17.
 *
 * Rules that hold for every call here, unless the call says otherwise:
 *  - sizes, alignments and counts of memory are in bytes;
 *  - a block is aligned to 16 bytes at least;
 *  - a block may be freed, resized and inspected by any thread, whichever thread allocated it;
 *  - a block belongs to this heap: it goes back through allod_free() or its sized forms, never
 *    through free(), and a block of malloc() never comes here. A foreign pointer, a pointer into
 *    the middle of a block and a second free end the process with a line on standard error where
 *    they are seen ("allod: invalid free", "allod: double free"), which for a small block freed
 *    twice may be only when it would be given out again: they are never ignored;
 *  - no call takes a lock: a thread that is stopped inside one stops no other. "Safety: any
 *    thread, signal handlers" means that a signal handler may make the call even when the signal
 *    came while its thread was inside this library;
 *  - errno is written on failure alone; a call that succeeds, and every form of free, leaves it.
 */
#ifndef ALLOD_HEAP_H
#define ALLOD_HEAP_H

#include <malloc.h>
#include <stddef.h>
#include <stdio.h>

#include "allod/attributes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Defined by <malloc.h> where libc has them: mallinfo2 since glibc 2.33, neither on musl. */
struct mallinfo;
struct mallinfo2;

/*
 * Allocate and free
 */

/*
 * Frees a block; NULL is allowed and does nothing.
 *
 * block:   what an allocating call of this header returned and nobody freed since.
 * Errors:  none; misuse ends the process (see above).
 * Safety:  any thread, signal handlers. errno is kept.
 * Since:   0.1.
 * Source:  C17 7.22.3.3; POSIX.1-2024 for errno. A block of another thread goes back by one atomic
 *          push onto a doubly-tagged pointer (Odin pull request 4749).
 */
void allod_free(void *block) ALLOD_NOTHROW;

/*
 * Allocates a block. What it contains is undefined.
 *
 * size:    bytes; 0 gives a block of its own, which is freed like any other.
 * Returns: the block, or NULL.
 * Errors:  ENOMEM: no memory or address space, or size exceeds PTRDIFF_MAX.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  C17 7.22.3.4. Size classes are at most 12.5 % apart; a heap for each thread, whose own
 *          paths make no atomic read-modify-write (Odin pull request 4749; mimalloc).
 */
void *allod_malloc(size_t size) ALLOD_NOTHROW ALLOD_ATTR_MALLOC ALLOD_ATTR_FREED_BY(allod_free)
	ALLOD_ATTR_SIZE(1) ALLOD_ATTR_USE_RESULT;

/*
 * Allocates an array whose bytes are all zero. Memory known to be zero is not written again.
 *
 * count:   elements; size: bytes of each. A product of 0 is treated as by allod_malloc().
 * Returns: the block, or NULL.
 * Errors:  ENOMEM: as for allod_malloc(), or the product does not fit in a size_t.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  C17 7.22.3.2.
 */
void *allod_calloc(size_t count, size_t size) ALLOD_NOTHROW ALLOD_ATTR_MALLOC
	ALLOD_ATTR_FREED_BY(allod_free) ALLOD_ATTR_SIZE2(1, 2) ALLOD_ATTR_USE_RESULT;

/*
 * Changes the size of a block, where it is if possible, and keeps its contents up to the lesser of
 * both sizes. A large block is moved by moving its pages, not its bytes. The new block is aligned
 * to 16 bytes, whatever the alignment of the old one.
 *
 * block:   as for allod_free(); NULL makes this allod_malloc(size).
 * size:    bytes; 0 with a block frees it and returns NULL, without an error.
 * Returns: the block, perhaps at a new address, or NULL. On failure the old block is untouched.
 * Errors:  ENOMEM: as for allod_malloc().
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  C17 7.22.3.5, and for size 0 what glibc does; page moving from N. Douglas, "User Mode
 *          Memory Page Allocation" (2011).
 */
void *allod_realloc(void *block, size_t size) ALLOD_NOTHROW
	ALLOD_ATTR_SIZE(2) ALLOD_ATTR_USE_RESULT;

/*
 * allod_realloc() to an array of `count` elements of `size` bytes.
 *
 * Returns: as allod_realloc().
 * Errors:  ENOMEM: as for allod_malloc(), or the product does not fit in a size_t; the old block is
 *          untouched.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  OpenBSD; POSIX.1-2024.
 */
void *allod_reallocarray(void *block, size_t count, size_t size) ALLOD_NOTHROW
	ALLOD_ATTR_SIZE2(2, 3) ALLOD_ATTR_USE_RESULT;

/*
 * allod_free() for a block of allod_malloc(), allod_calloc() or allod_realloc() whose size the
 * caller knows. The size is a hint that is not trusted: a wrong one does no harm here, but is an
 * error by the standard.
 *
 * size:    bytes last asked for (for allod_calloc(), the product).
 * Errors:  none; misuse ends the process. Safety: any thread, signal handlers. errno is kept.
 * Since:   0.1.
 * Source:  C23 7.24.3.4.
 */
void allod_free_sized(void *block, size_t size) ALLOD_NOTHROW;

/*
 * allod_free() for a block of allod_aligned_alloc() whose alignment and size the caller knows;
 * both are hints that are not trusted.
 *
 * Errors:  none; misuse ends the process. Safety: any thread, signal handlers. errno is kept.
 * Since:   0.1.
 * Source:  C23 7.24.3.5.
 */
void allod_free_aligned_sized(void *block, size_t alignment, size_t size) ALLOD_NOTHROW;

/*
 * Aligned blocks. Any power of two is an alignment, with no header in front of the block.
 */

/*
 * Allocates a block at a multiple of `alignment`.
 *
 * alignment: bytes, a power of two.
 * size:    bytes; need not be a multiple of the alignment; 0 as for allod_malloc().
 * Returns: the block, or NULL.
 * Errors:  EINVAL: alignment is no power of two. ENOMEM: as for allod_malloc().
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  C17 7.22.3.1 with defect report 460; glibc 2.38 refuses other alignments likewise.
 */
void *allod_aligned_alloc(size_t alignment, size_t size) ALLOD_NOTHROW ALLOD_ATTR_MALLOC
	ALLOD_ATTR_FREED_BY(allod_free) ALLOD_ATTR_ALIGN(1)
		ALLOD_ATTR_SIZE(2) ALLOD_ATTR_USE_RESULT;

/*
 * Allocates a block at a multiple of `alignment` and stores it in *ret_block, which is left alone
 * on failure.
 *
 * alignment: bytes, a power of two and a multiple of sizeof(void *).
 * size:    bytes; 0 as for allod_malloc().
 * Returns: 0, or an error number. errno is set too for ENOMEM, as by glibc, and kept otherwise.
 * Errors:  EINVAL: no such alignment. ENOMEM: as for allod_malloc().
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  POSIX.1-2017.
 */
int allod_posix_memalign(void **ret_block, size_t alignment,
	size_t size) ALLOD_NOTHROW ALLOD_ATTR_USE_RESULT;

/*
 * Allocates a block at a multiple of `alignment`, which is rounded up to a power of two.
 *
 * Returns: the block, or NULL.
 * Errors:  EINVAL: alignment exceeds the largest power of two in a size_t. ENOMEM: as for
 *          allod_malloc().
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  SunOS 4.1.3; rounding as in glibc.
 */
void *allod_memalign(size_t alignment, size_t size) ALLOD_NOTHROW ALLOD_ATTR_MALLOC
	ALLOD_ATTR_FREED_BY(allod_free) ALLOD_ATTR_SIZE(2) ALLOD_ATTR_USE_RESULT;

/*
 * Allocates a block at the start of a page. A page has the size that the system says at run time.
 *
 * Returns: the block, or NULL. Errors: ENOMEM, as for allod_malloc().
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  3.0BSD.
 */
void *allod_valloc(size_t size) ALLOD_NOTHROW ALLOD_ATTR_MALLOC ALLOD_ATTR_FREED_BY(allod_free)
	ALLOD_ATTR_SIZE(1) ALLOD_ATTR_USE_RESULT;

/*
 * allod_valloc() of `size` rounded up to whole pages.
 *
 * Returns: the block, or NULL. Errors: ENOMEM, as for allod_malloc(), also when the rounded size
 *          does not fit in a size_t.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  System V; glibc.
 */
void *allod_pvalloc(size_t size) ALLOD_NOTHROW ALLOD_ATTR_MALLOC
	ALLOD_ATTR_FREED_BY(allod_free) ALLOD_ATTR_USE_RESULT;

/*
 * Sizes
 */

/*
 * How many bytes of the block may be used: at least what was asked for. A compiler with
 * _FORTIFY_SOURCE=3 knows only what was asked for: to use more, allocate allod_malloc_good_size()
 * bytes in the first place.
 *
 * block:   as for allod_free(); NULL gives 0, and so does what no memory of this heap is.
 * Errors:  none; an address in this heap's memory where no block can be ends the process.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  glibc.
 */
size_t allod_malloc_usable_size(void *block) ALLOD_NOTHROW;

/*
 * How many bytes an allod_malloc(size) would give: the size to ask for so that nothing is wasted.
 *
 * Returns: at least size; size itself where no block is that large.
 * Errors:  none.
 * Safety:  any thread, signal handlers. Allocates nothing.
 * Since:   0.1.
 * Source:  malloc_good_size() of macOS; nallocx() of jemalloc.
 */
size_t allod_malloc_good_size(size_t size) ALLOD_NOTHROW;

/*
 * The heap as a whole
 */

/*
 * Gives free memory back to the system at once, instead of after the idle time.
 *
 * pad:     bytes to keep; accepted for compatibility and without effect: whatever can go, goes.
 * Returns: 1 if memory was given back, 0 if there was none to give.
 * Errors:  none.
 * Safety:  any thread, signal handlers. Slabs that other threads hold are not emptied.
 * Since:   0.1.
 * Source:  glibc.
 */
int allod_malloc_trim(size_t pad) ALLOD_NOTHROW;

/*
 * Sets a parameter by glibc's numbers (M_MMAP_THRESHOLD and so on, see <malloc.h>). allod has none
 * of the mechanisms that they tune, so values are checked and otherwise without effect; allod's
 * own options are in ALLOD_CONF, see allod-malloc(7).
 *
 * Returns: 1 for a parameter that glibc knows with a value that it would take, otherwise 0.
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  System V; glibc.
 */
int allod_mallopt(int param, int value) ALLOD_NOTHROW;

/*
 * The state of the heap. Fields as in glibc: arena is what the heap holds of committed memory
 * outside large blocks, uordblks of it the bytes in allocated blocks and fordblks the rest
 * (arena = uordblks + fordblks); ordblks is the number of free blocks; hblks and hblkhd count large
 * blocks and their bytes. What is in use altogether is uordblks + hblkhd. While other threads
 * allocate, the numbers are of no single instant. allod_mallinfo() gives INT_MAX for whatever does
 * not fit in an int, where glibc gives the low 32 bits.
 *
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  System V; glibc 2.33 for mallinfo2().
 */
struct mallinfo2 allod_mallinfo2(void) ALLOD_NOTHROW;
struct mallinfo allod_mallinfo(void) ALLOD_NOTHROW;

/*
 * Writes the state of the heap to a stream as XML: a <heap> with the free blocks by size, and
 * totals. Elements and attributes are glibc's.
 *
 * options: must be 0.
 * Returns: 0, or an error number; errno has it as well.
 * Errors:  EINVAL: options is not 0. EIO: the stream failed.
 * Safety:  any thread; not in signal handlers, since it uses stdio.
 * Since:   0.1.
 * Source:  glibc.
 */
int allod_malloc_info(int options, FILE *stream) ALLOD_NOTHROW;

/*
 * Writes a few lines about the state of the heap to standard error, by write(2).
 *
 * Errors:  none; what cannot be written is lost.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  glibc.
 */
void allod_malloc_stats(void) ALLOD_NOTHROW;

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_HEAP_H */
