/* SPDX-License-Identifier: MIT */
/*
 * What waits here, free and with its pages, and page's part in giving it back: the caches, slots,
 * and free pages beside pieces. See struct page_keeper.
 *
 * The janitor may be killed while it has a slot in its hands. It tells which one in `claim`; the
 * next janitor, which is the only one then, puts it back. (Free pages of a granule that it had are
 * out of use, 64 KiB.) A few instructions are not covered, as in page's background.c.
 *
 * Synchronization   steps run in the janitor, one at a time; their state is plain. Trims may run in
 *                   any number of threads beside them
 */
#include "base/options.h"
#include "slot.h"

enum phase { PHASE_CACHES, PHASE_SLOTS, PHASE_PIECES };

enum {
	/* Of pages beside pieces in a step, about a millisecond. */
	STEP_PIECE_BYTES = 1 << 20,
	CLAIM_CLASS_SHIFT = 32,
};

/* 64 MiB: of what is due by its age a call gives back so much, since calls do it in passing. */
#define DUE_SLOT_BYTES ((size_t)64 << 20)

/* 16 MiB: what is dropped of slots in a step; 1 to 5 milliseconds. */
#define STEP_SLOT_BYTES ((size_t)16 << 20)

/* The janitor's slot, class and position + 1; 0: none. */
static _Atomic(uint64_t) claim;

static uint64_t since(uint64_t ns)
{
	uint64_t now = os_now_ns();

	return now > ns ? now - ns : 0;
}

static void claim_recover(void)
{
	/* Only a dead janitor's: we are the janitor now. */
	uint64_t left = a_xchg_rlx(&claim, 0);
	struct slot_idle it = { .taken = true };

	if (!left)
		return;
	it.zone = zone_peek((enum slot_class)(left >> CLAIM_CLASS_SHIFT));
	it.pos = (uint32_t)left - 1;
	slot_idle_put(&it);
}

static bool take(struct slot_idle *it, bool is_janitor)
{
	if (!slot_idle_take(it))
		return false;
	if (is_janitor)
		a_store_rlx(&claim, (uint64_t)it->zone->class << CLAIM_CLASS_SHIFT | (it->pos + 1));
	return true;
}

static void put(struct slot_idle *it, bool is_janitor)
{
	/* Before the slot is put back, lest it be put back twice. */
	if (is_janitor)
		a_store_rlx(&claim, 0);
	slot_idle_put(it);
}

/* What is to be done with free slots, by when they were freed. */
struct slot_ages {
	uint64_t gone_ns; /* before: dropped */
	uint64_t cold_ns; /* before: cold */
	bool cold_goes;   /* what is cold is dropped, whenever it was freed */
};

/* Drops the slot or lets it go cold, as its age says; the bytes, 0 if nothing is to be done. */
static size_t slot_treat(struct slot_idle *it, const struct slot_ages *ages, size_t most)
{
	if (it->freed_ns < ages->gone_ns || (ages->cold_goes && it->lazy))
		return slot_idle_drop_tail(it, most);
	if (it->freed_ns < ages->cold_ns && !it->lazy)
		return slot_idle_drop(it, true);
	return 0;
}

/*
 * Treats free slots, about `budget` bytes; the bytes. What is left to wait is in *ret_waiting.
 */
static size_t slots_treat(const struct slot_ages *ages, size_t budget, size_t *ret_waiting)
{
	const bool is_janitor = page_in_janitor();
	struct slot_idle it = { 0 };
	size_t total = 0;

	*ret_waiting = 0;
	while (total < budget && slot_idle_next(&it)) {
		size_t bytes = 0;
		bool is_due = it.freed_ns < ages->gone_ns || (ages->cold_goes && it.lazy) ||
			(it.freed_ns < ages->cold_ns && !it.lazy);
		if (is_due && take(&it, is_janitor)) {
			bytes = slot_treat(&it, ages, budget - total);
			put(&it, is_janitor);
		}
		total += bytes;
		*ret_waiting += bytes < it.bytes ? it.bytes : 0;
	}
	return total;
}

/* By age, as the options and the costs of this host say. */
static struct slot_ages ages_now(void)
{
	const uint64_t cold_ns = page_cold_after_ns();

	return (struct slot_ages){
		.gone_ns = since(options.decay_ms * 1000000),
		.cold_ns = cold_ns ? since(cold_ns) : 0,
	};
}

/* One part of what is due among slots; whether there is more. */
static bool slots_step(size_t *ret_waiting)
{
	const struct slot_ages ages = ages_now();
	size_t waiting;

	if (slots_treat(&ages, STEP_SLOT_BYTES, &waiting))
		return true;
	*ret_waiting += waiting;
	return false;
}

/* Pages beside pieces, once in a decay, so that they were free for one. */
static bool pieces_step(size_t *ret_waiting)
{
	static struct piece_cursor cursor;
	static uint64_t due_ns;
	bool more = false;

	if (os_now_ns() < due_ns)
		return false;
	(void)piece_giveback(&cursor, false, STEP_PIECE_BYTES, &more, ret_waiting);
	if (!more)
		due_ns = os_now_ns() + options.decay_ms * 1000000;
	return more;
}

static bool step(size_t *ret_waiting)
{
	static enum phase phase;

	claim_recover();
	switch (phase) {
	case PHASE_CACHES:
		(void)cache_flush(false);
		*ret_waiting += cache_bytes();
		phase = PHASE_SLOTS;
		return true;
	case PHASE_SLOTS:
		if (!slots_step(ret_waiting))
			phase = PHASE_PIECES;
		return true;
	default:
		if (pieces_step(ret_waiting))
			return true;
		phase = PHASE_CACHES;
		return false;
	}
}

static size_t warm(size_t *ret_cold)
{
	struct slot_idle it = { 0 };
	size_t bytes = cache_bytes();

	while (slot_idle_next(&it)) {
		if (it.lazy)
			*ret_cold += it.bytes;
		else
			bytes += it.bytes;
	}
	return bytes;
}

size_t block_waiting(void)
{
	size_t cold = 0;
	size_t bytes = warm(&cold);

	return bytes + cold;
}

static size_t trim(unsigned severity)
{
	struct slot_ages ages = ages_now();
	struct piece_cursor cursor = { 0 };
	size_t bytes = 0;
	size_t waiting;
	bool more;

	if (severity >= 1)
		ages.cold_ns = UINT64_MAX;
	if (severity >= 3)
		ages.gone_ns = UINT64_MAX;
	ages.cold_goes = severity == 2;
	/* What they hold is given back with what page has. */
	(void)cache_flush(severity > 0);
	if (severity >= 2)
		bytes += piece_giveback(&cursor, true, SIZE_MAX, &more, &waiting);
	return bytes + slots_treat(&ages, severity ? SIZE_MAX : DUE_SLOT_BYTES, &waiting);
}

static const struct page_keeper keeper = { .step = step, .warm = warm, .trim = trim };

void block_keep(void)
{
	page_keeper_add(&keeper);
}

size_t block_trim(void)
{
	return cache_flush(true);
}
