/* SPDX-License-Identifier: MIT */
/* Making pages of a block present, and giving them back while it lives. */
#include "core.h"

#include <errno.h>

bool block_has_range(const char *address, size_t bytes)
{
	struct block block;

	return bytes && block_holding(address, &block) &&
		bytes <= block.bytes - (size_t)(address - block.base);
}

/* For kernels that cannot do it in one call: writes to each page what it holds. */
static void touch(char *base, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += page_bytes())
		(void)a_or_rlx((_Atomic(uint8_t) *)(base + i), 0);
}

/* Whether the kernel knows the call: it is asked with a page of the stack. */
static bool can_populate(void)
{
	char here;

	return os_populate((void *)((uintptr_t)&here & -page_bytes()), page_bytes()) != -EINVAL;
}

int block_commit(void *address, size_t bytes)
{
	uintptr_t from = (uintptr_t)address & -page_bytes();
	int ret;

	if (!block_has_range(address, bytes))
		return -EINVAL;
	bytes = round_pages((uintptr_t)address + bytes - from);
	ret = os_populate((char *)from, bytes);
	if (ret == -EINVAL) {
		/* The block's owner has made some of it read-only. */
		if (can_populate())
			return -EINVAL;
		touch((char *)from, bytes);
		ret = 0;
	}
	return ret ? -ENOMEM : 0;
}

int block_release(void *address, size_t bytes)
{
	uintptr_t from = round_pages((uintptr_t)address);
	uintptr_t end = ((uintptr_t)address + bytes) & -page_bytes();

	if (!block_has_range(address, bytes))
		return -EINVAL;
	return end > from ? os_decommit((char *)from, end - from) : 0;
}
