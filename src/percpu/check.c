/* SPDX-License-Identifier: MIT */
/* Looking a pool over: maps, hints, poison. */
#include "os/area.h"
#include "os/os.h"
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

/* Whether a page of the chunk was stored to on this processor. */
static bool is_stored(const struct percpu_chunk *chunk, unsigned cpu)
{
	enum { STEP = 256 };
	size_t page = os_facts()->page_bytes;
	size_t pages = ((size_t)chunk->blocks << BLOCK_SHIFT) / page;
	uint8_t kinds[STEP];

	for (size_t at = 0; at < pages; at += STEP) {
		size_t now = pages - at < STEP ? pages - at : STEP;
		if (os_pages(chunk_place(chunk, cpu, 0) + at * page, now, kinds))
			return false;
		for (size_t i = 0; i < now; i++) {
			if (kinds[i] == OS_PAGE_OWN)
				return true;
		}
	}
	return false;
}

void percpu_pool_check_inactive(struct allod_percpu_pool *pool)
{
	/* These the library itself has written to everywhere. */
	if (!ALLOD_ASSERTIONS || pool->options.content == ALLOD_PERCPU_CONTENT_ZERO ||
		pool_has(pool, ALLOD_PERCPU_INIT_EVERY | ALLOD_PERCPU_GLOBAL))
		return;
	for (unsigned cpu = 0; cpu < pool->cpus; cpu++) {
		if (allod_percpu_is_active((int)cpu))
			continue;
		for (struct percpu_chunk *c = pool->chunks; c; c = c->next_of_pool) {
			if (is_stored(c, cpu))
				percpu_fatal("allod: percpu: store on an inactive processor\n");
		}
	}
}
