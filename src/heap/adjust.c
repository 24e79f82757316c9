/* SPDX-License-Identifier: MIT */
/*
 * Resizing with more to be said of it than realloc can say: where the block is or not at all, to an
 * alignment, with room to grow, with the new part zeroed.
 */
#include <errno.h>
#include <string.h>

#include "heap/batch.h"
#include "heap/core.h"

static bool is_large(const struct slab *slab, uint64_t word)
{
	return slab != NULL && word_state(word) == SLAB_LARGE;
}

/*
 * Resizes a large block where it is. What shrinks to a class is copied to it by others; if it may
 * not move it keeps the least that is a run.
 */
static bool large_in_place(struct slab *slab, size_t size, const struct heap_want *want,
	bool *ret_zeroed)
{
	if (size <= CLASS_BYTES_MAX && !want->fixed)
		return false;
	if (!large_resize_in_place(slab, size > CLASS_BYTES_MAX ? size : CLASS_BYTES_MAX + 1,
		    ret_zeroed))
		return false;
	large_reserve(slab, want->reserve);
	return true;
}

/* Resizes where it is; `usable` is the old usable size. */
static bool in_place(void *p, size_t usable, size_t size, const struct heap_want *want,
	bool *ret_zeroed)
{
	uint64_t word;
	struct slab *slab = slab_find(p, &word);
	if (((uintptr_t)p & (want->align - 1)) != 0)
		return false;
	if (is_large(slab, word))
		return large_in_place(slab, size, want, ret_zeroed);
	/* As realloc() does: a block that would waste more than half of its place moves. */
	return size <= usable && (want->fixed || size >= usable / 2);
}

/* Moves the pages of a large block. */
static void *by_moving(void *p, size_t size, const struct heap_want *want, bool *ret_zeroed)
{
	uint64_t word;
	struct slab *slab = slab_find(p, &word);
	if (!is_large(slab, word) || size <= CLASS_BYTES_MAX || want->align > PAGE_GRANULE_BYTES ||
		heap_is_hooked())
		return NULL;
	void *moved = large_resize(slab, p, size, ret_zeroed);
	if (moved != NULL)
		large_reserve(page_record_of(moved), want->reserve);
	return moved;
}

/* A block that shrinks keeps its place if there is no other and it is aligned. */
static void *by_copying(void *p, size_t usable, size_t size, const struct heap_want *want,
	bool *ret_zeroed)
{
	void *new;
	if (heap_alloc_many(size, want, 1, &new) == 0)
		return size <= usable && ((uintptr_t)p & (want->align - 1)) == 0 ? p : NULL;
	memcpy(new, p, size < usable ? size : usable);
	heap_free_many(&p, 1, want->brief);
	*ret_zeroed = want->zeroed;
	return new;
}

int heap_adjust(void *block, size_t size, const struct heap_want *want, void **ret_block)
{
	const size_t usable = heap_usable_size(block);
	bool zeroed = false;
	void *p = block;
	if (size > HEAP_SIZE_MAX)
		return -ENOMEM;
	if (!in_place(block, usable, size, want, &zeroed)) {
		if (want->fixed)
			return -ENOSPC;
		p = by_moving(block, size, want, &zeroed);
		if (p == NULL)
			p = by_copying(block, usable, size, want, &zeroed);
		if (p == NULL)
			return -ENOMEM;
	}
	const size_t now = heap_usable_size(p);
	if (want->zeroed && !zeroed && now > usable)
		memset((char *)p + usable, 0, now - usable);
	*ret_block = p;
	return 0;
}

size_t heap_room(const void *block)
{
	uint64_t word;
	const struct slab *slab = slab_find(block, &word);
	const size_t usable = heap_usable_size(block);
	return is_large(slab, word) ? usable + (a_load_rlx(&slab->room) << PAGE_GRANULE_SHIFT)
				    : usable;
}
