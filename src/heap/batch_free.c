/* SPDX-License-Identifier: MIT */
/*
 * Freeing many blocks. Neighbours in the array that lie in one slab, as those of one batch do, go
 * back together: by one exchange of the slab's word if the slab is not the thread's, by entering
 * the heap once if it is; and if they are all that the slab has, its run goes back to page without
 * a look at the blocks.
 */
#include "heap/batch.h"
#include "heap/core.h"
#include "heap/fast.h"

/* Fewer neighbours than this are freed one by one. */
#define GROUP_LEAST 3

/* How many blocks at the front of the array have an address in the slab. */
static size_t group_size(const struct slab *slab, void *const *blocks, size_t count)
{
	const uintptr_t base = (uintptr_t)slab->base;
	const uintptr_t span = (uintptr_t)slab->capacity * slab->bytes;
	size_t n = 1;
	while (n < count && n < slab->capacity && (uintptr_t)blocks[n] - base < span)
		n++;
	return n;
}

/* Aborts unless each address is the start of a block that was carved. */
static void check_places(const struct slab *slab, void *const *blocks, size_t count)
{
	const uint64_t inverse = heap_classes[a_load_rlx(&slab->class)].inverse;
	for (size_t i = 0; i < count; i++) {
		/* As in free.c: the upper half is the index, the lower tells a block's start. */
		const __uint128_t product =
			(__uint128_t)((uintptr_t)blocks[i] - (uintptr_t)slab->base) * inverse;
		if ((uint64_t)product >= inverse ||
			!slab_is_carved(slab, (uint32_t)(product >> 64)))
			heap_fatal_invalid_free();
	}
}

static void check_free(const struct slab *slab, const struct block *block)
{
	if (block->key == BLOCK_KEY && slab_has_free(slab, block))
		heap_fatal_double_free();
}

/* Whether these are all blocks of the slab, each once: then nobody else holds any. */
static bool is_whole(const struct slab *slab, void *const *blocks, size_t count)
{
	if (count != slab->capacity || blocks[0] != slab->base)
		return false;
	for (size_t i = 1; i < count; i++) {
		if ((char *)blocks[i] - (char *)blocks[i - 1] != (ptrdiff_t)slab->bytes)
			return false;
	}
	return true;
}

static void free_to_bin(struct heap *heap, struct slab *slab, void *const *blocks, size_t count)
{
	struct block **bin = &heap->bin[a_load_rlx(&slab->class)];
	for (size_t i = 0; i < count; i++) {
		if (block_is_free(slab, blocks[i], bin))
			check_free(slab, blocks[i]);
		block_put(bin, blocks[i]);
	}
}

static void free_to_list(struct heap *heap, struct slab *slab, void *const *blocks, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (block_is_free(slab, blocks[i], &slab->free))
			check_free(slab, blocks[i]);
		block_put(&slab->free, blocks[i]);
		if (slab_count_down(slab))
			slab_relieved(heap, slab);
	}
}

/* Takes an open slab for its blocks, if the thread allocates in this class: see free.c. */
static bool free_by_adopting(struct heap *heap, struct slab *slab, void *const *blocks,
	size_t count)
{
	for (size_t i = 0; i < count; i++)
		check_free(slab, blocks[i]);
	if (heap->current[a_load_rlx(&slab->class)] == NULL || !slab_adopt(heap, slab))
		return false;
	if (slab_used(slab) < count)
		heap_fatal_double_free();
	free_to_list(heap, slab, blocks, count);
	slab_attach(heap, slab);
	return true;
}

/* Frees by the thread's own heap if it holds the slab or can take it; else false. */
static bool free_by_own(struct slab *slab, void *const *blocks, size_t count, bool brief)
{
	const unsigned class = a_load_rlx(&slab->class);
	struct heap *heap = heap_enter_own();
	if (heap == NULL)
		return false;
	bool done = true;
	if (heap->current[class] == slab && class_has_bin(class))
		free_to_bin(heap, slab, blocks, count);
	else if (heap_touch(heap, slab))
		free_to_list(heap, slab, blocks, count);
	else
		done = word_state(a_load_rlx(&slab->word)) == SLAB_OPEN &&
			free_by_adopting(heap, slab, blocks, count);
	heap_leave_batch(heap, brief);
	return done;
}

/* A block with a key that is in no list had it from the program, or is in the array twice. */
static void check_twice(void *const *blocks, size_t count, const struct block *block)
{
	for (size_t i = 0; i < count; i++) {
		if (blocks[i] == block)
			heap_fatal_double_free();
	}
}

/* Frees by the slab's word, for whoever holds the slab or comes to hold it. */
static void free_remote(struct slab *slab, void *const *blocks, size_t count)
{
	const unsigned class = a_load_rlx(&slab->class);
	struct block *first = BLOCK_END;
	uint32_t owner = 0;
	for (size_t i = 0; i < count; i++) {
		struct block *block = blocks[i];
		check_free(slab, block);
		if (block->key == BLOCK_KEY)
			check_twice(blocks, i, block);
		a_data_write(&block->next, first);
		block->key = BLOCK_KEY;
		first = block;
	}
	const enum remote_result result =
		remote_push_chain(slab, first, blocks[0], (uint32_t)count, &owner);
	slab_settle(slab, result, class, owner);
	if (result == REMOTE_WHOLE)
		heap_watch_exit();
}

static void free_group(struct slab *slab, void *const *blocks, size_t count, bool brief)
{
	if (is_whole(slab, blocks, count) && remote_take_whole(slab)) {
		slab_give_back(slab, true);
		heap_watch_exit();
		return;
	}
	check_places(slab, blocks, count);
	if (!free_by_own(slab, blocks, count, brief))
		free_remote(slab, blocks, count);
}

/* Whether the first blocks are worth a look at their slab: it takes as long as freeing one. */
static bool are_close(void *const *blocks, size_t count)
{
	for (size_t i = 1; i < GROUP_LEAST; i++) {
		if (i == count ||
			((uintptr_t)blocks[0] ^ (uintptr_t)blocks[i]) >> PAGE_GRANULE_SHIFT != 0)
			return false;
	}
	return true;
}

/* Frees what is first in the array, and its neighbours; returns how many. */
static size_t free_first(void *const *blocks, size_t count, bool brief)
{
	uint64_t word;
	if (!brief && !are_close(blocks, count)) {
		heap_free_fast(blocks[0]);
		return 1;
	}
	struct slab *slab = blocks[0] != NULL ? slab_find(blocks[0], &word) : NULL;
	const enum slab_state state = slab != NULL ? word_state(word) : SLAB_NONE;
	if (state == SLAB_OWNED || state == SLAB_OPEN) {
		const size_t n = group_size(slab, blocks, count);
		if (n >= GROUP_LEAST) {
			free_group(slab, blocks, n, brief);
			return n;
		}
	} else if (state == SLAB_LARGE && brief && !heap_is_hooked()) {
		large_give(slab, blocks[0]);
		return 1;
	}
	heap_free_fast(blocks[0]);
	return 1;
}

void heap_free_many(void *const *blocks, size_t count, bool brief)
{
	if (heap_is_hooked()) {
		for (size_t i = 0; i < count; i++)
			heap_free_slow(blocks[i]);
		return;
	}
	for (size_t i = 0; i < count;)
		i += free_first(blocks + i, count - i, brief);
	if (!brief)
		page_tick();
}
