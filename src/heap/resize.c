/* SPDX-License-Identifier: MIT */
/* Usable size and realloc: in place when the block fits, by moving pages if large, else by copy. */
#include <errno.h>
#include <string.h>

#include "heap/core.h"
#include "heap/fast.h"

/*
 * Usable bytes of a block in a slab of one granule, as most are, given its start; 0 for anything
 * else, also where blocks were given back. By the multiplication of the fast path of free: fast.h.
 */
static inline size_t block_bytes(const void *p)
{
	const uintptr_t offset = (uintptr_t)p - a_load_rlx(&page_arena.base);
	if (offset >= a_load_rlx(&page_arena.bytes))
		return 0;
	const struct slab *slab = page_record_of(p);
	const enum slab_state state = word_state(a_load_rlx(&slab->word));
	const uint32_t magic = a_load_rlx(&slab->magic);
	const uint32_t remainder = (uint32_t)(offset & (PAGE_GRANULE_BYTES - 1)) * magic;
	if ((state != SLAB_OWNED && state != SLAB_OPEN) || remainder >= magic)
		return 0;
	return slab->bytes;
}

/* Usable bytes at p, given its slab and word; ends the process when p is no live block. */
static size_t usable_bytes(const struct slab *slab, uint64_t word, const void *p)
{
	const enum slab_state state = word_state(word);
	/* No slab is larger than 2 MiB, and a division of 32 bits takes half the time. */
	if (state == SLAB_OWNED || state == SLAB_OPEN)
		return slab->bytes - (uint32_t)((const char *)p - slab->base) % slab->bytes;
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
	bool zeroed;
	return size > CLASS_BYTES_MAX && large_resize_in_place(slab, size, &zeroed);
}

/*
 * What to ask for when a block does not fit any more. One that grows by a little, as a string does
 * that is appended to, will grow again: it gets a quarter more, so that it is copied in proportion
 * to the logarithm of what it becomes and not for each class. But not beyond ROOM_BYTES_MAX: redis
 * keeps lists in blocks that grow to 8 KiB and stay, and needed 12 % more than glibc with room for
 * these, 4 % without; a string of up to 32 KiB that grows by 16 bytes at a time takes an eighth
 * more time.
 */
#define ROOM_BYTES_MAX CLASS_FAST_BYTES

static size_t with_room(size_t usable, size_t size)
{
	const size_t most = usable + usable / 4;
	if (size <= usable || size - usable > usable / 8 || most > ROOM_BYTES_MAX)
		return size;
	return most;
}

/* A block that shrinks keeps its place if there is no other: programs rely on getting smaller. */
static __attribute__((noinline)) void *resize_by_copy(void *p, size_t usable, size_t size)
{
	const size_t want = with_room(usable, size);
	void *new = heap_malloc_try(want);
	if (__builtin_expect(new == NULL, 0)) {
		const int saved = errno;
		new = heap_alloc_slow(want);
		if (new == NULL && size <= usable) {
			errno = saved;
			return p;
		}
		if (new == NULL)
			return NULL;
	}
	memcpy(new, p, size < usable ? size : usable);
	heap_free_fast(p);
	return new;
}

/* Moves a large block's pages; the hooks see a block go and one come, even if it then stays. */
static void *resize_by_move(struct slab *slab, void *p, size_t usable, size_t size)
{
	bool zeroed;
	heap_hook_freeing(p);
	void *moved = large_resize(slab, p, size, &zeroed);
	heap_hook_allocated(moved != NULL ? moved : p, moved != NULL ? size : usable);
	return moved;
}

/* Page knows when moving beats copying; a block that shrinks to a class is copied. */
static void *resize_large(struct slab *slab, void *p, size_t size)
{
	const size_t usable = a_load_rlx(&slab->granules) << PAGE_GRANULE_SHIFT;
	if (size > CLASS_BYTES_MAX) {
		bool zeroed;
		if (large_resize_in_place(slab, size, &zeroed))
			return p;
		void *moved = resize_by_move(slab, p, usable, size);
		if (moved != NULL)
			return moved;
	}
	return resize_by_copy(p, usable, size);
}

/* Whatever is no block of a slab of one granule. */
static __attribute__((noinline)) void *resize_any(void *p, size_t size)
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

void *heap_resize(void *p, size_t size)
{
	const size_t usable = block_bytes(p);
	if (usable == 0 || size > HEAP_SIZE_MAX)
		return resize_any(p, size);
	return fits(usable, size) ? p : resize_by_copy(p, usable, size);
}
