/* SPDX-License-Identifier: MIT */
/*
 * Memory with one copy for each processor. Usable without the heap.
 * Compiles alone as C99 and as C++17.
 *
 * A pool gives out elements. An element is one pointer that stands for a place on each processor
 * c: pointer + c * stride. allod_percpu_ptr() computes it. <allod/percpu-ops.h> has operations
 * on the place of the current processor.
 *
 * Rules that hold for every call here, unless the call says otherwise:
 *  - sizes, alignments and strides are in bytes;
 *  - an element belongs to no thread: any thread may use and free it;
 *  - an element's memory on a processor becomes resident when it is first stored to there, and no
 *    sooner. A processor is *active* from the first allod_percpu_ptr() or operation that names it;
 *    the library writes to the memory of active processors only. A program that computes the place
 *    on a processor by hand may read it, but must call allod_percpu_mark_active() before it stores
 *    to it (builds with assertions notice when it has not, at
 *    allod_percpu_pool_trim() or _destroy(), by "allod: percpu: store on an inactive processor");
 *  - "index" means the number of a processor, or a concurrency id, as the pool's options say;
 *  - misuse ends the process by SIGABRT with one line on standard error, always:
 *    "allod: percpu: invalid free", a pointer into no pool, or not where an element may begin;
 *    "allod: percpu: interior pointer freed", a pointer into the middle of an element;
 *    "allod: percpu: double free", an element that is free;
 *  - "Safety: threads" means that any thread may make the call at any time, but no signal handler
 *    that may have interrupted another call of this header. In a forked child, however it was made
 *    and whatever other threads were doing, every call works;
 *  - errno is written on failure alone.
 */
#ifndef ALLOD_PERCPU_H
#define ALLOD_PERCPU_H

#include <stddef.h>
#include <stdint.h>

#include <allod/attributes.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Marks a pointer to an element. Sparse then refuses to follow the pointer; allod_percpu_ptr()
 * takes the mark off.
 */
#ifdef __CHECKER__
#define ALLOD_PERCPU __attribute__((noderef, address_space(__allod_percpu)))
#define ALLOD_PERCPU_FORCE __attribute__((force))
#else
#define ALLOD_PERCPU
#define ALLOD_PERCPU_FORCE
#endif

/* The distance between the places of an element on two neighbouring processors. */
#define ALLOD_PERCPU_STRIDE_SHIFT 32
#define ALLOD_PERCPU_STRIDE ((uintptr_t)1 << ALLOD_PERCPU_STRIDE_SHIFT)

/* Indices are below this. */
#define ALLOD_PERCPU_CPUS_MAX 8192

/* An element's size and place are multiples of this. */
#define ALLOD_PERCPU_GRANULE 4

struct allod_percpu_pool;

/* What the index of an element's place is. allod_percpu_pool_view() tells the operations. */
enum allod_percpu_index {
	ALLOD_PERCPU_BY_CPU = 0, /* the number of the processor */
	ALLOD_PERCPU_BY_CID = 1  /* the kernel's concurrency id: dense from 0 */
};

/* How initial contents other than zero are kept. */
enum allod_percpu_content {
	/* Zeroed and undefined elements on anonymous pages; others on pages that processors share
	 * until they write. */
	ALLOD_PERCPU_CONTENT_AUTO = 0,
	/* Anonymous pages only: allod_percpu_alloc_init() writes to each processor of the pool. */
	ALLOD_PERCPU_CONTENT_ZERO = 1,
	/* Every element on pages that processors share until they write. */
	ALLOD_PERCPU_CONTENT_INIT = 2
};

/* Bits of allod_percpu_options.flags. */
#define ALLOD_PERCPU_ROBUST 0x1u  /* leaks at destroy and overwritten poison are fatal */
#define ALLOD_PERCPU_POISON 0x2u  /* freed elements are filled with options.poison */
#define ALLOD_PERCPU_GUARD 0x4u   /* a page that faults behind each processor's part of a chunk */
#define ALLOD_PERCPU_HUGE 0x8u    /* ask for huge pages */
#define ALLOD_PERCPU_NUMA 0x10u   /* prefer the memory node of each processor */
#define ALLOD_PERCPU_GLOBAL 0x20u /* one place instead of one for each processor */
#define ALLOD_PERCPU_INIT_EVERY 0x40u /* init_cpu is called for inactive processors too */

/*
 * Options of a pool. Zero means the default of each; `size` is sizeof(struct allod_percpu_options),
 * so that later versions of the library know what a program was compiled with.
 */
struct allod_percpu_options {
	size_t size;
	unsigned flags;    /* ALLOD_PERCPU_ROBUST and so on */
	unsigned max_cpus; /* indices are below it; 0: all possible processors */
	enum allod_percpu_index index;
	enum allod_percpu_content content;
	size_t unit_bytes; /* of a chunk, for each processor; 0: 64 KiB growing up to 1 MiB */
	size_t stride;     /* a power of two, at least a page; 0: ALLOD_PERCPU_STRIDE */
	/* The pool's limit; 0: none. With one, threads keep no elements at hand: the pool is full when
	 * all of it is in use. */
	size_t max_chunks;
	size_t max_element; /* larger requests fail with EINVAL; 0: no limit */
	uintptr_t poison;   /* repeated over freed elements with ALLOD_PERCPU_POISON */
	/* Called for each processor's part of each new chunk, before anything of it is given out:
	 * of active processors when the chunk is made, of others when they become active. Returns 0,
	 * or a negative errno that the allocation fails with. `cpu` is -1 for a global pool. It may
	 * not call functions of this header. */
	int (*init_cpu)(void *arg, void *part, size_t bytes, int cpu);
	void *init_arg;
};

#define ALLOD_PERCPU_OPTIONS_DEFAULT                \
	{                                           \
		sizeof(struct allod_percpu_options) \
	}

/*
 * Pools
 */

/*
 * Makes a pool.
 *
 * name:    for reports; copied, up to 31 bytes. NULL: none.
 * options: NULL: the defaults.
 * Returns: the pool, or NULL.
 * Errors:  EINVAL: options.size unknown or a bit set that this version does not know, stride no
 *          power of two or below a page, unit_bytes above the stride, max_cpus above
 *          ALLOD_PERCPU_CPUS_MAX. ENOMEM: no memory, address space (RLIMIT_AS,
 *          vm.overcommit_memory=2) or mappings. EFBIG: RLIMIT_FSIZE is below the stride, and the
 *          pool is to share initial contents.
 * Safety:  threads.
 * Since:   0.1.
 * Source:  M. Desnoyers, rseq_mempool_create() of librseq.
 */
struct allod_percpu_pool *allod_percpu_pool_create(const char *name,
	const struct allod_percpu_options *options) ALLOD_NOTHROW ALLOD_ATTR_USE_RESULT;

/*
 * Destroys a pool with all its elements; NULL is allowed. With ALLOD_PERCPU_ROBUST, elements that
 * were not freed end the process with "allod: percpu: leak at destroy", and what
 * allod_percpu_pool_check() finds ends it too ("allod: percpu: corrupted bitmap"); with
 * ALLOD_PERCPU_POISON as well, a free element that was stored to, by "allod: percpu: poison
 * overwritten".
 *
 * Returns: how many elements had not been freed.
 * Errors:  none.
 * Safety:  threads; no other call may use the pool or its elements meanwhile.
 * Since:   0.1.
 */
size_t allod_percpu_pool_destroy(struct allod_percpu_pool *pool) ALLOD_NOTHROW;

/*
 * The distance between the places of this pool's elements: ALLOD_PERCPU_STRIDE unless set.
 *
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 */
size_t allod_percpu_pool_stride(const struct allod_percpu_pool *pool) ALLOD_NOTHROW;

/*
 * The pool's indices are below this: options.max_cpus, or the possible processors; 1 for a global
 * pool.
 *
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 */
unsigned allod_percpu_pool_cpus(const struct allod_percpu_pool *pool) ALLOD_NOTHROW;

/*
 * What the pool's elements are indexed by.
 *
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 */
enum allod_percpu_index allod_percpu_pool_index(const struct allod_percpu_pool *pool) ALLOD_NOTHROW;

/*
 * Gives the memory of free elements back to the system, and chunks that have no element. What other
 * threads have at hand (up to 64 elements of a size) stays.
 *
 * Returns: how many bytes of addresses were given back, for each active processor.
 * Errors:  none.
 * Safety:  threads.
 * Since:   0.1.
 */
size_t allod_percpu_pool_trim(struct allod_percpu_pool *pool) ALLOD_NOTHROW;

/*
 * Elements
 */

/*
 * Allocates an element. What it contains is undefined on every processor.
 *
 * bytes:   0 is treated as 1.
 * align:   a power of two up to the pool's unit, of the place on every processor; 0: the largest
 *          power of two that divides the size rounded up to ALLOD_PERCPU_GRANULE, at most 32.
 * Returns: the element, or NULL.
 * Errors:  EINVAL: align is no power of two, or bytes exceeds options.max_element. ENOMEM: no memory
 *          or address space, or the pool's limit of chunks is reached.
 * Safety:  threads.
 * Since:   0.1.
 * Source:  the bitmap allocator of the Linux kernel's per-CPU memory (D. Zhou, 2017), with elements
 *          at hand in each thread.
 */
void ALLOD_PERCPU *allod_percpu_alloc(struct allod_percpu_pool *pool, size_t bytes,
	size_t align) ALLOD_NOTHROW ALLOD_ATTR_USE_RESULT;

/*
 * Allocates an element that is zero on every processor, also on those that become active later.
 * Parameters, results and errors as of allod_percpu_alloc().
 *
 * Errors:  as allod_percpu_alloc().
 * Safety:  threads.
 * Since:   0.1.
 */
void ALLOD_PERCPU *allod_percpu_zalloc(struct allod_percpu_pool *pool, size_t bytes,
	size_t align) ALLOD_NOTHROW ALLOD_ATTR_USE_RESULT;

/*
 * Allocates an element that has this content on every processor, also on those that become active
 * later; bytes behind the content are zero. Processors share the memory until they write: elements
 * of the same size and content lie on pages that were filled with it in advance. With a pool's
 * contents all different, active processors get theirs at once, and others when they become active;
 * allod_percpu_peek() finds it before. A pool with ALLOD_PERCPU_CONTENT_ZERO writes to all.
 *
 * content: content_bytes bytes, at most `bytes`; copied.
 * Returns: the element, or NULL.
 * Errors:  as allod_percpu_alloc(); EINVAL too if content_bytes exceeds bytes.
 * Safety:  threads.
 * Since:   0.1.
 * Source:  rseq_mempool_percpu_malloc_init() of librseq; a page of initial content is written only
 *          before any element on it is given out.
 */
void ALLOD_PERCPU *allod_percpu_alloc_init(struct allod_percpu_pool *pool, size_t bytes,
	size_t align, const void *content,
	size_t content_bytes) ALLOD_NOTHROW ALLOD_ATTR_USE_RESULT;

/*
 * Allocates several elements alike, undefined or zeroed.
 *
 * ret_elements: room for `count` of them.
 * Returns: how many were allocated; fewer than count: errno tells why.
 * Errors:  as allod_percpu_alloc().
 * Safety:  threads.
 * Since:   0.1.
 */
size_t allod_percpu_alloc_batch(struct allod_percpu_pool *pool, size_t bytes, size_t align,
	void ALLOD_PERCPU **ret_elements, size_t count) ALLOD_NOTHROW;
size_t allod_percpu_zalloc_batch(struct allod_percpu_pool *pool, size_t bytes, size_t align,
	void ALLOD_PERCPU **ret_elements, size_t count) ALLOD_NOTHROW;

/*
 * Frees an element; NULL is allowed. Its size and pool are known from the pointer.
 *
 * Errors:  none; misuse ends the process (see above).
 * Safety:  threads. errno is kept.
 * Since:   0.1.
 */
void allod_percpu_free(void ALLOD_PERCPU *element) ALLOD_NOTHROW;

/* Frees `count` elements, of any pools and sizes, as allod_percpu_free() each. */
void allod_percpu_free_batch(void ALLOD_PERCPU **elements, size_t count) ALLOD_NOTHROW;

/*
 * Frees an element of this pool; one of another ends the process with "allod: percpu: element of
 * another pool". Otherwise as allod_percpu_free().
 *
 * Errors:  none.
 * Safety:  threads.
 * Since:   0.1.
 */
void allod_percpu_pool_free(struct allod_percpu_pool *pool,
	void ALLOD_PERCPU *element) ALLOD_NOTHROW;

/*
 * The size of a live element, a multiple of ALLOD_PERCPU_GRANULE, or 0; its pool, or NULL.
 *
 * Errors:  none: what is no live element has no size and no pool.
 * Safety:  threads.
 * Since:   0.1.
 */
size_t allod_percpu_size(const void ALLOD_PERCPU *element) ALLOD_NOTHROW;
struct allod_percpu_pool *allod_percpu_pool_of(const void ALLOD_PERCPU *element) ALLOD_NOTHROW;

/*
 * Calls fn(arg, element, bytes) for each live element, until it returns nonzero. It may use
 * elements, but make no other call that allocates, frees or looks at pools.
 *
 * Returns: what fn returned last, 0 if there was none.
 * Errors:  none.
 * Safety:  threads; others that need the pool's lock wait.
 * Since:   0.1.
 */
int allod_percpu_each(struct allod_percpu_pool *pool,
	int (*fn)(void *arg, void ALLOD_PERCPU *element, size_t bytes), void *arg);

/*
 * Sets of pools: a set gives an element from the first of its pools that takes the size and has
 * room. A single pool takes any size, so this is for those who want sizes apart.
 */
struct allod_percpu_set;

/*
 * Makes an empty set; destroys one with its pools.
 *
 * Returns: the set, or NULL with ENOMEM; how many elements had not been freed.
 * Errors:  ENOMEM.
 * Safety:  threads.
 * Since:   0.1.
 * Source:  rseq_mempool_set_create() of librseq.
 */
struct allod_percpu_set *allod_percpu_set_create(void) ALLOD_NOTHROW;
size_t allod_percpu_set_destroy(struct allod_percpu_set *set) ALLOD_NOTHROW;

/*
 * Gives a pool to the set. Pools are told apart by options.max_element, rounded up to a power of
 * two.
 *
 * Returns: 0 or a negative errno.
 * Errors:  EBUSY: there is one for this size.
 * Safety:  threads.
 * Since:   0.1.
 */
int allod_percpu_set_add(struct allod_percpu_set *set,
	struct allod_percpu_pool *pool) ALLOD_NOTHROW;

/*
 * Allocates an element of a set: with the content, or undefined (content is NULL); or zeroed.
 *
 * Returns: the element, or NULL.
 * Errors:  as allod_percpu_alloc_init().
 * Safety:  threads.
 * Since:   0.1.
 */
void ALLOD_PERCPU *allod_percpu_set_alloc(struct allod_percpu_set *set, size_t bytes,
	const void *content, size_t content_bytes) ALLOD_NOTHROW;
void ALLOD_PERCPU *allod_percpu_set_zalloc(struct allod_percpu_set *set,
	size_t bytes) ALLOD_NOTHROW;

/*
 * Looking at pools
 */

/* What is known of a pool; `size` is sizeof(struct allod_percpu_stats). */
struct allod_percpu_stats {
	size_t size;
	uint64_t live;       /* elements */
	uint64_t live_peak;  /* the most that a call for these statistics saw */
	uint64_t live_bytes; /* on each processor, like all bytes but metadata_bytes */
	uint64_t allocs;     /* so far */
	uint64_t frees;
	uint64_t chunks;
	uint64_t chunks_peak;
	uint64_t unit_bytes;   /* of all chunks */
	uint64_t free_bytes;   /* of these, in no element and not at hand in a thread */
	uint64_t contig_bytes; /* the longest free run */
	uint64_t free_runs;
	uint64_t fragmented_bytes; /* free in front of something that is not */
	uint64_t touched_bytes;    /* blocks of which something was given out */
	uint64_t idle_bytes;       /* of these, free and not yet given back */
	uint64_t smallest_bytes;   /* of elements so far */
	uint64_t largest_bytes;
	uint64_t metadata_bytes;
	uint64_t fragment_bytes; /* the longest of the fragmented runs */
	/* Of elements that are live now. The median is exact below 256 bytes; above, it is rounded
	 * down by at most a sixteenth. */
	uint64_t live_smallest_bytes;
	uint64_t live_median_bytes;
	uint64_t live_largest_bytes;
};

/*
 * Reads a pool's statistics: those that the kernel has for its own per-CPU memory.
 *
 * Returns: 0 or a negative errno.
 * Errors:  EINVAL: ret_stats->size.
 * Safety:  threads.
 * Since:   0.1.
 * Source:  Linux, mm/percpu-stats.c.
 */
int allod_percpu_pool_stats(struct allod_percpu_pool *pool,
	struct allod_percpu_stats *ret_stats) ALLOD_NOTHROW;

/*
 * Memory that a processor has of its own in this pool: pages that were stored to there.
 *
 * Returns: bytes, or a negative errno.
 * Errors:  EINVAL: cpu. ENOENT and the like: /proc is not there.
 * Safety:  threads.
 * Since:   0.1.
 */
int64_t allod_percpu_pool_resident(struct allod_percpu_pool *pool, int cpu) ALLOD_NOTHROW;

/*
 * Looks a pool's maps and hints over, bit by bit.
 *
 * Returns: NULL, or what is wrong.
 * Errors:  none.
 * Safety:  threads.
 * Since:   0.1.
 */
const char *allod_percpu_pool_check(struct allod_percpu_pool *pool) ALLOD_NOTHROW;

/* The name that the pool was given, "" if none. Safety: any thread. Since: 0.1. Errors: none. */
const char *allod_percpu_pool_name(const struct allod_percpu_pool *pool) ALLOD_NOTHROW;

/*
 * Calls fn(arg, pool) for each pool of the process, until it returns nonzero. It may look at pools,
 * but make none and destroy none.
 *
 * Returns: what fn returned last, 0 if there was none.
 * Errors:  none.
 * Safety:  threads.
 * Since:   0.1.
 */
int allod_percpu_pools_each(int (*fn)(void *arg, struct allod_percpu_pool *pool), void *arg);

/*
 * Processors
 */

/*
 * Notes that the program is about to store to elements' places of this index. Does nothing if that
 * is known. A concurrency id is an index like a processor's number.
 *
 * cpu:     an index below ALLOD_PERCPU_CPUS_MAX.
 * Returns: 0 or a negative errno.
 * Errors:  EINVAL: cpu is out of range. ENOMEM: contents that the processor must find there could
 *          not be written; it is not active then. EAGAIN: a signal handler that interrupted another
 *          call of this header; it is not active then.
 * Safety:  any thread, signal handlers; the first call for a processor takes a lock.
 * Since:   0.1.
 */
int allod_percpu_mark_active(int cpu) ALLOD_NOTHROW;

/*
 * Whether an index is active, and the next active one behind `cpu` (-1 at first), or -1.
 *
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 */
int allod_percpu_is_active(int cpu) ALLOD_NOTHROW;
int allod_percpu_next_active(int cpu) ALLOD_NOTHROW;

#define allod_percpu_for_each_active(cpu)                      \
	for ((cpu) = allod_percpu_next_active(-1); (cpu) >= 0; \
		(cpu) = allod_percpu_next_active(cpu))

/*
 * The place of a live element, with its pool's stride, as a function: makes the processor active.
 * allod_percpu_peek() is for reading: it makes none active, and finds what the element contains
 * there.
 *
 * Returns: the place, or NULL.
 * Errors:  EINVAL: no live element, or an index that its pool has not.
 * Safety:  threads.
 * Since:   0.1.
 */
void *allod_percpu_place(const void ALLOD_PERCPU *element, int cpu) ALLOD_NOTHROW;
const void *allod_percpu_peek(const void ALLOD_PERCPU *element, int cpu) ALLOD_NOTHROW;

/*
 * One more than the highest number that a processor of this machine may get. ALLOD_PERCPU_CPUS in
 * the environment replaces it, for tests and measurements.
 *
 * Errors:  none.
 * Safety:  threads.
 * Since:   0.1.
 */
unsigned allod_percpu_possible_cpus(void) ALLOD_NOTHROW;

/* Nonzero for active indices. For the macros below; read only. */
extern unsigned char allod_percpu_active_[ALLOD_PERCPU_CPUS_MAX];

static inline uintptr_t allod_percpu_at_(uintptr_t element, int cpu, uintptr_t stride)
{
	/* Acquires: what the flag announces has been written. */
	if (!__atomic_load_n(&allod_percpu_active_[(unsigned)cpu % ALLOD_PERCPU_CPUS_MAX],
		    __ATOMIC_ACQUIRE))
		(void)allod_percpu_mark_active(cpu);
	return element + (unsigned)cpu * stride;
}

/*
 * The place of an element on a processor, which becomes active. The type is the element's, without
 * ALLOD_PERCPU. allod_percpu_ptr_stride() is for pools with a stride of their own.
 */
#define allod_percpu_ptr(element, cpu) allod_percpu_ptr_stride(element, cpu, ALLOD_PERCPU_STRIDE)
#define allod_percpu_ptr_stride(element, cpu, stride)                   \
	((__typeof__(*(element)) ALLOD_PERCPU_FORCE *)allod_percpu_at_( \
		(uintptr_t)(ALLOD_PERCPU_FORCE const void *)(element), (int)(cpu), (stride)))

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_PERCPU_H */
