/* SPDX-License-Identifier: MIT */
/* See slot_fixture.h. */
#include "slot_fixture.h"

#include <stdio.h>

void slot_start(void)
{
	mock_reset();
	mock_facts()->overcommit_mode = 0;
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	CHECK_EQ(page_init(), 0);
}

char *slot_take(size_t bytes, size_t reserve, unsigned flags)
{
	struct block_want want = { .flags = flags, .reserve_bytes = reserve };
	char *p;

	CHECK_EQ(slot_alloc(bytes, &want, &p), 0);
	return p;
}

struct slot_ref slot_ref_of(const char *p)
{
	struct slot_ref ref;

	CHECK(slot_ref_find(p, true, &ref));
	return ref;
}

char *slot_take_small(size_t bytes)
{
	char *p = slot_take(20 * MIB, 24 * MIB, 0);
	struct slot_ref ref = slot_ref_of(p);

	CHECK_EQ(ref.zone->class, SLOT_SMALL);
	CHECK_EQ(slot_resize(&ref, bytes, 0), 0);
	return p;
}

struct block slot_take_run(size_t bytes, size_t align, uint64_t seed)
{
	struct block b = { .kind = BLOCK_RUN, .bytes = bytes };
	struct page_run run;

	CHECK_EQ(page_alloc(bytes >> PAGE_GRANULE_SHIFT, align, &run), 0);
	b.base = run.base;
	slot_stamp(b.base, bytes, seed);
	return b;
}

void slot_stamp(char *p, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += 64 * KIB)
		*(uint64_t *)(void *)(p + i + 8 * (i / 4096 % 500)) = seed + i;
}

void slot_check_stamp(const char *p, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += 64 * KIB)
		CHECK_EQ(*(const uint64_t *)(const void *)(p + i + 8 * (i / 4096 % 500)), seed + i);
}

size_t slot_mappings(const struct zone *z)
{
	FILE *f = fopen("/proc/self/maps", "r");
	uintptr_t end = z->base + (a_load_rlx(&z->frontier) << z->shift);
	unsigned long from, to;
	char line[512];
	size_t n = 0;

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && to > z->base && from < end)
			n++;
	fclose(f);
	return n;
}

size_t slot_costs(const struct zone *z)
{
	size_t sum = 0;

	for (size_t i = 0; i < a_load_rlx(&z->frontier); i++)
		sum += slot_cost(&z->table[i]);
	return sum;
}

void slot_check_zone(enum slot_class class)
{
	const struct zone *z = zone_peek(class);

	if (z)
		CHECK(slot_mappings(z) <= 1 + slot_costs(z));
}

void slot_check_zones(void)
{
	slot_check_zone(SLOT_SMALL);
	slot_check_zone(SLOT_LARGE);
}
