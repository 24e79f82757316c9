/* SPDX-License-Identifier: MIT */
/*
 * Memory for the layer's own structures: one mapping, cut from the front, with a list for each size
 * that came back. Guarded by a lock that is taken last.
 *
 * Nothing is ever unmapped, so that who holds a stale pointer to a pool or a cache reads memory of
 * the same kind. A thread of the parent that was in here at a fork leaves at worst a block that
 * nobody uses: each step is published by one store.
 */
#include <errno.h>
#include <string.h>

#include "os/area.h"
#include "os/os.h"
#include "percpu/percpu.h"

enum {
	META_ALIGN = 64,
	META_LARGE = 16 << 10,
	META_SIZES = 64,
};

struct meta_block {
	struct meta_block *next;
};

struct meta_size {
	size_t bytes;
	struct meta_block *free;
};

struct percpu_root *percpu_root;

static uintptr_t front;
static uintptr_t limit;
static struct meta_size sizes[META_SIZES];
static struct percpu_lock lock;

/* What strict overcommit is asked for, that programs and elements have room beside it. */
static size_t strict_bytes(void)
{
	const size_t unit = (size_t)2 << 20;
	const size_t share = (size_t)(os_facts()->ram_bytes / 64) & -unit;

	return share > 8 * unit ? share : 8 * unit;
}

int percpu_meta_start(void)
{
	const size_t page = os_facts()->page_bytes;
	size_t bytes = (size_t)8 << 30;
	void *base;

	/* Addresses only, which strict overcommit charges for; a limit on these leaves less. */
	if (os_facts()->overcommit_mode == 2)
		bytes = strict_bytes();
	for (base = NULL; !base && bytes >= (size_t)4 << 20; bytes /= 4)
		base = os_map_lazy(bytes, page > SLOT_BYTES ? page : SLOT_BYTES);
	if (!base)
		return -ENOMEM;
	bytes *= 4;
	os_huge(base, bytes, false);
	os_name(base, bytes, "allod-percpu");
	/* A page without access in front: the root begins a mapping, where `allod stat` finds it. */
	os_remap_fixed_none(base, page);
	front = (uintptr_t)base + page + round_up(sizeof(struct percpu_root), page);
	limit = (uintptr_t)base + bytes;
	percpu_root = (struct percpu_root *)((uintptr_t)base + page);
	percpu_root->layout = ROOT_LAYOUT;
	percpu_root->pool_bytes = sizeof(struct allod_percpu_pool);
	return 0;
}

static struct meta_size *size_of(size_t bytes)
{
	for (unsigned i = 0; i < META_SIZES; i++) {
		if (sizes[i].bytes == bytes)
			return &sizes[i];
		if (!sizes[i].bytes) {
			sizes[i].bytes = bytes;
			return &sizes[i];
		}
	}
	return NULL;
}

static size_t meta_round(size_t bytes)
{
	return bytes >= META_LARGE ? round_up(bytes, os_facts()->page_bytes)
				   : round_up(bytes, META_ALIGN);
}

static void *alloc_locked(size_t bytes)
{
	size_t align = bytes >= META_LARGE ? os_facts()->page_bytes : META_ALIGN;
	struct meta_size *size;
	uintptr_t at;

	bytes = meta_round(bytes);
	size = size_of(bytes);
	if (size && size->free) {
		struct meta_block *block = size->free;
		size->free = block->next;
		if (bytes < META_LARGE)
			memset(block, 0, bytes);
		else
			block->next = NULL;
		return block;
	}
	at = round_up(front, align);
	if (bytes > limit - at)
		return NULL;
	front = at + bytes;
	return (void *)at;
}

void *percpu_meta_alloc(size_t bytes)
{
	void *at;

	percpu_lock(&lock);
	at = alloc_locked(bytes);
	percpu_unlock(&lock);
	return at;
}

void percpu_meta_free(void *at, size_t bytes)
{
	struct meta_block *block = at;
	struct meta_size *size;

	if (!block || !bytes)
		return;
	bytes = meta_round(bytes);
	if (bytes >= META_LARGE && os_decommit(block, bytes))
		memset(block, 0, bytes);
	percpu_lock(&lock);
	size = size_of(bytes);
	if (size) {
		block->next = size->free;
		size->free = block;
	}
	percpu_unlock(&lock);
}

size_t percpu_meta_used_bytes(void)
{
	return front - (uintptr_t)percpu_root;
}
