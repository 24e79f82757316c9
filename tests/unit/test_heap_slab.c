/* SPDX-License-Identifier: MIT */
/* One slab's life, from its first block to its run's return, by one thread and by two. */
#include <stdlib.h>

#include "heap_fixture.h"
#include "os/mock.h"

/* 64 bytes: 1024 blocks in one granule, carved 64 at a time, listed from 128 free ones on. */
#define SMALL ((size_t)64)
#define SMALL_CAPACITY 1024
#define SMALL_BATCH 64
#define SMALL_THRESHOLD 128
/* Two sizes whose slabs have several granules. */
#define WIDE ((size_t)20 << 10)
#define WIDER ((size_t)24 << 10)

static void *blocks[4 * SMALL_CAPACITY];

static void alloc_range(size_t from, size_t to, size_t size)
{
	for (size_t i = from; i < to; i++) {
		blocks[i] = heap_alloc(size);
		CHECK(blocks[i] != NULL);
	}
}

static void free_range(size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		heap_free(blocks[i]);
}

/* What a peer is told to free: blocks[from] to blocks[to - 1]. */
struct range {
	size_t from;
	size_t to;
};

static void peer_free(void *arg)
{
	const struct range *range = arg;
	free_range(range->from, range->to);
}

static void peer_alloc_one(void *arg)
{
	*(void **)arg = heap_alloc(SMALL);
}

static bool is_listed(const struct slab *slab)
{
	return (a_load_rlx(&slab->word) & WORD_LISTED) != 0;
}

/* Starts the heap and fills one slab of small blocks; the next block has begun another. */
static struct slab *full_slab(void)
{
	fixture_start();
	alloc_range(0, SMALL_CAPACITY + 1, SMALL);
	return fixture_slab(blocks[0]);
}

TEST(a_slab_is_carved_by_batches)
{
	fixture_start();
	CHECK_EQ(heap_classes[class_of(SMALL)].capacity, SMALL_CAPACITY);
	CHECK_EQ(heap_classes[class_of(SMALL)].threshold, SMALL_THRESHOLD);
	alloc_range(0, 1, SMALL);
	const struct slab *slab = fixture_slab(blocks[0]);
	CHECK_EQ(a_load_rlx(&slab->carved), SMALL_BATCH);
	/* Blocks in the bin count as used. */
	CHECK_EQ(slab_used(slab), SMALL_BATCH);
	CHECK_EQ(a_load_rlx(&slab->owner), (uintptr_t)fixture_heap() | OWNER_KEPT);
	alloc_range(1, SMALL_BATCH, SMALL);
	CHECK_EQ(a_load_rlx(&slab->carved), SMALL_BATCH);
	alloc_range(SMALL_BATCH, SMALL_BATCH + 1, SMALL);
	CHECK_EQ(a_load_rlx(&slab->carved), 2 * SMALL_BATCH);
	heap_check();
	free_range(0, SMALL_BATCH + 1);
	fixture_check_empty();
}

/* What is freed into the current slab goes to the bin's top, for it is in the caches. */
TEST(freed_blocks_are_used_before_new_ones_are_carved)
{
	fixture_start();
	alloc_range(0, SMALL_BATCH, SMALL);
	const struct slab *slab = fixture_slab(blocks[0]);
	CHECK(fixture_heap()->bin[class_of(SMALL)] == BLOCK_END);
	heap_free(blocks[7]);
	heap_free(blocks[9]);
	/* Blocks in the bin count as used. */
	CHECK_EQ(slab_used(slab), SMALL_BATCH);
	CHECK(slab->free == BLOCK_END);
	heap_check();
	CHECK_EQ(heap_alloc(SMALL), blocks[9]);
	CHECK_EQ(fixture_heap()->bin[class_of(SMALL)], blocks[7]);
	heap_check();
	CHECK_EQ(heap_alloc(SMALL), blocks[7]);
	CHECK_EQ(a_load_rlx(&slab->carved), SMALL_BATCH);
}

TEST(a_full_slab_is_opened)
{
	struct slab *slab = full_slab();
	CHECK_EQ(fixture_slab(blocks[SMALL_CAPACITY - 1]), slab);
	CHECK(fixture_slab(blocks[SMALL_CAPACITY]) != slab);
	CHECK_EQ(fixture_state(slab), SLAB_OPEN);
	CHECK_EQ(a_load_rlx(&slab->owner), 0);
	CHECK_EQ(word_count(a_load_rlx(&slab->word)), 0);
	CHECK_EQ(fixture_granules(), 2);
	heap_check();
}

TEST(a_free_adopts_an_open_slab)
{
	struct slab *slab = full_slab();
	heap_free(blocks[0]);
	CHECK_EQ(fixture_state(slab), SLAB_OWNED);
	CHECK_EQ(a_load_rlx(&slab->owner), (uintptr_t)fixture_heap());
	CHECK(slab->attachment != NULL);
	CHECK_EQ(slab_used(slab), SMALL_CAPACITY - 1);
	CHECK_EQ(slab->mark, SMALL_CAPACITY - SMALL_THRESHOLD);
	heap_check();
	free_range(1, SMALL_THRESHOLD - 1);
	CHECK(slab->mark != 0);
	free_range(SMALL_THRESHOLD - 1, SMALL_THRESHOLD);
	/* Worth taking from now: looked at again only when it is empty. */
	CHECK_EQ(slab->mark, 0);
	heap_check();
	free_range(SMALL_THRESHOLD, SMALL_CAPACITY);
	CHECK_EQ(fixture_state(slab), SLAB_FREED);
	CHECK_EQ(fixture_granules(), 1);
	CHECK_EQ(a_load_rlx(&fixture_heap()->attached_granules), 0);
	heap_free(blocks[SMALL_CAPACITY]);
	fixture_check_empty();
}

TEST(an_attached_slab_is_taken_before_a_new_one)
{
	struct slab *slab = full_slab();
	free_range(0, SMALL_THRESHOLD);
	CHECK(slab->attachment != NULL);
	alloc_range(SMALL_CAPACITY + 1, 2 * SMALL_CAPACITY, SMALL);
	CHECK_EQ(fixture_granules(), 2);
	alloc_range(0, SMALL_THRESHOLD, SMALL);
	for (size_t i = 0; i < SMALL_THRESHOLD; i++)
		CHECK_EQ(fixture_slab(blocks[i]), slab);
	CHECK_EQ(fixture_heap()->current[class_of(SMALL)], slab);
	CHECK_EQ(fixture_granules(), 2);
	heap_check();
	free_range(0, 2 * SMALL_CAPACITY);
	fixture_check_empty();
}

TEST(a_slab_below_the_threshold_is_not_taken)
{
	struct slab *slab = full_slab();
	free_range(0, SMALL_THRESHOLD - 1);
	alloc_range(SMALL_CAPACITY + 1, 2 * SMALL_CAPACITY + 1, SMALL);
	CHECK_EQ(fixture_granules(), 3);
	CHECK(slab->attachment != NULL);
	heap_check();
}

TEST(a_remote_free_into_the_current_slab_is_collected)
{
	struct peer peer;
	struct range one = { 5, 6 };
	fixture_start();
	peer_start(&peer);
	alloc_range(0, SMALL_CAPACITY, SMALL);
	const struct slab *slab = fixture_slab(blocks[0]);
	peer_run(&peer, peer_free, &one);
	CHECK_EQ(word_count(a_load_rlx(&slab->word)), 1);
	heap_check();
	/* The slab is full but for that block: it is handed out, and the slab stays. */
	CHECK_EQ(heap_alloc(SMALL), blocks[5]);
	CHECK_EQ(fixture_state(slab), SLAB_OWNED);
	CHECK_EQ(fixture_granules(), 1);
	heap_check();
	free_range(0, SMALL_CAPACITY);
	peer_end(&peer);
	fixture_check_empty();
}

TEST(a_slab_with_remote_frees_is_listed_with_its_owner_at_the_threshold)
{
	struct peer peer;
	struct slab *slab = full_slab();
	peer_start(&peer);
	heap_free(blocks[0]);
	CHECK(slab->attachment != NULL);
	peer_run(&peer, peer_free, &(struct range){ 1, SMALL_THRESHOLD });
	CHECK_EQ(word_count(a_load_rlx(&slab->word)), SMALL_THRESHOLD - 1);
	CHECK(!is_listed(slab));
	peer_run(&peer, peer_free, &(struct range){ SMALL_THRESHOLD, SMALL_THRESHOLD + 1 });
	CHECK(is_listed(slab));
	CHECK_EQ(stack_head_index(a_load_rlx(&fixture_heap()->pending.head)),
		page_record_index(slab));
	heap_check();
	/* Its owner finds them when it runs out. */
	alloc_range(SMALL_CAPACITY + 1, 2 * SMALL_CAPACITY + 1, SMALL);
	CHECK_EQ(fixture_slab(blocks[2 * SMALL_CAPACITY]), slab);
	CHECK(!is_listed(slab));
	CHECK_EQ(fixture_granules(), 2);
	heap_check();
	peer_end(&peer);
}

TEST(an_open_slab_is_listed_for_all_at_the_threshold)
{
	struct peer peer;
	void *p;
	struct slab *slab = full_slab();
	peer_start(&peer);
	peer_run(&peer, peer_free, &(struct range){ 0, SMALL_THRESHOLD - 1 });
	CHECK_EQ(fixture_state(slab), SLAB_OPEN);
	CHECK(!is_listed(slab));
	peer_run(&peer, peer_free, &(struct range){ SMALL_THRESHOLD - 1, SMALL_THRESHOLD });
	CHECK(is_listed(slab));
	CHECK_EQ(stack_head_index(a_load_rlx(&slab_available(class_of(SMALL))->head)),
		page_record_index(slab));
	heap_check();
	/* Whoever runs out first takes it. */
	peer_run(&peer, peer_alloc_one, &p);
	CHECK_EQ(fixture_slab(p), slab);
	CHECK_EQ(fixture_state(slab), SLAB_OWNED);
	CHECK(!heap_holds(fixture_heap(), slab));
	CHECK(!is_listed(slab));
	CHECK_EQ(fixture_granules(), 2);
	heap_check();
	heap_free(p);
	free_range(SMALL_THRESHOLD, SMALL_CAPACITY + 1);
	peer_end(&peer);
	fixture_check_empty();
}

TEST(the_last_remote_free_gives_an_open_slab_back)
{
	struct peer peer;
	struct slab *slab = full_slab();
	peer_start(&peer);
	peer_run(&peer, peer_free, &(struct range){ 0, SMALL_CAPACITY - 1 });
	CHECK_EQ(fixture_state(slab), SLAB_OPEN);
	CHECK_EQ(fixture_granules(), 2);
	peer_run(&peer, peer_free, &(struct range){ SMALL_CAPACITY - 1, SMALL_CAPACITY });
	CHECK_EQ(fixture_state(slab), SLAB_FREED);
	CHECK_EQ(fixture_granules(), 1);
	/* Its link is still in the stack; whoever pops it clears the mark. */
	CHECK(is_listed(slab));
	heap_check();
	alloc_range(0, 2 * SMALL_CAPACITY, SMALL);
	CHECK(!is_listed(slab));
	heap_check();
	peer_end(&peer);
}

/* The record serves another class while its link lies in the old class's stack. */
TEST(a_listed_record_is_reused_for_another_class)
{
	struct peer peer;
	void *other[64];
	struct slab *slab = full_slab();
	peer_start(&peer);
	peer_run(&peer, peer_free, &(struct range){ 0, SMALL_CAPACITY });
	CHECK(is_listed(slab) && fixture_state(slab) == SLAB_FREED);
	for (size_t i = 0; i < 64; i++)
		other[i] = heap_alloc(1024);
	CHECK_EQ(fixture_slab(other[0]), slab);
	heap_check();
	/* Popping the stale link leaves the slab where it is. */
	alloc_range(0, 2 * SMALL_CAPACITY, SMALL);
	CHECK_EQ(a_load_rlx(&slab->class), class_of(1024));
	CHECK(!is_listed(slab));
	heap_check();
	for (size_t i = 0; i < 64; i++)
		heap_free(other[i]);
	heap_check();
	peer_end(&peer);
}

TEST(of_the_wide_slabs_one_stays_empty)
{
	fixture_start();
	void *p = heap_alloc(WIDE);
	struct slab *wide = fixture_slab(p);
	const size_t granules = a_load_rlx(&wide->granules);
	CHECK(granules > 1);
	heap_free(p);
	CHECK_EQ(fixture_heap()->spare, wide);
	CHECK_EQ(fixture_granules(), granules);
	heap_check();
	/* Used again at no cost. */
	CHECK_EQ(fixture_slab(heap_alloc(WIDE)), wide);
	heap_free(p);
	void *q = heap_alloc(WIDER);
	struct slab *wider = fixture_slab(q);
	CHECK_EQ(fixture_granules(), granules + a_load_rlx(&wider->granules));
	heap_free(q);
	CHECK_EQ(fixture_heap()->spare, wider);
	CHECK_EQ(fixture_state(wide), SLAB_FREED);
	CHECK(fixture_heap()->current[class_of(WIDE)] == NULL);
	CHECK_EQ(fixture_granules(), a_load_rlx(&wider->granules));
	heap_check();
	fixture_check_empty();
}

TEST(inner_granules_name_their_slab)
{
	fixture_start();
	void *p = heap_alloc(WIDE);
	struct slab *slab = fixture_slab(p);
	const size_t granules = a_load_rlx(&slab->granules);
	for (size_t i = 1; i < granules; i++) {
		const char *inside = slab->base + i * PAGE_GRANULE_BYTES;
		CHECK_EQ(fixture_state(page_record_of(inside)), SLAB_INNER);
		CHECK_EQ(fixture_slab(inside), slab);
	}
	heap_free(p);
	heap_trim();
	for (size_t i = 0; i < granules; i++)
		CHECK_EQ(fixture_state(page_record_of(slab->base + i * PAGE_GRANULE_BYTES)),
			SLAB_FREED);
}

/* What a thread leaves behind: blocks of several classes, some freed. */
#define LEFT_COUNT 300

static void leave_blocks(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < LEFT_COUNT; i++) {
		blocks[i] = heap_alloc(16 + i * 97 % 30000);
		CHECK(blocks[i] != NULL);
	}
	for (size_t i = 0; i < LEFT_COUNT; i += 2)
		heap_free(blocks[i]);
}

static void note_heap(void *arg)
{
	heap_free(heap_alloc(1));
	*(struct heap **)arg = fixture_heap();
}

TEST(a_thread_that_ends_opens_its_slabs_and_gives_up_its_heap)
{
	struct peer peer;
	struct heap *first;
	struct heap *second;
	fixture_start();
	heap_free(heap_alloc(1));
	peer_start(&peer);
	peer_run(&peer, leave_blocks, NULL);
	peer_run(&peer, note_heap, &first);
	peer_end(&peer);
	CHECK_EQ(a_load_rlx(&first->active), 0);
	for (size_t i = 1; i < LEFT_COUNT; i += 2)
		CHECK_EQ(fixture_state(fixture_slab(blocks[i])), SLAB_OPEN);
	heap_check();
	peer_start(&peer);
	peer_run(&peer, note_heap, &second);
	CHECK_EQ(second, first);
	CHECK_EQ(heap_pool_count(), 2);
	peer_end(&peer);
	for (size_t i = 1; i < LEFT_COUNT; i += 2)
		heap_free(blocks[i]);
	fixture_check_empty();
}

/* As a signal handler does that interrupted its thread inside the heap. */
TEST(a_busy_heap_is_left_alone)
{
	fixture_start();
	alloc_range(0, 1, SMALL);
	struct heap *heap = fixture_heap();
	heap_mark_inside(heap);
	void *p = heap_alloc(SMALL);
	void *q = heap_alloc(SMALL);
	CHECK(p != NULL && fixture_slab(p) != fixture_slab(blocks[0]));
	CHECK_EQ(fixture_state(fixture_slab(p)), SLAB_OPEN);
	CHECK_EQ(heap_pool_count(), 2);
	heap_free(p);
	heap_free(blocks[0]);
	CHECK_EQ(word_count(a_load_rlx(&fixture_slab(blocks[0])->word)), 1);
	heap_check();
	heap_mark_at_rest(heap, CLASS_FAST_UNITS);
	heap_free(q);
	fixture_check_empty();
}

static void shuffle(size_t count, uint64_t *random)
{
	for (size_t i = count - 1; i > 0; i--) {
		const size_t k = test_random(random) % (i + 1);
		void *p = blocks[i];
		blocks[i] = blocks[k];
		blocks[k] = p;
	}
}

/* Takes more than a slab's worth of a class, checks every block, and frees them in any order. */
static void cycle_class(unsigned class, uint64_t *random)
{
	const size_t bytes = heap_classes[class].bytes;
	size_t count = (TEST_SANITIZED ? 1 : 2) * heap_classes[class].capacity + 3;
	if (count > sizeof blocks / sizeof blocks[0])
		count = sizeof blocks / sizeof blocks[0];
	for (size_t i = 0; i < count; i++) {
		blocks[i] = heap_alloc(bytes);
		CHECK(blocks[i] != NULL);
		CHECK_EQ((uintptr_t)blocks[i] % HEAP_ALIGN_MIN, 0);
		CHECK_EQ(heap_usable_size(blocks[i]), bytes);
		fixture_fill(blocks[i], bytes, i);
	}
	heap_check();
	for (size_t i = 0; i < count; i++)
		fixture_check_fill(blocks[i], bytes, i);
	shuffle(count, random);
	for (size_t i = 0; i < count; i++) {
		heap_free(blocks[i]);
		if (i % 1024 == 0)
			heap_check();
	}
}

TEST_TIMEOUT(every_class_lives_and_dies, 30)
{
	uint64_t random = test_seed();
	fixture_start();
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		cycle_class(class, &random);
		fixture_check_empty();
	}
}
