/* SPDX-License-Identifier: MIT */
/*
 * Birth of the arena: how much address space, where what lies in it, and who of the threads that
 * come first makes it.
 *
 * Every contender prepares an arena of its own, which nobody else can see, and one compare-and-swap
 * decides; the losers unmap theirs. Each then copies the winner's constants into `page_arena`:
 * all store the same values, so nobody waits for anybody.
 */
#include "arena.h"

#include <errno.h>

#define ARENA_ALIGN_BYTES ((size_t)2 << 20)

/* Between 64 GiB and 8 TiB, unless an option or a limit says otherwise; 4 MiB is the least. */
#define ARENA_BYTES_USUAL ((uint64_t)64 << 30)
#define ARENA_BYTES_MOST ((uint64_t)8 << 40)
#define ARENA_BYTES_LEAST ((uint64_t)4 << 20)

enum {
	SLOTS_USUAL = 65536,
	SLOTS_LEAST = 1024,
	SLOTS_ALL_DIRECT = 1 << 20,
	/* Decay is told in so many epochs at most; well below STAMP_EPOCHS, lest ages wrap. */
	DECAY_EPOCHS_MAX = 31,
	/* 2^28 ns = 268 ms: the least epoch. */
	EPOCH_SHIFT_LEAST = 28,
};

/* An address that no object has, and from which no object is less than 2^62 bytes away. */
#define NO_BASE ((uintptr_t)1 << 63)

struct page_arena page_arena = { .base = NO_BASE };

static _Atomic(struct arena *) published;

/* What to reserve: tried in turn, from the wanted size downward. */
struct plan {
	size_t granules;
	uint32_t slots;
};

/* Sizes of the parts, as they lie in the reservation. */
struct layout {
	size_t direct_records;
	size_t granule_records;
	size_t header;
	size_t bitmap;
	size_t stamps;
	size_t links;
};

static size_t round_up(size_t value, size_t unit)
{
	return (value + unit - 1) & -unit;
}

static uint64_t power_of_two_above(uint64_t value)
{
	return value <= 1 ? 1 : (uint64_t)1 << (64 - __builtin_clzll(value - 1));
}

/* Granules come in such units, so that their records fill pages whatever the page size. */
static size_t granule_unit(void)
{
	size_t unit = os_facts()->page_bytes >> PAGE_RECORD_SHIFT;

	return unit < ARENA_CHUNK_GRANULES ? ARENA_CHUNK_GRANULES : unit;
}

/* Address space that RLIMIT_AS leaves; OS_UNLIMITED without such a limit. */
static uint64_t address_space_left(void)
{
	uint64_t limit = os_facts()->address_limit_bytes;
	uint64_t pages = 0;
	uint64_t used;
	char text[64];

	if (limit == OS_UNLIMITED || os_file_read("/proc/self/statm", text, sizeof(text)) <= 0)
		return limit;
	for (const char *c = text; *c >= '0' && *c <= '9'; c++)
		pages = pages * 10 + (uint64_t)(*c - '0');
	used = pages * os_facts()->page_bytes;
	return used < limit ? limit - used : 0;
}

/*
 * The sizes to try first. Under RLIMIT_AS the program's own mappings need room too, and under strict
 * overcommit there is no more to commit than there is memory.
 */
static struct plan plan_first(void)
{
	const struct os_facts *facts = os_facts();
	uint64_t left = address_space_left();
	uint64_t want = power_of_two_above(facts->ram_bytes);
	uint64_t slots = SLOTS_USUAL;

	if (facts->overcommit_mode != 2) {
		want *= 4;
		if (want < ARENA_BYTES_USUAL)
			want = ARENA_BYTES_USUAL;
	}
	if (options.arena_bytes)
		want = options.arena_bytes;
	if (left != OS_UNLIMITED) {
		uint64_t half = left / 2;
		if (want > half)
			want = half;
		if (slots > half >> PAGE_GRANULE_SHIFT)
			slots = half >> PAGE_GRANULE_SHIFT;
	}
	if (want > ARENA_BYTES_MOST)
		want = ARENA_BYTES_MOST;
	if (options.page == OPTION_PAGE_MMAP) {
		want = 0;
		slots = left == OS_UNLIMITED ? SLOTS_ALL_DIRECT : slots;
	}
	if (slots < SLOTS_LEAST)
		slots = SLOTS_LEAST;
	return (struct plan){
		.granules = (size_t)(want >> PAGE_GRANULE_SHIFT) & -granule_unit(),
		.slots = (uint32_t)round_up(slots, SLOTS_LEAST),
	};
}

/* The next smaller plan; false when there is none. */
static bool plan_next(struct plan *plan)
{
	if (plan->granules > ARENA_BYTES_LEAST >> PAGE_GRANULE_SHIFT)
		plan->granules = (plan->granules / 2) & -granule_unit();
	else if (plan->granules)
		plan->granules = 0;
	else if (plan->slots > SLOTS_LEAST)
		plan->slots = SLOTS_LEAST;
	else
		return false;
	return true;
}

static struct layout layout_of(const struct plan *plan)
{
	size_t page = os_facts()->page_bytes;
	struct layout l = {
		.direct_records = (size_t)plan->slots << PAGE_RECORD_SHIFT,
		.granule_records = plan->granules << PAGE_RECORD_SHIFT,
		.header = round_up(sizeof(struct arena), page),
		.links = round_up(plan->slots * sizeof(uint32_t), page),
	};

	if (plan->granules) {
		l.bitmap = round_up(bitmap_storage_bytes(plan->granules), page);
		l.stamps = round_up(plan->granules, page);
	}
	return l;
}

/* Tells epochs such that the decay is at most DECAY_EPOCHS_MAX of them. */
static void set_decay(struct arena *a)
{
	uint64_t decay_ns = options.decay_ms * 1000000;

	a->epoch_shift = EPOCH_SHIFT_LEAST;
	while (decay_ns >> a->epoch_shift >= DECAY_EPOCHS_MAX)
		a->epoch_shift++;
	/* A stamp may be from the end of its epoch: one more makes sure of the whole decay. */
	a->decay_epochs = 0;
	if (decay_ns)
		a->decay_epochs = (unsigned)((decay_ns - 1) >> a->epoch_shift) + 2;
}

/* Fills in an arena whose metadata is accessible and whose first `first` granules are too. */
static void arena_build(struct arena *a, const struct plan *plan, const struct layout *l,
	size_t first)
{
	char *bitmap = (char *)a + l->header;

	a->granules = plan->granules;
	a->slots = plan->slots;
	a->base = (uintptr_t)(bitmap + l->bitmap + l->stamps + l->links);
	a->records = (uintptr_t)a - PAGE_RECORD_BYTES;
	a->metadata_bytes = l->header + l->bitmap + l->stamps + l->links;
	a->stamps = (_Atomic(uint8_t) *)(bitmap + l->bitmap);
	a->slot_links = (_Atomic(uint32_t) *)(bitmap + l->bitmap + l->stamps);
	set_decay(a);
	a_store_rlx(&a->janitor.beat, INT64_MIN / 2);
	if (a->granules) {
		bitmap_init(&a->map, bitmap, a->granules);
		arena_grow_first(a, first);
	}
}

/* Makes an arena that nobody knows yet, or NULL if the system refuses this size. */
static struct arena *arena_reserve(const struct plan *plan)
{
	struct layout l = layout_of(plan);
	size_t metadata = l.header + l.bitmap + l.stamps + l.links;
	size_t below = l.direct_records + l.granule_records + metadata;
	size_t bytes = below + ARENA_ALIGN_BYTES + (plan->granules << PAGE_GRANULE_SHIFT);
	size_t records = plan->granules < ARENA_RECORD_STEP ? plan->granules : ARENA_RECORD_STEP;
	size_t first = plan->granules ? ARENA_CHUNK_GRANULES : 0;
	char *region = os_reserve(bytes, os_facts()->page_bytes);
	struct arena *a;
	char *low;

	if (!region)
		return NULL;
	a = (struct arena *)(round_up((uintptr_t)region + below, ARENA_ALIGN_BYTES) - metadata);
	low = (char *)a - (records << PAGE_RECORD_SHIFT);
	/* Hosts whose THP setting is `always` would back the first byte with 2 MiB. */
	(void)os_huge(region, bytes, false);
	(void)os_name(region, bytes, "allod");
	if (os_commit(low, (size_t)((char *)a - low) + metadata + (first << PAGE_GRANULE_SHIFT))) {
		(void)os_unmap(region, bytes);
		return NULL;
	}
	a->region = region;
	a->region_bytes = bytes;
	arena_build(a, plan, &l, first);
	return a;
}

/* Makes an arena of the largest size that the system grants. */
static __attribute__((cold, noinline)) struct arena *arena_make(void)
{
	struct plan plan = plan_first();
	struct arena *a;

	do {
		a = arena_reserve(&plan);
	} while (!a && plan_next(&plan));
	return a;
}

/* Makes one and publishes it, unless another thread was first; returns the one that counts. */
static __attribute__((cold, noinline)) struct arena *arena_compete(void)
{
	struct arena *mine = arena_make();
	struct arena *winner = NULL;

	/* [page.1] acqrel: publishes what arena_build() wrote, or reads the winner's; pairs with
	 * arena_get(). */
	if (mine && a_cas_strong_acqrel(&published, &winner, mine)) {
		background_init(mine);
		return mine;
	}
	if (mine)
		(void)os_unmap(mine->region, mine->region_bytes);
	return arena_get();
}

struct arena *arena_get(void)
{
	/* [page.1] acq: the arena is as arena_build() left it; pairs with arena_compete(). */
	return a_load_acq(&published);
}

struct arena *arena_need(void)
{
	struct arena *a = arena_get();

	if (__builtin_expect(!a, 0) && !page_init())
		a = arena_get();
	return a;
}

int page_init(void)
{
	struct arena *a = arena_get();

	if (!a) {
		os_init();
		a = arena_compete();
	}
	if (!a)
		return -ENOMEM;
	a_store_rlx(&page_arena.records, a->records);
	if (a->granules) {
		a_store_rlx(&page_arena.base, a->base);
		arena_note_reach(a, a_load_rlx(&a->frontier));
	}
	return 0;
}
