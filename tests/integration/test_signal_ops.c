/* SPDX-License-Identifier: MIT */
#include "test_signal_ops.h"

#include "harness.h"
#include "heap/batch.h"
#include "heap/core.h"

enum { BLOCKS_MAX = 40000 };

/* Blocks that the traced process holds; each begins with its number. */
static uint64_t *blocks[BLOCKS_MAX];
size_t block_count;
static uint64_t last_id;
static uint64_t ids[BLOCKS_MAX];
uint64_t *subject;

/* The table belongs to the handler while an operation is under way. */
void hold(void *p)
{
	CHECK(p != NULL && block_count < BLOCKS_MAX);
	const uint64_t id = ++last_id;
	*(uint64_t *)p = id;
	blocks[block_count] = p;
	ids[block_count] = id;
	block_count++;
}

static void release_last(void)
{
	CHECK(block_count > 0);
	block_count--;
	CHECK_EQ(*blocks[block_count], ids[block_count]);
	heap_free(blocks[block_count]);
}

void hold_many(size_t size, size_t count)
{
	for (size_t i = 0; i < count; i++)
		hold(heap_alloc(size));
}

void release_many(size_t count)
{
	while (count-- > 0)
		release_last();
}

/* As another thread would free it: the thread's own heap cannot be entered. */
static void release_remotely(size_t count)
{
	struct heap *heap = a_load_rlx(&heap_self);
	heap_mark_inside(heap);
	release_many(count);
	heap_mark_at_rest(heap, CLASS_FAST_UNITS);
}

/* The operations: `prepare` runs untraced, `run` is stepped through. */

static struct heap *own_heap(void)
{
	hold(heap_alloc(FINE));
	return a_load_rlx(&heap_self);
}

static void prepare_nothing(void)
{
	hold(heap_alloc(FINE));
}

static void prepare_subject(void)
{
	subject = heap_alloc(FINE);
	hold_many(FINE, 10);
}

/* The bin is empty, the current slab is not. */
static void prepare_refill(void)
{
	const struct heap *heap = own_heap();
	while (heap->bin[class_of(FINE)] != BLOCK_END)
		hold(heap_alloc(FINE));
}

/* Uses up the current slab of a size. */
static void fill_up(size_t size)
{
	const struct heap *heap = own_heap();
	const unsigned class = class_of(size);
	hold(heap_alloc(size));
	const struct slab *slab = heap->current[class];
	while (heap->bin[class] != BLOCK_END || slab->free != BLOCK_END ||
		a_load_rlx(&slab->carved) < slab->capacity)
		hold(heap_alloc(size));
}

static void prepare_full(void)
{
	fill_up(FINE);
}

static void prepare_collect(void)
{
	hold_many(FINE, 200);
	prepare_full();
	release_remotely(100);
}

/* Several slabs wait on the pending stack, and the current one is used up. */
static void prepare_drain(void)
{
	hold_many(COARSE, 200);
	/* Freeing to open slabs attaches them; then others free there, up to the threshold. */
	release_many(60);
	release_remotely(60);
	fill_up(COARSE);
}

static void prepare_available(void)
{
	hold_many(FINE, 100);
	heap_trim();
}

/* The subject is the last block of a slab that the heap holds beside the current one. */
static void prepare_attached_last(void)
{
	hold_many(COARSE, 150);
	for (size_t i = 0; i < 63; i++) {
		heap_free(blocks[i]);
		blocks[i] = heap_alloc(FINE);
		*blocks[i] = ids[i];
	}
	subject = blocks[63];
	blocks[63] = heap_alloc(FINE);
	*blocks[63] = ids[63];
}

/*
 * The subject lies in a slab that the heap holds beside the current one, and is not its last block.
 */
static void prepare_attached(void)
{
	prepare_attached_last();
	hold(subject);
	release_many(2);
	hold_many(COARSE, 150);
	release_many(40);
	subject = heap_alloc(COARSE);
	hold_many(COARSE, 100);
	release_many(90);
}

static void prepare_open(void)
{
	subject = heap_alloc(320);
	hold(heap_alloc(320));
	heap_trim();
}

static void prepare_open_last(void)
{
	subject = heap_alloc(320);
	heap_trim();
}

static void prepare_medium(void)
{
	subject = heap_alloc(20000);
	hold(heap_alloc(20000));
}

static void prepare_large(void)
{
	subject = heap_alloc(400000);
	hold(heap_alloc(400000));
}

static void run_malloc(void)
{
	subject = heap_alloc(FINE);
}

static void run_malloc_coarse(void)
{
	subject = heap_alloc(COARSE);
}

static void run_free(void)
{
	heap_free(subject);
	subject = NULL;
}

static void run_calloc(void)
{
	subject = heap_alloc_zeroed(FINE);
	CHECK(subject != NULL && subject[0] == 0 && subject[5] == 0);
}

static void run_calloc_large(void)
{
	subject = heap_alloc_zeroed(300000);
	CHECK(subject != NULL && subject[0] == 0 && subject[300000 / 8 - 1] == 0);
}

static void resize_to(size_t size)
{
	*subject = 4711;
	subject = heap_resize(subject, size);
	CHECK(subject != NULL && *subject == 4711);
}

static void run_resize(void)
{
	resize_to(FINE * 4);
}

static void run_resize_in_place(void)
{
	resize_to(FINE - 1);
}

static void run_resize_large(void)
{
	resize_to(900000);
}

static void run_malloc_medium(void)
{
	subject = heap_alloc(20000);
}

static void run_malloc_large(void)
{
	subject = heap_alloc(400000);
}

static void run_aligned(void)
{
	subject = heap_alloc_aligned(4096, 100);
}

static void run_trim(void)
{
	heap_trim();
}

static void run_stats(void)
{
	struct heap_stats stats;
	heap_stats_read(&stats);
}

/* The first of a batch is the subject, the others go back together. */
static void batch(size_t size, size_t count)
{
	const struct heap_want want = { .align = HEAP_ALIGN_MIN, .zeroed = true };
	void *batch_blocks[200];
	CHECK_EQ(heap_alloc_many(size, &want, count, batch_blocks), count);
	for (size_t i = 0; i < count; i++) {
		CHECK_EQ(*(uint64_t *)batch_blocks[i], 0);
		*(uint64_t *)batch_blocks[i] = i;
	}
	for (size_t i = 0; i < count; i++)
		CHECK_EQ(*(uint64_t *)batch_blocks[i], i);
	subject = batch_blocks[0];
	heap_free_many(batch_blocks + 1, count - 1, false);
}

static void run_batch(void)
{
	batch(FINE, 40);
}

/* More than two slabs, so that one of them is freed whole. */
static void run_batch_slabs(void)
{
	batch(COARSE, 200);
}

static void run_adjust(void)
{
	const struct heap_want want = { .align = 8192, .reserve = 1 << 20, .zeroed = true };
	void *p;
	*subject = 4711;
	CHECK_EQ(heap_adjust(subject, 700000, &want, &p), 0);
	subject = p;
	CHECK(*subject == 4711 && subject[600000 / 8] == 0);
}

const struct op ops[] = {
	{ "malloc from the bin", prepare_nothing, run_malloc },
	{ "free of an own block", prepare_subject, run_free },
	{ "calloc", prepare_nothing, run_calloc },
	{ "realloc by copy", prepare_subject, run_resize },
	{ "realloc in place", prepare_subject, run_resize_in_place },
	{ "free to a slab held beside", prepare_attached, run_free },
	{ "malloc that refills", prepare_refill, run_malloc },
	{ "malloc with a full slab", prepare_full, run_malloc },
	{ "malloc that collects", prepare_collect, run_malloc },
	{ "malloc that drains", prepare_drain, run_malloc_coarse },
	{ "malloc from an open slab", prepare_available, run_malloc },
	{ "free that empties a slab", prepare_attached_last, run_free },
	{ "free to an open slab", prepare_open, run_free },
	{ "last free to an open slab", prepare_open_last, run_free },
	{ "malloc of 20,000 bytes", prepare_nothing, run_malloc_medium },
	{ "free of 20,000 bytes", prepare_medium, run_free },
	{ "aligned malloc", prepare_nothing, run_aligned },
	{ "large malloc", prepare_nothing, run_malloc_large },
	{ "large calloc", prepare_nothing, run_calloc_large },
	{ "large free", prepare_large, run_free },
	{ "large realloc", prepare_large, run_resize_large },
	{ "trim", prepare_available, run_trim },
	{ "statistics", prepare_available, run_stats },
	{ "a batch", prepare_refill, run_batch },
	{ "a batch that collects", prepare_collect, run_batch },
	{ "a batch of slabs", prepare_drain, run_batch_slabs },
	{ "resize to an alignment", prepare_large, run_adjust },
};

const unsigned op_count = sizeof ops / sizeof ops[0];
