/* SPDX-License-Identifier: MIT */
/*
 * Moving and exchanging what lies in slots: contents, what refusals leave, and what it costs in
 * mappings.
 */
#include "slot_fixture.h"

#include <sys/mman.h>
#include <sys/prctl.h>

TEST(outgrow)
{
	struct slot_ref ref;
	void *moved;
	char *p;
	char *q;

	slot_start();
	p = slot_take(GIB, GIB, 0);
	q = slot_take(40 * MIB, 0, 0);
	CHECK(q == p + GIB);
	slot_stamp(p, 64 * MIB, 1);
	slot_stamp(q, 40 * MIB, 2);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_outgrow(&ref, GIB + MIB, 8 * GIB, 0, &moved), 0);
	CHECK(moved != p);
	slot_check_stamp(moved, 64 * MIB, 1);
	slot_check_stamp(q, 40 * MIB, 2);
	CHECK_EQ(((char *)moved)[GIB], 0);
	CHECK_EQ(slot_ref_of(moved).count, 8);
	CHECK_EQ(slot_ref_of(moved).bytes, GIB + MIB);
	CHECK(!slot_ref_find(p, true, &ref));
	slot_check_zone(SLOT_LARGE);
	/* The place it left is free, and clean. */
	p = slot_take(MIB, 0, ALLOD_PAGE_SWAPPABLE);
	CHECK_EQ(p[0], 0);
	CHECK(slot_free(moved));
	slot_check_zone(SLOT_LARGE);
}

/* Blocks that outgrow their slot again and again use the places that others have left. */
TEST(outgrown_places_are_used_again)
{
	struct slot_ref ref;
	uint64_t frontier = 0;
	void *moved;

	slot_start();
	for (int i = 0; i < 30; i++) {
		char *p = slot_take(GIB, GIB, 0);
		char *q = slot_take(GIB, GIB, 0);
		slot_stamp(p, MIB, (unsigned char)i);
		ref = slot_ref_of(p);
		CHECK_EQ(slot_outgrow(&ref, GIB + MIB, 8 * GIB, 0, &moved), 0);
		slot_check_stamp(moved, MIB, (unsigned char)i);
		CHECK(slot_free(moved));
		CHECK(slot_free(q));
		slot_check_zone(SLOT_LARGE);
		if (i == 15)
			frontier = a_load_rlx(&zone_peek(SLOT_LARGE)->frontier);
	}
	CHECK_EQ(a_load_rlx(&zone_peek(SLOT_LARGE)->frontier), frontier);
}

TEST(outgrow_small_class)
{
	struct slot_ref ref;
	void *moved;
	char *p;

	slot_start();
	p = slot_take(4 * KIB, 32 * MIB, 0);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_resize(&ref, 32 * MIB, 0), 0);
	slot_stamp(p, 32 * MIB, 3);
	ref = slot_ref_of(p);
	CHECK_EQ(slot_outgrow(&ref, 64 * MIB, 512 * MIB, 0, &moved), 0);
	slot_check_stamp(moved, 32 * MIB, 3);
	CHECK_EQ(((char *)moved)[64 * MIB - 1], 0);
	ref = slot_ref_of(moved);
	CHECK_EQ(slot_resize(&ref, GIB, 0), 0);
	slot_stamp(moved, 128 * MIB, 4);
	(void)slot_take(GIB, GIB, 0);
	/* In two pieces now, which move one by one. */
	ref = slot_ref_of(moved);
	CHECK_EQ(slot_outgrow(&ref, 2 * GIB, 2 * GIB, 0, &moved), 0);
	slot_check_stamp(moved, 128 * MIB, 4);
	slot_check_zones();
	CHECK(slot_free(moved));
}

/* A block of several small slots lies in one large one after the other then. */
TEST(outgrow_several_small_ones)
{
	struct slot_ref ref;
	void *moved;
	char *p;

	slot_start();
	p = slot_take_small(90 * MIB);
	slot_stamp(p, 90 * MIB, 3);
	ref = slot_ref_of(p);
	CHECK_EQ(ref.count, 3);
	CHECK_EQ(slot_outgrow(&ref, 200 * MIB, 512 * MIB, 0, &moved), 0);
	slot_check_stamp(moved, 90 * MIB, 3);
	CHECK_EQ(((char *)moved)[200 * MIB - 1], 0);
	slot_check_zones();
	CHECK(slot_free(moved));
}

/* Likewise in several pieces, each of which may be refused: nothing has changed then. */
TEST(outgrow_several_small_ones_refused)
{
	struct slot_ref ref;
	struct slot *middle;
	void *moved;
	char *p;

	slot_start();
	p = slot_take_small(90 * MIB);
	slot_stamp(p, 90 * MIB, 3);
	ref = slot_ref_of(p);
	middle = &ref.zone->table[ref.pos + 1];
	CHECK(page_mappings_take(1));
	a_store_rlx(&middle->cuts[0], (uint32_t)(16 * MIB >> SLOT_CUT_SHIFT));
	a_store_rlx(&middle->n_cuts, 1);
	for (unsigned nth = 1; nth <= 4; nth++) {
		mock_fail(OS_CALL_MOVE, nth, ENOMEM);
		CHECK_EQ(slot_outgrow(&ref, 200 * MIB, 512 * MIB, 0, &moved), -ENOTSUP);
		a_store_rlx(&ref.zone->refusals, 0);
		slot_check_stamp(p, 90 * MIB, 3);
		slot_check_zone(SLOT_LARGE);
	}
	mock_reset();
	CHECK_EQ(slot_outgrow(&ref, 200 * MIB, 512 * MIB, 0, &moved), 0);
	slot_check_stamp(moved, 90 * MIB, 3);
	for (size_t i = 90 * MIB; i < 200 * MIB; i += 64 * KIB)
		CHECK_EQ(((char *)moved)[i], 0);
	slot_check_zones();
	/* In pieces that are too many it is not moved. */
	p = slot_take_small(6 * 32 * MIB);
	ref = slot_ref_of(p);
	CHECK(page_mappings_take(6 * 2));
	for (size_t i = 0; i < 6; i++)
		a_store_rlx(&ref.zone->table[ref.pos + i].origin, SLOT_ORIGIN_ELSEWHERE);
	CHECK_EQ(slot_outgrow(&ref, 400 * MIB, 512 * MIB, 0, &moved), -ENOTSUP);
}

/* Of more than a gigabyte, into several large slots. */
TEST_TIMEOUT(outgrow_many_small_ones, 60)
{
	struct slot_ref ref;
	void *moved;
	char *p;

	slot_start();
	p = slot_take_small(2 * GIB + 40 * MIB);
	slot_stamp(p, 40 * MIB, 3);
	slot_stamp(p + GIB - MIB, 2 * MIB, 4);
	slot_stamp(p + 2 * GIB - MIB, 41 * MIB, 5);
	ref = slot_ref_of(p);
	CHECK_EQ(ref.count, 66);
	/* What has come to the first large slot comes back. A gigabyte has as much shadow, or more. */
	if (!TEST_SANITIZED) {
		mock_fail(OS_CALL_MOVE, 2, ENOMEM);
		CHECK_EQ(slot_outgrow(&ref, 3 * GIB, 8 * GIB, 0, &moved), -ENOTSUP);
		slot_check_stamp(p, 40 * MIB, 3);
		slot_check_stamp(p + GIB - MIB, 2 * MIB, 4);
		slot_check_stamp(p + 2 * GIB - MIB, 41 * MIB, 5);
		a_store_rlx(&ref.zone->refusals, 0);
	}
	mock_reset();
	CHECK_EQ(slot_outgrow(&ref, 3 * GIB, 8 * GIB, 0, &moved), 0);
	p = moved;
	slot_check_stamp(p, 40 * MIB, 3);
	slot_check_stamp(p + GIB - MIB, 2 * MIB, 4);
	slot_check_stamp(p + 2 * GIB - MIB, 41 * MIB, 5);
	slot_check_zones();
	CHECK(slot_free(moved));
}

static void adopt(size_t old_bytes, size_t bytes, size_t room)
{
	struct block b;
	void *moved;
	char *p;

	slot_start();
	b = slot_take_run(old_bytes, 0, 9);
	CHECK_EQ(slot_adopt(&b, bytes, room, 0, true, &moved), 0);
	p = moved;
	CHECK_EQ(((uintptr_t)p ^ (uintptr_t)b.base) % (2 * MIB), 0);
	slot_check_stamp(p, old_bytes, 9);
	for (size_t i = old_bytes; i < bytes; i += 4 * KIB)
		CHECK_EQ(p[i], 0);
	for (size_t i = 0; i < old_bytes; i += 64 * KIB)
		CHECK_EQ(b.base[i + 8 * (i / 4096 % 500)], 0);
	slot_check_zones();
	page_free(b.base, b.bytes >> PAGE_GRANULE_SHIFT);
	CHECK(slot_free(moved));
}

TEST(adopt_small)
{
	adopt(512 * KIB, MIB, 4 * MIB);
}

TEST(adopt_large)
{
	adopt(8 * MIB, 16 * MIB, 128 * MIB);
}

TEST(adopt_aligned)
{
	struct block b;
	void *moved;

	slot_start();
	b = slot_take_run(4 * MIB, 2 * MIB, 9);
	CHECK_EQ(slot_adopt(&b, 8 * MIB, 16 * MIB, 0, false, &moved), 0);
	CHECK_EQ((uintptr_t)moved % (32 * MIB), 0);
	slot_check_stamp(moved, 4 * MIB, 9);
	slot_check_zone(SLOT_SMALL);
}

/* Exchanges two blocks of so many bytes, and back. */
static void exchange(size_t x, size_t y)
{
	char *a = slot_take(x, 3 * GIB, ALLOD_PAGE_SWAPPABLE);
	char *b = slot_take(y, 3 * GIB, ALLOD_PAGE_SWAPPABLE);
	struct slot_ref ra = slot_ref_of(a);
	struct slot_ref rb = slot_ref_of(b);

	slot_stamp(a, x, 100);
	slot_stamp(b, y, 200);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(slot_exchange(&ra, &rb), 0);
		ra = slot_ref_of(a);
		rb = slot_ref_of(b);
		CHECK_EQ(ra.bytes, i & 1 ? x : y);
		CHECK_EQ(rb.bytes, i & 1 ? y : x);
		slot_check_stamp(a, i & 1 ? x : y, i & 1 ? 100 : 200);
		slot_check_stamp(b, i & 1 ? y : x, i & 1 ? 200 : 100);
		slot_check_zone(SLOT_LARGE);
	}
	CHECK(slot_free(a));
	CHECK(slot_free(b));
}

TEST(exchange_any_sizes)
{
	/* Where faults bring huge pages, all of the blocks would be resident. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	slot_start();
	exchange(MIB, MIB);
	exchange(4 * KIB, 64 * MIB);
	exchange(GIB + 2 * MIB, 128 * KIB);
	exchange(2 * GIB + 64 * KIB, GIB + 64 * KIB);
}

TEST(exchange_small_class)
{
	struct slot_ref ra, rb;
	char *a;
	char *b;

	slot_start();
	a = slot_take(MIB, 2 * MIB, 0);
	b = slot_take(MIB, 2 * MIB, 0);
	slot_stamp(a, MIB, 1);
	slot_stamp(b, MIB, 2);
	ra = slot_ref_of(a);
	rb = slot_ref_of(b);
	CHECK_EQ(slot_exchange(&ra, &rb), 0);
	slot_check_stamp(a, MIB, 2);
	slot_check_stamp(b, MIB, 1);
	slot_check_zone(SLOT_SMALL);
}

/* Each of the three moves of an exchange is refused in turn, before or after it unmapped. */
static void refused_exchange(unsigned nth, bool copies)
{
	struct slot_ref ra, rb;
	char *a;
	char *b;

	slot_start();
	a = slot_take(MIB, 0, ALLOD_PAGE_SWAPPABLE);
	b = slot_take(3 * MIB, 0, ALLOD_PAGE_SWAPPABLE);
	slot_stamp(a, MIB, 1);
	slot_stamp(b, 3 * MIB, 2);
	ra = slot_ref_of(a);
	rb = slot_ref_of(b);
	mock_fail(OS_CALL_MOVE, nth, ENOMEM);
	CHECK_EQ(slot_exchange(&ra, &rb), copies ? 0 : -ENOTSUP);
	slot_check_stamp(a, copies ? 3 * MIB : MIB, copies ? 2 : 1);
	slot_check_stamp(b, copies ? MIB : 3 * MIB, copies ? 1 : 2);
	slot_check_zone(SLOT_LARGE);
	ra = slot_ref_of(a);
	rb = slot_ref_of(b);
	CHECK_EQ(ra.bytes, copies ? 3 * MIB : MIB);
	CHECK_EQ(slot_exchange(&ra, &rb), 0);
	slot_check_stamp(a, copies ? MIB : 3 * MIB, copies ? 1 : 2);
	slot_check_stamp(b, copies ? 3 * MIB : MIB, copies ? 2 : 1);
}

TEST(exchange_refused_1)
{
	refused_exchange(1, false);
}

TEST(exchange_refused_2)
{
	refused_exchange(2, false);
}

TEST(exchange_refused_3)
{
	refused_exchange(3, true);
}

/* In the second of two slots: what is done stays done, and the rest is copied. */
TEST(exchange_refused_late)
{
	struct slot_ref ra, rb;
	char *a;
	char *b;

	for (unsigned nth = 4; nth <= 6; nth++) {
		slot_start();
		a = slot_take(GIB + MIB, 0, ALLOD_PAGE_SWAPPABLE | ALLOD_PAGE_NO_COMMIT);
		b = slot_take(GIB + 2 * MIB, 0, ALLOD_PAGE_SWAPPABLE | ALLOD_PAGE_NO_COMMIT);
		memset(a, 1, MIB);
		memset(b, 2, MIB);
		slot_stamp(a + GIB, MIB, 1);
		slot_stamp(b + GIB, 2 * MIB, 2);
		ra = slot_ref_of(a);
		rb = slot_ref_of(b);
		mock_fail(OS_CALL_MOVE, nth, ENOMEM);
		CHECK_EQ(slot_exchange(&ra, &rb), 0);
		CHECK_EQ(a[0], 2);
		CHECK_EQ(b[0], 1);
		slot_check_stamp(a + GIB, 2 * MIB, 2);
		slot_check_stamp(b + GIB, MIB, 1);
		CHECK_EQ(slot_ref_of(a).bytes, GIB + 2 * MIB);
		slot_check_zone(SLOT_LARGE);
		CHECK(slot_free(a));
		CHECK(slot_free(b));
	}
}

TEST(outgrow_refused)
{
	struct slot_ref ref;
	void *moved = NULL;
	char *p;

	for (unsigned nth = 1; nth <= 2; nth++) {
		slot_start();
		p = slot_take(2 * GIB, 2 * GIB, ALLOD_PAGE_NO_COMMIT);
		(void)slot_take(40 * MIB, 0, 0);
		slot_stamp(p, MIB, 1);
		slot_stamp(p + GIB, MIB, 2);
		ref = slot_ref_of(p);
		a_store_rlx(&ref.zone->table[ref.pos].dirty, 2 * MIB);
		mock_fail(OS_CALL_MOVE, nth, ENOMEM);
		CHECK_EQ(slot_outgrow(&ref, 3 * GIB, 3 * GIB, 0, &moved), -ENOTSUP);
		slot_check_stamp(p, MIB, 1);
		slot_check_stamp(p + GIB, MIB, 2);
		CHECK_EQ(slot_ref_of(p).bytes, 2 * GIB);
		CHECK_EQ(slot_outgrow(&ref, 3 * GIB, 3 * GIB, 0, &moved), 0);
		slot_check_stamp(moved, MIB, 1);
		slot_check_stamp((char *)moved + GIB, MIB, 2);
		slot_check_zone(SLOT_LARGE);
	}
}

TEST(adopt_refused)
{
	struct block b;
	void *moved;

	slot_start();
	b = slot_take_run(MIB, 0, 9);
	mock_fail(OS_CALL_MOVE, 1, ENOMEM);
	CHECK_EQ(slot_adopt(&b, 2 * MIB, 2 * MIB, 0, false, &moved), -ENOTSUP);
	slot_check_stamp(b.base, MIB, 9);
	CHECK_EQ(slot_adopt(&b, 2 * MIB, 2 * MIB, 0, false, &moved), 0);
	slot_check_stamp(moved, MIB, 9);
	slot_check_zone(SLOT_SMALL);
}

/* Frees a slot, whose pages go, so that a block that moves comes there. */
static void slot_free_clean(char *p)
{
	size_t waiting = 0;

	CHECK(slot_free(p));
	CHECK_EQ(slot_giveback(UINT64_MAX, false, SIZE_MAX, &waiting), 40 * MIB);
}

/* The kernel's own refusal after it unmapped: a destination that somebody else holds is left. */
TEST(gap_is_closed)
{
	struct slot_ref ref;
	struct zone *z;
	void *moved;
	char *p;
	char *free_slot;
	size_t lost;

	slot_start();
	p = slot_take(GIB, GIB, 0);
	(void)slot_take(40 * MIB, 0, 0);
	free_slot = slot_take(40 * MIB, 0, 0);
	ref = slot_ref_of(p);
	z = ref.zone;
	slot_free_clean(free_slot);
	slot_stamp(p, MIB, 1);
	/* As a kernel leaves it that refuses late: unmapped. */
	CHECK_EQ(munmap(free_slot, GIB), 0);
	mock_fail(OS_CALL_MOVE, 1, ENOMEM);
	CHECK_EQ(slot_outgrow(&ref, GIB + MIB, GIB + MIB, 0, &moved), -ENOTSUP);
	lost = a_load_rlx(&z->lost);
	CHECK_EQ(lost, 0);
	CHECK(os_is_mapped(free_slot, GIB));
	slot_check_stamp(p, MIB, 1);
	CHECK_EQ(slot_outgrow(&ref, GIB + MIB, GIB + MIB, 0, &moved), 0);
	slot_check_stamp(moved, MIB, 1);
}

/* The same; and the gap is filled, exactly, by somebody else's mapping. */
TEST(gap_is_filled)
{
	struct slot_ref ref;
	struct zone *z;
	void *moved;
	char *p;
	char *free_slot;

	slot_start();
	p = slot_take(GIB, GIB, 0);
	(void)slot_take(40 * MIB, 0, 0);
	free_slot = slot_take(40 * MIB, 0, 0);
	ref = slot_ref_of(p);
	z = ref.zone;
	slot_free_clean(free_slot);
	slot_stamp(p, MIB, 1);
	CHECK(mmap(free_slot, GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		      -1, 0) == free_slot);
	free_slot[GIB / 2] = 7;
	mock_fail(OS_CALL_MOVE, 1, ENOMEM);
	CHECK_EQ(slot_outgrow(&ref, GIB + MIB, GIB + MIB, 0, &moved), -ENOTSUP);
	CHECK_EQ(a_load_rlx(&z->lost), 1);
	slot_check_stamp(p, MIB, 1);
	CHECK_EQ(slot_outgrow(&ref, GIB + MIB, GIB + MIB, 0, &moved), 0);
	slot_check_stamp(moved, MIB, 1);
	CHECK_EQ(free_slot[GIB / 2], 7);
}

/* Over and over with each call refused in turn: errors alone, and every byte where it was. */
TEST_TIMEOUT(refusals_swept, 20)
{
	for (int kind = 0; kind < OS_CALL_KINDS; kind++) {
		for (unsigned nth = 1; nth <= 6; nth++) {
			struct block_want want = { .flags = ALLOD_PAGE_SWAPPABLE };
			struct slot_ref ra, rb;
			void *moved;
			char *a;
			char *b;

			if (kind == OS_CALL_TASK_START)
				continue;
			slot_start();
			mock_clock_advance((uint64_t)10000000000 * (nth + 1));
			mock_fail((enum os_call)kind, nth, ENOMEM);
			if (slot_alloc(MIB, &want, &a)) {
				mock_clock_advance((uint64_t)10000000000);
				a = slot_take(MIB, 0, ALLOD_PAGE_SWAPPABLE);
			}
			slot_stamp(a, MIB, 1);
			if (slot_alloc(2 * MIB, &want, &b))
				b = slot_take(2 * MIB, 0, ALLOD_PAGE_SWAPPABLE);
			slot_stamp(b, 2 * MIB, 2);
			ra = slot_ref_of(a);
			rb = slot_ref_of(b);
			while (slot_exchange(&ra, &rb)) {
				slot_check_stamp(a, MIB, 1);
				slot_check_stamp(b, 2 * MIB, 2);
			}
			slot_check_stamp(a, 2 * MIB, 2);
			slot_check_stamp(b, MIB, 1);
			ra = slot_ref_of(a);
			if (slot_outgrow(&ra, 2 * GIB, 2 * GIB, 0, &moved))
				moved = a;
			slot_check_stamp(moved, 2 * MIB, 2);
			CHECK(slot_free(moved));
			CHECK(slot_free(b));
			slot_check_zone(SLOT_LARGE);
		}
	}
}

/*
 * Thousands of moved blocks: their mappings stay within the budget, what is beyond is refused, and
 * when they are freed and given back all is one mapping again.
 */
TEST_TIMEOUT(budget, 20)
{
	enum { BLOCKS = 400, COUNT = 2000 };
	void *moved[BLOCKS];
	size_t n = 0;

	slot_start();
	mock_facts()->max_map_count = COUNT;
	for (size_t i = 0; i < BLOCKS; i++) {
		struct block b = slot_take_run(256 * KIB, 0, i);
		if (!slot_adopt(&b, 512 * KIB, 2 * MIB, 0, false, &moved[n]))
			n++;
	}
	/* Two each of a quarter, but no more slots than an eighth. */
	CHECK(n >= COUNT / 4 / 2 - COUNT / 16);
	CHECK(n < BLOCKS);
	CHECK(slot_mappings(zone_peek(SLOT_SMALL)) <= COUNT / 4 + 1);
	for (size_t i = 0; i < n; i++)
		slot_check_stamp(moved[i], 256 * KIB, i);
	for (size_t i = 0; i < n; i++)
		CHECK(slot_free(moved[i]));
	/* As long as they are not too many, they stay, pages and all. */
	CHECK(slot_costs(zone_peek(SLOT_SMALL)) <= COUNT / 8);
	n = 0;
	CHECK(slot_giveback(UINT64_MAX, false, SIZE_MAX, &n) > 0);
	CHECK_EQ(n, 0);
	CHECK_EQ(slot_costs(zone_peek(SLOT_SMALL)), 0);
	CHECK_EQ(slot_mappings(zone_peek(SLOT_SMALL)), 1);
}
