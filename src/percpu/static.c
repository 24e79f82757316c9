/* SPDX-License-Identifier: MIT */
/*
 * Static per-CPU variables: each program or shared object with a section of them has an element of
 * one pool, from when the loader runs its constructors until it runs its destructors. The loader
 * does that for one object at a time, so a module needs no guard; the pool is made by whoever is
 * first.
 */
#define ALLOD_PERCPU_STATIC_NONE_
#include <allod/percpu-static.h>

#include "base/atomic.h"
#include "os/os.h"
#include "percpu/rseq.h"

enum { ALIGN_LEAST = 64, ALIGN_MOST = 4096 };

static _Atomic(struct allod_percpu_pool *) static_pool;

static struct allod_percpu_pool *pool_get(void)
{
	/* [static.1] acq: the pool is whole; pairs with the exchange below */
	struct allod_percpu_pool *pool = a_load_acq(&static_pool);
	struct allod_percpu_pool *none = NULL;

	if (pool != NULL)
		return pool;
	pool = allod_percpu_pool_create("static", NULL);
	/* [static.1] acqrel: publishes the pool; pairs with the load above */
	if (pool != NULL && !a_cas_strong_acqrel(&static_pool, &none, pool)) {
		allod_percpu_pool_destroy(pool);
		pool = none;
	}
	return pool;
}

/* As the section is, as far as that tells: the linker aligns it to its most demanding variable. */
static size_t align_of(const char *begin)
{
	const size_t align = (uintptr_t)begin & -(uintptr_t)begin;

	return align < ALIGN_LEAST ? ALIGN_LEAST : align > ALIGN_MOST ? ALIGN_MOST : align;
}

static void *element_make(const char *begin, size_t bytes)
{
	struct allod_percpu_pool *pool = pool_get();

	if (pool == NULL)
		return NULL;
	return (ALLOD_PERCPU_FORCE void *)allod_percpu_alloc_init(pool, bytes, align_of(begin),
		begin, bytes);
}

PERCPU_EXPORT void allod_percpu_static_add_(struct allod_percpu_module_ *module, const char *begin,
	const char *end)
{
	if (module->uses++ > 0 || begin == end)
		return;
	module->begin = begin;
	module->end = end;
	module->element = (uintptr_t)element_make(begin, (size_t)(end - begin));
	if (module->element == 0)
		os_fatal("allod: percpu: no memory for static variables\n");
}

PERCPU_EXPORT void allod_percpu_static_remove_(struct allod_percpu_module_ *module)
{
	if (--module->uses > 0 || module->element == 0)
		return;
	allod_percpu_free((void *)module->element);
	module->element = 0;
}
