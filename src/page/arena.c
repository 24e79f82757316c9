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

/* Between 64 GiB and 8 TiB, unless an option or a limit says otherwise; 4 MiB is the least. */
#define ARENA_BYTES_USUAL ((uint64_t)64 << 30)
#define ARENA_BYTES_MOST ((uint64_t)8 << 40)
#define ARENA_BYTES_LEAST ((uint64_t)4 << 20)

enum {
	SLOTS_USUAL = 65536,
	SLOTS_LEAST = 1024,
	/* Decay is told in so many epochs at most; well below STAMP_EPOCHS, lest ages wrap. */
	DECAY_EPOCHS_MAX = 31,
	/* 2^28 ns = 268 ms: the least epoch. */
	EPOCH_SHIFT_LEAST = 28,
	LINE_BYTES = 64,
	/* Places to try, should the first be taken, before the kernel is left to choose one. */
	PLACES = 4,
};

/* An address that no object has, and from which no object is less than 2^62 bytes away. */
#define NO_BASE ((uintptr_t)1 << 63)

struct page_arena page_arena = { .base = NO_BASE };

static _Atomic(struct arena *) published;

/* How large the arena may become: tried in turn, from the wanted size downward. */
struct plan {
	size_t granules;
	uint32_t slots;
};

/*
 * Sizes of the parts, as they lie. What the first allocation touches is one page: the header, the
 * words of the first blocks of the bitmap behind it, and no more (stamps are read only).
 */
struct layout {
	size_t direct_records;
	size_t granule_records;
	size_t header;
	size_t bitmap;
	size_t stamps;
	size_t chunks;
	size_t composed;
	size_t fit;
	size_t links;
};

/* What is reserved at birth. */
struct birth {
	char *region;
	size_t bytes;
	uintptr_t base; /* of granules */
	size_t granules;
	size_t records; /* of granules */
	bool is_whole;  /* all that the plan wants */
};

static size_t round_up(size_t value, size_t unit)
{
	return (value + unit - 1) & -unit;
}

static uint64_t power_of_two_above(uint64_t value)
{
	return value <= 1 ? 1 : (uint64_t)1 << (64 - __builtin_clzll(value - 1));
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
 * The sizes to try first. Under RLIMIT_AS the program's own mappings need room too, and under
 * strict overcommit there is no more to commit than there is memory.
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
		slots = left == OS_UNLIMITED ? ARENA_SLOTS_MOST : slots;
	}
	if (slots < SLOTS_LEAST)
		slots = SLOTS_LEAST;
	return (struct plan){
		.granules = (size_t)(want >> PAGE_GRANULE_SHIFT) & -arena_unit(),
		.slots = (uint32_t)round_up(slots, SLOTS_LEAST),
	};
}

/* The next smaller plan; false when there is none. */
static bool plan_next(struct plan *plan)
{
	if (plan->granules > ARENA_BYTES_LEAST >> PAGE_GRANULE_SHIFT)
		plan->granules = (plan->granules / 2) & -arena_unit();
	else if (plan->granules)
		plan->granules = 0;
	else if (plan->slots > SLOTS_LEAST)
		plan->slots = SLOTS_LEAST;
	else
		return false;
	return true;
}

/* The sum of what lies between records and granules. */
static size_t metadata_of(const struct layout *l)
{
	return l->header + l->bitmap + l->stamps + l->chunks + l->composed + l->fit + l->links;
}

static struct layout layout_of(const struct plan *plan)
{
	size_t page = os_facts()->page_bytes;
	struct layout l = {
		.direct_records = (size_t)plan->slots << PAGE_RECORD_SHIFT,
		.granule_records = plan->granules << PAGE_RECORD_SHIFT,
		.header = round_up(sizeof(struct arena), LINE_BYTES),
		.links = plan->slots * sizeof(uint32_t),
	};

	if (plan->granules) {
		l.bitmap = bitmap_storage_bytes(plan->granules);
		l.stamps = round_up(plan->granules * sizeof(uint16_t), LINE_BYTES);
		l.chunks = round_up(plan->granules / ARENA_CHUNK_GRANULES + 1, LINE_BYTES);
		l.composed = l.chunks;
		l.fit = round_up(FIT_CLASSES * FIT_WAYS * sizeof(uint64_t), LINE_BYTES);
	}
	l.links += -metadata_of(&l) & (page - 1);
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
	const struct birth *birth, size_t first)
{
	char *bitmap = (char *)a + l->header;
	char *stamps = bitmap + l->bitmap;
	char *chunks = stamps + l->stamps;

	a->region = birth->region;
	a->region_bytes = birth->bytes;
	a->is_whole = birth->is_whole;
	a->granules = plan->granules;
	a->slots = plan->slots;
	a->base = birth->base;
	a->records = (uintptr_t)a - PAGE_RECORD_BYTES;
	a->metadata_bytes = metadata_of(l);
	a->stamps = (_Atomic(uint16_t) *)stamps;
	a->chunks = (_Atomic(uint8_t) *)chunks;
	a->composed = (_Atomic(uint8_t) *)(chunks + l->chunks);
	a->fit = (_Atomic(uint64_t) *)(chunks + l->chunks + l->composed);
	a->slot_links = (_Atomic(uint32_t) *)(chunks + l->chunks + l->composed + l->fit);
	set_decay(a);
	guard_init(a);
	a_store_rlx(&a->janitor.beat, INT64_MIN / 2);
	a_store_rlx(&a->ends, ends_make(0, birth->granules));
	a_store_rlx(&a->records_reserved, birth->records);
	if (a->granules) {
		bitmap_init(&a->map, bitmap, a->granules);
		arena_grow_first(a, first);
	}
}

/* Reserves what an arena begins with, where there is room for the rest of the plan. */
static bool reserve_first(const struct plan *plan, const struct layout *l, struct birth *ret_birth)
{
	size_t records = min_size(plan->granules, RESERVE_RECORDS_FIRST);
	size_t granules = min_size(plan->granules, RESERVE_UNIT_GRANULES);
	size_t low = (records << PAGE_RECORD_SHIFT) + metadata_of(l);
	size_t bytes = low + (granules << PAGE_GRANULE_SHIFT);
	size_t below = l->direct_records + l->granule_records + metadata_of(l);
	int ret = -EEXIST;

	for (unsigned i = 0; ret == -EEXIST && i < PLACES; i++) {
		uintptr_t base = place_choose(below, plan->granules << PAGE_GRANULE_SHIFT, i);
		if (!base)
			return false;
		ret = os_reserve_at((char *)base - low, bytes);
		*ret_birth =
			(struct birth){ (char *)base - low, bytes, base, granules, records, false };
	}
	return !ret;
}

/* Reserves all that the plan wants, where the kernel likes. */
static bool reserve_whole(const struct plan *plan, const struct layout *l, struct birth *ret_birth)
{
	size_t below = l->direct_records + l->granule_records + metadata_of(l);
	size_t bytes = below + ARENA_ALIGN_BYTES + (plan->granules << PAGE_GRANULE_SHIFT);
	char *region = os_reserve(bytes, os_facts()->page_bytes);
	uintptr_t base = round_up((uintptr_t)region + below, ARENA_ALIGN_BYTES);

	*ret_birth = (struct birth){ region, bytes, base, plan->granules, plan->granules, true };
	return region != NULL;
}

/* Makes an arena that nobody knows yet, or NULL if the system refuses this size. */
static struct arena *arena_reserve(const struct plan *plan)
{
	struct layout l = layout_of(plan);
	size_t metadata = metadata_of(&l);
	size_t records = min_size(plan->granules, ARENA_RECORD_STEP);
	size_t first = plan->granules ? ARENA_CHUNK_GRANULES : 0;
	struct birth birth;
	struct arena *a;
	char *low;

	if (!reserve_first(plan, &l, &birth) && !reserve_whole(plan, &l, &birth))
		return NULL;
	a = (struct arena *)(birth.base - metadata);
	low = (char *)a - (records << PAGE_RECORD_SHIFT);
	reserve_dress(birth.region, birth.bytes);
	if (os_commit(low, (size_t)((char *)a - low) + metadata + (first << PAGE_GRANULE_SHIFT))) {
		(void)os_unmap(birth.region, birth.bytes);
		return NULL;
	}
	arena_build(a, plan, &l, &birth, first);
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
		arena_note_reach(a, arena_frontier(a));
	}
	return 0;
}
