/* SPDX-License-Identifier: MIT */
/*
 * Batches of operations on page blocks. Each operation is what its call is; operations of one verb
 * that stand in a row go to the block layer together, where that is cheaper.
 */
#include "allod/page.h"
#include "face.h"

/* A call that returns a pointer, as one that returns an error. */
static int stored(void **ret_block, void *block)
{
	if (block == NULL)
		return -errno;
	*ret_block = block;
	return 0;
}

static int op_free(struct allod_page_op *op)
{
	allod_page_free(op->block);
	op->block = NULL;
	return 0;
}

static int op_run(struct allod_page_op *op)
{
	switch (op->verb) {
	case ALLOD_PAGE_OP_NOTHING: return 0;
	case ALLOD_PAGE_OP_ALLOC:
		return stored(&op->block, allod_page_alloc(op->bytes, op->options));
	case ALLOD_PAGE_OP_FREE: return op_free(op);
	case ALLOD_PAGE_OP_RESIZE:
		return stored(&op->block, allod_page_realloc(op->block, op->bytes, op->flags));
	case ALLOD_PAGE_OP_COMMIT: return allod_page_commit(op->block, op->bytes);
	case ALLOD_PAGE_OP_RELEASE: return allod_page_release(op->block, op->bytes);
	case ALLOD_PAGE_OP_SWAP: return allod_page_swap(op->block, op->other, op->flags);
	}
	return -EINVAL;
}

FACE_EXPORT size_t allod_page_batch(struct allod_page_op *ops, size_t count)
{
	const int saved = errno;
	size_t succeeded = 0;

	for (size_t i = 0; i < count; i++) {
		ops[i].result = op_run(&ops[i]);
		succeeded += ops[i].result == 0;
	}
	errno = saved;
	return succeeded;
}
