/* SPDX-License-Identifier: MIT */
/* Looking a pool over: maps, hints, poison. */
#include "percpu/cache.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

const char *percpu_pool_check(struct allod_percpu_pool *pool)
{
	for (struct percpu_chunk *c = pool->chunks; c; c = c->next_of_pool) {
		const char *wrong = percpu_hints_check(c);
		if (wrong)
			return wrong;
	}
	return NULL;
}

void percpu_pool_check_or_die(struct allod_percpu_pool *pool, uint64_t live)
{
	if (live)
		percpu_fatal("allod: percpu: leak at destroy\n");
	if (percpu_pool_check(pool))
		percpu_fatal("allod: percpu: corrupted bitmap\n");
}
