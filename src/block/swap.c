/* SPDX-License-Identifier: MIT */
/*
 * Exchange of what two blocks hold. Blocks in slots are exchanged by hanging their page tables the
 * other way round, which takes as long for a gigabyte as for a page; what is smaller than that is
 * worth, and blocks of other kinds, byte by byte.
 */
#include "slot.h"

#include <errno.h>
#include <string.h>

/*
 * Below, exchanging bytes is cheaper than three moves, which interrupt other threads' processors;
 * see docs/design/block.md.
 */
#define SWAP_MOVE_LEAST_BYTES ((size_t)384 << 10)
#define SWAP_MOVE_LEAST_SHARED_BYTES ((size_t)1 << 20)

/* As much as several of the widest registers hold; aligned as pages are. */
typedef uint64_t swap_unit __attribute__((vector_size(32), may_alias));

void swap_bytes(char *a, char *b, size_t bytes)
{
	swap_unit *p = (swap_unit *)(void *)a;
	swap_unit *q = (swap_unit *)(void *)b;

	for (size_t i = 0; i < bytes / sizeof(*p); i += 2) {
		swap_unit p0 = p[i];
		swap_unit p1 = p[i + 1];
		swap_unit q0 = q[i];
		swap_unit q1 = q[i + 1];
		p[i] = q0;
		p[i + 1] = q1;
		q[i] = p0;
		q[i + 1] = p1;
	}
}

static size_t move_least(void)
{
	return block_is_alone() ? SWAP_MOVE_LEAST_BYTES : SWAP_MOVE_LEAST_SHARED_BYTES;
}

/* By moving page tables; -ENOTSUP when that is not possible. */
static int swap_moving(const struct block *a, const struct block *b)
{
	struct slot_ref x;
	struct slot_ref y;

	if (a->kind != BLOCK_SLOT || b->kind != BLOCK_SLOT || !slot_ref_find(a->base, true, &x) ||
		!slot_ref_find(b->base, true, &y))
		return -ENOTSUP;
	return slot_exchange(&x, &y);
}

/* Gives a block another size where it is. */
static int resize_in_place(const struct block *b, size_t bytes)
{
	void *same;

	return block_resize(b->base, bytes, ALLOD_PAGE_IN_PLACE, &same);
}

/* By copying; `b` is not the smaller one. */
static int swap_copying(const struct block *a, const struct block *b)
{
	if (a->bytes < b->bytes && resize_in_place(a, b->bytes))
		return -ENOSPC;
	swap_bytes(a->base, b->base, a->bytes);
	if (a->bytes < b->bytes) {
		memcpy(a->base + a->bytes, b->base + a->bytes, b->bytes - a->bytes);
		(void)resize_in_place(b, a->bytes);
	}
	return 0;
}

int block_swap(void *a, void *b, unsigned flags)
{
	struct block x;
	struct block y;

	block_must_find(a, &x);
	block_must_find(b, &y);
	if ((x.bytes / 2 + y.bytes / 2 >= move_least() || flags & ALLOD_PAGE_NO_COPY) &&
		!swap_moving(&x, &y))
		return 0;
	if (flags & ALLOD_PAGE_NO_COPY)
		return -ENOSPC;
	return x.bytes <= y.bytes ? swap_copying(&x, &y) : swap_copying(&y, &x);
}
