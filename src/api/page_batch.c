/* SPDX-License-Identifier: MIT */
/*
 * Batches of operations on page blocks. Each operation is what its call is. A window of them at a
 * time is carried out by verbs: frees first, so that their memory serves what follows, and last
 * allocations, equal neighbours together.
 */
#include "allod/page.h"
#include "block/block.h"
#include "face.h"
#include "heap/heap.h"

/* What blocks may want that are allocated together. */
#define TOGETHER_FLAGS (ALLOD_PAGE_ZEROED | ALLOD_PAGE_NO_COMMIT | ALLOD_PAGE_CONSTANT_TIME)

/* The verbs whose operations are carried out together. */
#define TOGETHER_VERBS                                                                       \
	(1u << ALLOD_PAGE_OP_ALLOC | 1u << ALLOD_PAGE_OP_FREE | 1u << ALLOD_PAGE_OP_COMMIT | \
		1u << ALLOD_PAGE_OP_RELEASE)

/* A call that returns a pointer, as one that returns an error. */
static int stored(void **ret_block, void *block)
{
	if (block == NULL)
		return -errno;
	*ret_block = block;
	return 0;
}

static void op_alloc(struct allod_page_op *op)
{
	op->result = stored(&op->block, allod_page_alloc(op->bytes, op->options));
}

/* Carries out what is done one by one. */
static void op_run(struct allod_page_op *op)
{
	switch (op->verb) {
	case ALLOD_PAGE_OP_RESIZE:
		op->result =
			stored(&op->block, allod_page_realloc(op->block, op->bytes, op->flags));
		break;
	case ALLOD_PAGE_OP_SWAP:
		op->result = allod_page_swap(op->block, op->other, op->flags);
		break;
	case ALLOD_PAGE_OP_NOTHING: op->result = 0; break;
	case ALLOD_PAGE_OP_ALLOC:
	case ALLOD_PAGE_OP_FREE:
	case ALLOD_PAGE_OP_COMMIT:
	case ALLOD_PAGE_OP_RELEASE: break; /* together, by those below */
	default: op->result = -EINVAL;
	}
}

static void free_ops(struct allod_page_op *ops, size_t count)
{
	void *blocks[BLOCK_MANY];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (ops[i].verb != ALLOD_PAGE_OP_FREE)
			continue;
		if (ops[i].block != NULL)
			blocks[n++] = ops[i].block;
		ops[i].block = NULL;
		ops[i].result = 0;
	}
	if (n != 0)
		block_free_many(blocks, n);
}

/* Commits, or releases. */
static void range_ops(struct allod_page_op *ops, size_t count, enum allod_page_verb verb,
	void (*many)(struct block_range *ranges, size_t count))
{
	struct block_range ranges[BLOCK_MANY];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (ops[i].verb == verb)
			ranges[n++] = (struct block_range){ ops[i].block, ops[i].bytes, 0 };
	}
	many(ranges, n);
	n = 0;
	for (size_t i = 0; i < count; i++) {
		if (ops[i].verb == verb)
			ops[i].result = ranges[n++].result;
	}
}

/* Whether a block has no wish but what can be had together. */
static bool is_plain(const struct allod_page_options *o)
{
	return o == NULL ||
		(o->struct_bytes >= sizeof(*o) && (o->flags & ~(unsigned)TOGETHER_FLAGS) == 0 &&
			o->align_bytes == 0 && o->reserve_bytes == 0 && o->tag == NULL);
}

/* Allocates for `n` operations that want the same. */
static void alloc_alike(struct allod_page_op **alike, size_t n)
{
	const struct allod_page_options *options = alike[0]->options;
	void *blocks[BLOCK_MANY];
	size_t got = 0;

	if (n > 1 && is_plain(options) && heap_init() == 0)
		got = block_alloc_many(alike[0]->bytes, options != NULL ? options->flags : 0, n,
			blocks);
	for (size_t i = 0; i < got; i++) {
		alike[i]->block = blocks[i];
		alike[i]->result = 0;
	}
	for (size_t i = got; i < n; i++)
		op_alloc(alike[i]);
}

static void alloc_ops(struct allod_page_op *ops, size_t count)
{
	struct allod_page_op *alike[BLOCK_MANY];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (ops[i].verb != ALLOD_PAGE_OP_ALLOC)
			continue;
		if (n != 0 &&
			(alike[0]->bytes != ops[i].bytes || alike[0]->options != ops[i].options)) {
			alloc_alike(alike, n);
			n = 0;
		}
		alike[n++] = &ops[i];
	}
	alloc_alike(alike, n);
}

/* A bit for each verb that occurs; the highest for what is none. */
static unsigned verbs_of(const struct allod_page_op *ops, size_t count)
{
	unsigned verbs = 0;

	for (size_t i = 0; i < count; i++)
		verbs |= 1u << ((unsigned)ops[i].verb < 31 ? (unsigned)ops[i].verb : 31);
	return verbs;
}

static void window_run(struct allod_page_op *ops, size_t count)
{
	const unsigned verbs = verbs_of(ops, count);

	if (verbs & 1u << ALLOD_PAGE_OP_FREE)
		free_ops(ops, count);
	for (size_t i = 0; i < count && verbs & ~TOGETHER_VERBS; i++)
		op_run(&ops[i]);
	if (verbs & 1u << ALLOD_PAGE_OP_RELEASE)
		range_ops(ops, count, ALLOD_PAGE_OP_RELEASE, block_release_many);
	if (verbs & 1u << ALLOD_PAGE_OP_COMMIT)
		range_ops(ops, count, ALLOD_PAGE_OP_COMMIT, block_commit_many);
	if (verbs & 1u << ALLOD_PAGE_OP_ALLOC)
		alloc_ops(ops, count);
}

FACE_EXPORT size_t allod_page_batch(struct allod_page_op *ops, size_t count)
{
	const int saved = errno;
	size_t succeeded = 0;

	for (size_t i = 0, n; i < count; i += n) {
		n = count - i < BLOCK_MANY ? count - i : BLOCK_MANY;
		window_run(ops + i, n);
		for (size_t j = i; j < i + n; j++)
			succeeded += ops[j].result == 0;
	}
	errno = saved;
	return succeeded;
}
