/* SPDX-License-Identifier: MIT */
/* Slots: none are made yet, so that blocks that would have one are of the other kinds. */
#include "core.h"

#include <errno.h>

int slot_alloc(size_t bytes, const struct block_want *want, char **ret_base)
{
	(void)bytes, (void)want, (void)ret_base;
	return -ENOTSUP;
}

bool slot_free(char *p)
{
	(void)p;
	return false;
}

bool slot_find(const char *p, bool begins, struct block *ret_block)
{
	(void)p, (void)begins, (void)ret_block;
	return false;
}

bool slot_was_freed(const char *p)
{
	(void)p;
	return false;
}
