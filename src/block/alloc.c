/* SPDX-License-Identifier: MIT */
/* Which kind a block is of, and the calls that any kind serves. */
#include "core.h"

#include <errno.h>

_Atomic(uint32_t) block_page_shift;

__attribute__((cold, noinline)) uint32_t page_shift_ask(void)
{
	uint32_t shift = (uint32_t)__builtin_ctzll(os_facts()->page_bytes);

	a_store_rlx(&block_page_shift, shift);
	return shift;
}

/* Flags that only granules of its own can keep for a block. */
#define LASTING_FLAGS (ALLOD_PAGE_FIXED | ALLOD_PAGE_SWAPPABLE | ALLOD_PAGE_NODE)

static bool is_plain(size_t bytes, const struct block_want *want)
{
	return !(want->flags & LASTING_FLAGS) && !want->tag && want->align_bytes <= page_bytes() &&
		want->reserve_bytes <= bytes;
}

/* Larger ones, and those with a wish. */
static int alloc_special(size_t bytes, const struct block_want *want, char **ret_base)
{
	int ret = -ENOTSUP;

	if (page_wants_ticks() && !(want->flags & ALLOD_PAGE_CONSTANT_TIME))
		page_tick();
	/* Which of them lie in a slot is for slot.c to say. */
	if (!(want->flags & ALLOD_PAGE_NODE))
		ret = slot_alloc(bytes, want, ret_base);
	if (ret != -ENOTSUP)
		return ret;
	if (!(want->flags & ALLOD_PAGE_NODE) && want->align_bytes <= RUN_ALIGN_MOST_BYTES &&
		granules_for(bytes) <= RUN_MOST_GRANULES &&
		granules_for(want->reserve_bytes) <= RUN_MOST_GRANULES)
		return run_alloc(bytes, want, ret_base);
	return loose_alloc(bytes, want, ret_base);
}

/* `bytes` are whole pages. */
static int alloc_kind(size_t bytes, const struct block_want *want, char **ret_base)
{
	size_t pages = bytes >> page_shift();
	int ret = -ENOTSUP;

	if (!is_plain(bytes, want))
		return alloc_special(bytes, want, ret_base);
	if (pages <= piece_most())
		ret = piece_alloc(pages, want->flags, ret_base);
	else if (granules_for(bytes) <= RUN_PLAIN_GRANULES)
		ret = run_alloc(bytes, want, ret_base);
	if (ret != -ENOTSUP)
		return ret;
	return alloc_special(bytes, want, ret_base);
}

int block_alloc(size_t bytes, const struct block_want *want, void **ret_block)
{
	size_t rounded = round_pages(bytes);
	char *base;
	int ret;

	if (rounded < bytes || rounded > PTRDIFF_MAX)
		return -ENOMEM;
	ret = alloc_kind(rounded, want, &base);
	/* What waits in caches may be what is missing. */
	if (__builtin_expect(ret == -ENOMEM, 0) && block_trim())
		ret = alloc_kind(rounded, want, &base);
	if (ret)
		return ret;
	*ret_block = base;
	return 0;
}

bool block_node_exists(int node)
{
	void *page = os_map(page_bytes(), page_bytes());
	bool exists = true;

	/* The kernel is asked with a page of no consequence; when in doubt the wish has no effect. */
	if (page) {
		exists = os_prefer_node(page, page_bytes(), node) == 0;
		(void)os_unmap(page, page_bytes());
	}
	return exists;
}
