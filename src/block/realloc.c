/* SPDX-License-Identifier: MIT */
/*
 * Changing the size of a block: where it is, if its addresses allow; else by moving its pages to a
 * slot with room to grow on; else by copying.
 *
 * Moving re-hangs page tables, and takes as long for a gigabyte as for a page. But pages that move
 * leave a place without any, where the next block faults them in: so a block of moderate size is
 * copied where pages lie ready for it. See docs/design/block.md for what was measured.
 */
#include "slot.h"

#include <errno.h>
#include <string.h>

/* Below, copying is cheaper than moving; with other threads, a move interrupts their processors. */
#define MOVE_LEAST_BYTES ((size_t)256 << 10)
#define MOVE_LEAST_SHARED_BYTES ((size_t)1 << 20)
/* 4 MiB: above, a copy takes longer than a caller should wait (0.1 ms), even into warm pages. */
#define COPY_WARM_MOST_BYTES ((size_t)4 << 20)

/* A block that had to leave its place will grow again: it gets so many times what it needs. */
enum { ROOM_TIMES = 8 };

/* Flags of a block that go with it to another place. */
#define KEPT_FLAGS (ALLOD_PAGE_SWAPPABLE | ALLOD_PAGE_NO_COMMIT)

/* Of glibc, since 2.32: true until the process makes a thread. */
extern char __libc_single_threaded __attribute__((weak));

bool block_is_alone(void)
{
	return &__libc_single_threaded && __libc_single_threaded;
}

static size_t move_least(void)
{
	return block_is_alone() ? MOVE_LEAST_BYTES : MOVE_LEAST_SHARED_BYTES;
}

static int resize_in_place(const struct block *b, size_t bytes, unsigned flags)
{
	struct slot_ref ref;

	switch (b->kind) {
	case BLOCK_PIECE: return piece_resize(unit_at(b->id), b->base, bytes / page_bytes(), flags);
	case BLOCK_RUN: return run_resize(unit_at(b->id), bytes, flags);
	case BLOCK_SLOT:
		return slot_ref_find(b->base, true, &ref) ? slot_resize(&ref, bytes, flags)
							  : -ENOSPC;
	case BLOCK_LOOSE: return loose_resize(b->base, bytes, flags);
	default: return -ENOSPC;
	}
}

size_t block_room(const struct block *block)
{
	struct slot_ref ref;

	if (block->kind == BLOCK_PIECE)
		return piece_room(unit_at(block->id), block->base);
	if (block->kind == BLOCK_RUN)
		return run_room(unit_at(block->id));
	if (block->kind == BLOCK_SLOT && slot_ref_find(block->base, true, &ref))
		return slot_room(&ref);
	return block->room_bytes;
}

/* Where the number of a block's name stands; NULL for a piece, which has none. */
static _Atomic(uint16_t) *tag_at(const struct block *b)
{
	struct slot_ref ref;

	if (b->kind == BLOCK_RUN)
		return &unit_at(b->id)->tag;
	if (b->kind == BLOCK_SLOT && slot_ref_find(b->base, true, &ref))
		return &ref.zone->table[ref.pos].tag;
	return b->kind == BLOCK_LOOSE ? loose_tag(b->base) : NULL;
}

static unsigned tag_of(const struct block *b)
{
	_Atomic(uint16_t) *tag = tag_at(b);

	return tag ? a_load_rlx(tag) : 0;
}

static size_t room_for(size_t bytes)
{
	return bytes <= SIZE_MAX / ROOM_TIMES ? bytes * ROOM_TIMES : bytes;
}

/* By moving pages; -ENOTSUP when that is not possible. */
static int move(const struct block *b, size_t bytes, unsigned flags, void **ret_block)
{
	struct slot_ref ref;
	int ret;

	if (b->kind == BLOCK_SLOT && slot_ref_find(b->base, true, &ref))
		return slot_outgrow(&ref, bytes, room_for(bytes), flags, ret_block);
	if (b->kind == BLOCK_LOOSE)
		return loose_move(b->base, bytes, flags & ALLOD_PAGE_ZEROED, ret_block);
	if (b->kind != BLOCK_RUN)
		return -ENOTSUP;
	ret = slot_adopt(b, bytes, room_for(bytes), tag_of(b), flags & ALLOD_PAGE_ZEROED,
		ret_block);
	if (!ret)
		run_free_empty(unit_at(b->id));
	return ret;
}

/* The contents go to a new block, and the old one is freed. */
static void copy_to(const struct block *b, void *new)
{
	struct block found;
	_Atomic(uint16_t) *tag;

	memcpy(new, b->base, b->bytes);
	block_must_find(new, &found);
	tag = tag_at(&found);
	if (tag && tag_of(b))
		a_store_rlx(tag, (uint16_t)tag_of(b));
	block_free(b->base);
}

/* By copying to pages that lie ready in a slot with room; -ENOTSUP when there are none. */
static int copy_warm(const struct block *b, size_t bytes, unsigned flags, void **ret_block)
{
	char *new;

	if (b->kind != BLOCK_RUN || b->bytes > COPY_WARM_MOST_BYTES)
		return -ENOTSUP;
	new = slot_alloc_warm(bytes, room_for(bytes), b->bytes, b->flags,
		flags & ALLOD_PAGE_ZEROED);
	if (!new)
		return -ENOTSUP;
	copy_to(b, new);
	*ret_block = new;
	return 0;
}

static int copy(const struct block *b, size_t bytes, unsigned flags, void **ret_block)
{
	const struct block_want want = {
		.flags = (b->flags & KEPT_FLAGS) |
			(flags & (ALLOD_PAGE_ZEROED | ALLOD_PAGE_CONSTANT_TIME)),
	};
	void *new;
	int ret = block_alloc(bytes, &want, &new);

	if (ret)
		return ret;
	copy_to(b, new);
	*ret_block = new;
	return 0;
}

/* To another place. */
static int resize_elsewhere(const struct block *b, size_t bytes, unsigned flags, void **ret_block)
{
	bool no_copy = flags & ALLOD_PAGE_NO_COPY;

	/* A loose block would be copied to a fresh mapping, whose pages cost more than the move. */
	if (!(flags & ALLOD_PAGE_CONSTANT_TIME) &&
		(no_copy || b->kind == BLOCK_LOOSE || b->bytes >= move_least())) {
		if (!no_copy && !copy_warm(b, bytes, flags, ret_block))
			return 0;
		if (!move(b, bytes, flags, ret_block))
			return 0;
	}
	return no_copy ? -ENOSPC : copy(b, bytes, flags, ret_block);
}

static int resize(const struct block *b, size_t bytes, unsigned flags, void **ret_block)
{
	if (!resize_in_place(b, bytes, flags)) {
		*ret_block = b->base;
		return 0;
	}
	if (flags & ALLOD_PAGE_IN_PLACE || b->flags & ALLOD_PAGE_FIXED)
		return -ENOSPC;
	/* To free the old one would be a system call. */
	if (flags & ALLOD_PAGE_CONSTANT_TIME && b->kind == BLOCK_LOOSE)
		return flags & ALLOD_PAGE_NO_COPY ? -ENOSPC : -EAGAIN;
	return resize_elsewhere(b, bytes, flags, ret_block);
}

int block_resize(void *block, size_t bytes, unsigned flags, void **ret_block)
{
	size_t rounded = round_pages(bytes);
	struct block old;
	bool brief;
	int ret;

	block_must_find(block, &old);
	if (rounded < bytes || rounded > PTRDIFF_MAX)
		return -ENOMEM;
	/* What it frees is looked after by the next free. */
	brief = flags & ALLOD_PAGE_CONSTANT_TIME && page_brief_begin();
	ret = resize(&old, rounded, flags, ret_block);
	if (brief)
		page_brief_end();
	return ret;
}
