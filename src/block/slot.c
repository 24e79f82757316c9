/* SPDX-License-Identifier: MIT */
/*
 * Blocks in slots: beginning, finding, freeing, and resizing them where they are.
 *
 * The record of each slot says how much of it may hold anything but zeroes. So a block that is to
 * read as zero is cleared no further than that, and a slot that is not clean is known.
 */
#include "slot.h"

#include <errno.h>
#include <string.h>

enum {
	/* A smaller tail is not given back when a block shrinks: one call costs as much as it. */
	SHRINK_LEAST_BYTES = 64 << 10,
	/* A block takes no more than this part of a zone beyond what it needs. */
	PLENTY_PART = 64,
};

/* 256 KiB: with less room than this a run does as well. */
#define SLOT_ROOM_LEAST_BYTES ((size_t)256 << 10)

/* 64 MiB: zeroing more by writing could fill memory that nobody had used. */
#define CLEAR_WRITE_MOST_BYTES ((size_t)64 << 20)

/* Blocks above this get their pages when they touch them, for nobody knows whether they will. */
#define SLOT_POPULATE_MOST_BYTES ((size_t)1 << SLOT_SMALL_SHIFT)

static size_t min_size(size_t x, size_t y)
{
	return x < y ? x : y;
}

static size_t max_size(size_t x, size_t y)
{
	return x > y ? x : y;
}

void slot_note_dirty(struct zone *z, size_t pos, size_t from, size_t end)
{
	for (size_t i = from >> z->shift; i << z->shift < end; i++) {
		struct slot *s = &z->table[pos + i];
		size_t in_slot = min_size(end - (i << z->shift), slot_bytes(z));
		if (a_load_rlx(&s->dirty) < in_slot)
			a_store_rlx(&s->dirty, in_slot);
	}
}

/* Of large ranges nobody knows how much was ever touched: they are given back rather than filled. */
static void clear(char *base, size_t bytes, bool may_call)
{
	if (!may_call || bytes <= CLEAR_WRITE_MOST_BYTES || os_decommit(base, bytes))
		memset(base, 0, bytes);
}

void slot_clear(struct zone *z, size_t pos, size_t from, size_t end, bool may_call)
{
	for (size_t i = from >> z->shift; i << z->shift < end; i++) {
		size_t begin = i << z->shift;
		size_t low = max_size(from, begin);
		size_t high = min_size(end, begin + a_load_rlx(&z->table[pos + i].dirty));
		if (low < high)
			clear(slot_address(z, pos) + low, high - low, may_call);
	}
}

/* What slots may hold. */
static size_t held_bytes(const struct zone *z, size_t pos, size_t n)
{
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += a_load_rlx(&z->table[pos + i].dirty);
	return bytes;
}

/* Slots are in use that were free: what was warm in them does not wait any more. */
static void note_taken(const struct zone *z, size_t pos, size_t n)
{
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		if (!a_load_rlx(&z->table[pos + i].lazy))
			bytes += held_bytes(z, pos + i, 1);
	if (bytes)
		page_guard_taken(bytes);
}

void slot_begin(const struct slot_ref *ref, unsigned tag)
{
	struct slot *s = &ref->zone->table[ref->pos];

	for (size_t i = 0; i < ref->count; i++) {
		a_store_rlx(&s[i].back, (uint32_t)i);
		a_store_rlx(&s[i].head, 0);
	}
	a_store_rlx(&s->count, (uint32_t)ref->count);
	a_store_rlx(&s->bytes, ref->bytes);
	a_store_rlx(&s->tag, (uint16_t)tag);
	a_store_rlx(&s->head, ref->head);
	slot_note_dirty(ref->zone, ref->pos, ref->offset, ref->offset + ref->bytes);
}

static enum slot_class class_for(size_t room, unsigned flags)
{
	return room > (size_t)1 << SLOT_SMALL_SHIFT || flags & ALLOD_PAGE_SWAPPABLE ? SLOT_LARGE
										    : SLOT_SMALL;
}

/* Whether a block is better off in a slot than in a run. */
static bool wants_slot(size_t bytes, size_t room, unsigned flags)
{
	return bytes > (size_t)1 << SLOT_SMALL_SHIFT || flags & ALLOD_PAGE_SWAPPABLE ||
		(room > bytes && room >= SLOT_ROOM_LEAST_BYTES);
}

/*
 * How many slots a block gets that needs `need`. One that fills most of its slots gets as many
 * again, so that it may double where it is: addresses cost nothing while they are plenty.
 */
static size_t count_for(const struct zone *z, size_t bytes, size_t need, bool exact)
{
	size_t twice = exact || bytes > SIZE_MAX / 2 ? need : slots_for(z, 2 * bytes);

	return twice <= z->slots / PLENTY_PART ? twice : need;
}

/* Takes slots for a block of that size; with fewer free, just as many as it needs. */
static bool take_slots(struct slot_ref *ref, const struct block_want *want, bool may_call)
{
	size_t align = max_size(want->align_bytes >> ref->zone->shift, 1);
	size_t need = slots_for(ref->zone, max_size(ref->bytes, want->reserve_bytes));

	ref->count = count_for(ref->zone, ref->bytes, need, want->reserve_bytes != 0);
	ref->pos = zone_take(ref->zone, ref->count, align, may_call);
	if (ref->pos == BITMAP_NONE && ref->count > need) {
		ref->count = need;
		ref->pos = zone_take(ref->zone, need, align, may_call);
	}
	return ref->pos != BITMAP_NONE;
}

/* Makes the first pages of a block present that no earlier one has left there. */
static void populate(const struct slot_ref *ref, size_t dirty)
{
	if (ref->bytes <= SLOT_POPULATE_MOST_BYTES && dirty < ref->bytes)
		(void)os_populate(slot_address(ref->zone, ref->pos) + dirty, ref->bytes - dirty);
}

int slot_alloc(size_t bytes, const struct block_want *want, char **ret_base)
{
	bool may_call = !(want->flags & ALLOD_PAGE_CONSTANT_TIME);
	size_t room = max_size(bytes, want->reserve_bytes);
	struct slot_ref ref = { .bytes = bytes };
	size_t dirty;

	if (!wants_slot(bytes, room, want->flags))
		return -ENOTSUP;
	ref.zone = zone_get(class_for(room, want->flags), may_call);
	if (!ref.zone)
		return -ENOTSUP;
	if (!take_slots(&ref, want, may_call))
		return -ENOTSUP;
	ref.head = slot_head(want->flags,
		want->reserve_bytes > bytes || want->flags & ALLOD_PAGE_SWAPPABLE ? ref.count : 0,
		0);
	note_taken(ref.zone, ref.pos, ref.count);
	dirty = a_load_rlx(&ref.zone->table[ref.pos].dirty);
	if (want->flags & ALLOD_PAGE_ZEROED)
		slot_clear(ref.zone, ref.pos, 0, bytes, may_call);
	if (may_call && !(want->flags & ALLOD_PAGE_NO_COMMIT))
		populate(&ref, dirty);
	slot_begin(&ref, tag_number(want->tag));
	*ret_base = slot_address(ref.zone, ref.pos);
	return 0;
}

char *slot_alloc_warm(size_t bytes, size_t room, size_t warm, unsigned flags, bool zeroed)
{
	struct slot_ref ref = { .count = 1, .bytes = bytes };

	ref.zone = zone_get(class_for(room, flags), false);
	if (!ref.zone || bytes > slot_bytes(ref.zone))
		return NULL;
	ref.pos = zone_take(ref.zone, 1, 1, false);
	if (ref.pos == BITMAP_NONE)
		return NULL;
	if (a_load_rlx(&ref.zone->table[ref.pos].dirty) < warm) {
		zone_put(ref.zone, ref.pos, 1);
		return NULL;
	}
	note_taken(ref.zone, ref.pos, 1);
	if (zeroed)
		slot_clear(ref.zone, ref.pos, warm, bytes, true);
	ref.head = slot_head(flags, 1, 0);
	slot_begin(&ref, 0);
	return slot_address(ref.zone, ref.pos);
}

/* The zone that has p among its addresses, and the slot. */
static struct zone *zone_of(const char *p, size_t *ret_pos)
{
	for (int class = 0; class < SLOT_CLASSES; class ++) {
		struct zone *z = zone_peek((enum slot_class) class);
		size_t pos = z ? ((uintptr_t)p - z->base) >> z->shift : 0;
		if (z && pos < z->slots) {
			*ret_pos = pos;
			return z;
		}
	}
	return NULL;
}

static void ref_fill(struct zone *z, size_t pos, uint64_t head, struct slot_ref *ret_ref)
{
	const struct slot *s = &z->table[pos];

	*ret_ref = (struct slot_ref){
		.zone = z,
		.pos = pos,
		.count = a_load_rlx(&s->count),
		.offset = slot_offset(head),
		.bytes = a_load_rlx(&s->bytes),
		.head = head,
	};
}

bool slot_ref_find(const char *p, bool begins, struct slot_ref *ret_ref)
{
	size_t pos;
	struct zone *z = zone_of(p, &pos);
	struct slot_ref ref;
	uint64_t head;
	const char *base;

	if (!z)
		return false;
	head = a_load_rlx(&z->table[pos].head);
	if (!(head & SLOT_LIVE) && !begins) {
		size_t back = a_load_rlx(&z->table[pos].back);
		pos -= min_size(back, pos);
		head = a_load_rlx(&z->table[pos].head);
	}
	if (!(head & SLOT_LIVE))
		return false;
	ref_fill(z, pos, head, &ref);
	base = slot_address(z, pos) + ref.offset;
	if (begins ? p != base : (size_t)(p - base) >= ref.bytes)
		return false;
	*ret_ref = ref;
	return true;
}

bool slot_find(const char *p, bool begins, struct block *ret_block)
{
	struct slot_ref ref;

	if (!slot_ref_find(p, begins, &ref))
		return false;
	*ret_block = (struct block){
		.kind = BLOCK_SLOT,
		.flags = slot_flags(ref.head),
		.base = slot_address(ref.zone, ref.pos) + ref.offset,
		.bytes = ref.bytes,
		.room_bytes = (ref.count << ref.zone->shift) - ref.offset,
		.id = (size_t)ref.zone->class << 32 | ref.pos,
	};
	return true;
}

/* Whether the slot may be used again; its mapping is made ordinary if too many are not. */
static bool may_return(struct zone *z, size_t pos, uint64_t now)
{
	struct slot *s = &z->table[pos];

	a_store_rlx(&s->freed_ns, now);
	a_store_rlx(&s->lazy, 0);
	return !slot_cost(s) || slot_refresh_if_crowded(z, pos);
}

/* Puts slots back, as many together as may be. */
static void put_slots(struct zone *z, size_t pos, size_t n)
{
	uint64_t now = os_now_ns();
	size_t end = pos + n;

	for (size_t at = pos; at < end; at++) {
		if (may_return(z, at, now))
			continue;
		if (at > pos)
			zone_put(z, pos, at - pos);
		pos = at + 1;
	}
	if (pos < end)
		zone_put(z, pos, end - pos);
}

bool slot_holds(const char *p, size_t *ret_bytes)
{
	struct slot_ref ref;

	if (!slot_ref_find(p, true, &ref))
		return false;
	*ret_bytes = held_bytes(ref.zone, ref.pos, ref.count);
	return true;
}

bool slot_free(char *p)
{
	struct slot_ref ref;
	uint64_t freed;

	if (!slot_ref_find(p, true, &ref))
		return false;
	freed = SLOT_FREED | (ref.head >> SLOT_OFFSET_SHIFT << SLOT_OFFSET_SHIFT);
	if (!a_cas_strong_rlx(&ref.zone->table[ref.pos].head, &ref.head, freed))
		return false;
	put_slots(ref.zone, ref.pos, ref.count);
	return true;
}

bool slot_was_freed(const char *p)
{
	size_t pos;
	const struct zone *z = zone_of(p, &pos);
	uint64_t head = z ? a_load_rlx(&z->table[pos].head) : 0;

	return head & SLOT_FREED && p == slot_address(z, pos) + slot_offset(head);
}

int slot_take_behind(const struct slot_ref *ref, size_t count, unsigned flags)
{
	struct slot *s = &ref->zone->table[ref->pos];
	bool may_call = !(flags & ALLOD_PAGE_CONSTANT_TIME);

	if (!zone_take_at(ref->zone, ref->pos + ref->count, count - ref->count, may_call))
		return -ENOSPC;
	note_taken(ref->zone, ref->pos + ref->count, count - ref->count);
	for (size_t i = ref->count; i < count; i++) {
		a_store_rlx(&s[i].head, 0);
		a_store_rlx(&s[i].back, (uint32_t)i);
	}
	a_store_rlx(&s->count, (uint32_t)count);
	return 0;
}

static int grow(const struct slot_ref *ref, size_t bytes, unsigned flags)
{
	size_t end = ref->offset + bytes;
	size_t count = slots_for(ref->zone, end);
	int ret = 0;

	if (bytes > PTRDIFF_MAX - ref->offset)
		return -ENOSPC;
	if (count > ref->count)
		ret = slot_take_behind(ref, count, flags);
	if (ret)
		return ret;
	if (flags & ALLOD_PAGE_ZEROED)
		slot_clear(ref->zone, ref->pos, ref->offset + ref->bytes, end,
			!(flags & ALLOD_PAGE_CONSTANT_TIME));
	slot_note_dirty(ref->zone, ref->pos, ref->offset + ref->bytes, end);
	a_store_rlx(&ref->zone->table[ref->pos].bytes, bytes);
	return 0;
}

/*
 * Gives the pages of [from, end) back, counted from slot pos on, and what an earlier block has left
 * behind them.
 */
static void drop_range(struct zone *z, size_t pos, size_t from, size_t end)
{
	for (size_t i = from >> z->shift; i << z->shift < end; i++) {
		struct slot *s = &z->table[pos + i];
		size_t begin = i << z->shift;
		size_t low = max_size(from, begin);
		size_t high = begin + a_load_rlx(&s->dirty);
		if (low < high && high - low >= SHRINK_LEAST_BYTES &&
			!os_decommit(slot_address(z, pos) + low, high - low))
			a_store_rlx(&s->dirty, low - begin);
	}
}

static void shrink(const struct slot_ref *ref, size_t bytes, unsigned flags)
{
	size_t end = ref->offset + bytes;
	size_t count = max_size(slots_for(ref->zone, end), max_size(slot_kept(ref->head), 1));
	struct slot *s = &ref->zone->table[ref->pos];

	/* The size is written before the tail is let go: nobody may see it as this block's then. */
	a_store_rlx(&s->bytes, bytes);
	if (!(flags & ALLOD_PAGE_CONSTANT_TIME))
		drop_range(ref->zone, ref->pos, end, ref->offset + ref->bytes);
	if (count < ref->count) {
		a_store_rlx(&s->count, (uint32_t)count);
		put_slots(ref->zone, ref->pos + count, ref->count - count);
	}
}

int slot_resize(const struct slot_ref *ref, size_t bytes, unsigned flags)
{
	if (bytes > ref->bytes)
		return grow(ref, bytes, flags);
	if (bytes < ref->bytes)
		shrink(ref, bytes, flags);
	return 0;
}

size_t slot_room(const struct slot_ref *ref)
{
	size_t behind = zone_free_at(ref->zone, ref->pos + ref->count, ref->zone->slots);

	return ((ref->count + behind) << ref->zone->shift) - ref->offset;
}
