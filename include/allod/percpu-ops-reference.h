/* SPDX-License-Identifier: MIT */
/*
 * The sequences of <allod/percpu-ops.h> in plain C, function by function: what each means. They are
 * right only where nothing interrupts them. A program that defines ALLOD_PERCPU_REFERENCE before it
 * includes <allod/percpu-ops.h> gets the operations made of these, on the slot whose number it has
 * set in allod_cs_reference_index_: this is what the tests compare with. Not to be included by
 * itself.
 */
#ifndef ALLOD_PERCPU_OPS_REFERENCE_H
#define ALLOD_PERCPU_OPS_REFERENCE_H

#include <allod/rseq.h>

#if defined(ALLOD_PERCPU_REFERENCE)

static int32_t allod_cs_reference_index_;

static __inline__ int32_t allod_cs_index_(enum allod_rseq_index by)
{
	(void)by;
	return allod_cs_reference_index_;
}

static __inline__ uint64_t allod_cs_load_(const void *p)
{
	return *(const uint64_t *)p;
}

static __inline__ uint32_t allod_cs_load32_(const void *p)
{
	return *(const uint32_t *)p;
}

static __inline__ int allod_cs_is_zero_(const unsigned char *p)
{
	return *p == 0;
}

static __inline__ int allod_cs_add_return_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value, uint64_t *ret_new)
{
	(void)by, (void)i;
	*slot += value;
	*ret_new = *slot;
	return 0;
}

static __inline__ int allod_cs_add_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value)
{
	(void)by, (void)i;
	*slot += value;
	return 0;
}

static __inline__ int allod_cs_add32_(enum allod_rseq_index by, int32_t i, uint32_t *slot,
	uint32_t value)
{
	(void)by, (void)i;
	*slot += value;
	return 0;
}

static __inline__ int allod_cs_xchg_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value, uint64_t *ret_old)
{
	(void)by, (void)i;
	*ret_old = *slot;
	*slot = value;
	return 0;
}

static __inline__ int allod_cs_cmpxchg_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t expected, uint64_t value, uint64_t *ret_old)
{
	(void)by, (void)i;
	*ret_old = *slot;
	if (*slot == expected)
		*slot = value;
	return 0;
}

static __inline__ int allod_cs_push_(enum allod_rseq_index by, int32_t i, void *list, void *node)
{
	void **words = (void **)list;

	(void)by, (void)i;
	if (words[1] != NULL)
		return 2;
	*(void **)node = words[0];
	words[0] = node;
	return 0;
}

static __inline__ int allod_cs_pop_(enum allod_rseq_index by, int32_t i, void *list,
	void **ret_node)
{
	void **words = (void **)list;

	(void)by, (void)i;
	if (words[1] != NULL || words[0] == NULL)
		return 2;
	*ret_node = words[0];
	words[0] = *(void **)words[0];
	return 0;
}

static __inline__ int allod_cs_pair_add_(enum allod_rseq_index by, int32_t i, void *pair,
	uint64_t first, uint64_t second)
{
	uint64_t *words = (uint64_t *)pair;

	(void)by, (void)i;
	words[0] += first;
	words[1] += second;
	return 0;
}

static __inline__ int allod_cs_copy_store_(enum allod_rseq_index by, int32_t i, uint64_t *word,
	uint64_t expected, uint64_t value, void *to, const void *from, size_t bytes)
{
	(void)by, (void)i;
	if (*word != expected)
		return 2;
	for (size_t at = 0; at < bytes; at++)
		((unsigned char *)to)[at] = ((const unsigned char *)from)[at];
	*word = value;
	return 0;
}

#endif /* ALLOD_PERCPU_REFERENCE */

#endif /* ALLOD_PERCPU_OPS_REFERENCE_H */
