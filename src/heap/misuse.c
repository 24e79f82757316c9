/* SPDX-License-Identifier: MIT */
/*
 * Whether a block that looks free is free. A program may have copied a key from memory that it
 * never wrote (realloc does so for it). So a key is a reason to look and never a proof: the lists
 * are.
 *
 * The lists may be another thread's, which goes on with them: they are read as they are. Only
 * addresses of blocks of the slab are followed, whose memory stays mapped, and a link only if its
 * block still has its key after the link was read, for a key is cleared before the program gets the
 * block. This runs only for a block that looks free, hence almost only for programs that are about
 * to be ended.
 */
#include "heap/core.h"
#include "heap/fast.h"

static bool is_block_of(const struct slab *slab, const struct block *block)
{
	const uintptr_t offset = (uintptr_t)block - (uintptr_t)slab->base;
	return offset < (uintptr_t)slab->capacity * slab->bytes && offset % slab->bytes == 0;
}

__attribute__((no_sanitize("thread"))) static bool list_has(const struct slab *slab,
	const volatile struct block *list, const struct block *block)
{
	for (uint32_t i = 0; i < slab->capacity; i++) {
		if (list == block)
			return true;
		if (!is_block_of(slab, (const struct block *)list))
			return false;
		const struct block *next = list->next;
		if (list->key != BLOCK_KEY)
			return false;
		list = next;
	}
	return false;
}

__attribute__((no_sanitize("thread"))) bool slab_has_free(const struct slab *slab,
	const struct block *block)
{
	/* [heap.3] acq: the owner's heap is found below; pairs with remote_adopt(). */
	const uint64_t word = a_load_acq(&slab->word);
	const unsigned index = a_load_rlx(&slab->class);
	if (list_has(slab, word_list(slab, word), block))
		return true;
	if (word_state(word) != SLAB_OWNED)
		return false;
	if (list_has(slab, *(struct block *const volatile *)&slab->free, block))
		return true;
	const struct heap *heap = heap_at(word_owner(word));
	return index < CLASS_COUNT &&
		list_has(slab, *(struct block *const volatile *)&heap->bin[index], block);
}
