/* SPDX-License-Identifier: MIT */
/*
 * Zones of slots: reserving them once, growing their accessible front, taking and putting back.
 *
 * The bitmap alone decides who holds a slot. The lists of recent slots are hints on where to look
 * first, so that the pages of the slot that was freed last are used next.
 *
 * There is no zone where its pages would be charged or locked without being used: under limits on
 * data, strict overcommit, and mlockall(). Blocks are runs, or mappings of their own, then.
 */
#include "slot.h"

#include <errno.h>

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#define HAS_TSAN __has_feature(thread_sanitizer)
#else
#define HAS_TSAN 0
#endif

enum {
	ZONE_SLOTS_SMALL = 8192, /* 256 GiB of addresses */
	ZONE_SLOTS_LARGE = 4096, /* 4 TiB */
	ZONE_SLOTS_LEAST = 16,
	/* The thread sanitizer knows little of the address space as the program's. */
	ZONE_SLOTS_SMALL_TSAN = 2048,
	ZONE_SLOTS_LARGE_TSAN = 256,
	/*
	 * A slot can cost two mappings in the worst case, even one that is at home: the kernel does
	 * not join neighbours that came by their pages at different times. With an eighth of what
	 * it allows as the number of slots, both zones take up half of it at most.
	 */
	ZONE_MAPPINGS_PART = 8,
	/* Under a limit on address space a zone takes up an eighth of it. */
	ZONE_ADDRESS_PART = 8,
	/* Free slots looked at for a clean one. */
	ZONE_CLEAN_TRIES = 64,
};

/* After a refusal nobody tries again for a second. */
#define ZONE_RETRY_NS ((uint64_t)1000000000)

#define ZONE_AGAIN (BITMAP_NONE - 1)

_Atomic(struct zone *) slot_zones[SLOT_CLASSES];
static _Atomic(uint64_t) zone_retry_ns[SLOT_CLASSES];

static size_t min_size(size_t x, size_t y)
{
	return x < y ? x : y;
}

/* How many slots the zone may have; 0: none. One of them is never used: see is_locked(). */
static size_t slots_most(enum slot_class class, unsigned shift)
{
	const struct os_facts *facts = os_facts();
	size_t slots = class == SLOT_SMALL ? ZONE_SLOTS_SMALL : ZONE_SLOTS_LARGE;

	if (facts->overcommit_mode == 2 || facts->data_limit_bytes != OS_UNLIMITED ||
		facts->under_valgrind)
		return 0;
	if (HAS_TSAN)
		slots = class == SLOT_SMALL ? ZONE_SLOTS_SMALL_TSAN : ZONE_SLOTS_LARGE_TSAN;
	slots = min_size(slots, facts->max_map_count / ZONE_MAPPINGS_PART);
	if (facts->address_limit_bytes != OS_UNLIMITED)
		slots = min_size(slots, facts->address_limit_bytes / ZONE_ADDRESS_PART >> shift);
	return slots;
}

/*
 * Whether the zone is locked in memory, so that what is made accessible would be filled with pages
 * at once. The last slot serves to find out.
 */
static bool is_locked(const struct zone *z)
{
	return os_decommit(slot_address(z, z->slots), os_facts()->page_bytes) == -EINVAL;
}

/* Reserves the slots; one more than it says in ret_z->slots. */
static bool reserve(struct zone *ret_z)
{
	size_t slots = slots_most(ret_z->class, ret_z->shift);
	void *base = NULL;

	for (; slots >= ZONE_SLOTS_LEAST && !base; slots /= 2) {
		base = os_reserve(slots << ret_z->shift, slot_bytes(ret_z));
		ret_z->slots = (uint32_t)slots - 1;
	}
	ret_z->base = (uintptr_t)base;
	if (base && is_locked(ret_z)) {
		(void)os_unmap(base, ((size_t)ret_z->slots + 1) << ret_z->shift);
		return false;
	}
	/* Small blocks stay small, as in the arena; for large ones the host's setting holds. */
	if (base && ret_z->class == SLOT_SMALL)
		(void)os_huge(base, ((size_t)ret_z->slots + 1) << ret_z->shift, false);
	return base != NULL;
}

static void release(const struct zone *z)
{
	(void)os_unmap((void *)z->base, ((size_t)z->slots + 1) << z->shift);
}

/* Makes a zone that nobody else knows; NULL when the system refuses. */
static struct zone *zone_make(enum slot_class class)
{
	struct zone plan = { .class = class,
		.shift = class == SLOT_SMALL ? SLOT_SMALL_SHIFT : SLOT_LARGE_SHIFT };
	size_t page = os_facts()->page_bytes;
	size_t table;
	struct zone *z;

	if (!reserve(&plan))
		return NULL;
	table = (size_t)plan.slots * sizeof(struct slot);
	plan.metadata_bytes = sizeof(*z) + 2 * 64 + table + bitmap_storage_bytes(plan.slots);
	plan.metadata_bytes = (plan.metadata_bytes + page - 1) & -page;
	z = os_reserve(plan.metadata_bytes, page);
	if (z && os_commit(z, plan.metadata_bytes)) {
		(void)os_unmap(z, plan.metadata_bytes);
		z = NULL;
	}
	if (!z) {
		release(&plan);
		return NULL;
	}
	(void)os_huge(z, plan.metadata_bytes, false);
	*z = plan;
	z->table = (void *)(((uintptr_t)(z + 1) + 63) & -(uintptr_t)64);
	bitmap_init(&z->map, z->table + z->slots, z->slots);
	return z;
}

/* Lets others have the zone; the one that they have, if somebody was faster. */
static struct zone *zone_publish(struct zone *z)
{
	struct zone *seen = NULL;

	block_keep();
	/* [slot.1] acqrel: publishes the zone, or reads the winner's; pairs with zone_peek(). */
	if (a_cas_strong_acqrel(&slot_zones[z->class], &seen, z))
		return z;
	release(z);
	(void)os_unmap(z, z->metadata_bytes);
	return seen;
}

struct zone *zone_get(enum slot_class class, bool may_call)
{
	struct zone *z = zone_peek(class);

	if (z || !may_call)
		return z;
	if (os_now_ns() < a_load_rlx(&zone_retry_ns[class]))
		return NULL;
	z = zone_make(class);
	if (!z) {
		a_store_rlx(&zone_retry_ns[class], os_now_ns() + ZONE_RETRY_NS);
		return NULL;
	}
	return zone_publish(z);
}

/* That slots below are accessible is known to who takes them from the bitmap, not by this. */
static uint64_t frontier_get(const struct zone *z)
{
	return a_load_rlx(&z->frontier);
}

/* So many records have a page of their own to lie in. */
static void populate_records(const struct zone *z, uint64_t from, uint64_t end)
{
	const uintptr_t mask = -(uintptr_t)os_facts()->page_bytes;
	uintptr_t low = ((uintptr_t)&z->table[from] + ~mask) & mask;
	uintptr_t high = ((uintptr_t)&z->table[end] + ~mask) & mask;

	if (low < high)
		(void)os_populate((void *)low, high - low);
}

/*
 * Moves the frontier and makes [frontier, end) accessible. BITMAP_NONE: refused; ZONE_AGAIN:
 * somebody else moved it; else 0, and the new slots are the caller's.
 *
 * The slots are claimed first: a call that came late would make a block's pages accessible again
 * that its owner has protected. Who stops in between keeps them, and no more: addresses, of which
 * SLOT_STEP_SMALL and SLOT_AHEAD_LARGE tell how many.
 */
static size_t frontier_move(struct zone *z, uint64_t frontier, uint64_t end)
{
	uint64_t claimed = end;

	if (is_locked(z))
		return BITMAP_NONE;
	if (!a_cas_strong_rlx(&z->frontier, &frontier, end))
		return ZONE_AGAIN;
	if (os_commit(slot_address(z, frontier), (end - frontier) << z->shift)) {
		/* If others have claimed what lies behind, these are out of use. */
		if (!a_cas_strong_rlx(&z->frontier, &claimed, frontier))
			a_add_rlx(&z->lost, end - frontier);
		return BITMAP_NONE;
	}
	populate_records(z, frontier, end);
	return 0;
}

/* How far to move the frontier where slots up to `end` are wanted. */
static uint64_t end_ahead(const struct zone *z, uint64_t end)
{
	if (z->class == SLOT_SMALL)
		end = (end + SLOT_STEP_SMALL - 1) & -(uint64_t)SLOT_STEP_SMALL;
	else
		end += min_size(end, SLOT_AHEAD_LARGE);
	return min_size(end, z->slots);
}

static void put_bits(struct zone *z, size_t pos, size_t n)
{
	if (n && !bitmap_put(&z->map, pos, n))
		os_fatal("allod: corrupted slot map\n");
}

/* Slots are aligned as their numbers are, once the zone's own place is added. */
static size_t align_offset(const struct zone *z, size_t align)
{
	return (z->base >> z->shift) & (align - 1);
}

/* n slots, the first of which was freed lately: the last one first; or BITMAP_NONE. */
static size_t take_recent(struct zone *z, size_t n)
{
	uint32_t top = a_load_rlx(&z->recent_top);

	for (uint32_t i = 1; i <= SLOT_RECENT; i++) {
		_Atomic(uint32_t) *at = &z->recent[(top - i) % SLOT_RECENT];
		uint32_t slot = a_load_rlx(at);
		if (!slot || slot + n > z->slots || !bitmap_take_at(&z->map, slot - 1, n))
			continue;
		/* If another slot is noted there by now it is forgotten: a hint. */
		a_store_rlx(at, 0);
		return slot - 1;
	}
	return BITMAP_NONE;
}

static void note_recent(struct zone *z, size_t pos)
{
	uint32_t top = a_add_rlx(&z->recent_top, 1);

	a_store_rlx(&z->recent[top % SLOT_RECENT], (uint32_t)pos + 1);
}

static bool is_preferred(const struct slot *s, enum zone_prefer prefer)
{
	return !a_load_rlx(&s->dirty) && (prefer == ZONE_EMPTY || !slot_cost(s));
}

static bool all_preferred(const struct zone *z, size_t pos, size_t n, enum zone_prefer prefer)
{
	size_t i = 0;

	while (i < n && is_preferred(&z->table[pos + i], prefer))
		i++;
	return i == n;
}

/* Takes exactly these if they are free and clean. */
static bool take_clean_at(struct zone *z, size_t pos, size_t n)
{
	if (!bitmap_take_at(&z->map, pos, n))
		return false;
	if (all_preferred(z, pos, n, ZONE_CLEAN))
		return true;
	put_bits(z, pos, n);
	return false;
}

/* How many slots right below the frontier are free and clean, `most` at most. */
static size_t free_below(const struct zone *z, uint64_t frontier, size_t most)
{
	size_t n = 0;

	while (n < most && n < frontier && bitmap_is_free(&z->map, frontier - n - 1) &&
		is_preferred(&z->table[frontier - n - 1], ZONE_CLEAN))
		n++;
	return n;
}

/* Takes slots by moving the frontier, seen at `frontier`; they begin below it where some are free. */
static size_t take_fresh(struct zone *z, uint64_t frontier, size_t n, size_t align)
{
	size_t offset = align_offset(z, align);
	uint64_t low = frontier - free_below(z, frontier, n);
	uint64_t pos = ((low + offset + align - 1) & -(uint64_t)align) - offset;
	uint64_t end = pos + n;
	size_t ret;

	if (n > z->slots || end > z->slots)
		return BITMAP_NONE;
	/* All that is wanted is free below it. */
	if (end <= frontier)
		return take_clean_at(z, pos, n) ? pos : ZONE_AGAIN;
	end = end_ahead(z, end);
	ret = frontier_move(z, frontier, end);
	if (ret)
		return ret;
	if (pos < frontier) {
		put_bits(z, frontier, end - frontier);
		return take_clean_at(z, pos, n) ? pos : ZONE_AGAIN;
	}
	put_bits(z, frontier, pos - frontier);
	put_bits(z, pos + n, end - pos - n);
	return pos;
}

/* Free slots of which the first `empty` have no pages, where a short look finds some. */
static size_t take_preferred(struct zone *z, size_t n, size_t empty, enum zone_prefer prefer)
{
	size_t limit = frontier_get(z);
	size_t run = 0;
	size_t pos = 0;

	for (unsigned tries = 0; tries < ZONE_CLEAN_TRIES; tries++) {
		pos = bitmap_next_free(&z->map, pos, limit, &run);
		if (pos == BITMAP_NONE)
			return BITMAP_NONE;
		if (run >= n && all_preferred(z, pos, empty, prefer) &&
			bitmap_take_at(&z->map, pos, n)) {
			if (all_preferred(z, pos, empty, prefer))
				return pos;
			put_bits(z, pos, n);
		}
		pos++;
	}
	return BITMAP_NONE;
}

size_t zone_take_clean(struct zone *z, size_t n)
{
	return take_preferred(z, n, n, ZONE_CLEAN);
}

static size_t take_free(struct zone *z, size_t n, size_t align)
{
	return bitmap_take(&z->map, n, align, align_offset(z, align), 0);
}

size_t zone_take(struct zone *z, size_t n, size_t align, bool may_call)
{
	size_t pos = align == 1 ? take_recent(z, n) : BITMAP_NONE;

	while (pos == BITMAP_NONE || pos == ZONE_AGAIN) {
		uint64_t frontier = frontier_get(z);
		pos = take_free(z, n, align);
		if (pos == BITMAP_NONE && may_call)
			pos = take_fresh(z, frontier, n, align);
		if (pos == BITMAP_NONE)
			return pos;
	}
	return pos;
}

size_t zone_take_empty(struct zone *z, size_t n, size_t empty, enum zone_prefer prefer)
{
	size_t pos = take_preferred(z, n, empty, prefer);

	while (pos == BITMAP_NONE || pos == ZONE_AGAIN) {
		pos = take_fresh(z, frontier_get(z), n, 1);
		if (pos == BITMAP_NONE)
			return take_free(z, n, 1);
	}
	return pos;
}

/* Makes sure that the frontier is not below `end`. */
static bool frontier_reach(struct zone *z, uint64_t end)
{
	const uint64_t ahead = end_ahead(z, end);
	uint64_t frontier;
	size_t ret;

	while ((frontier = frontier_get(z)) < end) {
		ret = frontier_move(z, frontier, ahead);
		if (ret == BITMAP_NONE)
			return false;
		if (!ret)
			put_bits(z, frontier, ahead - frontier);
	}
	return true;
}

bool zone_take_at(struct zone *z, size_t pos, size_t n, bool may_call)
{
	uint64_t frontier = frontier_get(z);
	size_t below = pos < frontier ? min_size(n, frontier - pos) : 0;

	if (n > z->slots || pos + n > z->slots || zone_free_at(z, pos, below) < below)
		return false;
	if (below < n && !(may_call && frontier_reach(z, pos + n)))
		return false;
	return bitmap_take_at(&z->map, pos, n);
}

size_t zone_free_at(const struct zone *z, size_t pos, size_t most)
{
	uint64_t frontier = frontier_get(z);
	size_t end = min_size(z->slots, most < z->slots ? pos + most : z->slots);
	size_t at = pos;

	while (at < end && (at >= frontier || bitmap_is_free(&z->map, at)))
		at++;
	return at - pos;
}

void zone_put(struct zone *z, size_t pos, size_t n)
{
	put_bits(z, pos, n);
	/* Of several, the first one has pages if any has. */
	note_recent(z, pos);
}
