/* SPDX-License-Identifier: MIT */
/* Slots: which blocks get one, and what is where after alloc, free, resizing and giving back. */
#include "slot_fixture.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

TEST(kinds)
{
	struct block_want plain = { 0 };
	struct block b;
	char *p;

	slot_start();
	CHECK_EQ(slot_alloc(MIB, &plain, &p), -ENOTSUP);
	CHECK_EQ(slot_alloc(32 * MIB, &plain, &p), -ENOTSUP);
	CHECK_EQ(slot_alloc(32 * MIB + 4 * KIB, &plain, &p), 0);
	CHECK_EQ((uintptr_t)p % GIB, 0);
	CHECK(slot_find(p, true, &b));
	CHECK_EQ(b.kind, BLOCK_SLOT);
	CHECK_EQ(b.bytes, 32 * MIB + 4 * KIB);
	CHECK_EQ(b.room_bytes, GIB);
	CHECK(slot_find(p + 32 * MIB, false, &b));
	CHECK(!slot_find(p + 33 * MIB, false, &b));
	CHECK(!slot_find(p + 4 * KIB, true, &b));
	CHECK(slot_free(p));
	CHECK(!slot_free(p));
	CHECK(slot_was_freed(p));
	CHECK(!slot_was_freed(p + 4 * KIB));
	CHECK(!slot_find(p, true, &b));
	p = slot_take(4 * KIB, 8 * MIB, 0);
	CHECK_EQ((uintptr_t)p % (32 * MIB), 0);
	CHECK_EQ(slot_ref_of(p).count, 1);
	CHECK(slot_free(p));
	p = slot_take(4 * KIB, 0, ALLOD_PAGE_SWAPPABLE);
	CHECK_EQ((uintptr_t)p % GIB, 0);
	CHECK(slot_free(p));
}

/* Under the thread sanitizer there are fewer addresses. */
#define FAR ((TEST_SANITIZED ? 60 : 300) * GIB)

TEST(several_slots)
{
	struct block_want far = { .align_bytes = 8 * GIB, .flags = ALLOD_PAGE_NO_COMMIT };
	struct block b;
	char *p;
	char *q;

	slot_start();
	p = slot_take(FAR + 4 * KIB, 0, ALLOD_PAGE_NO_COMMIT);
	CHECK_EQ(slot_ref_of(p).count, FAR / GIB + 1);
	p[0] = 1;
	p[FAR] = 2;
	CHECK(slot_find(p + FAR, false, &b));
	CHECK(b.base == p);
	CHECK(!slot_find(p + FAR, true, &b));
	CHECK(!slot_find(p + FAR + 4 * KIB, false, &b));
	CHECK_EQ(slot_alloc(40 * MIB, &far, &q), 0);
	CHECK_EQ((uintptr_t)q % (8 * GIB), 0);
	CHECK(slot_free(p));
	/* Again, clean where the last one wrote. */
	q = slot_take(FAR, 0, ALLOD_PAGE_NO_COMMIT | ALLOD_PAGE_ZEROED);
	CHECK(q == p);
	CHECK_EQ(q[0], 0);
	slot_check_zone(SLOT_LARGE);
}

TEST(last_freed_first)
{
	char *p[8];

	slot_start();
	for (size_t i = 0; i < 8; i++)
		p[i] = slot_take(40 * MIB, 0, 0);
	CHECK(slot_free(p[2]));
	CHECK(slot_free(p[6]));
	CHECK(slot_free(p[4]));
	CHECK(slot_take(40 * MIB, 0, 0) == p[4]);
	CHECK(slot_take(40 * MIB, 0, 0) == p[6]);
	CHECK(slot_take(40 * MIB, 0, 0) == p[2]);
}

TEST(no_call_on_a_hit)
{
	struct block_want want = { .flags = ALLOD_PAGE_CONSTANT_TIME };
	const struct mock_record *calls;
	size_t before;
	char *p;

	slot_start();
	CHECK_EQ(slot_alloc(40 * MIB, &want, &p), -ENOTSUP);
	p = slot_take(40 * MIB, 0, 0);
	CHECK(slot_free(p));
	before = mock_calls(&calls);
	CHECK_EQ(slot_alloc(40 * MIB, &want, &p), 0);
	CHECK(!slot_free(p) == 0);
	CHECK_EQ(mock_calls(&calls), before);
}

TEST(resize_in_place)
{
	struct slot_ref ref;
	struct slot *s;
	char *p;

	slot_start();
	p = slot_take(4 * KIB, 8 * MIB, 0);
	memset(p, 7, 4 * KIB);
	ref = slot_ref_of(p);
	s = &ref.zone->table[ref.pos];
	CHECK_EQ(slot_resize(&ref, 16 * MIB, 0), 0);
	CHECK_EQ(a_load_rlx(&s->dirty), 16 * MIB);
	memset(p, 8, 16 * MIB);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_resize(&ref, MIB, 0), 0);
	/* The tail went back to the system. */
	CHECK_EQ(a_load_rlx(&s->dirty), MIB);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_resize(&ref, 2 * MIB, 0), 0);
	for (size_t i = MIB; i < 2 * MIB; i += 4 * KIB)
		CHECK_EQ(p[i], 0);
	CHECK_EQ(p[MIB - 1], 8);
	/* Refused: it keeps what it holds, and is told to be cleared. */
	memset(p, 9, 2 * MIB);
	ref = slot_ref_of(p);
	mock_fail(OS_CALL_DECOMMIT, 1, EINVAL);
	CHECK_EQ(slot_resize(&ref, MIB, 0), 0);
	CHECK_EQ(a_load_rlx(&s->dirty), 2 * MIB);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_resize(&ref, 3 * MIB, ALLOD_PAGE_ZEROED), 0);
	for (size_t i = MIB; i < 3 * MIB; i += 4 * KIB)
		CHECK_EQ(p[i], 0);
	CHECK_EQ(p[MIB - 1], 9);
}

/* A block shrinks in a slot that was fuller before: what is behind it is not taken for zero. */
TEST(shrink_in_a_used_slot)
{
	struct slot_ref ref;
	char *p;

	slot_start();
	p = slot_take(4 * MIB, 8 * MIB, 0);
	memset(p, 7, 4 * MIB);
	CHECK(slot_free(p));
	CHECK(slot_take(MIB, 8 * MIB, 0) == p);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_resize(&ref, 64 * KIB, 0), 0);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_resize(&ref, 4 * MIB, ALLOD_PAGE_ZEROED), 0);
	for (size_t i = 64 * KIB; i < 4 * MIB; i += 4 * KIB)
		CHECK_EQ(p[i], 0);
}

TEST(grow_over_slots)
{
	struct slot_ref ref;
	char *p;
	char *q;

	slot_start();
	p = slot_take(GIB, GIB, 0);
	slot_stamp(p, 16 * MIB, 5);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_resize(&ref, 3 * GIB, 0), 0);
	p[3 * GIB - 1] = 1;
	q = slot_take(40 * MIB, 0, 0);
	CHECK(q == p + 3 * GIB);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_resize(&ref, 3 * GIB + 4 * KIB, 0), -ENOSPC);
	CHECK_EQ(slot_room(&ref), 3 * GIB);
	CHECK_EQ(slot_resize(&ref, 2 * GIB, 0), 0);
	ref = slot_ref_of(p);
	CHECK_EQ(ref.count, 2);
	CHECK_EQ(slot_room(&ref), 3 * GIB);
	slot_check_stamp(p, 16 * MIB, 5);
}

TEST(no_zone)
{
	struct block_want want = { .flags = ALLOD_PAGE_SWAPPABLE };
	char *p;

	slot_start();
	mock_facts()->overcommit_mode = 2;
	CHECK_EQ(slot_alloc(MIB, &want, &p), -ENOTSUP);
	slot_start();
	mock_facts()->data_limit_bytes = 8 * GIB;
	CHECK_EQ(slot_alloc(MIB, &want, &p), -ENOTSUP);
	slot_start();
	mock_facts()->address_limit_bytes = 8 * GIB;
	CHECK_EQ(slot_alloc(MIB, &want, &p), -ENOTSUP);
	slot_start();
	mock_facts()->under_valgrind = true;
	CHECK_EQ(slot_alloc(MIB, &want, &p), -ENOTSUP);
	slot_start();
	mock_facts()->max_map_count = 100;
	CHECK_EQ(slot_alloc(MIB, &want, &p), -ENOTSUP);
}

/* As many slots again become accessible with those in use, and begin where free ones lie. */
TEST_PLAIN(frontier_goes_ahead)
{
	struct block_want want = { .flags = ALLOD_PAGE_SWAPPABLE, .reserve_bytes = 8 * GIB };
	struct zone *z;
	unsigned calls;
	char *a;
	char *b;
	char *p;

	slot_start();
	a = slot_take(4 * GIB, 4 * GIB, 0);
	z = zone_peek(SLOT_LARGE);
	CHECK_EQ(a_load_rlx(&z->frontier), 8);
	calls = mock_count(OS_CALL_COMMIT);
	b = slot_take(GIB, GIB, 0);
	CHECK(b == a + 4 * GIB);
	CHECK_EQ(mock_count(OS_CALL_COMMIT), calls);
	/* Refused: nothing is lost, and the next one has it all. */
	mock_fail(OS_CALL_COMMIT, 1, ENOMEM);
	CHECK_EQ(slot_alloc(GIB, &want, &p), -ENOTSUP);
	CHECK_EQ(a_load_rlx(&z->frontier), 8);
	CHECK_EQ(a_load_rlx(&z->lost), 0);
	p = slot_take(GIB, 8 * GIB, 0);
	CHECK(p == b + GIB);
	CHECK_EQ(a_load_rlx(&z->frontier), 26);
	memset(p + GIB - 4 * KIB, 1, 4 * KIB);
	CHECK(slot_free(a));
	CHECK(slot_free(b));
	CHECK(slot_free(p));
	slot_check_zone(SLOT_LARGE);
}

/* A look at the first free slots finds none without pages, but those below the frontier are so. */
TEST_PLAIN(frontier_stays)
{
	struct zone *z;
	uint64_t frontier;
	size_t pos;

	slot_start();
	z = zone_get(SLOT_LARGE, true);
	CHECK(z != NULL);
	for (size_t i = 0; i < 70; i++) {
		CHECK_EQ(zone_take(z, 1, 1, true), i);
		a_store_rlx(&z->table[i].dirty, MIB);
	}
	for (size_t i = 0; i < 70; i++)
		zone_put(z, i, 1);
	frontier = a_load_rlx(&z->frontier);
	CHECK(frontier > 70);
	pos = zone_take_empty(z, 1, 1, ZONE_CLEAN);
	CHECK_EQ(pos, frontier - 1);
	CHECK_EQ(a_load_rlx(&z->frontier), frontier);
	zone_put(z, pos, 1);
}

TEST_PLAIN(smaller_zone)
{
	slot_start();
	mock_facts()->address_limit_bytes = 1024 * GIB;
	(void)slot_take(MIB, 0, ALLOD_PAGE_SWAPPABLE);
	CHECK_EQ(zone_peek(SLOT_LARGE)->slots, 127);
	mock_fail(OS_CALL_RESERVE, 1, ENOMEM);
	(void)slot_take(MIB, 2 * MIB, 0);
	CHECK_EQ(zone_peek(SLOT_SMALL)->slots, 2047);
}

/* A zone that fails is tried again a second later. */
TEST(zone_retried)
{
	struct block_want want = { .flags = ALLOD_PAGE_SWAPPABLE };
	char *p;

	slot_start();
	mock_fail_all_after(OS_CALL_RESERVE, 0);
	CHECK_EQ(slot_alloc(MIB, &want, &p), -ENOTSUP);
	mock_reset();
	CHECK_EQ(slot_alloc(MIB, &want, &p), -ENOTSUP);
	mock_clock_advance(2000000000);
	CHECK_EQ(slot_alloc(MIB, &want, &p), 0);
}

#if !TEST_SANITIZED
static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long total, pages;

	CHECK(f != NULL);
	CHECK_EQ(fscanf(f, "%lu %lu", &total, &pages), 2);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Locked memory: no slot is filled with pages for nothing. */
TEST(locked_before)
{
	struct block_want want = { .flags = ALLOD_PAGE_SWAPPABLE };
	char *p;

	slot_start();
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		SKIP("mlockall: %s", strerror(errno));
	CHECK_EQ(slot_alloc(MIB, &want, &p), -ENOTSUP);
	CHECK(resident() < 256 * MIB);
}

TEST(locked_after)
{
	struct block_want want = { .flags = 0, .reserve_bytes = 8 * MIB };
	struct slot_ref ref;
	void *moved;
	char *p;

	slot_start();
	p = slot_take(MIB, 8 * MIB, 0);
	slot_stamp(p, MIB, 1);
	if (mlockall(MCL_FUTURE))
		SKIP("mlockall: %s", strerror(errno));
	/* A fresh mapping would come with all its pages: the slot is emptied where it is. */
	ref = slot_ref_of(p);
	a_store_rlx(&ref.zone->table[ref.pos].origin, SLOT_ORIGIN_ELSEWHERE);
	CHECK(page_mappings_take(2));
	CHECK(slot_refresh(ref.zone, ref.pos));
	CHECK(resident() < 256 * MIB);
	CHECK_EQ(slot_alloc(MIB, &want, &p), 0);
	moved = p;
	CHECK(slot_free(moved));
	CHECK(resident() < 256 * MIB);
}
#endif

TEST(giveback)
{
	size_t waiting = 0;
	char *a;
	char *b;
	char *c;

	slot_start();
	a = slot_take(40 * MIB, 0, 0);
	b = slot_take(MIB, 8 * MIB, 0);
	c = slot_take(2 * MIB, 8 * MIB, 0);
	slot_stamp(a, 40 * MIB, 1);
	slot_stamp(b, MIB, 1);
	CHECK_EQ(slot_giveback(UINT64_MAX, false, SIZE_MAX, &waiting), 0);
	CHECK(slot_free(a));
	mock_clock_advance(1000);
	CHECK(slot_free(b));
	CHECK_EQ(slot_giveback(os_now_ns(), true, SIZE_MAX, &waiting), 40 * MIB);
	CHECK_EQ(waiting, MIB);
	/* Not twice. */
	waiting = 0;
	CHECK_EQ(slot_giveback(os_now_ns(), true, SIZE_MAX, &waiting), 0);
	mock_fail(OS_CALL_DECOMMIT, 1, EINVAL);
	CHECK_EQ(slot_giveback(UINT64_MAX, false, SIZE_MAX, &waiting), 40 * MIB);
	CHECK_EQ(slot_giveback(UINT64_MAX, false, SIZE_MAX, &waiting), MIB);
	CHECK_EQ(slot_giveback(UINT64_MAX, false, SIZE_MAX, &waiting), 0);
	CHECK(slot_free(c));
	a = slot_take(40 * MIB, 0, ALLOD_PAGE_ZEROED);
	for (size_t i = 0; i < 40 * MIB; i += 4 * KIB)
		CHECK_EQ(a[i], 0);
}

TEST(giveback_by_hand)
{
	struct slot_idle it = { 0 };
	char *p[3];
	size_t n = 0;

	slot_start();
	for (int i = 0; i < 3; i++)
		p[i] = slot_take(MIB, 0, ALLOD_PAGE_SWAPPABLE);
	for (int i = 0; i < 3; i++)
		CHECK(slot_free(p[i]));
	while (slot_idle_next(&it)) {
		CHECK(slot_idle_take(&it));
		/* Held: not to be had by others. */
		CHECK(slot_take(MIB, 0, ALLOD_PAGE_SWAPPABLE) != slot_address(it.zone, it.pos));
		CHECK_EQ(slot_idle_drop(&it, false), MIB);
		slot_idle_put(&it);
		n++;
	}
	CHECK_EQ(n, 2);
}
