/* SPDX-License-Identifier: MIT */
/* Resizing blocks of every kind: where they are, by moving, by copying; and what forbids each. */
#include "base/options.h"
#include "slot_fixture.h"

static char *make(size_t bytes, size_t reserve, unsigned flags)
{
	const struct block_want want = { .flags = flags, .reserve_bytes = reserve };
	void *p = NULL;

	CHECK_EQ(block_alloc(bytes, &want, &p), 0);
	return p;
}

static char *resize(char *p, size_t bytes, unsigned flags)
{
	void *q = NULL;

	CHECK_EQ(block_resize(p, bytes, flags, &q), 0);
	return q;
}

static int resize_error(char *p, size_t bytes, unsigned flags)
{
	void *q = NULL;
	int ret = block_resize(p, bytes, flags, &q);

	CHECK(ret != 0 || q != NULL);
	return ret;
}

static struct block told(const char *p)
{
	struct block b;

	CHECK(block_find(p, &b));
	return b;
}

static size_t room(const char *p)
{
	struct block b = told(p);

	return block_room(&b);
}

/* A number in each page. */
static void fill(char *p, size_t bytes, char seed)
{
	for (size_t i = 0; i < bytes; i += 4 * KIB)
		memset(p + i, seed + (char)(i >> 12), 64);
}

static void check_fill(const char *p, size_t bytes, char seed)
{
	for (size_t i = 0; i < bytes; i += 4 * KIB)
		for (size_t k = 0; k < 64; k += 21)
			CHECK_EQ(p[i + k], (char)(seed + (char)(i >> 12)));
}

static void check_zero(const char *p, size_t from, size_t end)
{
	for (size_t i = from; i < end; i += 64)
		CHECK_EQ(p[i], 0);
}

TEST(piece_grows_into_free_pages)
{
	char *a;
	char *b;

	slot_start();
	a = make(8 * KIB, 0, 0);
	fill(a, 8 * KIB, 1);
	CHECK_EQ(told(a).kind, BLOCK_PIECE);
	CHECK_EQ(room(a), 60 * KIB);
	CHECK(resize(a, 20 * KIB, 0) == a);
	CHECK_EQ(told(a).bytes, 20 * KIB);
	b = make(4 * KIB, 0, 0);
	CHECK(b == a + 20 * KIB);
	CHECK_EQ(room(a), 20 * KIB);
	CHECK_EQ(resize_error(a, 24 * KIB, ALLOD_PAGE_IN_PLACE), -ENOSPC);
	check_fill(a, 8 * KIB, 1);
	/* What it gives up, others get. */
	memset(a + 8 * KIB, 9, 12 * KIB);
	CHECK(resize(a, 4 * KIB, 0) == a);
	CHECK_EQ(told(a).bytes, 4 * KIB);
	CHECK_EQ(told(b).bytes, 4 * KIB);
	CHECK_EQ(room(a), 20 * KIB);
	CHECK(resize(a, 20 * KIB, ALLOD_PAGE_ZEROED) == a);
	check_zero(a, 4 * KIB, 20 * KIB);
	check_fill(a, 4 * KIB, 1);
	block_free(a);
	block_free(b);
}

/* Pieces that fill a granule, shrink, and go, in any order: its pages are never lost. */
TEST(pieces_resized_at_random)
{
	uint64_t state = test_seed();
	char *p[64] = { 0 };
	size_t bytes[64];

	slot_start();
	for (int n = 0; n < 200000; n++) {
		size_t i = test_random(&state) % 64;
		size_t want = (test_random(&state) % 15 + 1) * 4 * KIB;
		void *q;
		if (!p[i]) {
			p[i] = make(want, 0, 0);
			bytes[i] = want;
		} else if (test_random(&state) % 4 == 0) {
			CHECK_EQ(p[i][0], (char)i);
			CHECK_EQ(p[i][bytes[i] - 1], (char)i);
			block_free(p[i]);
			p[i] = NULL;
			continue;
		} else if (!block_resize(p[i], want, ALLOD_PAGE_IN_PLACE, &q)) {
			CHECK(q == p[i]);
			CHECK_EQ(p[i][0], (char)i);
			CHECK_EQ(told(p[i]).bytes, want);
			bytes[i] = want;
		} else {
			CHECK(want > bytes[i]);
		}
		p[i][0] = p[i][bytes[i] - 1] = (char)i;
	}
	for (size_t i = 0; i < 64; i++)
		if (p[i])
			block_free(p[i]);
	CHECK(page_check());
}

TEST(run_in_place)
{
	char *a;
	char *b;

	slot_start();
	a = make(128 * KIB, 0, 0);
	fill(a, 128 * KIB, 3);
	CHECK_EQ(told(a).kind, BLOCK_RUN);
	CHECK(room(a) > 256 * KIB);
	CHECK(resize(a, 256 * KIB, ALLOD_PAGE_IN_PLACE) == a);
	b = make(64 * KIB, 0, 0);
	CHECK(b == a + 256 * KIB);
	CHECK_EQ(room(a), 256 * KIB);
	CHECK_EQ(resize_error(a, 260 * KIB, ALLOD_PAGE_IN_PLACE), -ENOSPC);
	memset(a + 128 * KIB, 9, 128 * KIB);
	CHECK(resize(a, 64 * KIB, 0) == a);
	CHECK_EQ(told(a).bytes, 64 * KIB);
	/* The tail is free for others, and was not cleared. */
	CHECK(resize(a, 256 * KIB, ALLOD_PAGE_ZEROED) == a);
	check_zero(a, 64 * KIB, 256 * KIB);
	check_fill(a, 64 * KIB, 3);
	block_free(a);
	block_free(b);
	CHECK(page_check());
}

TEST(run_with_room)
{
	char *a;

	slot_start();
	a = make(64 * KIB, 192 * KIB, 0);
	CHECK_EQ(told(a).kind, BLOCK_RUN);
	CHECK(room(a) >= 192 * KIB);
	(void)make(64 * KIB, 0, 0);
	CHECK_EQ(told(a).room_bytes, 192 * KIB);
	CHECK(resize(a, 192 * KIB, 0) == a);
	memset(a, 5, 192 * KIB);
	/* Its room stays, and what it gave up went back. */
	CHECK(resize(a, 64 * KIB, 0) == a);
	CHECK_EQ(told(a).room_bytes, 192 * KIB);
	CHECK(resize(a, 128 * KIB, ALLOD_PAGE_ZEROED) == a);
	check_zero(a, 64 * KIB, 128 * KIB);
	CHECK_EQ(a[64 * KIB - 1], 5);
	block_free(a);
	CHECK(page_check());
}

/* Each of the ways to leave a place; contents, and zeroes behind them. */
static void elsewhere(size_t bytes, size_t grown, unsigned flags, enum block_kind kind, bool moves)
{
	char *a = make(bytes, 0, 0);
	char *b = NULL;
	struct block behind;
	unsigned before = mock_count(OS_CALL_MOVE);
	char *q;

	/* Something in its way. */
	while (!block_holding(a + told(a).bytes, &behind))
		b = make(bytes <= 60 * KIB ? 4 * KIB : 64 * KIB, 0, 0);
	fill(a, bytes, 7);
	q = resize(a, grown, flags | ALLOD_PAGE_ZEROED);
	CHECK(q != a);
	CHECK_EQ(told(q).kind, kind);
	CHECK(told(q).bytes >= grown);
	CHECK_EQ(mock_count(OS_CALL_MOVE) - before, moves);
	check_fill(q, bytes, 7);
	check_zero(q, bytes, grown);
	block_free(q);
	if (b)
		block_free(b);
	CHECK(page_check());
	slot_check_zone(SLOT_SMALL);
	slot_check_zone(SLOT_LARGE);
}

TEST(elsewhere_by_copying)
{
	slot_start();
	elsewhere(4 * KIB, 60 * KIB, 0, BLOCK_PIECE, false);
	elsewhere(32 * KIB, 100 * KIB, 0, BLOCK_RUN, false);
	elsewhere(192 * KIB, MIB, 0, BLOCK_RUN, false);
}

TEST(elsewhere_by_moving)
{
	slot_start();
	elsewhere(MIB, 2 * MIB, 0, BLOCK_SLOT, true);
	elsewhere(16 * MIB, 20 * MIB, 0, BLOCK_SLOT, true);
	elsewhere(128 * KIB, 256 * KIB, ALLOD_PAGE_NO_COPY, BLOCK_SLOT, true);
}

/* Into pages that lie ready: no move, for it would leave a place without pages. */
TEST(elsewhere_into_warm_pages)
{
	char *slot;

	slot_start();
	slot = make(4 * MIB, 8 * MIB, 0);
	memset(slot, 1, 4 * MIB);
	block_free(slot);
	elsewhere(2 * MIB, 3 * MIB, 0, BLOCK_SLOT, false);
	elsewhere(MIB, 3 * MIB, ALLOD_PAGE_NO_COPY, BLOCK_SLOT, true);
}

TEST(what_forbids)
{
	char *a;

	slot_start();
	a = make(MIB, 0, ALLOD_PAGE_FIXED);
	fill(a, MIB, 1);
	(void)make(64 * KIB, 0, 0);
	CHECK_EQ(resize_error(a, 2 * MIB, 0), -ENOSPC);
	CHECK(resize(a, 512 * KIB, 0) == a);
	a = make(4 * KIB, 0, 0);
	(void)make(4 * KIB, 0, 0);
	CHECK_EQ(resize_error(a, 64 * KIB, ALLOD_PAGE_IN_PLACE), -ENOSPC);
	CHECK_EQ(resize_error(a, 64 * KIB, ALLOD_PAGE_NO_COPY), -ENOSPC);
	CHECK_EQ(resize_error(a, (size_t)PTRDIFF_MAX + 4096, 0), -ENOMEM);
	CHECK_EQ(resize_error(a, SIZE_MAX, 0), -ENOMEM);
	CHECK_EQ(told(a).bytes, 4 * KIB);
}

TEST(constant_time_makes_no_call)
{
	const struct mock_record *calls;
	size_t before;
	char *a;
	char *q;

	slot_start();
	a = make(64 * KIB, 0, 0);
	q = make(MIB, 8 * MIB, 0);
	memset(q, 1, MIB);
	before = mock_calls(&calls);
	CHECK(resize(q, 6 * MIB, ALLOD_PAGE_CONSTANT_TIME) == q);
	CHECK(resize(q, MIB, ALLOD_PAGE_CONSTANT_TIME) == q);
	CHECK_EQ(resize_error(a, 512 * MIB, ALLOD_PAGE_CONSTANT_TIME), -EAGAIN);
	CHECK_EQ(mock_calls(&calls), before);
	/* What was not given back is not taken for zero. */
	CHECK(resize(q, 2 * MIB, ALLOD_PAGE_ZEROED) == q);
	check_zero(q, MIB, 2 * MIB);
}

/* Neither does what is given up by it: the next free sees to that. */
TEST(constant_time_keeps_no_house)
{
	unsigned starts;
	unsigned reads;
	char *a;

	slot_start();
	options.background = OPTION_BACKGROUND_AUTO;
	a = make(30 * MIB, 0, 0);
	CHECK_EQ(told(a).kind, BLOCK_RUN);
	fill(a, 30 * MIB, 1);
	starts = mock_count(OS_CALL_TASK_START);
	reads = mock_count(OS_CALL_FILE_READ);
	CHECK(resize(a, MIB, ALLOD_PAGE_CONSTANT_TIME) == a);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), starts);
	CHECK_EQ(mock_count(OS_CALL_FILE_READ), reads);
	block_free(a);
	CHECK_EQ(mock_count(OS_CALL_TASK_START), starts + 1);
	CHECK(mock_count(OS_CALL_FILE_READ) > reads);
}

TEST(loose_in_place)
{
	char *a;

	slot_start();
	mock_facts()->data_limit_bytes = (uint64_t)1 << 45;
	a = make(64 * MIB, 96 * MIB, 0);
	CHECK_EQ(told(a).kind, BLOCK_LOOSE);
	fill(a, 64 * MIB, 2);
	CHECK(resize(a, 96 * MIB, ALLOD_PAGE_IN_PLACE) == a);
	CHECK(resize(a, 40 * MIB, 0) == a);
	CHECK_EQ(told(a).bytes, 40 * MIB);
	CHECK(room(a) >= 96 * MIB);
	CHECK(resize(a, 41 * MIB, ALLOD_PAGE_ZEROED) == a);
	check_zero(a, 40 * MIB, 41 * MIB);
	check_fill(a, 40 * MIB, 2);
	block_free(a);
}

/* A mapping of its own that cannot grow where it is moves as one, again and again. */
TEST(loose_moves)
{
	const struct block_want want = { .flags = ALLOD_PAGE_NODE, .tag = "node" };
	size_t bytes = 6 * MIB;
	void *p;
	char *a;
	char *b;

	slot_start();
	CHECK_EQ(block_alloc(bytes, &want, &p), 0);
	a = p;
	fill(a, bytes, 3);
	for (int i = 0; i < 4; i++, bytes *= 2, a = b) {
		unsigned moves = mock_count(OS_CALL_MOVE);
		mock_fail(OS_CALL_GROW, 1, ENOMEM);
		b = resize(a, 2 * bytes, i % 2 ? ALLOD_PAGE_NO_COPY : 0);
		CHECK_EQ(mock_count(OS_CALL_MOVE), moves + 1);
		CHECK(b != a);
		CHECK_EQ((uintptr_t)a % (2 * MIB), (uintptr_t)b % (2 * MIB));
		check_fill(b, 6 * MIB, 3);
		check_zero(b, bytes, 2 * bytes);
		CHECK_EQ(told(b).kind, BLOCK_LOOSE);
		CHECK_EQ(told(b).bytes, 2 * bytes);
		CHECK(told(b).flags & ALLOD_PAGE_NODE);
		CHECK_EQ(a_load_rlx(loose_tag(b)), tag_number("node"));
		CHECK(loose_was_freed(a));
	}
	/* What was not given back when it shrank is cleared if that is asked for. */
	CHECK(resize(a, 6 * MIB, ALLOD_PAGE_CONSTANT_TIME) == a);
	memset(a + 6 * MIB, 1, MIB);
	mock_fail(OS_CALL_GROW, 1, ENOMEM);
	b = resize(a, 2 * bytes, ALLOD_PAGE_ZEROED);
	check_fill(b, 6 * MIB, 3);
	check_zero(b, 6 * MIB, 2 * bytes);
	block_free(b);
}

/* Whatever is refused: it is the same block, or a copy of it. */
TEST(loose_moves_refused)
{
	static const enum os_call kinds[] = { OS_CALL_RESERVE, OS_CALL_MOVE, OS_CALL_UNMAP };
	const struct block_want want = { .flags = ALLOD_PAGE_NODE };
	struct page_stats before, after;
	void *p;
	char *a;

	slot_start();
	page_stats(&before);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		CHECK_EQ(block_alloc(6 * MIB, &want, &p), 0);
		fill(p, 6 * MIB, 4);
		mock_fail(OS_CALL_GROW, 1, ENOMEM);
		mock_fail(kinds[i], 1, ENOMEM);
		a = resize(p, 12 * MIB, 0);
		check_fill(a, 6 * MIB, 4);
		block_free(a);
		CHECK_EQ(block_alloc(6 * MIB, &want, &p), 0);
		mock_fail(OS_CALL_GROW, 1, ENOMEM);
		mock_fail_all_after(kinds[i], 0);
		if (resize_error(p, 12 * MIB, ALLOD_PAGE_NO_COPY) == -ENOSPC)
			CHECK_EQ(told(p).bytes, 6 * MIB);
		else
			p = NULL;
		mock_reset();
		if (p)
			block_free(p);
	}
	page_stats(&after);
	CHECK(after.direct_runs <= before.direct_runs + 1);
}

TEST(names_go_along)
{
	const struct block_want want = { .tag = "matrix", .align_bytes = 64 * KIB };
	struct slot_ref ref;
	void *p;
	char *q;

	slot_start();
	CHECK_EQ(block_alloc(MIB, &want, &p), 0);
	(void)make(64 * KIB, 0, 0);
	q = resize(p, 2 * MIB, 0);
	CHECK(slot_ref_find(q, true, &ref));
	CHECK_EQ(a_load_rlx(&ref.zone->table[ref.pos].tag), tag_number("matrix"));
	CHECK_EQ(block_alloc(64 * KIB, &want, &p), 0);
	(void)make(64 * KIB, 0, 0);
	q = resize(p, 128 * KIB, 0);
	CHECK(q != p);
	CHECK_EQ(a_load_rlx(&unit_of(q)->tag), tag_number("matrix"));
}

/* Blocks with room for growing charge nobody's account: what they take is addresses. */
TEST(room_is_not_charged)
{
	struct page_stats before, after;
	char *p[1047];

	slot_start();
	(void)make(64 * KIB, 0, 0);
	page_stats(&before);
	for (size_t i = 0; i < 1047; i++)
		p[i] = make(4 * KIB, 8 * MIB, 0);
	page_stats(&after);
	CHECK_EQ(after.committed_bytes, before.committed_bytes);
	for (size_t bytes = 8 * KIB; bytes <= 4 * MIB; bytes *= 2)
		for (size_t i = 0; i < 1047; i++)
			CHECK(resize(p[i], bytes, 0) == p[i]);
	for (size_t i = 0; i < 1047; i++)
		block_free(p[i]);
}

/* From a page to gigabytes by doubling, something in its way each time. */
TEST(doubling)
{
	size_t bytes = 4 * KIB;
	char *p;

	slot_start();
	p = make(bytes, 0, 0);
	fill(p, bytes, 1);
	while (bytes < 4 * GIB) {
		(void)make(bytes < 64 * MIB ? bytes : 4 * KIB, 0, ALLOD_PAGE_NO_COMMIT);
		p = resize(p, 2 * bytes, 0);
		check_fill(p, bytes < 16 * MIB ? bytes : 16 * MIB, 1);
		bytes *= 2;
		CHECK_EQ(told(p).bytes >= bytes, true);
		if (bytes <= 16 * MIB)
			fill(p, bytes, 1);
	}
	slot_check_zone(SLOT_SMALL);
	slot_check_zone(SLOT_LARGE);
}

/* Each call of each kind is refused in turn: an error or success, and the contents in any case. */
TEST_TIMEOUT(refusals_swept, 20)
{
	static const size_t sizes[] = { 4 * KIB, 100 * KIB, 2 * MIB, 40 * MIB };

	for (int kind = 0; kind < OS_CALL_KINDS; kind++) {
		for (unsigned nth = 1; nth <= 4 && kind != OS_CALL_TASK_START; nth++) {
			size_t bytes = sizes[nth - 1];
			char *a;
			char *b;
			void *q;

			slot_start();
			mock_clock_advance((uint64_t)10000000000 * ((uint64_t)kind * 4 + nth));
			a = make(bytes, 0, 0);
			b = make(bytes <= 60 * KIB ? 4 * KIB : 64 * KIB, 0, 0);
			fill(a, bytes, 5);
			for (unsigned k = 1; k <= 3; k++) {
				mock_fail((enum os_call)kind, k, ENOMEM);
				if (!block_resize(a, told(a).bytes * 3, 0, &q))
					a = q;
				check_fill(a, bytes, 5);
				mock_fail((enum os_call)kind, k, ENOMEM);
				if (!block_resize(a, bytes, 0, &q))
					a = q;
				check_fill(a, bytes, 5);
			}
			block_free(a);
			block_free(b);
			CHECK(page_check());
		}
	}
}

/* Exchange of blocks of any kinds. */
static void exchange(size_t x, size_t x_room, size_t y, size_t y_room, unsigned flags, int expected)
{
	char *a = make(x, x_room, flags);
	char *b = make(y, y_room, flags);

	x = told(a).bytes;
	y = told(b).bytes;
	fill(a, x, 1);
	fill(b, y, 2);
	CHECK_EQ(block_swap(a, b, 0), expected);
	if (expected) {
		check_fill(a, x, 1);
		check_fill(b, y, 2);
		CHECK_EQ(told(a).bytes, x);
		CHECK_EQ(told(b).bytes, y);
	} else {
		check_fill(a, y, 2);
		check_fill(b, x, 1);
		CHECK(told(a).bytes >= y);
		CHECK(told(b).bytes >= x);
	}
	block_free(a);
	block_free(b);
	CHECK(page_check());
}

TEST(exchange_of_kinds)
{
	slot_start();
	exchange(4 * KIB, 0, 4 * KIB, 0, 0, 0);
	exchange(32 * KIB, 0, 28 * KIB, 0, 0, 0);
	exchange(64 * KIB, 0, MIB, 0, 0, -ENOSPC);
	exchange(64 * KIB, 192 * KIB, 192 * KIB, 0, 0, 0);
	exchange(MIB, 0, MIB, 0, 0, 0);
	exchange(MIB, 8 * MIB, 3 * MIB, 0, 0, 0);
	exchange(4 * KIB, 0, 8 * MIB, 0, ALLOD_PAGE_SWAPPABLE, 0);
	exchange(40 * MIB, 0, 200 * KIB, 0, ALLOD_PAGE_SWAPPABLE, 0);
	exchange(40 * MIB, 0, 64 * MIB, 0, 0, 0);
}

TEST(exchange_without_copying)
{
	char *a;
	char *b;

	slot_start();
	a = make(64 * KIB, 0, 0);
	b = make(64 * KIB, 0, 0);
	CHECK_EQ(block_swap(a, b, ALLOD_PAGE_NO_COPY), -ENOSPC);
	a = make(4 * KIB, 0, ALLOD_PAGE_SWAPPABLE);
	b = make(4 * KIB, 0, ALLOD_PAGE_SWAPPABLE);
	a[0] = 1;
	b[0] = 2;
	CHECK_EQ(block_swap(a, b, ALLOD_PAGE_NO_COPY), 0);
	CHECK_EQ(mock_count(OS_CALL_MOVE), 3);
	CHECK_EQ(a[0], 2);
	CHECK_EQ(b[0], 1);
	/* Small ones are exchanged by bytes unless that is forbidden. */
	CHECK_EQ(block_swap(a, b, 0), 0);
	CHECK_EQ(mock_count(OS_CALL_MOVE), 3);
	CHECK_EQ(a[0], 1);
	CHECK_EQ(b[0], 2);
}
