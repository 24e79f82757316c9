/* SPDX-License-Identifier: MIT */
/*
 * Places made ready for blocks that outgrow their slot: what a call costs that finds one, and what
 * refusals leave.
 */
#include "slot_fixture.h"

#include <sys/mman.h>

enum { BLOCKS = 14 };

static int outgrow(char **block)
{
	struct slot_ref ref = slot_ref_of(*block);
	void *moved;
	int ret = slot_outgrow(&ref, GIB + 4 * KIB, 8 * GIB + 32 * KIB, 0, &moved);

	if (!ret)
		*block = moved;
	return ret;
}

/* The first time none are made. */
static void outgrow_last(char **blocks)
{
	const struct zone *z = zone_peek(SLOT_LARGE);

	CHECK_EQ(outgrow(&blocks[BLOCKS - 1]), 0);
	CHECK_EQ(a_load_rlx(&z->berths[0]), 0);
}

/* Blocks in a slot each, with others between, so that none can grow where it is. */
static void make_blocks(char **ret_blocks)
{
	slot_start();
	for (int i = 0; i < BLOCKS; i++) {
		ret_blocks[i] = slot_take(64 * MIB, 0, 0);
		(void)slot_take(64 * MIB, 0, 0);
		slot_stamp(ret_blocks[i], MIB, (unsigned)i);
	}
	if (zone_peek(SLOT_LARGE)->slots < 64 * SLOT_BERTHS * SLOT_BERTH_SLOTS)
		test_skip("a zone of so few slots has no berths");
	outgrow_last(ret_blocks);
}

static size_t berths_of(const struct zone *z)
{
	size_t n = 0;

	for (int i = 0; i < SLOT_BERTHS; i++)
		n += a_load_rlx(&z->berths[i]) != 0;
	return n;
}

/* By outgrowing the first block. */
static size_t make_berths(char **blocks)
{
	size_t n;

	CHECK_EQ(outgrow(&blocks[0]), 0);
	n = berths_of(zone_peek(SLOT_LARGE));
	CHECK(n > 1);
	return n;
}

static size_t calls_but_moves(void)
{
	size_t n = 0;

	for (int kind = 0; kind < OS_CALL_KINDS; kind++)
		n += kind == OS_CALL_MOVE ? 0 : mock_count((enum os_call)kind);
	return n;
}

/* All that they hold is there, and their mappings are as counted. */
static void check_blocks(char *const *blocks)
{
	for (int i = 0; i < BLOCKS; i++)
		slot_check_stamp(blocks[i], MIB, (unsigned)i);
	slot_check_zone(SLOT_LARGE);
}

TEST(who_finds_a_berth_makes_one_call)
{
	char *blocks[BLOCKS];
	size_t alone = 0;
	size_t n = 0;

	make_blocks(blocks);
	for (int i = 0; i + 1 < BLOCKS; i++) {
		size_t ready = berths_of(zone_peek(SLOT_LARGE));
		size_t others = calls_but_moves();
		unsigned moves = mock_count(OS_CALL_MOVE);

		CHECK_EQ(outgrow(&blocks[i]), 0);
		CHECK_EQ(mock_count(OS_CALL_MOVE), moves + 1);
		CHECK_EQ(slot_ref_of(blocks[i]).count, SLOT_BERTH_SLOTS);
		if (ready > 1)
			CHECK_EQ(calls_but_moves(), others);
		alone += ready > 1;
		check_blocks(blocks);
		/* The room behind is there. */
		blocks[i][GIB] = 1;
	}
	CHECK(alone >= BLOCKS / 2);
	for (int i = 0; i < BLOCKS; i++)
		CHECK(slot_free(blocks[i]));
	(void)slot_giveback(UINT64_MAX, false, SIZE_MAX, &n);
	CHECK_EQ(slot_costs(zone_peek(SLOT_LARGE)), 2 * berths_of(zone_peek(SLOT_LARGE)));
	slot_check_zone(SLOT_LARGE);
}

/* A block that needs less leaves the rest of the room to others. */
TEST(less_room_than_a_berth_has)
{
	char *blocks[BLOCKS];
	struct slot_ref ref;
	size_t free_slots;
	size_t ready;
	void *moved;

	make_blocks(blocks);
	ready = make_berths(blocks);
	free_slots = bitmap_free_count(&zone_peek(SLOT_LARGE)->map);
	ref = slot_ref_of(blocks[1]);
	CHECK_EQ(slot_outgrow(&ref, GIB + 4 * KIB, GIB + 4 * KIB, 0, &moved), 0);
	blocks[1] = moved;
	CHECK_EQ(slot_ref_of(moved).count, 2);
	CHECK_EQ(berths_of(zone_peek(SLOT_LARGE)), ready - 1);
	CHECK_EQ(bitmap_free_count(&zone_peek(SLOT_LARGE)->map),
		free_slots + 1 + SLOT_BERTH_SLOTS - 2);
	check_blocks(blocks);
}

/* A gigabyte has a second slot behind it, so it is larger when it moves: half of the room will do. */
TEST(more_room_than_a_berth_has)
{
	char *blocks[BLOCKS];
	struct slot_ref ref;
	size_t ready;
	void *moved;

	make_blocks(blocks);
	ready = make_berths(blocks);
	ref = slot_ref_of(blocks[1]);
	CHECK_EQ(slot_outgrow(&ref, 2 * GIB + 4 * KIB, 16 * GIB + 32 * KIB, 0, &moved), 0);
	blocks[1] = moved;
	CHECK_EQ(slot_ref_of(moved).count, SLOT_BERTH_SLOTS);
	CHECK_EQ(berths_of(zone_peek(SLOT_LARGE)), ready - 1);
	ref = slot_ref_of(blocks[2]);
	CHECK_EQ(slot_outgrow(&ref, 4 * GIB, 32 * GIB, 0, &moved), 0);
	blocks[2] = moved;
	CHECK_EQ(slot_ref_of(moved).count, 32);
	CHECK_EQ(berths_of(zone_peek(SLOT_LARGE)), ready - 1);
	check_blocks(blocks);
}

/*
 * The move into a berth is refused: for want of mappings, before the kernel unmaps it; late; or for
 * no reason that could be seen, and then its first slot may be a stranger's, and is given up.
 */
static void refused(bool full, bool late)
{
	size_t lost = !full && !late;
	char *blocks[BLOCKS];
	struct zone *z;
	size_t free_slots;

	make_blocks(blocks);
	(void)make_berths(blocks);
	z = zone_peek(SLOT_LARGE);
	free_slots = bitmap_free_count(&z->map);
	if (full)
		mock_map_count_set(mock_facts()->max_map_count);
	if (late)
		CHECK_EQ(munmap(slot_address(z, a_load_rlx(&z->berths[0]) - 1), GIB), 0);
	mock_fail(OS_CALL_MOVE, 1, ENOMEM);
	CHECK_EQ(outgrow(&blocks[1]), -ENOTSUP);
	mock_map_count_set(0);
	CHECK_EQ(a_load_rlx(&z->lost), lost);
	CHECK_EQ(bitmap_free_count(&z->map), free_slots + SLOT_BERTH_SLOTS - lost);
	check_blocks(blocks);
	for (int i = 1; i + 1 < BLOCKS; i++)
		CHECK_EQ(outgrow(&blocks[i]), 0);
	check_blocks(blocks);
}

TEST(refused_for_want_of_mappings)
{
	refused(true, false);
}

TEST(refused_late)
{
	refused(false, true);
}

TEST(refused_for_no_reason)
{
	refused(false, false);
}

/* Where none can be made blocks move as ever. */
static void none_made(int error)
{
	char *blocks[BLOCKS];

	make_blocks(blocks);
	for (unsigned nth = 1; nth <= SLOT_BERTHS; nth++) {
		mock_fail(OS_CALL_HUGE, nth, error);
		CHECK_EQ(outgrow(&blocks[nth]), 0);
		CHECK(berths_of(zone_peek(SLOT_LARGE)) < SLOT_BERTHS);
		check_blocks(blocks);
		for (int i = 0; i < SLOT_BERTHS; i++) {
			size_t pos = berth_take(zone_peek(SLOT_LARGE), SLOT_BERTH_SLOTS);
			if (pos != BITMAP_NONE)
				zone_put(zone_peek(SLOT_LARGE), pos, SLOT_BERTH_SLOTS);
		}
	}
	check_blocks(blocks);
}

TEST(not_known_to_the_kernel)
{
	none_made(EINVAL);
}

TEST(no_mappings_left)
{
	none_made(ENOMEM);
}
