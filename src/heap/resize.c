/* SPDX-License-Identifier: MIT */
/* Usable size and realloc: in place when the block fits, by moving pages if large, else by copy. */
#include <errno.h>
#include <string.h>

#include "heap/core.h"
#include "heap/fast.h"

/* Usable bytes at p, given its slab and word; ends the process when p is no live block. */
static size_t usable_bytes(const struct slab *slab, uint64_t word, const void *p)
{
	const enum slab_state state = word_state(word);
	if (state == SLAB_OWNED || state == SLAB_OPEN)
		return slab->bytes - (size_t)((const char *)p - slab->base) % slab->bytes;
	if (state != SLAB_LARGE || p != slab->base)
		heap_fatal_invalid_free();
	return a_load_rlx(&slab->granules) << PAGE_GRANULE_SHIFT;
}

size_t heap_usable_size(const void *p)
{
	if (p == NULL)
		return 0;
	uint64_t word;
	const struct slab *slab = slab_find(p, &word);
	if (slab != NULL)
		return usable_bytes(slab, word, p);
	const struct heap_delegate *libc = heap_delegated();
	return libc != NULL ? libc->usable_size(p) : 0;
}

/* A block in a slab keeps its place unless it would waste more than half of it. */
static bool fits(size_t usable, size_t size)
{
	return size <= usable && size >= usable / 2;
}

bool heap_resize_in_place(void *p, size_t size)
{
	uint64_t word;
	struct slab *slab = slab_find(p, &word);
	if (slab == NULL || size > HEAP_SIZE_MAX)
		return false;
	if (word_state(word) != SLAB_LARGE)
		return size <= usable_bytes(slab, word, p);
	if (p != slab->base)
		heap_fatal_invalid_free();
	return size > CLASS_BYTES_MAX && large_resize_in_place(slab, size);
}

/* A block that shrinks keeps its place if there is no other: programs rely on getting smaller. */
static void *resize_by_copy(void *p, size_t usable, size_t size)
{
	const int saved = errno;
	void *new = heap_malloc_fast(size);
	if (new == NULL && size <= usable) {
		errno = saved;
		return p;
	}
	if (new == NULL)
		return NULL;
	memcpy(new, p, size < usable ? size : usable);
	heap_free_fast(p);
	return new;
}

/* Moves a large block's pages; the hooks see a block go and one come, even if it then stays. */
static void *resize_by_move(struct slab *slab, void *p, size_t usable, size_t size)
{
	heap_hook_freeing(p);
	void *moved = large_resize(slab, p, size);
	heap_hook_allocated(moved != NULL ? moved : p, moved != NULL ? size : usable);
	return moved;
}

/* Page knows when moving beats copying; a block that shrinks to a class is copied. */
static void *resize_large(struct slab *slab, void *p, size_t size)
{
	const size_t usable = a_load_rlx(&slab->granules) << PAGE_GRANULE_SHIFT;
	if (size > CLASS_BYTES_MAX) {
		if (large_resize_in_place(slab, size))
			return p;
		void *moved = resize_by_move(slab, p, usable, size);
		if (moved != NULL)
			return moved;
	}
	return resize_by_copy(p, usable, size);
}

void *heap_resize(void *p, size_t size)
{
	uint64_t word;
	struct slab *slab = slab_find(p, &word);
	if (slab == NULL) {
		const struct heap_delegate *libc = heap_delegated();
		if (libc == NULL)
			heap_fatal_invalid_free();
		return libc->resize(p, size);
	}
	if (size > HEAP_SIZE_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	const size_t usable = usable_bytes(slab, word, p);
	if (word_state(word) == SLAB_LARGE)
		return resize_large(slab, p, size);
	return fits(usable, size) ? p : resize_by_copy(p, usable, size);
}
