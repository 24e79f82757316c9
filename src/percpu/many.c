/* SPDX-License-Identifier: MIT */
/* Several elements at once, elements of a known pool, and sets of pools by size. */
#include <errno.h>
#include <string.h>

#include "os/os.h"
#include "percpu/cache.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT size_t allod_percpu_alloc_batch(struct allod_percpu_pool *pool, size_t bytes, size_t align,
	void ALLOD_PERCPU **ret_elements, size_t count)
{
	size_t n = 0;

	while (n < count && (ret_elements[n] = allod_percpu_alloc(pool, bytes, align)))
		n++;
	return n;
}

EXPORT size_t allod_percpu_zalloc_batch(struct allod_percpu_pool *pool, size_t bytes, size_t align,
	void ALLOD_PERCPU **ret_elements, size_t count)
{
	size_t n = 0;

	while (n < count && (ret_elements[n] = allod_percpu_zalloc(pool, bytes, align)))
		n++;
	return n;
}

EXPORT void allod_percpu_free_batch(void ALLOD_PERCPU **elements, size_t count)
{
	for (size_t i = 0; i < count; i++)
		allod_percpu_free(elements[i]);
}

EXPORT void allod_percpu_pool_free(struct allod_percpu_pool *pool, void ALLOD_PERCPU *element)
{
	uintptr_t at = (uintptr_t)(ALLOD_PERCPU_FORCE void *)element;
	struct percpu_chunk *chunk = at && percpu_root ? chunk_of(at) : NULL;

	if (chunk && chunk->pool != pool)
		percpu_fatal("allod: percpu: element of another pool\n");
	allod_percpu_free(element);
}

/* A set's pools by the power of two of the largest element that each takes. */
enum { SET_POOLS = 64 };

struct allod_percpu_set {
	struct percpu_lock lock;
	_Atomic(struct allod_percpu_pool *) pool[SET_POOLS];
};

EXPORT struct allod_percpu_set *allod_percpu_set_create(void)
{
	int error = percpu_start();
	struct allod_percpu_set *set = error ? NULL : percpu_meta_alloc(sizeof(*set));

	if (!set)
		errno = ENOMEM;
	return set;
}

EXPORT size_t allod_percpu_set_destroy(struct allod_percpu_set *set)
{
	size_t leaked = 0;

	if (!set)
		return 0;
	for (unsigned i = 0; i < SET_POOLS; i++)
		leaked += allod_percpu_pool_destroy(a_load_rlx(&set->pool[i]));
	percpu_meta_free(set, sizeof(*set));
	return leaked;
}

static unsigned order_of(size_t bytes)
{
	return bytes <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(bytes - 1);
}

EXPORT int allod_percpu_set_add(struct allod_percpu_set *set, struct allod_percpu_pool *pool)
{
	size_t most = pool->options.max_element ? pool->options.max_element : pool->stride;
	struct allod_percpu_pool *none = NULL;

	/* [percpu.9] rel: publishes the pool; pairs with set_from(). */
	return a_cas_strong_rel(&set->pool[order_of(most)], &none, pool) ? 0 : -EBUSY;
}

/* The next pool from `order` on that a set has, or NULL. */
static struct allod_percpu_pool *set_from(struct allod_percpu_set *set, unsigned *order)
{
	for (; *order < SET_POOLS; ++*order) {
		/* [percpu.9] acq: finds the pool whole; pairs with allod_percpu_set_add(). */
		struct allod_percpu_pool *pool = a_load_acq(&set->pool[*order]);
		if (pool)
			return pool;
	}
	return NULL;
}

EXPORT void ALLOD_PERCPU *allod_percpu_set_alloc(struct allod_percpu_set *set, size_t bytes,
	const void *content, size_t content_bytes)
{
	unsigned order = order_of(bytes);

	for (struct allod_percpu_pool *p; (p = set_from(set, &order)); order++) {
		void ALLOD_PERCPU *element = content
			? allod_percpu_alloc_init(p, bytes, 0, content, content_bytes)
			: allod_percpu_alloc(p, bytes, 0);
		if (element || errno != ENOMEM)
			return element;
	}
	errno = ENOMEM;
	return NULL;
}

EXPORT void ALLOD_PERCPU *allod_percpu_set_zalloc(struct allod_percpu_set *set, size_t bytes)
{
	return allod_percpu_set_alloc(set, bytes, "", 0);
}
