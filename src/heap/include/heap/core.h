/* SPDX-License-Identifier: MIT */
/*
 * What the files of the heap's core offer each other. Functions that take a heap are called inside
 * it (heap_enter()); the others from anywhere.
 */
#pragma once

#include "heap/heap.h"
#include "heap/remote.h"
#include "heap/thread.h"
#include "page/page.h"

/* slab.c: one slab's life in a heap. */

/* A new slab of the class, OWNED by the heap and in none of its lists; NULL: no memory. */
struct slab *slab_create(struct heap *heap, unsigned class);
/* Links up to a batch of blocks that are not carved into slab->free; false when all are. */
bool slab_carve(struct slab *slab);
/* Takes what others have freed into slab->free, which must be empty; false if that is nothing. */
bool slab_collect(struct slab *slab);
/* The last block of a list of the slab; dies if it has no end, since a block was freed twice. */
struct block *slab_list_last(const struct slab *slab, struct block *list);
/* Opens a slab whose free list is complete, and does what that asks for. */
void slab_open(struct slab *slab);
/* Gives a slab that holds no block back to page. `FREED` is set already. Keyless: none was free. */
void slab_give_back(struct slab *slab, bool keyless);
/* The same for a slab that is OWNED by the caller's heap. */
void slab_destroy(struct slab *slab);
/* Blocks in slab->free. */
static inline uint32_t slab_free_count(const struct slab *slab)
{
	return a_load_rlx(&slab->carved) - slab_used(slab);
}

/* attached.c: a heap's slabs beside the current ones. */

/* Puts a slab of the heap beside its current ones, or gives it back if it holds no block. */
void slab_attach(struct heap *heap, struct slab *slab);
/* Opens all of them; false when another thread has taken one and not yet opened it. */
bool slab_open_attached(struct heap *heap);
/* After `used` has fallen: gives back, or moves to the front, as is due. */
void slab_relieved(struct heap *heap, struct slab *slab);
/* The attached slab of the class most worth taking from, detached; NULL when none is. */
struct slab *slab_take_attached(struct heap *heap, unsigned class);

/* The first class from this one on whose list has entries, else CLASS_COUNT. */
static inline unsigned heap_attached_from(const struct heap *heap, unsigned class)
{
	for (; class < CLASS_COUNT; class = (class / 64 + 1) * 64) {
		const uint64_t bits = a_load_rlx(&heap->attached_classes[class / 64]) >> class % 64;
		if (bits != 0)
			return class + (unsigned)__builtin_ctzll(bits);
	}
	return CLASS_COUNT;
}

/* seize.c: opens the attached slabs of heaps that have been idle; false when there were none. */
bool heap_seize_idle(const struct heap *self);

/* scavenge.c: gives back the free pages of slabs that still hold blocks. */

/* Of all slabs that are the heap's or nobody's; returns bytes. */
size_t heap_scavenge(struct heap *heap);
/* A step of the round that does so with what nobody has used for a while. */
void heap_scavenge_tick(struct heap *heap);
/* The same in the janitor, as a keeper's step; see page.h. */
bool heap_scavenge_in_janitor(size_t *ret_waiting);

/* listed.c: the stacks of slabs that have blocks to take. */

/* Does what the result of remote_push() or remote_open() asks for; class and owner of before. */
void slab_settle(struct slab *slab, enum remote_result result, unsigned class, uint32_t owner);
/* Collects from every slab that was listed with this heap; false when none was. */
bool slab_drain_pending(struct heap *heap);
/* An open slab with free blocks, now the heap's and in none of its lists; NULL: none is listed. */
struct slab *slab_take_available(struct heap *heap, unsigned class);
/* Makes an open slab the heap's, in none of its lists; false when it is not open. */
bool slab_adopt(struct heap *heap, struct slab *slab);
/* The class's stack of open slabs, for heap_check(). */
const struct stack *slab_available(unsigned class);

/* close.c: what calls give back where nothing runs in the background. */

/* After a free by the slow path; `was_large`: of a large block. */
void heap_close(bool was_large);
/* Before an allocation by the slow path. */
void heap_open(void);

/* alloc.c, free.c, init.c, large.c */

/* A block of the class; sets *ret_zeroed when it is known to read as zero. NULL: no memory. */
void *heap_alloc_class(struct heap *heap, unsigned class, bool *ret_zeroed);
/*
 * A slab with blocks to take in place of the class's current one, which has been let go of; NULL:
 * no memory. A `brief` search leaves idle heaps alone.
 */
struct slab *heap_current_replace(struct heap *heap, unsigned class, bool brief);
/* With ret_zeroed NULL whatever it contains is welcome: then it may be composed. */
void *large_alloc(size_t align, size_t size, bool *ret_zeroed);
/* The same, with room to grow to `reserve` bytes if that can be had, and no housekeeping. */
void *large_alloc_room(size_t align, size_t size, size_t reserve, bool *ret_zeroed);
void large_free(struct slab *slab, void *p);
/* The same without housekeeping. */
void large_give(struct slab *slab, void *p);
/* The slab that holds p and its word, for p anywhere in a slab or at the start of a large block. */
struct slab *slab_find(const void *p, uint64_t *ret_word);
/* The libc to hand over to, or NULL (nearly always). */
const struct heap_delegate *heap_delegated(void);
/* Both set *ret_zeroed on success: whether what was added reads as zero. */
bool large_resize_in_place(struct slab *slab, size_t size, bool *ret_zeroed);
void *large_resize(struct slab *slab, void *p, size_t size, bool *ret_zeroed);
/* Makes room behind the block, up to `reserve` bytes all told, if it is free. */
void large_reserve(struct slab *slab, size_t reserve);

/* batch.c: heap_leave(), without its housekeeping if so wished. */
void heap_leave_batch(struct heap *heap, bool brief);

/* hooks.c */

extern _Atomic(const struct heap_hooks *) heap_hooks;

/* Whether hooks are set, so that the fast paths are to be closed. */
static inline bool heap_is_hooked(void)
{
	return __builtin_expect(a_load_rlx(&heap_hooks) != NULL, 0);
}

void heap_hook_allocated_slow(void *p, size_t size);
void heap_hook_freeing_slow(void *p);

static inline void heap_hook_allocated(void *p, size_t size)
{
	if (heap_is_hooked())
		heap_hook_allocated_slow(p, size);
}

static inline void heap_hook_freeing(void *p)
{
	if (heap_is_hooked())
		heap_hook_freeing_slow(p);
}

/* misuse.c: whether a block that looks free is in a free list of its slab, whosever that is. */
bool slab_has_free(const struct slab *slab, const struct block *block);

/* Ends the process: os_fatal() with "allod: …". */
_Noreturn void heap_fatal_corrupted(void);
_Noreturn void heap_fatal_double_free(void);
_Noreturn void heap_fatal_invalid_free(void);
