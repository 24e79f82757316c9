/* SPDX-License-Identifier: MIT */
/* Changing the size of a block. */
#include "core.h"

#include <errno.h>
#include <string.h>

size_t block_room(const struct block *block)
{
	return block->room_bytes;
}

int block_resize(void *block, size_t bytes, unsigned flags, void **ret_block)
{
	struct block old;
	struct block_want want = { .flags = flags &
			~(unsigned)(ALLOD_PAGE_IN_PLACE | ALLOD_PAGE_NO_COPY) };
	void *new;
	int ret;

	block_must_find(block, &old);
	if (round_pages(bytes) == old.bytes) {
		*ret_block = block;
		return 0;
	}
	if (flags & (ALLOD_PAGE_IN_PLACE | ALLOD_PAGE_NO_COPY) || old.flags & ALLOD_PAGE_FIXED)
		return -ENOSPC;
	want.flags |= old.flags & ALLOD_PAGE_SWAPPABLE;
	ret = block_alloc(bytes, &want, &new);
	if (ret)
		return ret;
	memcpy(new, block, bytes < old.bytes ? bytes : old.bytes);
	block_free(block);
	*ret_block = new;
	return 0;
}
