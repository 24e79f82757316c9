/* SPDX-License-Identifier: MIT */
/*
 * Zones of slots under the explorer (slot_zone.c): their birth, how their frontier moves, taking and
 * putting back. Slots are addresses without memory, and the kernel, which knows which of them are
 * accessible, orders nothing.
 */
#include <errno.h>
#include <string.h>

#include "explore.h"
#include "harness.h"
#include "slot.h"
#include "suite.h"

enum { MAPPINGS = EXPLORE_THREADS, TAKEN = 4, SLOTS = 64 };

/* No object lies so high. */
#define BASE ((uintptr_t)1 << 60)
#define ZONE_SPAN ((uintptr_t)1 << 45)

static struct os_facts facts = {
	.page_bytes = 4096,
	.address_limit_bytes = OS_UNLIMITED,
	.data_limit_bytes = OS_UNLIMITED,
	/* A zone has an eighth of it as slots. */
	.max_map_count = (SLOTS + 1) * 8,
};

/* By the zone that was mapped first, second…: its slots that are accessible. */
static _Atomic(uint64_t) accessible[MAPPINGS];
static unsigned zones_mapped;
/* The records of a zone and its bitmap. */
static _Alignas(64) char metadata[MAPPINGS][32768];
static unsigned metadata_used;
/* Written by who fills a zone in, and read by who finds it. */
static uint64_t filled_in[MAPPINGS];

const struct os_facts *os_facts(void)
{
	return &facts;
}

uint64_t os_now_ns(void)
{
	return 1000000000;
}

void os_fatal(const char *line)
{
	explore_fail("%s", line);
}

int os_huge(void *base, size_t bytes, bool on)
{
	(void)base, (void)bytes, (void)on;
	return 0;
}

int os_unmap(void *base, size_t bytes)
{
	(void)base, (void)bytes;
	return 0;
}

/* Not locked. */
int os_decommit(void *base, size_t bytes)
{
	(void)base, (void)bytes;
	return 0;
}

int os_populate(void *base, size_t bytes)
{
	(void)base, (void)bytes;
	return 0;
}

void block_keep(void)
{
}

void *os_reserve(size_t bytes, size_t align)
{
	if (align >= (size_t)1 << SLOT_SMALL_SHIFT) {
		EXPLORE_CHECK(zones_mapped < MAPPINGS);
		return (void *)(BASE + zones_mapped++ * ZONE_SPAN);
	}
	EXPLORE_CHECK(metadata_used < MAPPINGS && bytes <= sizeof(metadata[0]));
	return metadata[metadata_used++];
}

static uint64_t slots_of(const void *p, size_t bytes)
{
	size_t from = ((uintptr_t)p - BASE) % ZONE_SPAN >> SLOT_LARGE_SHIFT;
	size_t n = bytes >> SLOT_LARGE_SHIFT;

	return (n < 64 ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0) << from;
}

int os_commit(void *base, size_t bytes)
{
	if ((uintptr_t)base >= BASE)
		(void)a_or_rlx(&accessible[((uintptr_t)base - BASE) / ZONE_SPAN],
			slots_of(base, bytes));
	else
		a_data_write(&filled_in[((char *)base - metadata[0]) / sizeof(metadata[0])], 1);
	return 0;
}

/* What was written to a slot by its last owner; a race here is one there. */
static uint64_t contents[SLOTS];

/* What threads hold, to be looked at in the end: each its own entries. */
static struct {
	size_t pos, n;
} held[EXPLORE_THREADS][TAKEN];

static void set_up(void)
{
	zones_mapped = 0;
	metadata_used = 0;
	memset(metadata, 0, sizeof(metadata));
	memset(filled_in, 0, sizeof(filled_in));
	memset(contents, 0, sizeof(contents));
	memset(held, 0, sizeof(held));
}

/* A zone of which so many slots are accessible, and free. */
static void set_up_zone(size_t slots)
{
	struct zone *z;

	set_up();
	z = zone_get(SLOT_LARGE, true);
	if (slots && zone_take_at(z, 0, slots, true))
		zone_put(z, 0, slots);
}

static void set_up_new(void)
{
	set_up_zone(0);
}

static void set_up_two(void)
{
	set_up_zone(2);
}

static void use(struct zone *z, size_t pos, size_t n)
{
	size_t zone = (z->base - BASE) / ZONE_SPAN;
	uint64_t slots = slots_of(slot_address(z, pos), n << z->shift);

	EXPLORE_CHECK((a_load_rlx(&accessible[zone]) & slots) == slots);
	for (size_t i = 0; i < n; i++)
		a_data_write(&contents[pos + i], a_data_read(&contents[pos + i]) + 1);
}

static void hold(int t, size_t pos, size_t n)
{
	for (int i = 0; i < TAKEN; i++)
		if (!held[t][i].n) {
			held[t][i].pos = pos;
			held[t][i].n = n;
			return;
		}
	explore_fail("too many slots");
}

static struct zone *zone(void)
{
	struct zone *z = zone_get(SLOT_LARGE, true);

	EXPLORE_CHECK(z != NULL);
	(void)a_data_read(&filled_in[((char *)z - metadata[0]) / sizeof(metadata[0])]);
	return z;
}

static void take(int t, size_t n)
{
	struct zone *z = zone();
	size_t pos = zone_take(z, n, 1, true);

	EXPLORE_CHECK(pos != BITMAP_NONE);
	use(z, pos, n);
	hold(t, pos, n);
}

static void run_take(int t)
{
	take(t, 1);
}

static void run_take_unequal(int t)
{
	take(t, 1 + (size_t)t);
}

/* And back, and again: the slots that another has had. */
static void run_take_and_put(int t)
{
	struct zone *z = zone();

	for (int i = 0; i < 2; i++) {
		size_t pos = zone_take(z, 1, 1, true);
		EXPLORE_CHECK(pos != BITMAP_NONE);
		use(z, pos, 1);
		zone_put(z, pos, 1);
	}
}

/* One wants what lies behind its own, beyond the frontier, while others take what is there. */
static void run_take_behind(int t)
{
	struct zone *z = zone();

	if (t) {
		take(t, 1);
	} else if (zone_take_at(z, 1, 3, true)) {
		use(z, 1, 3);
		hold(t, 1, 3);
	}
}

static void run_take_empty(int t)
{
	struct zone *z = zone();
	size_t pos = t ? zone_take(z, 1, 1, true) : zone_take_empty(z, 2, 1, ZONE_CLEAN);

	EXPLORE_CHECK(pos != BITMAP_NONE);
	use(z, pos, t ? 1 : 2);
	hold(t, pos, t ? 1 : 2);
}

static bool somebody_is_stopped(void)
{
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (explore_is_stopped(t))
			return true;
	return false;
}

/* Nobody's slots overlap, and what is free or held is all up to the frontier. */
static void finish(void)
{
	const struct zone *z = zone_peek(SLOT_LARGE);
	size_t sum = z ? bitmap_free_count(&z->map) : 0;

	for (int i = 0; i < EXPLORE_THREADS * TAKEN; i++) {
		size_t pos = held[i / TAKEN][i % TAKEN].pos;
		size_t n = held[i / TAKEN][i % TAKEN].n;
		for (int j = 0; n && j < i; j++) {
			size_t other = held[j / TAKEN][j % TAKEN].pos;
			EXPLORE_CHECK(pos >= other + held[j / TAKEN][j % TAKEN].n ||
				pos + n <= other);
		}
		sum += n;
	}
	if (!z)
		return;
	EXPLORE_CHECK(sum <= a_load_rlx(&z->frontier));
	if (!somebody_is_stopped())
		EXPLORE_CHECK(sum == a_load_rlx(&z->frontier) && bitmap_check(&z->map));
}

#define ZONE_SCENARIO(run_, threads_, set_up_)                                                   \
	{                                                                                        \
		.name = #run_ "-" #set_up_, .threads = threads_, .set_up = set_up_, .run = run_, \
		.finish = finish                                                                 \
	}
static const struct explore_scenario scenarios[] = {
	ZONE_SCENARIO(run_take, 2, set_up),
	ZONE_SCENARIO(run_take, 2, set_up_new),
	ZONE_SCENARIO(run_take, 3, set_up_new),
	ZONE_SCENARIO(run_take, 3, set_up_two),
	ZONE_SCENARIO(run_take_unequal, 2, set_up_new),
	ZONE_SCENARIO(run_take_and_put, 2, set_up_new),
	ZONE_SCENARIO(run_take_and_put, 2, set_up_two),
	ZONE_SCENARIO(run_take_behind, 2, set_up_two),
	ZONE_SCENARIO(run_take_behind, 2, set_up_new),
	ZONE_SCENARIO(run_take_empty, 2, set_up_two),
};
static const struct suite suite = { scenarios, sizeof(scenarios) / sizeof(scenarios[0]),
	{ .executions = 4000, .stale_reads = 3 } };

TEST_TIMEOUT(zones_under_interleavings, 60)
{
	suite_search(&suite);
}

TEST_TIMEOUT(zones_at_random, 60)
{
	for (int i = 0; i < suite.count; i++)
		suite_random(&scenarios[i], 1500);
}

TEST_TIMEOUT(zones_beside_a_stopped_thread, 60)
{
	struct suite few = suite;

	few.limits.executions = 60;
	suite_stopped(&few);
}

TEST_TIMEOUT(orders_of_zones_are_needed, 60)
{
	struct suite few = suite;

	few.limits.executions = 500;
	suite_weaken(&few, "block/slot_zone.c", NULL);
	suite_weaken(&few, "block/slot.h", NULL);
}
