/* SPDX-License-Identifier: MIT */
/*
 * Operations on memory that has one copy for each processor: a pointer means the copy number 0, and
 * copy number n lies n strides behind it. Elements of a pool (<allod/percpu.h>) are such memory,
 * but any other will do. Each operation works on the copy of the calling thread at the moment at
 * which it takes effect. Compiles alone as C99 and as C++17, x86-64 and aarch64.
 *
 * They are restartable sequences (<allod/rseq.h>): no atomic instruction, no shared cache line, and
 * no effect at all before their last instruction. Where the process has no restartable sequences
 * they are atomic instructions on the copy of the processor that the thread was on a moment before:
 * programs need not know. In both cases an operation is whole with regard to every other operation
 * of this header on the same copy, whichever thread or signal handler makes it.
 *
 * Another processor's copy may be read at any time. It may be *written* while others operate on it
 * only as told for allod_rseq_fence() and allod_percpu_list_take(): a plain or atomic store from
 * elsewhere is lost or undone by a sequence that runs there.
 *
 * Rules for every call here:
 *  - a pointer to a word is aligned to the word's size, in every copy;
 *  - the name ending in _in takes a view, which says how copies are numbered and how far apart they
 *    lie. The name without is the same by allod_percpu_default_view();
 *  - each is inline, and is a function of the library as well, for other languages;
 *  - Safety: any thread, signal handlers. Since: 0.1. errno is never written.
 */
#ifndef ALLOD_PERCPU_OPS_H
#define ALLOD_PERCPU_OPS_H

#include <allod/percpu.h>
#include <allod/rseq.h>

/* One file of the library compiles the operations as the functions that it exports. */
#ifndef ALLOD_PERCPU_INLINE_
#define ALLOD_PERCPU_INLINE_ static __inline__ __attribute__((__always_inline__, __unused__))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* How copies are numbered, and how far apart they are. */
struct allod_percpu_view {
	size_t stride;            /* bytes from one copy to the next */
	enum allod_rseq_index by; /* which number */
	/*
	 * How many copies there are, at most ALLOD_PERCPU_CPUS_MAX. A thread whose number is not
	 * below it ends the process with "allod: no copy for this processor": by ALLOD_RSEQ_CPU_ID
	 * it must be the number of possible processors, by ALLOD_RSEQ_MM_CID the most threads that
	 * run at once will do where allod_rseq_available() says so.
	 */
	unsigned count;
};

/*
 * The view of a pool's elements.
 *
 * Returns: the view. Errors: none.
 */
ALLOD_PERCPU_INLINE_ struct allod_percpu_view allod_percpu_pool_view(
	const struct allod_percpu_pool *pool);

/*
 * The view of the elements of pools that were made without options: by processor numbers, with the
 * library's stride.
 *
 * Returns: the view. Errors: none.
 */
ALLOD_PERCPU_INLINE_ struct allod_percpu_view allod_percpu_default_view(void);

/* A link of a per-CPU list: the first member of what is listed, or anywhere in it. */
struct allod_percpu_node {
	struct allod_percpu_node *next;
};

/* A list; all zero is an empty one. `gate` is the library's. */
struct allod_percpu_list {
	struct allod_percpu_node *first;
	uintptr_t gate;
} __attribute__((__aligned__(16)));

/* Two words that change together. */
struct allod_percpu_pair {
	uint64_t first;
	uint64_t second;
} __attribute__((__aligned__(16)));

/* The head of a ring; `capacity` bytes follow it. All zero is an empty ring. */
struct allod_percpu_ring {
	uint64_t head; /* bytes reserved so far */
	char apart[56];
	uint64_t tail; /* bytes consumed so far, by whoever reads */
	char apart_too[56];
};

/*
 * The value of this processor's copy.
 *
 * Returns: the value. It is of one processor, but maybe no longer of this one.
 * Errors:  none.
 * Source:  Linux, this_cpu_read().
 */
ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_read_in(struct allod_percpu_view view,
	const uint64_t ALLOD_PERCPU *p);
ALLOD_PERCPU_INLINE_ uint32_t allod_percpu_read32_in(struct allod_percpu_view view,
	const uint32_t ALLOD_PERCPU *p);

/*
 * Adds to this processor's copy, modulo 2^64 or 2^32: subtract by adding the negative.
 *
 * Errors:  none.
 * Source:  Linux, this_cpu_add(); librseq, rseq_load_add_store().
 */
ALLOD_PERCPU_INLINE_ void allod_percpu_add_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t value);
ALLOD_PERCPU_INLINE_ void allod_percpu_add32_in(struct allod_percpu_view view,
	uint32_t ALLOD_PERCPU *p, uint32_t value);

/*
 * Adds to this processor's copy, and tells what it is then.
 *
 * Returns: the new value. Errors: none.
 * Source:  Linux, this_cpu_add_return().
 */
ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_add_return_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t value);

/*
 * Stores to this processor's copy, and tells what it was.
 *
 * Returns: the old value. Errors: none.
 * Source:  Linux, this_cpu_xchg().
 */
ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_xchg_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t value);

/*
 * Stores to this processor's copy if that is `expected`.
 *
 * Returns: what the copy was: `expected` if `value` has been stored. Errors: none.
 * Source:  Linux, this_cpu_cmpxchg(); librseq, rseq_load_cbne_store().
 */
ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_cmpxchg_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t expected, uint64_t value);

/*
 * Adds to both words of this processor's copy. Both change in one instruction: whoever reads them
 * by allod_percpu_pair_read() sees both sums or neither.
 *
 * Errors:  none.
 */
ALLOD_PERCPU_INLINE_ void allod_percpu_pair_add_in(struct allod_percpu_view view,
	struct allod_percpu_pair ALLOD_PERCPU *p, uint64_t first, uint64_t second);

/*
 * Both words of one copy, as they were at one moment.
 *
 * copy:    the address of the copy itself: pointer + number * stride.
 * Returns: the words. Errors: none.
 * Safety:  any thread, signal handlers. Processors without 16-byte loads (x86-64 before AVX,
 *          aarch64) store the same value back, so the copy must be writable there.
 * Since:   0.1.
 */
struct allod_percpu_pair allod_percpu_pair_read(const struct allod_percpu_pair *copy);

/*
 * Puts a node in front of this processor's list.
 *
 * Returns: 1, or 0 when the list is just being taken by allod_percpu_list_take(): the node has not
 *          been put anywhere then.
 * Errors:  none.
 * Source:  librseq, the per-CPU list of its tests.
 */
ALLOD_PERCPU_INLINE_ int allod_percpu_list_push_in(struct allod_percpu_view view,
	struct allod_percpu_list ALLOD_PERCPU *list, struct allod_percpu_node *node);

/*
 * Takes the first node from this processor's list. Where the process works by atomic instructions,
 * the memory of a node must stay readable after it has been taken, as that of a pool does: another
 * thread may be about to look at its link.
 *
 * Returns: the node, or NULL when there is none, or the list is just being taken.
 * Errors:  none.
 * Source:  librseq, rseq_load_cbeq_store_add_load_store().
 */
ALLOD_PERCPU_INLINE_ struct allod_percpu_node *allod_percpu_list_pop_in(
	struct allod_percpu_view view, struct allod_percpu_list ALLOD_PERCPU *list);

/*
 * Takes all nodes of one copy of a list, from any processor: closes it, passes the fence, takes
 * what is there, and opens it again. Meanwhile operations on that copy do not wait, but fail.
 *
 * number:  which copy, by the view's kind of number.
 * Returns: the first node, from which `next` leads to the others, last pushed first. NULL when
 *          there was none, when somebody else is just taking this list, or when no fence is to be
 *          had (allod_rseq_fence()).
 * Errors:  none.
 * Source:  tcmalloc, draining of another processor's cache.
 */
struct allod_percpu_node *allod_percpu_list_take(struct allod_percpu_view view,
	struct allod_percpu_list ALLOD_PERCPU *list, unsigned number);

/*
 * If this processor's copy of `word` is `expected`, copies from `from`, which is ordinary memory,
 * to this processor's copy of `to`, and then stores `value` to the word. Nobody who looks at the
 * word first sees a part of the copy: it is how a record is put on a stack that `word` counts.
 *
 * bytes:   how much to copy. Keep it small: what is interrupted starts over.
 * Returns: 1; or 0 when the word was something else, and nothing has been copied.
 * Errors:  none.
 * Safety:  as ever; by atomic instructions it holds back this thread's signals and waits for
 *          another thread that copies to the same word.
 * Source:  librseq, rseq_load_cbne_memcpy_store().
 */
ALLOD_PERCPU_INLINE_ int allod_percpu_copy_to_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *word, uint64_t expected, uint64_t value, void ALLOD_PERCPU *to,
	const void *from, size_t bytes);

/* The same in the other direction: from this processor's copy of `from` to ordinary memory. */
ALLOD_PERCPU_INLINE_ int allod_percpu_copy_from_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *word, uint64_t expected, uint64_t value, void *to,
	const void ALLOD_PERCPU *from, size_t bytes);

/*
 * Reserves room for a record in this processor's ring. The caller writes it, on whatever processor
 * it is then, and commits it. Until it does, the reader gets neither this record nor later ones.
 *
 * ring:    its head; `capacity` bytes follow it, a power of two, at least 64.
 * bytes:   size of the record; a record and its length take 8 bytes more, rounded up to 8.
 * Returns: the record, aligned to 8, or NULL when there is no room.
 * Errors:  none.
 * Source:  Linux, bpf_ringbuf_reserve(); LTTng's ring buffer.
 */
void *allod_percpu_ring_reserve_in(struct allod_percpu_view view,
	struct allod_percpu_ring ALLOD_PERCPU *ring, size_t capacity, size_t bytes);

/* Commits a record of allod_percpu_ring_reserve(); `bytes` is what was asked for there. */
void allod_percpu_ring_commit(void *record, size_t bytes);

/* As allod_percpu_ring_commit(), but the reader does not get the record. */
void allod_percpu_ring_discard(void *record, size_t bytes);

/*
 * Hands the committed records of one copy of a ring to `fn`, oldest first, and frees their room.
 * One thread at a time for each copy; any processor.
 *
 * copy:    the address of the copy itself: pointer + number * stride.
 * Returns: the number of records. Errors: none.
 */
size_t allod_percpu_ring_consume(struct allod_percpu_ring *copy, size_t capacity,
	void (*fn)(const void *record, size_t bytes, void *arg), void *arg);

/*
 * The library's own half; not for programs.
 */

/* The slow halves: register the thread and try again, or work by atomic instructions. */
uint64_t allod_percpu_read_slow_(struct allod_percpu_view view, const uint64_t ALLOD_PERCPU *p);
uint32_t allod_percpu_read32_slow_(struct allod_percpu_view view, const uint32_t ALLOD_PERCPU *p);
void allod_percpu_add_slow_(struct allod_percpu_view view, uint64_t ALLOD_PERCPU *p,
	uint64_t value);
void allod_percpu_add32_slow_(struct allod_percpu_view view, uint32_t ALLOD_PERCPU *p,
	uint32_t value);
uint64_t allod_percpu_add_return_slow_(struct allod_percpu_view view, uint64_t ALLOD_PERCPU *p,
	uint64_t value);
uint64_t allod_percpu_xchg_slow_(struct allod_percpu_view view, uint64_t ALLOD_PERCPU *p,
	uint64_t value);
uint64_t allod_percpu_cmpxchg_slow_(struct allod_percpu_view view, uint64_t ALLOD_PERCPU *p,
	uint64_t expected, uint64_t value);
void allod_percpu_pair_add_slow_(struct allod_percpu_view view,
	struct allod_percpu_pair ALLOD_PERCPU *p, uint64_t first, uint64_t second);
int allod_percpu_list_push_slow_(struct allod_percpu_view view,
	struct allod_percpu_list ALLOD_PERCPU *list, struct allod_percpu_node *node);
struct allod_percpu_node *allod_percpu_list_pop_slow_(struct allod_percpu_view view,
	struct allod_percpu_list ALLOD_PERCPU *list);
int allod_percpu_copy_to_slow_(struct allod_percpu_view view, uint64_t ALLOD_PERCPU *word,
	uint64_t expected, uint64_t value, void ALLOD_PERCPU *to, const void *from, size_t bytes);
int allod_percpu_copy_from_slow_(struct allod_percpu_view view, uint64_t ALLOD_PERCPU *word,
	uint64_t expected, uint64_t value, void *to, const void ALLOD_PERCPU *from, size_t bytes);

#ifdef __cplusplus
}
#endif

#if defined(ALLOD_PERCPU_REFERENCE)
#include <allod/percpu-ops-reference.h>
#elif defined(__x86_64__)
#include <allod/percpu-ops-x86_64.h>
#elif defined(__aarch64__)
#include <allod/percpu-ops-aarch64.h>
#else
#error "<allod/percpu-ops.h> is written for x86-64 and aarch64"
#endif
#include <allod/percpu-ops-inline.h>

#endif /* ALLOD_PERCPU_OPS_H */
