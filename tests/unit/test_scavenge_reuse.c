/* SPDX-License-Identifier: MIT */
/* The record that scavenge looked at has become another slab before it is adopted. */
#include <string.h>

#include "heap_fixture.h"
#include "os/mock.h"

enum { SMALL_COUNT = 3 * 4096, BIG = 2048, PER = 32 };

static void *big[PER];
static unsigned char *small[SMALL_COUNT];
static size_t in_slab[4096];
static size_t in_slab_count;
static struct peer other, third;
static struct slab *victim;
static bool armed;

static void other_takes(void *arg)
{
	(void)arg;
	heap_free(big[0]);
	for (size_t i = 0; i < SMALL_COUNT; i++) {
		small[i] = heap_alloc(16);
		memset(small[i], 0x5a, 16);
		if (fixture_slab(small[i]) == victim)
			in_slab[in_slab_count++] = i;
	}
}

static void third_frees(void *arg)
{
	(void)arg;
	for (size_t k = 0; k < 128; k++) {
		heap_free(small[in_slab[k]]);
		small[in_slab[k]] = NULL;
	}
}

bool __real_slab_adopt(struct heap *heap, struct slab *slab);
bool __wrap_slab_adopt(struct heap *heap, struct slab *slab);
bool __wrap_slab_adopt(struct heap *heap, struct slab *slab)
{
	if (armed && slab == victim) {
		armed = false;
		peer_run(&other, other_takes, NULL);
		peer_run(&third, third_frees, NULL);
		test_note("the record holds %zu live blocks of 16 bytes, state %d",
			in_slab_count - 128, (int)fixture_state(victim));
	}
	return __real_slab_adopt(heap, slab);
}

TEST(a_record_that_was_used_again_is_not_given_back)
{
	fixture_start();
	peer_start(&other);
	peer_start(&third);
	for (size_t i = 0; i < PER; i++)
		big[i] = heap_alloc(BIG);
	victim = fixture_slab(big[0]);
	CHECK_EQ(fixture_slab(big[PER - 1]), victim);
	for (size_t i = 1; i < PER; i++)
		heap_free(big[i]);
	armed = true;
	heap_trim();
	size_t lost = 0;
	for (size_t i = 0; i < SMALL_COUNT; i++)
		lost += small[i] != NULL && small[i][15] != 0x5a;
	test_note("%zu live blocks were given back", lost);
	CHECK_EQ(in_slab_count, 4096);
	CHECK_EQ(lost, 0);
	heap_check();
}
