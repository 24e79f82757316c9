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
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef __has_include
#if __has_include(<rseq/compiler.h>)
#include <rseq/compiler.h>
#endif
#endif
#ifndef RSEQ_PARAM_SELECT_ARG1
#include <allod/compat/rseq/compiler.h>
#endif

/*
 * A robust pool has two places more than it was asked for. Nobody may store there: who goes past the
 * last processor is found as one who stores to a free item is.
 */
#define ALLOD_LIBRSEQ_BEYOND_ 2

#define RSEQ_MEMPOOL_STRIDE (1U << 16)

#ifndef __rseq_percpu
#define __rseq_percpu ALLOD_PERCPU
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
	int is_global;
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
	int cpus; /* without those beyond */
	int (*init_func)(void *priv, void *addr, size_t len, int cpu);
	void *init_priv;
};

/* The pools by the power of two of their items. */
struct rseq_mempool_set {
	pthread_mutex_t lock; /* of `pools` */
	struct rseq_mempool *pools[64];
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
	attr->is_global = 0;
	attr->stride = stride;
	attr->max_nr_cpus = max_nr_cpus;
	return 0;
}

static inline int rseq_mempool_attr_set_global(struct rseq_mempool_attr *attr, size_t stride)
{
	if (!attr)
		return allod_librseq_invalid_();
	attr->is_global = 1;
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

static inline int allod_librseq_init_(void *arg, void *part, size_t bytes, int cpu)
{
	struct rseq_mempool *pool = (struct rseq_mempool *)arg;

	if (cpu >= pool->cpus)
		return 0;
	return pool->init_func(pool->init_priv, part, bytes, cpu) ? -ENOMEM : 0;
}

static inline void allod_librseq_options_(struct allod_percpu_options *o,
	const struct rseq_mempool_attr *attr, struct rseq_mempool *pool)
{
	int is_zero = attr->policy == RSEQ_MEMPOOL_POPULATE_COW_ZERO || attr->is_global;

	memset(o, 0, sizeof(*o));
	o->size = sizeof(*o);
	o->stride = attr->stride;
	o->unit_bytes = attr->stride;
	o->max_cpus = (unsigned)pool->cpus + (attr->is_robust ? ALLOD_LIBRSEQ_BEYOND_ : 0);
	o->max_chunks = attr->max_nr_ranges;
	o->max_element = pool->item_len;
	o->content = is_zero ? ALLOD_PERCPU_CONTENT_ZERO : ALLOD_PERCPU_CONTENT_INIT;
	if (attr->is_global)
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

/* Fills in what the attributes leave to the library; 0 if they are valid. */
static inline int allod_librseq_check_(struct rseq_mempool_attr *attr, size_t item_len)
{
	if (!attr->stride)
		attr->stride = RSEQ_MEMPOOL_STRIDE;
	if (attr->is_global)
		attr->max_nr_cpus = 1;
	else if (!attr->max_nr_cpus)
		attr->max_nr_cpus = (int)allod_percpu_possible_cpus();
	return item_len > attr->stride || attr->max_nr_cpus < 0 ||
		attr->max_nr_cpus > ALLOD_PERCPU_CPUS_MAX - ALLOD_LIBRSEQ_BEYOND_ ||
		(unsigned)attr->policy > RSEQ_MEMPOOL_POPULATE_COW_ZERO;
}

static inline struct rseq_mempool *rseq_mempool_create(const char *pool_name, size_t item_len,
	const struct rseq_mempool_attr *given)
{
	struct rseq_mempool_attr attr;
	struct allod_percpu_options options;
	struct rseq_mempool *pool;

	memset(&attr, 0, sizeof(attr));
	if (given)
		attr = *given;
	if (item_len < sizeof(void *))
		item_len = sizeof(void *);
	if (item_len > ~(size_t)0 / 2 + 1 ||
		allod_librseq_check_(&attr, (size_t)1 << allod_librseq_order_(item_len))) {
		errno = EINVAL;
		return NULL;
	}
	pool = (struct rseq_mempool *)calloc(1, sizeof(*pool));
	if (!pool)
		return NULL;
	pool->item_len = (size_t)1 << allod_librseq_order_(item_len);
	pool->is_percpu = !attr.is_global;
	pool->cpus = attr.max_nr_cpus;
	pool->init_func = attr.init_func;
	pool->init_priv = attr.init_priv;
	allod_librseq_options_(&options, &attr, pool);
	pool->pool = allod_percpu_pool_create(pool_name, &options);
	if (!pool->pool) {
		if (errno != EINVAL)
			errno = ENOMEM;
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

/*
 * Items are aligned to their size. They are so unasked, since all of a pool are of one size, and those
 * that are kept at hand in a thread are kept for requests that ask for nothing.
 */
static inline size_t allod_librseq_align_(const struct rseq_mempool *pool)
{
	return pool->item_len <= 1024 ? 0 : pool->item_len;
}

static inline void __rseq_percpu *rseq_mempool_percpu_malloc(struct rseq_mempool *pool)
{
	return allod_percpu_alloc(pool->pool, pool->item_len, allod_librseq_align_(pool));
}

static inline void __rseq_percpu *rseq_mempool_percpu_zmalloc(struct rseq_mempool *pool)
{
	return allod_percpu_zalloc(pool->pool, pool->item_len, allod_librseq_align_(pool));
}

static inline void __rseq_percpu *rseq_mempool_percpu_malloc_init(struct rseq_mempool *pool,
	void *init_ptr, size_t init_len)
{
	if (!init_ptr && init_len <= pool->item_len)
		return rseq_mempool_percpu_malloc(pool);
	return allod_percpu_alloc_init(pool->pool, pool->item_len, allod_librseq_align_(pool),
		init_ptr, init_len);
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

	if (pool_set)
		pthread_mutex_init(&pool_set->lock, NULL);
	return pool_set;
}

static inline int rseq_mempool_set_destroy(struct rseq_mempool_set *pool_set)
{
	unsigned order;

	if (!pool_set)
		return 0;
	for (order = 0; order < 64; order++)
		rseq_mempool_destroy(pool_set->pools[order]);
	pthread_mutex_destroy(&pool_set->lock);
	free(pool_set);
	return 0;
}

static inline int rseq_mempool_set_add_pool(struct rseq_mempool_set *pool_set,
	struct rseq_mempool *pool)
{
	struct rseq_mempool **place = &pool_set->pools[allod_librseq_order_(pool->item_len)];
	struct rseq_mempool *other;

	pthread_mutex_lock(&pool_set->lock);
	other = *place;
	if (!other)
		*place = pool;
	pthread_mutex_unlock(&pool_set->lock);
	if (!other)
		return 0;
	errno = EBUSY;
	return -1;
}

static inline struct rseq_mempool *allod_librseq_set_from_(struct rseq_mempool_set *pool_set,
	unsigned *order)
{
	struct rseq_mempool *pool = NULL;

	pthread_mutex_lock(&pool_set->lock);
	while (*order < 64 && !(pool = pool_set->pools[*order]))
		++*order;
	pthread_mutex_unlock(&pool_set->lock);
	return pool;
}

enum allod_librseq_kind_ { ALLOD_LIBRSEQ_PLAIN_, ALLOD_LIBRSEQ_ZERO_, ALLOD_LIBRSEQ_INIT_ };

/* From the smallest pool that the length fits and that has room: a whole item of it. */
static inline void __rseq_percpu *allod_librseq_set_alloc_(struct rseq_mempool_set *pool_set,
	size_t len, enum allod_librseq_kind_ kind, void *init_ptr)
{
	unsigned order = allod_librseq_order_(len);
	void __rseq_percpu *item = NULL;
	struct rseq_mempool *pool;

	for (; len <= ~(size_t)0 / 2 + 1; order++) {
		pool = allod_librseq_set_from_(pool_set, &order);
		if (!pool)
			break;
		item = kind == ALLOD_LIBRSEQ_INIT_
			? rseq_mempool_percpu_malloc_init(pool, init_ptr, len)
			: kind == ALLOD_LIBRSEQ_ZERO_ ? rseq_mempool_percpu_zmalloc(pool)
						      : rseq_mempool_percpu_malloc(pool);
		if (item || errno != ENOMEM)
			return item;
	}
	errno = ENOMEM;
	return NULL;
}

static inline void __rseq_percpu *rseq_mempool_set_percpu_malloc(struct rseq_mempool_set *pool_set,
	size_t len)
{
	return allod_librseq_set_alloc_(pool_set, len, ALLOD_LIBRSEQ_PLAIN_, NULL);
}

static inline void __rseq_percpu *rseq_mempool_set_percpu_zmalloc(struct rseq_mempool_set *pool_set,
	size_t len)
{
	return allod_librseq_set_alloc_(pool_set, len, ALLOD_LIBRSEQ_ZERO_, NULL);
}

static inline void __rseq_percpu *rseq_mempool_set_percpu_malloc_init(
	struct rseq_mempool_set *pool_set, void *init_ptr, size_t len)
{
	return allod_librseq_set_alloc_(pool_set, len, ALLOD_LIBRSEQ_INIT_, init_ptr);
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

#ifdef __cplusplus
extern "C" {
#endif
/* Moves pages to the processor's node, and has those to come taken from there. */
int allod_percpu_range_to_node_(void *range, size_t bytes, int cpu, int flags) ALLOD_NOTHROW;
#ifdef __cplusplus
}
#endif

static inline int rseq_mempool_range_init_numa(void *addr, size_t len, int cpu, int numa_flags)
{
	int error = allod_percpu_range_to_node_(addr, len, cpu, numa_flags);

	if (!error)
		return 0;
	errno = -error;
	return -1;
}

static inline int rseq_mempool_get_max_nr_cpus(struct rseq_mempool *mempool)
{
	if (!mempool || !mempool->is_percpu)
		return allod_librseq_invalid_();
	return mempool->cpus;
}

#endif /* ALLOD_COMPAT_LIBRSEQ_MEMPOOL_H */
