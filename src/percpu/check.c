/* SPDX-License-Identifier: MIT */
/* Looking a pool over: maps, hints, poison. */
#include "os/area.h"
#include "os/os.h"
#include "percpu/bits.h"
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

/* Whether what was given out and is free is poison still. */
static bool chunk_is_poison(struct percpu_chunk *chunk)
{
	for (uint32_t i = 0; i < chunk->blocks; i++) {
		uint32_t at = block_base(chunk, i);
		uint32_t end = at + chunk->block[i].fresh;

		while ((at = bits_next_clear(chunk->alloc, at, end)) < end) {
			uint32_t stop = bits_next_set(chunk->alloc, at, end);
			if (!percpu_content_is_poison(chunk, at, stop - at))
				return false;
			at = stop;
		}
	}
	return true;
}

/* What a callback wrote between elements is no poison: there, all have to be of one size. */
static bool pool_is_poison(struct allod_percpu_pool *pool)
{
	bool has_gaps = pool->options.init_cpu &&
		(pool->smallest != pool->largest || pool->options.max_element == 0);

	if (!pool_has(pool, ALLOD_PERCPU_POISON) || has_gaps)
		return true;
	for (struct percpu_chunk *c = pool->chunks; c; c = c->next_of_pool) {
		if (!chunk_is_poison(c))
			return false;
	}
	return true;
}

void percpu_pool_check_or_die(struct allod_percpu_pool *pool, uint64_t live)
{
	if (live)
		percpu_fatal("allod: percpu: leak at destroy\n");
	if (percpu_pool_check(pool))
		percpu_fatal("allod: percpu: corrupted bitmap\n");
	if (!pool_is_poison(pool))
		percpu_fatal("allod: percpu: poison overwritten\n");
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
