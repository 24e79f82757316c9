/* SPDX-License-Identifier: MIT */
/*
 * From an address to the chunk of a pool with a stride of its own, whose mapping may be anywhere:
 * a tree of two levels by page of 4 KiB. Written under root.lock, read without: the entry of a live
 * element does not change. Nodes are never freed.
 */
#include <errno.h>

#include "percpu/percpu.h"

enum { ADDRESS_BITS = 48, LEAF_BITS = 15, ROOT_BITS = ADDRESS_BITS - BLOCK_SHIFT - LEAF_BITS };

struct leaf {
	_Atomic(struct percpu_chunk *) chunk[1 << LEAF_BITS];
};

static _Atomic(_Atomic(struct leaf *) *) root;

static struct leaf *leaf_of(uintptr_t at)
{
	/* [percpu.3] acq: finds the nodes zeroed; pairs with leaf_need(). */
	_Atomic(struct leaf *) *leaves = a_load_acq(&root);

	if (!leaves || at >> ADDRESS_BITS)
		return NULL;
	/* [percpu.3] acq: as above. */
	return a_load_acq(&leaves[at >> (BLOCK_SHIFT + LEAF_BITS)]);
}

static struct leaf *leaf_need(uintptr_t at)
{
	_Atomic(struct leaf *) *leaves = a_load_rlx(&root);
	struct leaf *leaf = leaf_of(at);

	if (leaf || at >> ADDRESS_BITS)
		return leaf;
	if (!leaves) {
		leaves = percpu_meta_alloc(sizeof(*leaves) << ROOT_BITS);
		if (!leaves)
			return NULL;
		/* [percpu.3] rel: publishes the zeroed root; pairs with leaf_of(). */
		a_store_rel(&root, leaves);
	}
	leaf = percpu_meta_alloc(sizeof(*leaf));
	if (leaf) {
		/* [percpu.3] rel: publishes the zeroed leaf; pairs with leaf_of(). */
		a_store_rel(&leaves[at >> (BLOCK_SHIFT + LEAF_BITS)], leaf);
	}
	return leaf;
}

int percpu_radix_set(uintptr_t base, size_t bytes, struct percpu_chunk *chunk)
{
	for (uintptr_t at = base; at < base + bytes; at += BLOCK_BYTES) {
		if (!leaf_need(at))
			return -ENOMEM;
	}
	for (uintptr_t at = base; at < base + bytes; at += BLOCK_BYTES)
		a_store_rlx(&leaf_of(at)->chunk[(at >> BLOCK_SHIFT) & ((1 << LEAF_BITS) - 1)],
			chunk);
	return 0;
}

struct percpu_chunk *percpu_radix_get(uintptr_t at)
{
	struct leaf *leaf = leaf_of(at);

	return leaf ? a_load_rlx(&leaf->chunk[(at >> BLOCK_SHIFT) & ((1 << LEAF_BITS) - 1)]) : NULL;
}
