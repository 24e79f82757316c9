/* SPDX-License-Identifier: MIT */
/* See heap/remote.h for who may call what, the linearization points and the argument. */
#include "heap/remote.h"

#include "base/assert.h"

/* The word after `count` more free blocks with a new head, LISTED when that is worth knowing. */
static uint64_t word_with(const struct slab *slab, uint64_t word, uint32_t more, uint32_t head)
{
	const uint64_t kept = word & ~(uint64_t)((1u << WORD_HEAD_BITS) - 1);
	const uint64_t next = (kept | head) + more * WORD_COUNT_ONE;
	return word_count(next) >= slab_threshold(slab) ? next | WORD_LISTED : next;
}

static uint64_t word_freed(uint64_t word)
{
	return word_make(SLAB_FREED, 0, 0, 0) | (word & WORD_LISTED);
}

enum remote_result remote_push_chain(struct slab *slab, struct block *first, struct block *last,
	uint32_t count, uint32_t *ret_owner)
{
	const uint32_t head = slab_index_of(slab, first) + 1;
	uint64_t word = a_load_rlx(&slab->word);
	uint64_t next;
	bool whole;
	do {
		const enum slab_state state = word_state(word);
		if (state != SLAB_OWNED && state != SLAB_OPEN)
			return REMOTE_INVALID;
		if (word_count(word) + count > slab->capacity)
			return REMOTE_INVALID;
		a_data_write(&last->next, word_list(slab, word));
		whole = state == SLAB_OPEN && word_count(word) + count == slab->capacity;
		next = whole ? word_freed(word) : word_with(slab, word, count, head);
		/* [heap.1] acqrel: publishes the blocks and their links; the last push of an open
		 * slab takes over the whole run. Pairs with remote_collect(), remote_adopt() and
		 * remote_push(). [heap.3] acq: who reads the owner's id finds its heap. [heap.9]
		 * acq: its link is written after it was taken out of a stack. */
	} while (!a_cas_weak_acqrel(&slab->word, &word, next));
	if (whole)
		return REMOTE_WHOLE;
	if ((next & WORD_LISTED) == (word & WORD_LISTED))
		return REMOTE_DONE;
	*ret_owner = word_owner(word);
	return word_state(word) == SLAB_OWNED ? REMOTE_LIST_OWNER : REMOTE_LIST_OPEN;
}

enum remote_result remote_push(struct slab *slab, struct block *block, uint32_t *ret_owner)
{
	return remote_push_chain(slab, block, block, 1, ret_owner);
}

bool remote_take_whole(struct slab *slab)
{
	uint64_t word = a_load_rlx(&slab->word);
	do {
		if (word_state(word) != SLAB_OPEN || word_count(word) != 0)
			return false;
		/* [heap.2] acq: takes over the fields that the last owner released. Blocks that
		 * others freed before this thread got them were handed on with the blocks. */
	} while (!a_cas_weak_acq(&slab->word, &word, word_freed(word)));
	return true;
}

struct block *remote_collect(struct slab *slab, uint32_t *ret_count)
{
	uint64_t word = a_load_rlx(&slab->word);
	uint64_t next;
	do {
		ASSERT(word_state(word) == SLAB_OWNED);
		if (word_head(word) == 0) {
			*ret_count = 0;
			return BLOCK_END;
		}
		next = word_make(SLAB_OWNED, word_owner(word), 0, 0) | (word & WORD_LISTED);
		/* [heap.1] acq: takes the blocks that remote_push() published. */
	} while (!a_cas_weak_acq(&slab->word, &word, next));
	*ret_count = word_count(word);
	return word_list(slab, word);
}

bool remote_adopt(struct slab *slab, uint32_t owner, bool holds_link, struct block **ret_list,
	uint32_t *ret_count)
{
	uint64_t word = a_load_rlx(&slab->word);
	uint64_t next;
	do {
		if (word_state(word) != SLAB_OPEN)
			return false;
		next = word_make(SLAB_OWNED, owner, 0, 0);
		if (!holds_link)
			next |= word & WORD_LISTED;
		/* [heap.2] acq: takes over the fields that the last owner released by
		 * remote_open(), [heap.1] acq: the blocks that remote_push() published, and
		 * [heap.3] rel: who reads the owner's id in remote_push() finds its heap by
		 * heap_at(). */
	} while (!a_cas_weak_acqrel(&slab->word, &word, next));
	*ret_list = word_list(slab, word);
	*ret_count = word_count(word);
	return true;
}

enum remote_result remote_open(struct slab *slab, struct block *first, struct block *last,
	uint32_t count)
{
	uint64_t word = a_load_rlx(&slab->word);
	uint64_t next;
	bool whole;
	do {
		ASSERT(word_state(word) == SLAB_OWNED);
		uint32_t head = word_head(word);
		if (first != BLOCK_END) {
			a_data_write(&last->next, word_list(slab, word));
			head = slab_index_of(slab, first) + 1;
		}
		const uint64_t open =
			word_make(SLAB_OPEN, 0, word_count(word), 0) | (word & WORD_LISTED);
		whole = word_count(word) + count == slab->capacity;
		next = whole ? word_freed(word) : word_with(slab, open, count, head);
		/* [heap.2] acqrel: releases the owner's fields and list to remote_adopt() and to
		 * the last remote_push(); taking the whole run acquires what remote frees
		 * published. [heap.9] acq: the link is written after it was taken out of a stack. */
	} while (!a_cas_weak_acqrel(&slab->word, &word, next));
	if (whole)
		return REMOTE_WHOLE;
	return (next & WORD_LISTED) == (word & WORD_LISTED) ? REMOTE_DONE : REMOTE_LIST_OPEN;
}

bool remote_open_full(struct slab *slab)
{
	uint64_t word = a_load_rlx(&slab->word);
	uint64_t next;
	do {
		ASSERT(word_state(word) == SLAB_OWNED);
		if (word_head(word) != 0)
			return false;
		next = word_make(SLAB_OPEN, 0, 0, 0) | (word & WORD_LISTED);
		/* [heap.2] rel: releases the owner's fields; pairs with remote_adopt(). */
	} while (!a_cas_weak_rel(&slab->word, &word, next));
	return true;
}

void remote_begin(struct slab *slab, enum slab_state state, uint32_t owner)
{
	uint64_t word = a_load_rlx(&slab->word);
	uint64_t next;
	do {
		ASSERT(word_state(word) == SLAB_NONE || word_state(word) == SLAB_FREED);
		next = word_make(state, owner, 0, 0) | (word & WORD_LISTED);
		/* Relaxed is enough: others come to the fields by a block, or by adopting. */
	} while (!a_cas_weak_rlx(&slab->word, &word, next));
}

bool remote_end(struct slab *slab, enum slab_state from)
{
	uint64_t word = a_load_rlx(&slab->word);
	do {
		if (word_state(word) != from)
			return false;
		/* Relaxed is enough: the run itself is handed on by page, which releases it. */
	} while (!a_cas_weak_rlx(&slab->word, &word, word_freed(word)));
	return true;
}

uint64_t remote_unlist(struct slab *slab)
{
	uint64_t word;
	uint64_t next;
	do {
		/* [heap.3] acq: who reads an owner's id here finds its heap; pairs with
		 * remote_adopt(), and with the push that made the count. */
		word = a_load_acq(&slab->word);
		ASSERT((word & WORD_LISTED) != 0);
		const enum slab_state state = word_state(word);
		const bool held = state == SLAB_OWNED || state == SLAB_OPEN;
		if (held && word_count(word) >= slab_threshold(slab))
			return word;
		next = word & ~WORD_LISTED;
		/* [heap.9] rel: who lists the slab next, by remote_push() or remote_open(), writes
		 * its link after it was read here. */
	} while (!a_cas_weak_rel(&slab->word, &word, next));
	return next;
}
