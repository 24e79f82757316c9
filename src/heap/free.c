/* SPDX-License-Identifier: MIT */
/*
 * Free beyond the fast path: blocks of other threads' slabs and of open ones, of slabs of several
 * granules or with blocks given back, large blocks, and what is no block at all.
 */
#include "base/assert.h"
#include "heap/core.h"
#include "heap/fast.h"

struct slab *slab_find(const void *p, uint64_t *ret_word)
{
	struct slab *slab = page_record_of(p);
	if (slab == NULL)
		return NULL;
	uint64_t word = a_load_rlx(&slab->word);
	if (word_state(word) == SLAB_INNER) {
		slab = page_record_at(page_record_index(slab) - word_owner(word));
		word = a_load_rlx(&slab->word);
	}
	*ret_word = word;
	return slab;
}

/* Aborts unless p is the start of a block of the slab. */
static void check_place(const struct slab *slab, const void *p)
{
	const uint32_t offset = (uint32_t)((const char *)p - slab->base);
	if (offset % slab->bytes != 0 || !slab_is_carved(slab, offset / slab->bytes))
		heap_fatal_invalid_free();
}

/* Aborts if the block is free already. */
static void check_free(const struct slab *slab, const struct block *block)
{
	if (block->key == BLOCK_KEY && slab_has_free(slab, block))
		heap_fatal_double_free();
}

static void free_local(struct heap *heap, struct slab *slab, struct block *block)
{
	block_put(&slab->free, block);
	if (slab_count_down(slab))
		slab_relieved(heap, slab);
}

void heap_free_at_mark(struct heap *heap, struct slab *slab)
{
	slab_relieved(heap, slab);
	page_tick();
	heap_leave(heap);
	heap_close(false);
}

/*
 * Takes an open slab into which a block is freed: the next frees there need no atomic operation
 * then. Only if the thread allocates in this class, for else it would never use the memory.
 */
static bool free_by_adopting(struct heap *heap, struct slab *slab, struct block *block)
{
	if (heap->current[a_load_rlx(&slab->class)] == NULL || !slab_adopt(heap, slab))
		return false;
	free_local(heap, slab, block);
	slab_attach(heap, slab);
	return true;
}

/* Frees by the thread's own heap if it holds the slab or can take it; else false. */
static bool free_by_own(struct slab *slab, struct block *block, uint64_t word)
{
	struct heap *heap = heap_enter_own();
	if (heap == NULL)
		return false;
	bool done = true;
	if (heap_touch(heap, slab)) {
		/* The bin's blocks are of the current slab, which may be this one. */
		if (block_is_free(slab, block, &slab->free) ||
			block == heap->bin[a_load_rlx(&slab->class)])
			check_free(slab, block);
		free_local(heap, slab, block);
	} else {
		check_free(slab, block);
		done = word_state(word) == SLAB_OPEN && free_by_adopting(heap, slab, block);
	}
	heap_leave(heap);
	return done;
}

/* Frees by the slab's word, for whoever holds the slab or comes to hold it. */
static void free_remote(struct slab *slab, struct block *block)
{
	const unsigned class = a_load_rlx(&slab->class);
	uint32_t owner = 0;
	check_free(slab, block);
	block->key = BLOCK_KEY;
	const enum remote_result result = remote_push(slab, block, &owner);
	slab_settle(slab, result, class, owner);
	if (result == REMOTE_WHOLE)
		heap_watch_exit();
}

static void free_in_slab(struct slab *slab, struct block *block, uint64_t word)
{
	check_place(slab, block);
	if (!free_by_own(slab, block, word))
		free_remote(slab, block);
}

/* Whether the block is one of the slab's that the program may hold, as far as can be seen here. */
static inline bool is_held(const struct slab *slab, const struct block *block)
{
	/* The product's upper half is the index; the lower is below this only for a block's start. */
	const uint64_t inverse = heap_classes[a_load_rlx(&slab->class)].inverse;
	const __uint128_t product =
		(__uint128_t)((uintptr_t)block - (uintptr_t)slab->base) * inverse;
	return (uint64_t)product < inverse && slab_is_carved(slab, (uint32_t)(product >> 64)) &&
		!block_is_free(slab, block, &slab->free);
}

/*
 * The fast path of slabs that free's own does not serve: of several granules, or with blocks given
 * back. False: not the thread's, not at rest, or something is wrong with the block.
 */
static inline bool free_medium(struct slab *slab, struct block *block)
{
	struct heap *heap = a_load_rlx(&heap_self);
	if (a_load_rlx(&heap->limit) != CLASS_FAST_UNITS)
		return false;
	heap_mark_inside(heap);
	/* As in heap_free_beside(). */
	a_store_rlx(&heap->named, slab);
	a_signal_fence();
	const bool done = heap_holds(heap, slab) && slab_has_holes(slab) && is_held(slab, block);
	if (done) {
		block_put(&slab->free, block);
		if (__builtin_expect(slab_count_down(slab), 0)) {
			heap_free_at_mark(heap, slab);
			return true;
		}
	}
	heap_mark_at_rest(heap, CLASS_FAST_UNITS);
	return done;
}

/* What lies in no memory of ours: libc's, if the program was handed over to it, or nobody's. */
static void free_foreign(void *p)
{
	const struct heap_delegate *libc = heap_delegated();
	if (libc == NULL)
		heap_fatal_invalid_free();
	libc->free(p);
}

void heap_free_slow(void *p)
{
	if (p == NULL)
		return;
	uint64_t word;
	struct slab *slab = slab_find(p, &word);
	if (slab == NULL) {
		free_foreign(p);
		return;
	}
	if (free_medium(slab, p))
		return;
	heap_hook_freeing(p);
	switch (word_state(word)) {
	case SLAB_OWNED:
	case SLAB_OPEN: free_in_slab(slab, p, word); break;
	case SLAB_LARGE: large_free(slab, p); break;
	case SLAB_FREED: heap_fatal_double_free();
	case SLAB_NONE:
	case SLAB_INNER: heap_fatal_invalid_free();
	}
	heap_close(word_state(word) == SLAB_LARGE);
}

void heap_free(void *p)
{
	heap_free_fast(p);
}
