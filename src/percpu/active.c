/* SPDX-License-Identifier: MIT */
/*
 * The processors that have used percpu memory. Marking one comes before the first store to its
 * places: from then on the library keeps its memory as elements need it.
 */
#include <errno.h>

#include "os/area.h"
#include "os/os.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

/* Written under root.lock, read by anybody: 0, or 1 once the processor's memory is as it has to be. */
__attribute__((visibility("default"))) unsigned char allod_percpu_active_[ALLOD_PERCPU_CPUS_MAX];

/* Pages that the processor is yet to touch are to come from its own node. */
static void areas_bind(unsigned cpu)
{
	uint32_t count = a_load_rlx(&percpu_root->arena_count);
	int node = -1;

	for (uint32_t i = 0; i < count; i++) {
		struct percpu_arena *arena = &percpu_root->arenas[i];
		if (!(arena->kind & ARENA_NUMA) || cpu >= arena->cpus)
			continue;
		if (node < 0)
			node = os_cpu_node(cpu);
		if (node > 0 || (node == 0 && os_cpu_node(0) != 0))
			os_prefer_node((void *)(arena->base + cpu * ALLOD_PERCPU_STRIDE),
				arena->window, node);
	}
}

static int pool_activate(struct allod_percpu_pool *pool, unsigned cpu)
{
	bool is_done = pool_has(pool, ALLOD_PERCPU_INIT_EVERY | ALLOD_PERCPU_GLOBAL);
	int error = 0;

	percpu_pool_lock(pool);
	for (struct percpu_chunk *c = pool->chunks; c && !error; c = c->next_of_pool) {
		if (!is_done)
			error = percpu_chunk_activate(c, cpu);
		if (!error && pool->has_overlays)
			error = percpu_content_activate(c, cpu);
	}
	percpu_pool_unlock(pool);
	return error;
}

/* The caller holds root.lock. */
static int activate(unsigned cpu)
{
	uint32_t count = a_load_rlx(&percpu_root->active_count);
	uint32_t at = 0;
	struct allod_percpu_pool *pool = a_load_rlx(&percpu_root->pools);
	int error = 0;

	/* A child whose parent was in here: entered already, and perhaps half written. */
	while (at < count && percpu_root->active[at] != cpu)
		at++;
	percpu_root->active[at] = (uint16_t)cpu;
	/* [percpu.7] rel: the index is in its place; pairs with percpu_cpu_walk_next(). From here on new
	 * contents are written for this processor too; those there are follow. */
	a_store_rel(&percpu_root->active_count, at < count ? count : count + 1);
	areas_bind(cpu);
	for (; pool && !error; pool = pool->next)
		error = pool_activate(pool, cpu);
	if (error)
		a_store_rlx(&percpu_root->active_count, count);
	return error;
}

/* The flag as others see it, through a type that the header cannot name. */
static _Atomic(unsigned char) *flag_of(unsigned cpu)
{
	return (_Atomic(unsigned char) *)&allod_percpu_active_[cpu];
}

__attribute__((visibility("default"))) int allod_percpu_mark_active(int cpu)
{
	uint64_t signals;
	int error;

	if (cpu < 0 || cpu >= ALLOD_PERCPU_CPUS_MAX)
		return -EINVAL;
	/* [percpu.8] acq: the processor's memory is as it has to be; pairs with the store below. */
	if (a_load_acq(flag_of((unsigned)cpu)))
		return 0;
	/* A signal handler that interrupted a call of this layer would wait for its own thread. */
	if (a_load_rlx(&percpu_locks_held))
		return -EAGAIN;
	error = percpu_start();
	if (error)
		return error;
	os_signals_block(&signals);
	percpu_lock(&percpu_root->lock);
	if (!a_load_rlx(flag_of((unsigned)cpu)))
		error = activate((unsigned)cpu);
	/* [percpu.8] rel: publishes what was written for the processor; pairs with the load above. */
	if (!error)
		a_store_rel(flag_of((unsigned)cpu), 1);
	percpu_unlock(&percpu_root->lock);
	os_signals_restore(&signals);
	return error;
}
