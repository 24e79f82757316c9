/* SPDX-License-Identifier: MIT */
/*
 * Pages held by the process: blocks of whole pages, from one page to hundreds of GiB, whose pages
 * stay mapped when they are freed and are handed out again without a system call.
 * Compiles alone as C99 and as C++17.
 *
 * Rules that hold for every call here, unless the call says otherwise:
 *  - sizes, alignments and ranges are in bytes; a size is rounded up to the next multiple of what
 *    allod_page_size() then tells, a page at least;
 *  - a block is aligned to a page at least; what it contains at first is undefined unless
 *    ALLOD_PAGE_ZEROED was asked for;
 *  - any thread may resize, inspect and free a block, whichever thread allocated it; two calls that
 *    change one block at the same time need an order of the caller's own;
 *  - a block goes back through allod_page_free() alone. A pointer that is no block, a pointer into
 *    the middle of one and a second free end the process with a line on standard error
 *    ("allod: invalid page free", "allod: double page free");
 *  - calls that return int give 0 or a negative errno value and do not write errno; calls that
 *    return a pointer give NULL and errno. On failure nothing has changed;
 *  - no call takes a lock: a thread stopped inside one stops no other;
 *  - blocks keep their contents in a forked child, which may use every call at once.
 */
#ifndef ALLOD_PAGE_H
#define ALLOD_PAGE_H

#include <stddef.h>
#include <stdint.h>

#include "allod/attributes.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What a block, or one call, is to be like. Unknown flags are refused with EINVAL.
 */
enum allod_page_flag {
	/* Every byte reads as zero; in allod_page_realloc() and allod_page_commit(), of what is
	 * added. Memory known to be zero is not written. */
	ALLOD_PAGE_ZEROED = 1 << 0,
	/* Addresses alone: pages come by allod_page_commit(), or one by one when touched. */
	ALLOD_PAGE_NO_COMMIT = 1 << 1,
	/* No system call: what cannot be done without one fails with EAGAIN. */
	ALLOD_PAGE_CONSTANT_TIME = 1 << 2,
	/* allod_page_realloc() never changes its address: ENOSPC instead. */
	ALLOD_PAGE_FIXED = 1 << 3,
	/* The block lies in a slot of its own, so that its pages move, and are exchanged, as one in
	 * a time that does not depend on its size. */
	ALLOD_PAGE_SWAPPABLE = 1 << 4,
	/* For allod_page_realloc(): where it is or not at all (ENOSPC). */
	ALLOD_PAGE_IN_PLACE = 1 << 5,
	/* For allod_page_realloc() and allod_page_swap(): by moving pages or not at all (ENOSPC). */
	ALLOD_PAGE_NO_COPY = 1 << 6,
	/* `node` of the options is to be preferred for the block's pages. */
	ALLOD_PAGE_NODE = 1 << 7
};

/*
 * Options for one block. Zero all of it, then set `struct_bytes` to its size and what is wanted;
 * fields may be added at the end in later versions.
 */
struct allod_page_options {
	size_t struct_bytes;  /* sizeof(struct allod_page_options) */
	unsigned flags;       /* ALLOD_PAGE_*, of those that speak of blocks */
	int node;             /* NUMA node, under ALLOD_PAGE_NODE */
	size_t align_bytes;   /* power of two; 0: a page */
	size_t reserve_bytes; /* size to which it may grow without moving; 0: none in particular */
	const char *tag; /* a name for the kind of block, copied; NULL: none; 31 bytes at most */
};

/*
 * Allocates a block.
 *
 * bytes:   its size, not 0.
 * options: NULL for none.
 * Returns: the block, or NULL.
 * Errors:  ENOMEM: no memory or address space. EAGAIN: ALLOD_PAGE_CONSTANT_TIME and none is cached.
 *          EINVAL: bytes is 0, unknown flags, an alignment that is no power of two, a tag that is
 *          too long, struct_bytes too small, or a node that does not exist.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  userpage_malloc() of N. Douglas, "User Mode Memory Page Allocation" (2011).
 */
void *allod_page_alloc(size_t bytes, const struct allod_page_options *options) ALLOD_NOTHROW
	ALLOD_ATTR_SIZE(1) ALLOD_ATTR_USE_RESULT;

/*
 * Frees a block; NULL is allowed and does nothing. Its pages stay with the process, for the next
 * block, until memory is short or they have been idle for a time (option decay_ms).
 *
 * Errors:  none; misuse ends the process (see above).
 * Safety:  any thread, signal handlers. errno is kept.
 * Since:   0.1.
 * Source:  userpage_free().
 */
void allod_page_free(void *block) ALLOD_NOTHROW;

/*
 * Changes the size of a block: where it is when its addresses allow, else by moving its pages, else
 * by copying, as the flags allow. Contents are kept up to the lesser of both sizes.
 *
 * block:   a block, or NULL, which makes this allod_page_alloc(bytes) with these flags.
 * bytes:   new size, not 0.
 * flags:   ALLOD_PAGE_ZEROED, _IN_PLACE, _NO_COPY, _CONSTANT_TIME.
 * Returns: the block, perhaps at a new address, or NULL; the old block is untouched then.
 * Errors:  ENOSPC: the flags, or ALLOD_PAGE_FIXED of the block, forbid the only ways that are left;
 *          allod_page_room() tells how far it can grow where it is. ENOMEM, EAGAIN, EINVAL: as in
 *          allod_page_alloc().
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  userpage_realloc(); mremap(2).
 */
void *allod_page_realloc(void *block, size_t bytes, unsigned flags) ALLOD_NOTHROW
	ALLOD_ATTR_SIZE(2) ALLOD_ATTR_USE_RESULT;

/*
 * Makes pages of a block present now, in one system call at most, so that touching them does not
 * fault. Contents are kept.
 *
 * address, bytes: a range within one block; it is widened to whole pages.
 * Returns: 0, or a negative errno value.
 * Errors:  EINVAL: the range is not within a block, or empty, or the program has made some of it
 *          read-only (mprotect(2)). ENOMEM: the system has no memory; some of the pages may be
 *          present then.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  userpage_commit(); madvise(2), MADV_POPULATE_WRITE.
 */
int allod_page_commit(void *address, size_t bytes) ALLOD_NOTHROW;

/*
 * Gives pages of a block back, and keeps its addresses: the range reads as zero afterwards.
 *
 * address, bytes: a range within one block; only pages that lie wholly in it are given back, what
 *          is left at its edges keeps its contents.
 * Returns: 0, or a negative errno value.
 * Errors:  EINVAL: the range is not within a block, or empty, or some of its pages are locked in
 *          memory (mlock(2)); those before them may have been given back then.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  userpage_release(); madvise(2), MADV_DONTNEED.
 */
int allod_page_release(void *address, size_t bytes) ALLOD_NOTHROW;

/*
 * The size of a block: at least what was asked for last, and all of it may be used.
 *
 * block:   a block; NULL gives 0. Misuse ends the process.
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  malloc_usable_size().
 */
size_t allod_page_size(const void *block) ALLOD_NOTHROW;

/*
 * The size to which a block can grow at this moment without changing its address. Room that was
 * reserved stays; other room may be taken by the next allocation.
 *
 * block:   as for allod_page_size().
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  N1527 (WG14, 2011): reserve.
 */
size_t allod_page_room(const void *block) ALLOD_NOTHROW;

/*
 * Exchanges the contents of two blocks, and their sizes with them; the addresses stay. Blocks
 * allocated with ALLOD_PAGE_SWAPPABLE are exchanged by moving page tables, in a time that does not
 * depend on their sizes, unless they are so small that copying is cheaper; so are others that lie
 * in slots (above 32 MiB, or with room reserved), and the rest by copying. Blocks of different sizes
 * need room for each other's contents: ALLOD_PAGE_SWAPPABLE blocks have it up to 1 GiB, and further
 * with reserve_bytes.
 *
 * Nobody else may use either block during the call: the exchange is not atomic, and who reads
 * meanwhile may see either contents, or zeroes, and who writes may lose what was written. Pointers
 * into the blocks then point to the other contents.
 *
 * flags:   ALLOD_PAGE_NO_COPY or 0.
 * Returns: 0, or a negative errno value.
 * Errors:  ENOSPC: no room, or moving is not possible and ALLOD_PAGE_NO_COPY forbids copying.
 *          ENOMEM: the system refuses. EINVAL: unknown flags, or both are the same block.
 * Safety:  any thread; in a signal handler only for blocks that the thread does not use.
 * Since:   0.1.
 * Source:  own; page-table moves by mremap(2).
 */
int allod_page_swap(void *a, void *b, unsigned flags) ALLOD_NOTHROW;

/*
 * What there is of blocks. Set `struct_bytes` to the size of the structure; fields may be added at
 * the end in later versions.
 */
struct allod_page_stats {
	size_t struct_bytes;   /* sizeof(struct allod_page_stats) */
	size_t blocks;         /* live blocks */
	size_t bytes;          /* their sizes */
	size_t slot_blocks;    /* of the blocks, those in slots of their own... */
	size_t slot_bytes;     /* ...and their sizes */
	size_t mapped_blocks;  /* those that are mappings of their own... */
	size_t mapped_bytes;   /* ...and their sizes */
	size_t waiting_bytes;  /* freed, and kept with their pages for the next blocks */
	size_t free_bytes;     /* likewise, by the store that the heap uses too */
	size_t cold_bytes;     /* of free_bytes: the kernel may take the pages when it needs some */
	size_t returned_bytes; /* given back to the kernel, over the life of the process */
	size_t reserved_bytes; /* addresses of that store */
	size_t committed_bytes; /* of those, in use at some time */
	size_t composed_blocks; /* so many got pages that lay scattered, moved together... */
	size_t composed_bytes;  /* ...and so much of them, over the life of the process */
};

/*
 * Fills in the structure as far as struct_bytes reaches. It walks over all that is known of blocks:
 * some nanoseconds for each 64 KiB that were ever in use. What other threads do meanwhile is told
 * in part.
 *
 * Returns: 0, or a negative errno value.
 * Errors:  EINVAL: struct_bytes is too small for `blocks` and `bytes`.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  own.
 */
int allod_page_stats(struct allod_page_stats *stats) ALLOD_NOTHROW;

/*
 * Many operations by one call
 */

enum allod_page_verb {
	ALLOD_PAGE_OP_NOTHING = 0, /* counts as a success */
	ALLOD_PAGE_OP_ALLOC,       /* block = allod_page_alloc(bytes, options) */
	ALLOD_PAGE_OP_FREE,        /* allod_page_free(block); block becomes NULL */
	ALLOD_PAGE_OP_RESIZE,      /* block = allod_page_realloc(block, bytes, flags) */
	ALLOD_PAGE_OP_COMMIT,      /* allod_page_commit(block, bytes); any address in a block */
	ALLOD_PAGE_OP_RELEASE,     /* allod_page_release(block, bytes); likewise */
	ALLOD_PAGE_OP_SWAP         /* allod_page_swap(block, other, flags) */
};

/* One operation. What its verb does not name is ignored. */
struct allod_page_op {
	enum allod_page_verb verb;
	int result; /* of the call: 0, or the negative errno value that says why it failed */
	void *block;
	void *other;
	size_t bytes;
	const struct allod_page_options *options;
	unsigned flags;
};

/*
 * Carries out operations, each with its own result. They are independent: carried out in any order,
 * frees first as a rule, so what one of them frees, resizes, exchanges or allocates may be in no
 * other. Blocks of one size are allocated together, blocks freed together go back together, and
 * ranges side by side are committed or released by one system call.
 *
 * ops:     the operations; `result` of each is set, and `block` where the verb says so, on success.
 * Returns: how many succeeded.
 * Errors:  by operation: as of its call. EINVAL: no such verb. errno is kept.
 * Safety:  any thread, signal handlers. A thread that is stopped for ever in the middle keeps what
 *          the batch has taken so far.
 * Since:   0.1.
 * Source:  N. Douglas, N1527 (WG14, 2011): batches of mixed operations with their own results.
 */
size_t allod_page_batch(struct allod_page_op *ops, size_t count) ALLOD_NOTHROW;

/*
 * A batch that is carried out by another thread while the caller goes on: meant for populating,
 * giving back and moving large ranges. Zero all of it and set the first four fields; it stays where
 * it is, and so do its operations, until it is done.
 *
 * The first job makes a thread, which ends when it has had nothing to do for a second; another one
 * goes on with the jobs behind one that takes more than 200 ms, up to eight: see
 * allod_page_submit(3) for what that means to a program. A child of fork() has no such thread until
 * it submits a job of its own, and the jobs under way are its parent's.
 */
struct allod_page_job {
	struct allod_page_op *ops;
	size_t count;
	/* NULL; or called by the thread that carried the job out, at its end. The job is the
	 * caller's again then, who may free it or submit it anew; nobody may wait for it. */
	void (*done)(struct allod_page_job *job);
	void *user;       /* the caller's own */
	size_t succeeded; /* when it is done: what allod_page_batch() returned */
	/* allod's own */
	uint32_t state;
	uint32_t node;
	int32_t process;
	uint32_t unused;
};

/*
 * Submits a job. Jobs are begun in the order in which they were submitted, but one that is waited
 * for may be begun earlier. No job waits for one that is stuck, but as told above.
 *
 * Returns: 0, or a negative errno value.
 * Errors:  EBUSY: the job was submitted before and is not done. EAGAIN: 1,024 jobs wait already.
 *          Where no thread can be made, or all eight are at jobs that take long, there is no
 *          error: a job with a callback is carried out before the call returns (if a callback
 *          submits it there, when that has returned), and any other by whoever waits for it.
 * Safety:  any thread; not in signal handlers, since it may make a thread.
 * Since:   0.1.
 * Source:  own.
 */
int allod_page_submit(struct allod_page_job *job) ALLOD_NOTHROW;

/*
 * Waits until a job without a callback is done. What was not begun yet is carried out by the
 * calling thread if it has all the time (a negative timeout), or if there is no other thread.
 *
 * timeout_ns: nanoseconds; 0: does not wait; negative: waits as long as it takes.
 * Returns: 0: it is done, and what its operations wrote is seen; or a negative errno value.
 * Errors:  ETIMEDOUT: it is not done. ECHILD: it was submitted before fork(), by the parent.
 *          EINVAL: it was never submitted, or it has a callback.
 * Safety:  any thread; in signal handlers only with a timeout of 0.
 * Since:   0.1.
 * Source:  own; futex(2).
 */
int allod_page_wait(struct allod_page_job *job, int64_t timeout_ns) ALLOD_NOTHROW;

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_PAGE_H */
