/* SPDX-License-Identifier: MIT */
/*
 * Hooks: sampling, probes and the hardened mode come in here. While hooks are set, a heap at rest
 * has the limit 1, which closes the fast paths of malloc and free; a thread takes notice at its
 * next slow call.
 */
#include "heap/core.h"

_Atomic(const struct heap_hooks *) heap_hooks;

void heap_hooks_set(const struct heap_hooks *new)
{
	/* [heap.5] rel: publishes the table; pairs with hooks_get(). */
	a_store_rel(&heap_hooks, new);
}

static const struct heap_hooks *hooks_get(void)
{
	/* [heap.5] acq: sees the table that heap_hooks_set() published. */
	return a_load_acq(&heap_hooks);
}

void heap_hook_allocated_slow(void *p, size_t size)
{
	const struct heap_hooks *table = hooks_get();
	if (table != NULL && table->allocated != NULL)
		table->allocated(p, size);
}

void heap_hook_freeing_slow(void *p)
{
	const struct heap_hooks *table = hooks_get();
	if (table != NULL && table->freeing != NULL)
		table->freeing(p);
}
