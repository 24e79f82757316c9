/* SPDX-License-Identifier: MIT */
/*
 * The operations of <allod/percpu-ops.h>, made of the sequences of the processor's own header; not
 * to be included by itself. Each tries its sequence on the copy of the number that it has just
 * read, until that is not interrupted. Where the thread has no number it calls its slow half.
 */
#ifndef ALLOD_PERCPU_OPS_INLINE_H
#define ALLOD_PERCPU_OPS_INLINE_H

#include <allod/percpu-ops.h>

/* The thread sanitizer sees no assembly: it is told who hands what to whom. */
#if defined(__SANITIZE_THREAD__)
#define ALLOD_TSAN_ 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ALLOD_TSAN_ 1
#endif
#endif
#if defined(ALLOD_TSAN_)
#ifdef __cplusplus
extern "C" {
#endif
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#ifdef __cplusplus
}
#endif
#define ALLOD_TSAN_ACQUIRE_(p) __tsan_acquire(p)
#define ALLOD_TSAN_RELEASE_(p) __tsan_release(p)
#else
#define ALLOD_TSAN_ACQUIRE_(p) ((void)(p))
#define ALLOD_TSAN_RELEASE_(p) ((void)(p))
#endif

static __inline__ void *allod_percpu_copy_(struct allod_percpu_view view,
	const void ALLOD_PERCPU *p, int32_t i)
{
	return (void *)((uintptr_t)(ALLOD_PERCPU_FORCE const void *)p + (uint32_t)i * view.stride);
}

/*
 * The thread's number. 0, for the slow half: it has none, or one for which there is no copy, or one
 * that is not active: it is to be marked before anything is stored there.
 */
static __inline__ int allod_percpu_enter_(struct allod_percpu_view view, int32_t *ret_i)
{
	const int32_t i = allod_cs_index_(view.by);

	*ret_i = i;
	if (__builtin_expect((uint32_t)i >= view.count, 0))
		return 0;
	return __builtin_expect(!allod_cs_is_zero_(&allod_percpu_active_[(uint32_t)i]), 1);
}

ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_read_in(struct allod_percpu_view view,
	const uint64_t ALLOD_PERCPU *p)
{
	int32_t i;

	/* What the copy of a number that is not active has to contain may not be there yet. */
	if (!allod_percpu_enter_(view, &i))
		return allod_percpu_read_slow_(view, p);
	return allod_cs_load_(allod_percpu_copy_(view, p, i));
}

ALLOD_PERCPU_INLINE_ uint32_t allod_percpu_read32_in(struct allod_percpu_view view,
	const uint32_t ALLOD_PERCPU *p)
{
	int32_t i;

	if (!allod_percpu_enter_(view, &i))
		return allod_percpu_read32_slow_(view, p);
	return allod_cs_load32_(allod_percpu_copy_(view, p, i));
}

ALLOD_PERCPU_INLINE_ void allod_percpu_add_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t value)
{
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		uint64_t *copy = (uint64_t *)allod_percpu_copy_(view, p, i);

		if (__builtin_expect(allod_cs_add_(view.by, i, copy, value) == 0, 1))
			return;
	}
	allod_percpu_add_slow_(view, p, value);
}

ALLOD_PERCPU_INLINE_ void allod_percpu_add32_in(struct allod_percpu_view view,
	uint32_t ALLOD_PERCPU *p, uint32_t value)
{
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		uint32_t *copy = (uint32_t *)allod_percpu_copy_(view, p, i);

		if (__builtin_expect(allod_cs_add32_(view.by, i, copy, value) == 0, 1))
			return;
	}
	allod_percpu_add32_slow_(view, p, value);
}

ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_add_return_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t value)
{
	uint64_t sum;
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		uint64_t *copy = (uint64_t *)allod_percpu_copy_(view, p, i);

		if (__builtin_expect(allod_cs_add_return_(view.by, i, copy, value, &sum) == 0, 1))
			return sum;
	}
	return allod_percpu_add_return_slow_(view, p, value);
}

ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_xchg_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t value)
{
	uint64_t old;
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		uint64_t *copy = (uint64_t *)allod_percpu_copy_(view, p, i);

		if (__builtin_expect(allod_cs_xchg_(view.by, i, copy, value, &old) == 0, 1))
			return old;
	}
	return allod_percpu_xchg_slow_(view, p, value);
}

ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_cmpxchg_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *p, uint64_t expected, uint64_t value)
{
	uint64_t old;
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		uint64_t *copy = (uint64_t *)allod_percpu_copy_(view, p, i);

		if (__builtin_expect(allod_cs_cmpxchg_(view.by, i, copy, expected, value, &old) ==
				    0,
			    1))
			return old;
	}
	return allod_percpu_cmpxchg_slow_(view, p, expected, value);
}

ALLOD_PERCPU_INLINE_ void allod_percpu_pair_add_in(struct allod_percpu_view view,
	struct allod_percpu_pair ALLOD_PERCPU *p, uint64_t first, uint64_t second)
{
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		void *copy = allod_percpu_copy_(view, p, i);

		if (__builtin_expect(allod_cs_pair_add_(view.by, i, copy, first, second) == 0, 1))
			return;
	}
	allod_percpu_pair_add_slow_(view, p, first, second);
}

ALLOD_PERCPU_INLINE_ int allod_percpu_list_push_in(struct allod_percpu_view view,
	struct allod_percpu_list ALLOD_PERCPU *list, struct allod_percpu_node *node)
{
	int32_t i;

	ALLOD_TSAN_RELEASE_(node);
	while (allod_percpu_enter_(view, &i)) {
		const int ret = allod_cs_push_(view.by, i, allod_percpu_copy_(view, list, i), node);

		if (__builtin_expect(ret != 1, 1))
			return ret == 0;
	}
	return allod_percpu_list_push_slow_(view, list, node);
}

ALLOD_PERCPU_INLINE_ struct allod_percpu_node *allod_percpu_list_pop_in(
	struct allod_percpu_view view, struct allod_percpu_list ALLOD_PERCPU *list)
{
	void *node = NULL;
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		const int ret = allod_cs_pop_(view.by, i, allod_percpu_copy_(view, list, i), &node);

		if (__builtin_expect(ret == 1, 0))
			continue;
		if (ret != 0)
			return NULL;
		ALLOD_TSAN_ACQUIRE_(node);
		return (struct allod_percpu_node *)node;
	}
	return allod_percpu_list_pop_slow_(view, list);
}

ALLOD_PERCPU_INLINE_ int allod_percpu_copy_to_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *word, uint64_t expected, uint64_t value, void ALLOD_PERCPU *to,
	const void *from, size_t bytes)
{
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		const int ret = allod_cs_copy_store_(view.by, i,
			(uint64_t *)allod_percpu_copy_(view, word, i), expected, value,
			allod_percpu_copy_(view, to, i), from, bytes);

		if (__builtin_expect(ret != 1, 1))
			return ret == 0;
	}
	return allod_percpu_copy_to_slow_(view, word, expected, value, to, from, bytes);
}

ALLOD_PERCPU_INLINE_ int allod_percpu_copy_from_in(struct allod_percpu_view view,
	uint64_t ALLOD_PERCPU *word, uint64_t expected, uint64_t value, void *to,
	const void ALLOD_PERCPU *from, size_t bytes)
{
	int32_t i;

	while (allod_percpu_enter_(view, &i)) {
		const int ret = allod_cs_copy_store_(view.by, i,
			(uint64_t *)allod_percpu_copy_(view, word, i), expected, value, to,
			allod_percpu_copy_(view, from, i), bytes);

		if (__builtin_expect(ret != 1, 1))
			return ret == 0;
	}
	return allod_percpu_copy_from_slow_(view, word, expected, value, to, from, bytes);
}

/* By the default view. */

ALLOD_PERCPU_INLINE_ struct allod_percpu_view allod_percpu_pool_view(
	const struct allod_percpu_pool *pool)
{
	const struct allod_percpu_view view = { allod_percpu_pool_stride(pool),
		(enum allod_rseq_index)allod_percpu_pool_index(pool),
		allod_percpu_pool_cpus(pool) };
	return view;
}

ALLOD_PERCPU_INLINE_ struct allod_percpu_view allod_percpu_default_view(void)
{
	const struct allod_percpu_view view = { ALLOD_PERCPU_STRIDE, ALLOD_RSEQ_CPU_ID,
		ALLOD_PERCPU_CPUS_MAX };
	return view;
}

ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_read(const uint64_t ALLOD_PERCPU *p)
{
	return allod_percpu_read_in(allod_percpu_default_view(), p);
}

ALLOD_PERCPU_INLINE_ uint32_t allod_percpu_read32(const uint32_t ALLOD_PERCPU *p)
{
	return allod_percpu_read32_in(allod_percpu_default_view(), p);
}

ALLOD_PERCPU_INLINE_ void allod_percpu_add(uint64_t ALLOD_PERCPU *p, uint64_t value)
{
	allod_percpu_add_in(allod_percpu_default_view(), p, value);
}

ALLOD_PERCPU_INLINE_ void allod_percpu_add32(uint32_t ALLOD_PERCPU *p, uint32_t value)
{
	allod_percpu_add32_in(allod_percpu_default_view(), p, value);
}

ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_add_return(uint64_t ALLOD_PERCPU *p, uint64_t value)
{
	return allod_percpu_add_return_in(allod_percpu_default_view(), p, value);
}

ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_xchg(uint64_t ALLOD_PERCPU *p, uint64_t value)
{
	return allod_percpu_xchg_in(allod_percpu_default_view(), p, value);
}

ALLOD_PERCPU_INLINE_ uint64_t allod_percpu_cmpxchg(uint64_t ALLOD_PERCPU *p, uint64_t expected,
	uint64_t value)
{
	return allod_percpu_cmpxchg_in(allod_percpu_default_view(), p, expected, value);
}

ALLOD_PERCPU_INLINE_ void allod_percpu_pair_add(struct allod_percpu_pair ALLOD_PERCPU *p,
	uint64_t first, uint64_t second)
{
	allod_percpu_pair_add_in(allod_percpu_default_view(), p, first, second);
}

ALLOD_PERCPU_INLINE_ int allod_percpu_list_push(struct allod_percpu_list ALLOD_PERCPU *list,
	struct allod_percpu_node *node)
{
	return allod_percpu_list_push_in(allod_percpu_default_view(), list, node);
}

ALLOD_PERCPU_INLINE_ struct allod_percpu_node *allod_percpu_list_pop(
	struct allod_percpu_list ALLOD_PERCPU *list)
{
	return allod_percpu_list_pop_in(allod_percpu_default_view(), list);
}

ALLOD_PERCPU_INLINE_ int allod_percpu_copy_to(uint64_t ALLOD_PERCPU *word, uint64_t expected,
	uint64_t value, void ALLOD_PERCPU *to, const void *from, size_t bytes)
{
	return allod_percpu_copy_to_in(allod_percpu_default_view(), word, expected, value, to, from,
		bytes);
}

ALLOD_PERCPU_INLINE_ int allod_percpu_copy_from(uint64_t ALLOD_PERCPU *word, uint64_t expected,
	uint64_t value, void *to, const void ALLOD_PERCPU *from, size_t bytes)
{
	return allod_percpu_copy_from_in(allod_percpu_default_view(), word, expected, value, to,
		from, bytes);
}

ALLOD_PERCPU_INLINE_ void *allod_percpu_ring_reserve(struct allod_percpu_ring ALLOD_PERCPU *ring,
	size_t capacity, size_t bytes)
{
	return allod_percpu_ring_reserve_in(allod_percpu_default_view(), ring, capacity, bytes);
}

#endif /* ALLOD_PERCPU_OPS_INLINE_H */
