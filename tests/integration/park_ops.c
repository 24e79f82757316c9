/* SPDX-License-Identifier: MIT */
#include "park_ops.h"

#include <string.h>

#include "harness.h"
#include "heap/class.h"
#include "park_face.h"

#define LARGE_BYTES ((size_t)300000)
#define MOVED_BYTES ((size_t)5 << 20) /* from 4 MiB on pages are always moved, never copied */
/* More than a step of growth leaves free, which is 256 MiB at most. */
#define GROWN_BYTES ((size_t)320 << 20)
#define GRANULE_BYTES ((size_t)64 << 10)
#define DIRTY_BYTES ((size_t)12 << 20) /* from 8 MiB on the janitor is started */

/* What victims allocate from slabs; OP_SEIZE's are sizes of their own, a slab each. */
static const size_t sizes[] = { 24, 48, 200, 500, 1024, 4096, 5000, 20000, 100000 };
enum { SIZES = sizeof sizes / sizeof sizes[0], SEIZE_SIZES = 6, OWN = 4 };

void *block_make(void *p, size_t size)
{
	CHECK(p != NULL);
	uint64_t *word = p;
	word[0] = ~(uint64_t)(uintptr_t)p;
	word[1] = size;
	if (size > 16)
		((unsigned char *)p)[size - 1] = (unsigned char)((uintptr_t)p >> 4);
	return p;
}

void block_check(const void *p)
{
	const uint64_t *word = p;
	const size_t size = word[1];
	CHECK_EQ(word[0], ~(uint64_t)(uintptr_t)p);
	CHECK(size <= 16 ||
		((const unsigned char *)p)[size - 1] == (unsigned char)((uintptr_t)p >> 4));
}

void block_free(void *p)
{
	if (p == NULL)
		return;
	block_check(p);
	*(uint64_t *)p = 0;
	face_free(p);
}

/* The victim may come to hold a slab of this size from now on. */
static void note_size(struct victim *v, size_t size)
{
	if (size <= CLASS_BYTES_MAX)
		v->classes[class_of(size)] = true;
}

/* A block that the victim has under work. */
static void own(struct victim *v, unsigned index, size_t size)
{
	note_size(v, size);
	v->own[index] = block_make(face_alloc(size), size);
}

static void hold(struct victim *v, size_t size)
{
	const uint32_t count = a_load_rlx(&v->count);
	CHECK(count < PARK_BLOCKS);
	note_size(v, size);
	v->blocks[count] = block_make(face_alloc(size), size);
	a_store_rel(&v->count, count + 1);
}

static void hold_many(struct victim *v, size_t size, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		hold(v, size);
}

/* Frees every other of the victim's blocks from `first` on. */
static void thin_out(struct victim *v, uint32_t first)
{
	uint32_t kept = first;
	const uint32_t count = a_load_rlx(&v->count);
	for (uint32_t i = first; i < count; i++) {
		if (i % 2)
			block_free(v->blocks[i]);
		else
			v->blocks[kept++] = v->blocks[i];
	}
	a_store_rel(&v->count, kept);
}

void victim_free_blocks(struct victim *v)
{
	uint32_t at = a_load_rlx(&v->taken);
	for (; at < a_load_acq(&v->count); at++)
		block_free(v->blocks[at]);
	a_store_rel(&v->taken, at);
}

void victim_free_own(struct victim *v)
{
	for (unsigned i = 0; i < OWN; i++) {
		block_free(v->own[i]);
		v->own[i] = NULL;
	}
}

size_t victim_slab_bytes_most(const struct victim *v)
{
	size_t granules = 0;
	size_t most = 1;
	for (unsigned i = 0; i < CLASS_COUNT; i++) {
		if (!v->classes[i])
			continue;
		granules += heap_classes[i].granules;
		most = heap_classes[i].granules > most ? heap_classes[i].granules : most;
	}
	return (granules + most) * GRANULE_BYTES;
}

static void prepare_nothing(struct victim *v)
{
	(void)v;
}

static void prepare_some(struct victim *v)
{
	hold_many(v, 48, 10);
}

static void run_malloc(struct victim *v)
{
	own(v, 0, 48);
}

static void prepare_free(struct victim *v)
{
	hold_many(v, 48, 10);
	own(v, 0, 48);
}

static void run_free(struct victim *v)
{
	for (unsigned i = 0; i < OWN; i++) {
		void *p = v->own[i];
		v->own[i] = NULL;
		face_free(p);
	}
}

static void run_refill(struct victim *v)
{
	for (unsigned i = 0; i < OWN - 1; i++) {
		const size_t size = sizes[test_random(&v->seed) % SIZES];
		note_size(v, size);
		void *p = i == 1 ? face_alloc_zeroed(size) : face_alloc(size);
		v->own[i] = block_make(p, size);
	}
	note_size(v, 4096);
	v->own[OWN - 1] = block_make(face_alloc_aligned(4096, 100), 100);
}

/* Blocks of other threads, or such as always take the slow path. */
static void prepare_foreign(struct victim *v)
{
	hold_many(v, 48, 10);
	for (unsigned i = 0; i < OWN; i++) {
		v->own[i] = slot_exchange(test_random(&v->seed), NULL);
		if (v->own[i] == NULL)
			own(v, i, 20000);
		/* Its slab may be given to the victim with it, or stay for it alone. */
		note_size(v, ((const uint64_t *)v->own[i])[1]);
	}
}

/* The first slabs are full and belong to nobody. */
static void prepare_open(struct victim *v)
{
	for (unsigned i = 0; i < OWN; i++)
		own(v, i, 1024);
	hold_many(v, 1024, 200);
}

static void prepare_available(struct victim *v)
{
	hold_many(v, 500, 400);
	thin_out(v, 0);
	face_trim();
}

static void run_malloc_available(struct victim *v)
{
	own(v, 0, 500);
}

/* Many slabs held beside the current ones: the victim frees into them. */
static void prepare_attached(struct victim *v)
{
	hold_many(v, 5000, 500);
	hold_many(v, 1024, 600);
	thin_out(v, 0);
}

static void *free_remotely(void *arg)
{
	struct victim *v = arg;
	for (unsigned i = 0; i < v->handed; i++)
		block_free(v->hand[i]);
	return NULL;
}

/*
 * Slabs that wait to be drained: full ones, which are taken back by a free each, and then another
 * thread frees there what makes them worth it.
 */
static void prepare_drain(struct victim *v)
{
	pthread_t helper;
	uint32_t kept = 0;
	hold_many(v, 1024, 640);
	v->handed = 0;
	for (uint32_t i = 0; i < 640; i++) {
		if (i % 64 == 0)
			block_free(v->blocks[i]);
		else if (i % 3 == 0)
			v->hand[v->handed++] = v->blocks[i];
		else
			v->blocks[kept++] = v->blocks[i];
	}
	a_store_rel(&v->count, kept);
	CHECK_EQ(pthread_create(&helper, NULL, free_remotely, v), 0);
	CHECK_EQ(pthread_join(helper, NULL), 0);
}

static void run_drain(struct victim *v)
{
	hold_many(v, 1024, 130);
}

/* Takes many of the slabs beside. */
static void run_take_attached(struct victim *v)
{
	hold_many(v, 5000, 60);
}

static void prepare_trim(struct victim *v)
{
	prepare_attached(v);
	void *p = block_make(face_alloc(LARGE_BYTES * 5), LARGE_BYTES * 5);
	block_free(p);
}

static void run_trim(struct victim *v)
{
	(void)v;
	face_trim();
}

static void run_stats(struct victim *v)
{
	(void)v;
	face_stats();
}

static void run_large(struct victim *v)
{
	own(v, 0, LARGE_BYTES);
	run_free(v);
	own(v, 1, LARGE_BYTES * 2);
}

/* What follows the block is taken, as a rule. */
static void prepare_move(struct victim *v)
{
	for (unsigned i = 0; i < OWN; i++)
		own(v, i, i ? LARGE_BYTES : MOVED_BYTES);
}

static void run_move(struct victim *v)
{
	for (unsigned i = 0; i < 2; i++) {
		const void *old = v->own[0];
		uint64_t *p = face_resize(v->own[0], MOVED_BYTES * (i + 2));
		CHECK(p != NULL && p[0] == ~(uint64_t)(uintptr_t)old && p[1] > LARGE_BYTES);
		v->own[0] = block_make(p, MOVED_BYTES * (i + 2));
	}
}

/* Beyond what is free: the blocks are kept until the process ends. */
static void run_grow(struct victim *v)
{
	hold(v, GROWN_BYTES + (size_t)(test_random(&v->seed) % 64) * 65536);
}

static void prepare_end(struct victim *v)
{
	for (unsigned i = 0; i < 5; i++)
		hold_many(v, sizes[i], 150);
	prepare_attached(v);
}

static void prepare_janitor(struct victim *v)
{
	own(v, 0, DIRTY_BYTES);
}

static void run_seize(struct victim *v)
{
	own(v, 0, 10000 + (v->number % SEIZE_SIZES) * 1024);
}

const struct park_op park_ops[] = {
	[OP_JANITOR] = { "free that starts the janitor", REGION_JANITOR, prepare_janitor, run_free,
		true },
	[OP_SEIZE] = { "malloc that looks for idle heaps", REGION_SEIZE, prepare_some, run_seize,
		true },
	{ "malloc", REGION_MALLOC_FAST, prepare_some, run_malloc, false },
	{ "free", REGION_FREE_FAST, prepare_free, run_free, false },
	{ "malloc that refills", REGION_MALLOC_SLOW, prepare_some, run_refill, false },
	{ "free of others' blocks", REGION_FREE_SLOW, prepare_foreign, run_free, false },
	{ "free to an open slab", REGION_ADOPT, prepare_open, run_free, false },
	{ "malloc from an open slab", REGION_ADOPT, prepare_available, run_malloc_available,
		false },
	{ "malloc that drains", REGION_MALLOC_SLOW, prepare_drain, run_drain, false },
	{ "malloc from slabs beside", REGION_LISTS, prepare_attached, run_take_attached, false },
	{ "trim of slabs beside", REGION_LISTS, prepare_trim, run_trim, false },
	{ "trim", REGION_TRIM, prepare_trim, run_trim, false },
	{ "purge by trim", REGION_PURGE, prepare_trim, run_trim, false },
	{ "statistics", REGION_STATS, prepare_some, run_stats, false },
	{ "large blocks", REGION_LARGE, prepare_some, run_large, false },
	{ "large realloc", REGION_MOVE, prepare_move, run_move, false },
	{ "growth", REGION_GROW, prepare_some, run_grow, false },
	{ "a thread's first call", REGION_POOL, prepare_nothing, run_malloc, false },
	{ "a thread's end", REGION_EXIT, prepare_end, NULL, false },
};

const unsigned park_op_count = sizeof park_ops / sizeof park_ops[0];

void victim_free_rest(struct victim *v)
{
	victim_free_blocks(v);
	/* What is still to be freed is not under work; nobody else's result comes there. */
	if (park_ops[v->op].run == run_free)
		victim_free_own(v);
}
