/* SPDX-License-Identifier: MIT */
/* See heap_fixture.h. */
#include "heap_fixture.h"

#include <string.h>

#include "base/options.h"
#include "os/mock.h"

#define SECOND_NS ((uint64_t)1000000000)
/* Blocks up to this size are filled wholly, others by a few bytes at all offsets in a page. */
#define FILL_WHOLLY_BYTES ((size_t)1024)
/* Heaps are made sixteen to a granule; they are never given back. */
#define HEAPS_PER_GRANULE (PAGE_GRANULE_BYTES / HEAP_BYTES)

void fixture_start(void)
{
	mock_reset();
	mock_clock_set(1000 * SECOND_NS);
	options.background = OPTION_BACKGROUND_OFF;
	CHECK_EQ(heap_init(), 0);
	heap_register_hooks();
}

struct slab *fixture_slab(const void *p)
{
	uint64_t word;
	struct slab *slab = slab_find(p, &word);
	CHECK(slab != NULL);
	return slab;
}

enum slab_state fixture_state(const struct slab *slab)
{
	return word_state(a_load_rlx(&slab->word));
}

struct heap *fixture_heap(void)
{
	return a_load_rlx(&heap_self);
}

size_t fixture_granules(void)
{
	struct page_stats page;
	page_stats(&page);
	size_t own = (heap_pool_count() + HEAPS_PER_GRANULE - 1) / HEAPS_PER_GRANULE;
	for (uint32_t id = 1; id <= heap_pool_count(); id++)
		own += heap_at(id)->attachment_granules;
	return ((page.used_bytes - page.lost_bytes) >> PAGE_GRANULE_SHIFT) - own;
}

void fixture_check_empty(void)
{
	struct heap_stats stats;
	heap_trim();
	heap_check();
	heap_stats_read(&stats);
	CHECK_EQ(stats.used_blocks, 0);
	CHECK_EQ(stats.used_bytes, 0);
	CHECK_EQ(stats.slabs, 0);
	CHECK_EQ(fixture_granules(), 0);
}

/* The distance of the bytes that are filled. */
static size_t fill_step(size_t bytes)
{
	return bytes <= FILL_WHOLLY_BYTES ? 1 : bytes / 256 | 1;
}

static unsigned char fill_byte(size_t at, uint64_t seed)
{
	return (unsigned char)((seed * 2654435761u + at * 31 + (at >> 12)) >> 3);
}

void fixture_fill(void *p, size_t bytes, uint64_t seed)
{
	unsigned char *at = p;
	for (size_t i = 0; i < bytes; i += fill_step(bytes))
		at[i] = fill_byte(i, seed);
	at[bytes - 1] = fill_byte(bytes - 1, seed);
}

void fixture_check_fill(const void *p, size_t bytes, uint64_t seed)
{
	const unsigned char *at = p;
	for (size_t i = 0; i < bytes; i += fill_step(bytes)) {
		if (at[i] != fill_byte(i, seed))
			test_fail(__FILE__, __LINE__, "byte %zu of %zu was changed", i, bytes);
	}
	CHECK_EQ(at[bytes - 1], fill_byte(bytes - 1, seed));
}

static void *peer_main(void *arg)
{
	struct peer *peer = arg;
	pthread_mutex_lock(&peer->mutex);
	while (!peer->end) {
		if (peer->fn != NULL) {
			peer->fn(peer->arg);
			peer->fn = NULL;
			pthread_cond_broadcast(&peer->changed);
		} else {
			pthread_cond_wait(&peer->changed, &peer->mutex);
		}
	}
	pthread_mutex_unlock(&peer->mutex);
	return NULL;
}

void peer_start(struct peer *peer)
{
	memset(peer, 0, sizeof *peer);
	pthread_mutex_init(&peer->mutex, NULL);
	pthread_cond_init(&peer->changed, NULL);
	CHECK_EQ(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
}

void peer_run(struct peer *peer, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&peer->mutex);
	peer->arg = arg;
	peer->fn = fn;
	pthread_cond_broadcast(&peer->changed);
	while (peer->fn != NULL)
		pthread_cond_wait(&peer->changed, &peer->mutex);
	pthread_mutex_unlock(&peer->mutex);
}

void peer_end(struct peer *peer)
{
	pthread_mutex_lock(&peer->mutex);
	peer->end = true;
	pthread_cond_broadcast(&peer->changed);
	pthread_mutex_unlock(&peer->mutex);
	CHECK_EQ(pthread_join(peer->thread, NULL), 0);
}
