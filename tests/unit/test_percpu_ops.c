/* SPDX-License-Identifier: MIT */
/*
 * Operations on per-CPU memory while threads hop between processors and signals come in the middle,
 * whose handlers operate on the same memory: no addition is lost, no node is lost or doubled, no
 * pair is torn, no record is half written. Each under both kinds of number; the meson file runs
 * the program also without libc's registration, and by atomic instructions.
 */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "percpu_fixture.h"

enum { THREADS = 6, STORM_US = 100, NODES = 64, RING_BYTES = 2048 };

static struct allod_percpu_view view;

/* One element: everything in one copy's page. */
struct element {
	uint64_t sum;
	uint64_t returned;
	uint64_t swapped;
	uint64_t compared;
	uint32_t small;
	struct allod_percpu_pair pair;
	struct allod_percpu_list list;
	uint64_t depth;
	uint64_t stack[NODES][2];
	struct allod_percpu_ring ring;
	char ring_data[RING_BYTES];
};

static struct element *e;
static unsigned rounds;
static uint64_t handled;

static void expect_mode(void)
{
	const char *want = getenv("TEST_RSEQ_MODE");

	if (want != NULL)
		CHECK_EQ(allod_rseq_mode(), atoi(want));
	test_note("mode %u, %u bytes", (unsigned)allod_rseq_mode(), allod_rseq_feature_bytes());
}

static void both(void (*test)(void))
{
	const char *fewer = getenv("TEST_ROUNDS"); /* for slow machines, such as valgrind's */

	expect_mode();
	rounds = fewer != NULL ? (unsigned)atoi(fewer) : test_count(30000, 3000000);
	for (unsigned i = 0; i < 2; i++) {
		view = i == 0 ? by_cpu : by_cid;
		e = percpu_memory();
		handled = 0;
		test();
	}
}

/* Sums. */

static void add_once(void)
{
	allod_percpu_add_in(view, &e->sum, 1);
	allod_percpu_add32_in(view, &e->small, 1);
	allod_percpu_pair_add_in(view, &e->pair, 1, 3);
}

static void add_in_handler(void)
{
	add_once();
	__atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
}

static void add_and_hop(unsigned self)
{
	for (unsigned i = 0; i < rounds; i++) {
		add_once();
		if (i % 64 == self)
			hop(i / 64 + self);
	}
}

static void check_sums(void)
{
	uint64_t small = 0, first = 0, second = 0;

	run_threads(THREADS, add_and_hop, STORM_US, add_in_handler);
	for (unsigned i = 0; i < COPIES; i++) {
		const struct element *copy = copy_of(e, i);
		const struct allod_percpu_pair pair = allod_percpu_pair_read(&copy->pair);

		small += copy->small;
		first += pair.first;
		second += pair.second;
		CHECK_EQ(pair.second, 3 * pair.first);
	}
	const uint64_t want = (uint64_t)THREADS * rounds + handled;
	test_note("%u additions in handlers", (unsigned)handled);
	CHECK_EQ(sum_of(&e->sum), want);
	CHECK_EQ(small, want);
	CHECK_EQ(first, want);
	CHECK_EQ(second, 3 * want);
}

TEST_TIMEOUT(no_addition_is_lost, 60)
{
	both(check_sums);
}

/* Words that are returned: each value is given out once. */

static void swap_and_hop(unsigned self)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t seen = allod_percpu_read_in(view, &e->compared);

		allod_percpu_add_return_in(view, &e->returned, 2);
		/* What is taken out is added up; what is left at the end is in the copies. */
		sum += allod_percpu_xchg_in(view, &e->swapped, self + i);
		sum -= self + i;
		while (allod_percpu_cmpxchg_in(view, &e->compared, seen, seen + 1) != seen)
			seen = allod_percpu_read_in(view, &e->compared);
		if (i % 64 == self)
			hop(i / 64 + self);
	}
	__atomic_fetch_add(&handled, sum, __ATOMIC_RELAXED);
}

static void check_words(void)
{
	run_threads(THREADS, swap_and_hop, STORM_US, NULL);
	CHECK_EQ(sum_of(&e->returned), 2 * (uint64_t)THREADS * rounds);
	CHECK_EQ(sum_of(&e->compared), (uint64_t)THREADS * rounds);
	CHECK_EQ(sum_of(&e->swapped) + handled, 0);
}

TEST_TIMEOUT(words_are_exchanged_whole, 60)
{
	both(check_words);
}

/* Pairs that somebody watches. */

static _Atomic(bool) done;

static void add_or_watch(unsigned self)
{
	if (self != 0) {
		for (unsigned i = 0; i < rounds; i++)
			allod_percpu_pair_add_in(view, &e->pair, 1, (uint64_t)-1);
		done = true;
		return;
	}
	while (!done) {
		for (unsigned i = 0; i < 4; i++) {
			const struct element *copy = copy_of(e, i);
			const struct allod_percpu_pair seen = allod_percpu_pair_read(&copy->pair);

			CHECK_EQ(seen.first + seen.second, 0);
		}
	}
}

static void check_pairs(void)
{
	done = false;
	run_threads(3, add_or_watch, STORM_US, NULL);
}

TEST_TIMEOUT(pairs_are_never_torn, 60)
{
	both(check_pairs);
}

/* Lists. */

struct item {
	struct allod_percpu_node node;
	uint64_t owner; /* who has taken it; 0 while it is listed */
	uint64_t plain; /* handed on with it */
};

static struct item items[NODES];

static void move_one(void)
{
	struct allod_percpu_node *node = allod_percpu_list_pop_in(view, &e->list);
	struct item *item = (struct item *)node;

	if (node == NULL)
		return;
	CHECK_EQ(__atomic_exchange_n(&item->owner, 1, __ATOMIC_RELAXED), 0);
	item->plain++;
	__atomic_store_n(&item->owner, 0, __ATOMIC_RELAXED);
	while (!allod_percpu_list_push_in(view, &e->list, node))
		;
}

static void move_and_hop(unsigned self)
{
	for (unsigned i = 0; i < rounds; i++) {
		move_one();
		if (i % 64 == self)
			hop(i / 64 + self);
	}
}

static unsigned count_taken(struct allod_percpu_node *node)
{
	unsigned count = 0;

	for (; node != NULL; node = node->next) {
		CHECK(count < NODES);
		CHECK_EQ(((struct item *)node)->owner, 0);
		count++;
	}
	return count;
}

static unsigned take_everything(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < COPIES; i++)
		count += count_taken(allod_percpu_list_take(view, &e->list, i));
	return count;
}

static void fill_list(void)
{
	memset(items, 0, sizeof items);
	for (unsigned i = 0; i < NODES; i++)
		CHECK_EQ(allod_percpu_list_push_in(view, &e->list, &items[i].node), 1);
}

static void check_lists(void)
{
	fill_list();
	run_threads(THREADS, move_and_hop, STORM_US, move_one);
	CHECK_EQ(take_everything(), NODES);
	CHECK_EQ(take_everything(), 0);
}

TEST_TIMEOUT(no_node_is_lost, 60)
{
	both(check_lists);
}

/* One thread takes the lists of all copies again and again, and puts the nodes back. */
static void move_or_take(unsigned self)
{
	if (self != 0) {
		move_and_hop(self);
		return;
	}
	for (unsigned i = 0; i < rounds / 50; i++) {
		struct allod_percpu_node *node = allod_percpu_list_take(view, &e->list, i % 4);

		while (node != NULL) {
			struct allod_percpu_node *next = node->next;

			CHECK_EQ(((struct item *)node)->owner, 0);
			while (!allod_percpu_list_push_in(view, &e->list, node))
				;
			node = next;
		}
	}
}

static void check_taking(void)
{
	fill_list();
	run_threads(THREADS, move_or_take, STORM_US, NULL);
	CHECK_EQ(take_everything(), NODES);
}

TEST_TIMEOUT(lists_are_taken_from_elsewhere, 60)
{
	both(check_taking);
}

/* Copies: a stack of records whose two words belong together. */

static uint64_t pushed;

static void push_record(unsigned self, unsigned i)
{
	const uint64_t value = (uint64_t)self << 32 | i;
	const uint64_t record[2] = { value, ~value };
	const uint64_t depth = allod_percpu_read_in(view, &e->depth);

	if (depth < NODES &&
		allod_percpu_copy_to_in(view, &e->depth, depth, depth + 1, e->stack[depth], record,
			sizeof record))
		__atomic_fetch_add(&pushed, 1, __ATOMIC_RELAXED);
}

static void pop_record(void)
{
	const uint64_t depth = allod_percpu_read_in(view, &e->depth);
	uint64_t record[2] = { 0 };

	if (depth > 0 &&
		allod_percpu_copy_from_in(view, &e->depth, depth, depth - 1, record,
			e->stack[depth - 1], sizeof record)) {
		CHECK_EQ(record[0], ~record[1]);
		__atomic_fetch_sub(&pushed, 1, __ATOMIC_RELAXED);
	}
}

static void push_pop_and_hop(unsigned self)
{
	for (unsigned i = 0; i < rounds; i++) {
		push_record(self, i);
		if (i % 3)
			pop_record();
		if (i % 64 == self)
			hop(i / 64 + self);
	}
}

static void check_copies(void)
{
	pushed = 0;
	run_threads(THREADS, push_pop_and_hop, STORM_US, pop_record);
	CHECK_EQ(sum_of(&e->depth), pushed);
	for (unsigned i = 0; i < COPIES; i++) {
		const struct element *copy = copy_of(e, i);

		for (unsigned k = 0; k < copy->depth; k++)
			CHECK_EQ(copy->stack[k][0], ~copy->stack[k][1]);
	}
}

TEST_TIMEOUT(copies_are_whole, 60)
{
	both(check_copies);
}

/* Rings. */

static uint64_t committed;
static uint64_t last_of[THREADS][COPIES];

static void write_record(unsigned self, unsigned i)
{
	const size_t bytes = 16 + i % 40;
	uint64_t *record = allod_percpu_ring_reserve_in(view, &e->ring, RING_BYTES, bytes);

	if (record == NULL)
		return;
	record[0] = (uint64_t)self << 32 | i;
	record[1] = bytes;
	memset(record + 2, (int)self, bytes - 16);
	if (i % 16 == 0) {
		allod_percpu_ring_discard(record, bytes);
		return;
	}
	allod_percpu_ring_commit(record, bytes);
	__atomic_fetch_add(&committed, 1, __ATOMIC_RELAXED);
}

static void check_record(const void *p, size_t bytes, void *arg)
{
	const uint64_t *record = p;
	const unsigned self = (unsigned)(record[0] >> 32);
	uint64_t *last = &last_of[self][*(unsigned *)arg];

	CHECK_EQ(record[1], bytes);
	CHECK(self < THREADS);
	for (size_t i = 16; i < bytes; i++)
		CHECK_EQ(((const unsigned char *)p)[i], self);
	/* One thread's records on one processor come in their order. */
	CHECK((record[0] & UINT32_MAX) >= *last);
	*last = (record[0] & UINT32_MAX) + 1;
}

static size_t consume_all(void)
{
	size_t records = 0;

	for (unsigned i = 0; i < COPIES; i++) {
		struct element *copy = copy_of(e, i);

		records += allod_percpu_ring_consume(&copy->ring, RING_BYTES, check_record, &i);
	}
	return records;
}

static size_t consumed;

static void write_or_read(unsigned self)
{
	if (self == 0) {
		while (!done)
			consumed += consume_all();
		return;
	}
	for (unsigned i = 0; i < rounds; i++) {
		write_record(self, i);
		if (i % 64 == self)
			hop(i / 64 + self);
	}
	if (self == 1)
		done = true;
}

static void check_rings(void)
{
	done = false;
	consumed = committed = 0;
	memset(last_of, 0, sizeof last_of);
	run_threads(THREADS, write_or_read, STORM_US, NULL);
	consumed += consume_all();
	CHECK_EQ(consumed, committed);
	CHECK(consumed > 0);
}

TEST_TIMEOUT(records_are_whole, 60)
{
	both(check_rings);
}

TEST(a_ring_refuses_what_does_not_fit)
{
	view = by_cpu;
	e = percpu_memory();
	hop(0);
	CHECK(allod_percpu_ring_reserve_in(view, &e->ring, RING_BYTES, RING_BYTES - 7) == NULL);
	CHECK(allod_percpu_ring_reserve_in(view, &e->ring, RING_BYTES, SIZE_MAX) == NULL);
	CHECK(allod_percpu_ring_reserve_in(view, &e->ring, 32, 8) == NULL);
	void *all = allod_percpu_ring_reserve_in(view, &e->ring, RING_BYTES, RING_BYTES - 8);
	CHECK(all != NULL);
	CHECK(allod_percpu_ring_reserve_in(view, &e->ring, RING_BYTES, 0) == NULL);
	allod_percpu_ring_discard(all, RING_BYTES - 8);
	CHECK_EQ(consume_all(), 0);
	CHECK(allod_percpu_ring_reserve_in(view, &e->ring, RING_BYTES, 0) != NULL);
}
