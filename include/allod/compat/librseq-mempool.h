/* SPDX-License-Identifier: MIT */
/*
 * The memory pools of librseq under their own names, over <allod/percpu.h>: a program written for
 * <rseq/mempool.h> compiles and runs with this in its place, linked with liballod. The directory of
 * this header has it as <rseq/mempool.h> too, for programs that are not to be touched.
 *
 * What the calls do is documented by librseq. What is different, always for the better of who calls:
 *  - a double free, a foreign pointer and a pointer into an item end the process in every pool, not
 *    only in robust ones;
 *  - bytes behind the content of rseq_mempool_percpu_malloc_init() are zero;
 *  - a pool with initial values can be used in a child after fork(), by both;
 *  - rseq_percpu_ptr() notes that the processor is used; the library writes to the memory of
 *    such processors only.
 * docs/guide/from-librseq.md tells more.
 */
#ifndef ALLOD_COMPAT_LIBRSEQ_MEMPOOL_H
#define ALLOD_COMPAT_LIBRSEQ_MEMPOOL_H

/* librseq's interface has macros with optional arguments, which ISO C has not. */
#pragma GCC system_header

#include <allod/percpu.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define RSEQ_MEMPOOL_STRIDE (1U << 16)

#ifndef __rseq_percpu
#define __rseq_percpu ALLOD_PERCPU
#endif

#ifndef RSEQ_PARAM_SELECT_ARG1
#define RSEQ_PARAM_SELECT_ARG0(arg0, ...) arg0
#define RSEQ_PARAM_SELECT_ARG1(arg0, arg1, ...) arg1
#endif

#define rseq_percpu_ptr(_ptr, _cpu, _stride...)                                  \
	((__typeof__(*(_ptr)) ALLOD_PERCPU_FORCE *)allod_percpu_at_(             \
		(uintptr_t)(ALLOD_PERCPU_FORCE const void *)(_ptr), (int)(_cpu), \
		(uintptr_t)RSEQ_PARAM_SELECT_ARG1(_, ##_stride, RSEQ_MEMPOOL_STRIDE)))

#define rseq_mempool_percpu_free(_ptr, _stride...) \
	librseq_mempool_percpu_free((_ptr),        \
		RSEQ_PARAM_SELECT_ARG1(_, ##_stride, RSEQ_MEMPOOL_STRIDE))

#define rseq_mempool_free(_ptr, _stride...)                       \
	librseq_mempool_percpu_free((void __rseq_percpu *)(_ptr), \
		RSEQ_PARAM_SELECT_ARG1(_, ##_stride, RSEQ_MEMPOOL_STRIDE))

enum rseq_mempool_populate_policy {
	RSEQ_MEMPOOL_POPULATE_COW_INIT = 0,
	RSEQ_MEMPOOL_POPULATE_COW_ZERO = 1
};

struct rseq_mempool_attr {
	int is_percpu;
	int is_robust;
	int has_poison;
	int max_nr_cpus;
	size_t stride;
	unsigned long max_nr_ranges;
	uintptr_t poison;
	enum rseq_mempool_populate_policy policy;
	int (*init_func)(void *priv, void *addr, size_t len, int cpu);
	void *init_priv;
};

struct rseq_mempool {
	struct allod_percpu_pool *pool;
	size_t item_len;
	int is_percpu;
	int (*init_func)(void *priv, void *addr, size_t len, int cpu);
	void *init_priv;
};

struct rseq_mempool_set {
	struct allod_percpu_set *set;
	struct rseq_mempool *pools[64]; /* by the power of two of the items, for the end */
};

static inline unsigned allod_librseq_order_(size_t len)
{
	unsigned order = 0;

	while (order < 63 && ((size_t)1 << order) < len)
		order++;
	return order;
}

static inline int allod_librseq_invalid_(void)
{
	errno = EINVAL;
	return -1;
}

static inline struct rseq_mempool_attr *rseq_mempool_attr_create(void)
{
	return (struct rseq_mempool_attr *)calloc(1, sizeof(struct rseq_mempool_attr));
}

static inline void rseq_mempool_attr_destroy(struct rseq_mempool_attr *attr)
{
	free(attr);
}

static inline int rseq_mempool_attr_set_init(struct rseq_mempool_attr *attr,
	int (*init_func)(void *priv, void *addr, size_t len, int cpu), void *init_priv)
{
	if (!attr)
		return allod_librseq_invalid_();
	attr->init_func = init_func;
	attr->init_priv = init_priv;
	attr->policy = RSEQ_MEMPOOL_POPULATE_COW_INIT;
	return 0;
}

static inline int rseq_mempool_attr_set_robust(struct rseq_mempool_attr *attr)
{
	if (!attr)
		return allod_librseq_invalid_();
	attr->is_robust = 1;
	return 0;
}

static inline int rseq_mempool_attr_set_percpu(struct rseq_mempool_attr *attr, size_t stride,
	int max_nr_cpus)
{
	if (!attr)
		return allod_librseq_invalid_();
	attr->is_percpu = 1;
	attr->stride = stride;
	attr->max_nr_cpus = max_nr_cpus;
	return 0;
}

static inline int rseq_mempool_attr_set_global(struct rseq_mempool_attr *attr, size_t stride)
{
	if (!attr)
		return allod_librseq_invalid_();
	attr->is_percpu = 0;
	attr->stride = stride;
	attr->max_nr_cpus = 0;
	return 0;
}

static inline int rseq_mempool_attr_set_max_nr_ranges(struct rseq_mempool_attr *attr,
	unsigned long max_nr_ranges)
{
	if (!attr)
		return allod_librseq_invalid_();
	attr->max_nr_ranges = max_nr_ranges;
	return 0;
}

static inline int rseq_mempool_attr_set_poison(struct rseq_mempool_attr *attr, uintptr_t poison)
{
	if (!attr)
		return allod_librseq_invalid_();
	attr->has_poison = 1;
	attr->poison = poison;
	return 0;
}

static inline int rseq_mempool_attr_set_populate_policy(struct rseq_mempool_attr *attr,
	enum rseq_mempool_populate_policy policy)
{
	if (!attr)
		return allod_librseq_invalid_();
	attr->policy = policy;
	return 0;
}

/* The callback tells its failure by errno. */
static inline int allod_librseq_init_(void *arg, void *part, size_t bytes, int cpu)
{
	struct rseq_mempool *pool = (struct rseq_mempool *)arg;

	if (!pool->init_func(pool->init_priv, part, bytes, cpu))
		return 0;
	return errno ? -errno : -EINVAL;
}

static inline void allod_librseq_options_(struct allod_percpu_options *o, size_t item_len,
	const struct rseq_mempool_attr *attr, struct rseq_mempool *pool)
{
	int is_zero = attr->policy == RSEQ_MEMPOOL_POPULATE_COW_ZERO || !attr->is_percpu;

	memset(o, 0, sizeof(*o));
	o->size = sizeof(*o);
	o->stride = attr->stride ? attr->stride : RSEQ_MEMPOOL_STRIDE;
	o->unit_bytes = o->stride;
	o->max_cpus = (unsigned)attr->max_nr_cpus;
	o->max_chunks = attr->max_nr_ranges;
	o->max_element = item_len;
	o->content = is_zero ? ALLOD_PERCPU_CONTENT_ZERO : ALLOD_PERCPU_CONTENT_INIT;
	if (!attr->is_percpu)
		o->flags |= ALLOD_PERCPU_GLOBAL;
	if (attr->is_robust)
		o->flags |= ALLOD_PERCPU_ROBUST;
	if (attr->is_robust || attr->has_poison)
		o->flags |= ALLOD_PERCPU_POISON;
	o->poison = attr->has_poison ? attr->poison : is_zero ? 0 : (uintptr_t)-1 / 3;
	if (attr->init_func) {
		o->flags |= ALLOD_PERCPU_INIT_EVERY;
		o->init_cpu = allod_librseq_init_;
		o->init_arg = pool;
	}
}

static inline struct rseq_mempool *rseq_mempool_create(const char *pool_name, size_t item_len,
	const struct rseq_mempool_attr *given)
{
	struct rseq_mempool_attr attr;
	struct allod_percpu_options options;
	struct rseq_mempool *pool;

	memset(&attr, 0, sizeof(attr));
	attr.is_percpu = 1;
	if (given)
		attr = *given;
	if (item_len < sizeof(void *))
		item_len = sizeof(void *);
	item_len = (size_t)1 << allod_librseq_order_(item_len);
	if (item_len > (attr.stride ? attr.stride : RSEQ_MEMPOOL_STRIDE) || attr.max_nr_cpus < 0) {
		errno = EINVAL;
		return NULL;
	}
	pool = (struct rseq_mempool *)calloc(1, sizeof(*pool));
	if (!pool)
		return NULL;
	pool->item_len = item_len;
	pool->is_percpu = attr.is_percpu;
	pool->init_func = attr.init_func;
	pool->init_priv = attr.init_priv;
	allod_librseq_options_(&options, item_len, &attr, pool);
	pool->pool = allod_percpu_pool_create(pool_name, &options);
	if (!pool->pool) {
		free(pool);
		return NULL;
	}
	return pool;
}

static inline int rseq_mempool_destroy(struct rseq_mempool *pool)
{
	if (!pool)
		return 0;
	allod_percpu_pool_destroy(pool->pool);
	free(pool);
	return 0;
}

static inline void __rseq_percpu *rseq_mempool_percpu_malloc(struct rseq_mempool *pool)
{
	return allod_percpu_alloc(pool->pool, pool->item_len, pool->item_len);
}

static inline void __rseq_percpu *rseq_mempool_percpu_zmalloc(struct rseq_mempool *pool)
{
	return allod_percpu_zalloc(pool->pool, pool->item_len, pool->item_len);
}

static inline void __rseq_percpu *rseq_mempool_percpu_malloc_init(struct rseq_mempool *pool,
	void *init_ptr, size_t init_len)
{
	return allod_percpu_alloc_init(pool->pool, pool->item_len, pool->item_len, init_ptr,
		init_len);
}

static inline void *rseq_mempool_malloc(struct rseq_mempool *pool)
{
	return (void *)rseq_mempool_percpu_malloc(pool);
}

static inline void *rseq_mempool_zmalloc(struct rseq_mempool *pool)
{
	return (void *)rseq_mempool_percpu_zmalloc(pool);
}

static inline void *rseq_mempool_malloc_init(struct rseq_mempool *pool, void *init_ptr,
	size_t init_len)
{
	return (void *)rseq_mempool_percpu_malloc_init(pool, init_ptr, init_len);
}

/* The stride is not needed: the pointer tells its pool. */
static inline void librseq_mempool_percpu_free(void __rseq_percpu *ptr, size_t stride)
{
	(void)stride;
	allod_percpu_free(ptr);
}

static inline struct rseq_mempool_set *rseq_mempool_set_create(void)
{
	struct rseq_mempool_set *pool_set =
		(struct rseq_mempool_set *)calloc(1, sizeof(struct rseq_mempool_set));

	if (!pool_set)
		return NULL;
	pool_set->set = allod_percpu_set_create();
	if (!pool_set->set) {
		free(pool_set);
		return NULL;
	}
	return pool_set;
}

static inline int rseq_mempool_set_destroy(struct rseq_mempool_set *pool_set)
{
	unsigned order;

	if (!pool_set)
		return 0;
	allod_percpu_set_destroy(pool_set->set);
	for (order = 0; order < 64; order++)
		free(pool_set->pools[order]);
	free(pool_set);
	return 0;
}

static inline int rseq_mempool_set_add_pool(struct rseq_mempool_set *pool_set,
	struct rseq_mempool *pool)
{
	if (allod_percpu_set_add(pool_set->set, pool->pool)) {
		errno = EBUSY;
		return -1;
	}
	pool_set->pools[allod_librseq_order_(pool->item_len)] = pool;
	return 0;
}

static inline void __rseq_percpu *rseq_mempool_set_percpu_malloc(struct rseq_mempool_set *pool_set,
	size_t len)
{
	return allod_percpu_set_alloc(pool_set->set, len, NULL, 0);
}

static inline void __rseq_percpu *rseq_mempool_set_percpu_zmalloc(struct rseq_mempool_set *pool_set,
	size_t len)
{
	return allod_percpu_set_zalloc(pool_set->set, len);
}

static inline void __rseq_percpu *rseq_mempool_set_percpu_malloc_init(
	struct rseq_mempool_set *pool_set, void *init_ptr, size_t len)
{
	return allod_percpu_set_alloc(pool_set->set, len, init_ptr, len);
}

static inline void *rseq_mempool_set_malloc(struct rseq_mempool_set *pool_set, size_t len)
{
	return (void *)rseq_mempool_set_percpu_malloc(pool_set, len);
}

static inline void *rseq_mempool_set_zmalloc(struct rseq_mempool_set *pool_set, size_t len)
{
	return (void *)rseq_mempool_set_percpu_zmalloc(pool_set, len);
}

static inline void *rseq_mempool_set_malloc_init(struct rseq_mempool_set *pool_set, void *init_ptr,
	size_t len)
{
	return (void *)rseq_mempool_set_percpu_malloc_init(pool_set, init_ptr, len);
}

/* Pages come from the node of who first stores to them; ALLOD_PERCPU_NUMA does more. */
static inline int rseq_mempool_range_init_numa(void *addr, size_t len, int cpu, int numa_flags)
{
	(void)addr;
	(void)len;
	(void)cpu;
	errno = numa_flags ? ENOSYS : EINVAL;
	return -1;
}

static inline int rseq_mempool_get_max_nr_cpus(struct rseq_mempool *mempool)
{
	if (!mempool || !mempool->is_percpu)
		return allod_librseq_invalid_();
	return (int)allod_percpu_pool_cpus(mempool->pool);
}

#endif /* ALLOD_COMPAT_LIBRSEQ_MEMPOOL_H */
