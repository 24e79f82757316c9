/* SPDX-License-Identifier: MIT */
/*
 * Moving what lies in slots, and runs into them.
 *
 * A slot is moved whole, whatever it holds, so that the kernel re-hangs one entry of a page table:
 * the third level's for a slot of 1 GiB. The source stays mapped (MREMAP_DONTUNMAP) and reads as
 * zero, so no address of a zone is ever open to anybody's mmap() while all goes well.
 *
 * What was moved in keeps its origin with the kernel and is a mapping of its own; such mappings are
 * counted against the budget of page_mappings_take(). They stay with a free slot, pages and all,
 * until they are too many or the pages go back: slot_refresh() puts a fresh mapping in their place,
 * which the kernel joins with those around.
 *
 * A move first unmaps its destination. Should the kernel refuse after that, the addresses are open
 * to anybody for a moment. mend() finds out: either nothing was unmapped, or the gap can be closed
 * without replacing anything, or it is lost. A free slot that is lost is never used again. That a
 * live block's addresses are lost takes a refusal in the middle of an exchange, whose first move
 * has just been granted, and a stranger in the gap at once; then the process ends with a line.
 */
#include "slot.h"

#include <errno.h>
#include <string.h>

enum {
	/* Refusals in a row after which moving is tried only now and then. */
	MOVE_REFUSALS = 4,
	MOVE_RETRY_EACH = 64,
	/* 2 MiB: where places differ by multiples of it, page tables move and not their entries. */
	CONGRUENT_BYTES = 2 << 20,
	/* A run in more pieces is copied; one of 32 MiB that was composed has 17 at most. */
	RUN_PIECES_MOST = 64,
	EDGES_MOST = SLOT_CUTS + 2,
};

/*
 * How a slot is divided into mappings: the places where they meet, both ends included. Of more than
 * EDGES_MOST it is not known where.
 */
struct edges {
	size_t n;
	size_t at[EDGES_MOST];
};

static size_t min_size(size_t x, size_t y)
{
	return x < y ? x : y;
}

static size_t max_size(size_t x, size_t y)
{
	return x > y ? x : y;
}

/* Under a limit on addresses a refusal is to be expected. */
bool slot_may_move(struct zone *z)
{
	if (os_facts()->address_limit_bytes != OS_UNLIMITED)
		return false;
	return a_load_rlx(&z->refusals) < MOVE_REFUSALS ||
		a_add_rlx(&z->refusals, 1) % MOVE_RETRY_EACH == 0;
}

static void edges_get(const struct zone *z, size_t pos, struct edges *ret_edges)
{
	const struct slot *s = &z->table[pos];
	size_t cuts = a_load_rlx(&s->n_cuts);

	ret_edges->n = cuts + 2;
	if (ret_edges->n > EDGES_MOST)
		return;
	ret_edges->at[0] = 0;
	for (size_t i = 0; i < cuts; i++)
		ret_edges->at[i + 1] = (size_t)a_load_rlx(&s->cuts[i]) << SLOT_CUT_SHIFT;
	ret_edges->at[cuts + 1] = slot_bytes(z);
}

/*
 * The same for n slots side by side. Those that are at home and in one piece are taken to lie in one
 * mapping; where they do not, the kernel refuses. False: in too many pieces.
 */
static bool edges_gather(const struct zone *z, size_t pos, size_t n, struct edges *ret_edges)
{
	struct edges one;

	edges_get(z, pos, ret_edges);
	if (ret_edges->n > EDGES_MOST)
		return false;
	for (size_t i = 1; i < n; i++) {
		edges_get(z, pos + i, &one);
		if (!slot_cost(&z->table[pos + i - 1]) && !slot_cost(&z->table[pos + i]))
			ret_edges->n--;
		if (ret_edges->n + one.n - 1 > EDGES_MOST)
			return false;
		for (size_t k = 1; k < one.n; k++)
			ret_edges->at[ret_edges->n++] = (i << z->shift) + one.at[k];
	}
	return true;
}

static size_t shape_cost(uint32_t origin, const struct edges *e)
{
	return (origin ? 2 : 0) + e->n - 2;
}

/* Counts the mappings that the slot will cost. False: too many. */
static bool cost_take(size_t old, size_t new)
{
	return new <= old || page_mappings_take(new - old);
}

/* Counts what they do not cost any more. */
static void cost_give(size_t old, size_t new)
{
	if (new < old)
		page_mappings_give(old - new);
}

static void shape_set(struct slot *s, uint32_t origin, const struct edges *e)
{
	a_store_rlx(&s->origin, origin);
	a_store_rlx(&s->n_cuts, (uint8_t)(e->n - 2));
	for (size_t i = 0; i + 2 < e->n && i < SLOT_CUTS; i++)
		a_store_rlx(&s->cuts[i], (uint32_t)(e->at[i + 1] >> SLOT_CUT_SHIFT));
}

/* The slot is one mapping again, and its zone's. */
static void shape_clear(struct slot *s)
{
	page_mappings_give(slot_cost(s));
	a_store_rlx(&s->origin, 0);
	a_store_rlx(&s->n_cuts, 0);
}

static void dress(const struct zone *z, char *base, size_t bytes)
{
	if (z->class == SLOT_SMALL)
		(void)os_huge(base, bytes, false);
}

/*
 * After a refused move: whether its destination is still, or again, ours to use. In an exchange, where
 * a mapping by itself is the rule, one that fills the gap exactly is taken for ours.
 */
static bool mend(const struct zone *z, char *base, size_t bytes, bool is_live)
{
	int ret = os_reserve_at(base, bytes);

	if (!ret) {
		dress(z, base, bytes);
		return !os_commit(base, bytes);
	}
	return ret == -EEXIST &&
		(is_live ? os_is_mapped(base, bytes) : page_move_spared(base, bytes));
}

/* Whether what is mapped now would be filled with pages at once: mlockall(MCL_FUTURE). */
static bool fresh_is_locked(void)
{
	size_t bytes = os_facts()->page_bytes;
	void *probe = os_reserve(bytes, bytes);
	bool locked = !probe || os_decommit(probe, bytes) == -EINVAL;

	if (probe)
		(void)os_unmap(probe, bytes);
	return locked;
}

void slot_lose(struct zone *z)
{
	a_add_rlx(&z->lost, 1);
}

bool slot_refresh(struct zone *z, size_t pos)
{
	struct slot *s = &z->table[pos];
	char *base = slot_address(z, pos);
	size_t bytes = slot_bytes(z);

	if (!fresh_is_locked() && !os_map_fixed(base, bytes)) {
		dress(z, base, bytes);
		shape_clear(s);
	} else if (os_commit(base, bytes) || os_decommit(base, bytes)) {
		slot_lose(z);
		return false;
	}
	/* Refused, but all of it is still there: emptying it does as well. */
	a_store_rlx(&s->dirty, 0);
	a_store_rlx(&s->lazy, 0);
	return true;
}

bool slot_refresh_if_crowded(struct zone *z, size_t pos)
{
	return !page_mappings_crowded() || slot_refresh(z, pos);
}

/* Brings back by copying, which cannot be refused, what lies in front of the refused piece. */
static void bring_back(char *from, char *to, size_t bytes)
{
	if (bytes)
		memcpy(to, from, bytes);
	if (bytes)
		(void)os_decommit(from, bytes);
}

/* Moves the pages of the pieces, as far as the kernel does; returns how many bytes from 0 on. */
static size_t move_pieces(char *from, char *to, const struct edges *e)
{
	for (size_t i = 0; i + 1 < e->n; i++) {
		char *dst = to + e->at[i];
		size_t bytes = e->at[i + 1] - e->at[i];
		if (os_move(from + e->at[i], bytes, dst, bytes, true) != dst)
			return e->at[i];
	}
	return e->at[e->n - 1];
}

/* Where a piece ends that begins at `begin`. */
static size_t piece_end(const struct edges *e, size_t begin)
{
	size_t i = 0;

	while (e->at[i] <= begin)
		i++;
	return e->at[i];
}

/*
 * A move: all that n slots hold goes to the beginning of a slot of a zone with larger ones, or what
 * one holds to one of the same zone. All belong to the caller.
 */
struct hanging {
	struct zone *z;
	size_t pos;
	size_t n;
	struct zone *to;
	size_t to_pos;
	bool to_is_live;     /* the destination is a live block's, whose contents are elsewhere */
	struct edges pieces; /* of what moves */
	struct edges shape;  /* of the destination, afterwards */
	uint32_t origin;     /* likewise */
};

/* Fills in the pieces and what the destination will be. False: in too many pieces. */
static bool plan(struct hanging *h)
{
	uint32_t origin = a_load_rlx(&h->z->table[h->pos].origin);

	if (!edges_gather(h->z, h->pos, h->n, &h->pieces))
		return false;
	h->shape = h->pieces;
	if (h->to != h->z) {
		/* It gets a cut behind what moves in. */
		if (slot_cost(&h->to->table[h->to_pos]))
			return false;
		h->origin = SLOT_ORIGIN_ELSEWHERE;
		if (h->n << h->z->shift == slot_bytes(h->to))
			return true;
		if (h->shape.n == EDGES_MOST)
			return false;
		h->shape.at[h->shape.n++] = slot_bytes(h->to);
		return true;
	}
	if (!origin)
		origin = (uint32_t)h->pos + 1;
	h->origin = origin == h->to_pos + 1 ? 0 : origin;
	return true;
}

/* A move was refused when `done` bytes had been moved. */
static enum slot_hung unhang(const struct hanging *h, size_t done)
{
	char *src = slot_address(h->z, h->pos);
	char *dst = slot_address(h->to, h->to_pos);

	a_add_rlx(&h->z->refusals, 1);
	for (size_t i = 0; i << h->z->shift < done; i++) {
		size_t begin = i << h->z->shift;
		size_t bytes = a_load_rlx(&h->z->table[h->pos + i].dirty);
		bring_back(dst + begin, src + begin, min_size(done - begin, bytes));
	}
	if (!mend(h->to, dst + done, piece_end(&h->pieces, done) - done, h->to_is_live))
		return SLOT_HUNG_LOST;
	/* Pieces that have come in are mappings that the record does not know of. */
	return !done || slot_refresh(h->to, h->to_pos) ? SLOT_HUNG_REFUSED : SLOT_HUNG_LOST;
}

/* What the slots held, the destination holds now. */
static void pass_dirty(const struct hanging *h)
{
	struct slot *s = &h->z->table[h->pos];
	struct slot *d = &h->to->table[h->to_pos];
	size_t held = 0;

	for (size_t i = 0; i < h->n; i++) {
		size_t bytes = a_load_rlx(&s[i].dirty);
		if (bytes)
			held = (i << h->z->shift) + bytes;
		a_store_rlx(&s[i].dirty, 0);
	}
	if (h->to == h->z || a_load_rlx(&d->dirty) <= h->n << h->z->shift)
		a_store_rlx(&d->dirty, held);
}

/* Does it; what the destination held is dropped. */
static enum slot_hung hang_slots(struct hanging *h)
{
	struct slot *d = &h->to->table[h->to_pos];
	size_t old = slot_cost(d);
	size_t done;
	size_t new;

	if (!plan(h))
		return SLOT_HUNG_REFUSED;
	new = shape_cost(h->origin, &h->shape);
	if (!cost_take(old, new))
		return SLOT_HUNG_REFUSED;
	done = move_pieces(slot_address(h->z, h->pos), slot_address(h->to, h->to_pos), &h->pieces);
	if (done < h->n << h->z->shift) {
		cost_give(new, old);
		return unhang(h, done);
	}
	if (a_load_rlx(&h->z->refusals))
		a_store_rlx(&h->z->refusals, 0);
	cost_give(old, new);
	shape_set(d, h->origin, &h->shape);
	pass_dirty(h);
	return SLOT_HUNG;
}

enum slot_hung slot_hang(struct zone *z, size_t pos, size_t to_pos, bool to_is_live)
{
	struct hanging h = {
		.z = z, .pos = pos, .n = 1, .to = z, .to_pos = to_pos, .to_is_live = to_is_live
	};

	return hang_slots(&h);
}

/* Takes a place made ready, if it has half of the room that to->count slots would have. */
static bool take_berth(struct slot_ref *to, size_t need)
{
	size_t count = min_size(to->count, SLOT_BERTH_SLOTS);

	to->pos = BITMAP_NONE;
	if (need <= count && to->count / 2 < SLOT_BERTH_SLOTS)
		to->pos = berth_take(to->zone, count);
	if (to->pos == BITMAP_NONE)
		return false;
	to->count = count;
	return true;
}

/*
 * Takes slots for a block that moves: with room, else as many as it needs. Pages will be hung into
 * the first `hung` of them.
 */
static bool take_for(struct slot_ref *to, size_t bytes, size_t room, size_t hung,
	enum zone_prefer prefer)
{
	size_t need = slots_for(to->zone, to->offset + bytes);

	to->count = slots_for(to->zone, to->offset + room);
	to->count = max_size(need, min_size(to->count, to->zone->slots / 16));
	if (prefer == ZONE_EMPTY && hung == 1 && take_berth(to, need))
		return true;
	to->pos = zone_take_empty(to->zone, to->count, hung, prefer);
	if (to->pos == BITMAP_NONE && to->count > need) {
		to->count = need;
		to->pos = zone_take_empty(to->zone, need, hung, prefer);
	}
	return to->pos != BITMAP_NONE;
}

/* Puts slots back, but for one that was lost (BITMAP_NONE: none). */
static void put_but(struct zone *z, size_t pos, size_t n, size_t lost)
{
	if (lost >= n) {
		zone_put(z, pos, n);
		return;
	}
	slot_lose(z);
	if (lost)
		zone_put(z, pos, lost);
	if (lost + 1 < n)
		zone_put(z, pos + lost + 1, n - lost - 1);
}

/* Brings back by copying what the first n slots held that have been hung elsewhere. */
static void take_back(const struct slot_ref *from, const struct slot_ref *to, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t begin = i << from->zone->shift;
		size_t in_slot = begin & (slot_bytes(to->zone) - 1);
		size_t held =
			a_load_rlx(&to->zone->table[to->pos + (begin >> to->zone->shift)].dirty);
		size_t bytes = min_size(held - min_size(held, in_slot), slot_bytes(from->zone));
		bring_back(slot_address(to->zone, to->pos) + begin,
			slot_address(from->zone, from->pos + i), bytes);
		a_store_rlx(&from->zone->table[from->pos + i].dirty, bytes);
	}
}

/*
 * Hangs n slots into others: each into one of the same zone, or side by side into larger ones. On
 * refusal, those that had been hung come back.
 */
static bool hang_all(const struct slot_ref *from, const struct slot_ref *to, size_t n)
{
	const size_t each = (size_t)1 << (to->zone->shift - from->zone->shift);
	enum slot_hung hung = SLOT_HUNG;
	size_t done = 0;

	while (done < n && hung == SLOT_HUNG) {
		struct hanging h = {
			.z = from->zone,
			.pos = from->pos + done,
			.n = min_size(n - done, each),
			.to = to->zone,
			.to_pos = to->pos + done / each,
		};
		hung = hang_slots(&h);
		done += hung == SLOT_HUNG ? h.n : 0;
	}
	if (hung == SLOT_HUNG)
		return true;
	take_back(from, to, done);
	put_but(to->zone, to->pos, to->count, hung == SLOT_HUNG_LOST ? done / each : BITMAP_NONE);
	return false;
}

static enum slot_class class_for_room(size_t offset, size_t room)
{
	return offset + room > (size_t)1 << SLOT_SMALL_SHIFT ? SLOT_LARGE : SLOT_SMALL;
}

int slot_outgrow(const struct slot_ref *ref, size_t bytes, size_t room, unsigned flags,
	void **ret_block)
{
	struct slot *s = &ref->zone->table[ref->pos];
	struct slot_ref to = { .offset = ref->offset, .bytes = bytes };
	size_t hung = slots_for(ref->zone, ref->offset + ref->bytes);
	char *base;

	to.zone = zone_get(SLOT_LARGE, true);
	if (!to.zone || !slot_may_move(ref->zone) ||
		!take_for(&to, bytes, room, slots_for(to.zone, ref->offset + ref->bytes),
			to.zone == ref->zone ? ZONE_EMPTY : ZONE_CLEAN))
		return -ENOTSUP;
	if (!hang_all(ref, &to, hung))
		return -ENOTSUP;
	to.head = slot_head(slot_flags(ref->head), to.count, to.offset);
	if (flags & ALLOD_PAGE_ZEROED)
		slot_clear(to.zone, to.pos, to.offset + ref->bytes, to.offset + bytes, true);
	slot_begin(&to, a_load_rlx(&s->tag));
	base = slot_address(ref->zone, ref->pos) + ref->offset;
	/* What is left there is a block without pages. */
	if (!slot_free(base))
		os_fatal("allod: corrupted slot map\n");
	*ret_block = slot_address(to.zone, to.pos) + to.offset;
	if (to.zone == ref->zone)
		berths_fill(to.zone);
	return 0;
}

/* How a slot is divided with [offset, end) moved into it. */
static void shape_with(const struct zone *z, size_t offset, size_t end, struct edges *ret_shape)
{
	ret_shape->n = 0;
	ret_shape->at[ret_shape->n++] = 0;
	if (offset)
		ret_shape->at[ret_shape->n++] = offset;
	if (end < slot_bytes(z))
		ret_shape->at[ret_shape->n++] = end;
	ret_shape->at[ret_shape->n++] = slot_bytes(z);
}

/* How many bytes from `from` on, of `bytes`, lie in one mapping; of a run. */
static size_t piece_bytes(const char *from, size_t bytes)
{
	return min_size(bytes, page_piece(from, granules_for(bytes)) << PAGE_GRANULE_SHIFT);
}

static size_t pieces_of(const char *from, size_t bytes)
{
	size_t n = 0;

	for (size_t at = 0; at < bytes; at += piece_bytes(from + at, bytes - at))
		n++;
	return n;
}

/* Moves a run's pages, piece by piece; returns how many bytes, as far as the kernel does. */
static size_t move_run(char *from, char *to, size_t bytes)
{
	size_t at = 0;

	while (at < bytes) {
		size_t piece = piece_bytes(from + at, bytes - at);
		if (os_move(from + at, piece, to + at, piece, true) != to + at)
			break;
		at += piece;
	}
	return at;
}

/* A move into slots was refused when `done` bytes had come. */
static enum slot_hung unmove(const struct slot_ref *to, char *src, size_t bytes, size_t done)
{
	char *dst = slot_address(to->zone, to->pos) + to->offset;

	a_add_rlx(&to->zone->refusals, 1);
	bring_back(dst, src, done);
	if (!mend(to->zone, dst + done, piece_bytes(src + done, bytes - done), false))
		return SLOT_HUNG_LOST;
	/* As in unhang(). */
	return !done || slot_refresh(to->zone, to->pos) ? SLOT_HUNG_REFUSED : SLOT_HUNG_LOST;
}

/*
 * Moves the pages into slots that the caller holds, and will put back on refusal. A run that was
 * composed lies in several mappings, and so does the slot then.
 */
static enum slot_hung move_in(const struct slot_ref *to, char *src, size_t bytes)
{
	struct slot *d = &to->zone->table[to->pos];
	char *dst = slot_address(to->zone, to->pos) + to->offset;
	/* Where nothing lies in front of it, the zone's mapping ends there as well. */
	uint32_t origin = to->offset ? 0 : SLOT_ORIGIN_ELSEWHERE;
	size_t pieces = pieces_of(src, bytes);
	struct edges shape = { 0 };
	size_t new;
	size_t done;

	shape_with(to->zone, to->offset, to->offset + bytes, &shape);
	if (pieces > 1)
		shape.n = max_size(shape.n + pieces - 1, EDGES_MOST + 1);
	new = shape_cost(origin, &shape);
	if (pieces > RUN_PIECES_MOST || slot_cost(d) || !cost_take(0, new))
		return SLOT_HUNG_REFUSED;
	page_forbid_huge(src, granules_for(bytes));
	done = move_run(src, dst, bytes);
	if (done < bytes) {
		cost_give(new, 0);
		return unmove(to, src, bytes, done);
	}
	shape_set(d, origin, &shape);
	return SLOT_HUNG;
}

int slot_adopt(const struct block *block, size_t bytes, size_t room, unsigned tag, bool zeroed,
	void **ret_block)
{
	struct slot_ref to = { .offset = (uintptr_t)block->base & (CONGRUENT_BYTES - 1),
		.bytes = bytes };
	size_t old_end = to.offset + block->bytes;
	enum slot_hung hung;

	to.zone = zone_get(class_for_room(to.offset, room), true);
	if (!to.zone || !slot_may_move(to.zone) || !take_for(&to, bytes, room, 1, ZONE_CLEAN))
		return -ENOTSUP;
	hung = old_end > slot_bytes(to.zone) ? SLOT_HUNG_REFUSED
					     : move_in(&to, block->base, block->bytes);
	if (hung != SLOT_HUNG) {
		put_but(to.zone, to.pos, to.count, hung == SLOT_HUNG_LOST ? 0 : BITMAP_NONE);
		return -ENOTSUP;
	}
	to.head = slot_head(block->flags, to.count, to.offset);
	slot_note_dirty(to.zone, to.pos, to.offset, old_end);
	if (zeroed)
		slot_clear(to.zone, to.pos, old_end, to.offset + bytes, true);
	slot_begin(&to, tag);
	*ret_block = slot_address(to.zone, to.pos) + to.offset;
	return 0;
}
