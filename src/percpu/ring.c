/* SPDX-License-Identifier: MIT */
/*
 * A ring of records for each processor: the threads that run there reserve, anybody commits, one
 * reader consumes.
 *
 * A record is a word, which says its length once it is committed and is 0 before, and the data.
 * Room that no record lies in is zero: the reader clears what it has consumed before it gives the
 * room back. Records never wrap; who reserves the first record after the end also gets, and then
 * commits, a record of nothing that fills what was left before it.
 *
 * operations       reserve, commit, discard; consume, by one reader at a time
 * synchronization  `head`: a sequence or compare-and-swap on this processor's copy. `tail`: the
 *                  reader's. A record's word: from who reserved it to the reader, and back by tail
 * linearization    reserve: the new head. commit: the record's word
 * progress         reserve: lock-free. A thread stopped between reserve and commit keeps the reader
 *                  from later records of that processor
 */
#include <allod/percpu-ops.h>

#include "base/atomic.h"
#include "percpu/rseq.h"

enum {
	WORD_BYTES = 8,
	CAPACITY_LEAST = 64,
};

#define RECORD_COMMITTED (1ULL << 63)
#define RECORD_NOTHING (1ULL << 62)
#define RECORD_BYTES_MOST (1ULL << 32)

/* Where a record goes: behind the end of what is reserved, or after a filler at the ring's start. */
struct place {
	uint64_t head;
	uint64_t filler_bytes;
	uint64_t record_bytes;
};

static char *data_of(struct allod_percpu_ring *ring)
{
	return (char *)(ring + 1);
}

static _Atomic(uint64_t) *word_at(struct allod_percpu_ring *ring, size_t capacity, uint64_t at)
{
	return (_Atomic(uint64_t) *)(void *)(data_of(ring) + (at & (capacity - 1)));
}

static uint64_t room_for(uint64_t bytes)
{
	return WORD_BYTES + ((bytes + WORD_BYTES - 1) & ~(uint64_t)(WORD_BYTES - 1));
}

/* False: there is no room. */
static bool find_place(const struct allod_percpu_ring *ring, size_t capacity, size_t bytes,
	struct place *ret_place)
{
	const uint64_t head = a_load_rlx((_Atomic(uint64_t) *)(uintptr_t)&ring->head);
	/* [rseq.6] acq: that the room is clear; pairs with consume() */
	const uint64_t tail = a_load_acq((_Atomic(uint64_t) *)(uintptr_t)&ring->tail);
	const uint64_t to_end = capacity - (head & (capacity - 1));
	const uint64_t needed = room_for(bytes);

	ret_place->head = head;
	ret_place->record_bytes = needed;
	ret_place->filler_bytes = needed > to_end ? to_end : 0;
	/* A head that is out of date, which will be noticed, may be below the tail. */
	return (int64_t)(head + ret_place->filler_bytes + needed - tail) <= (int64_t)capacity;
}

/* 0: reserved; 1: try again; 2: no room. */
static int try_sequence(struct allod_percpu_view view, struct allod_percpu_ring *ring, int32_t i,
	size_t capacity, size_t bytes, struct place *ret_place)
{
	uint64_t old;

	if (!find_place(ring, capacity, bytes, ret_place))
		return 2;
	if (allod_cs_cmpxchg_(view.by, i, &ring->head, ret_place->head,
		    ret_place->head + ret_place->filler_bytes + ret_place->record_bytes, &old) != 0)
		return 1;
	return old == ret_place->head ? 0 : 1;
}

static int try_atomic(struct allod_percpu_ring *ring, size_t capacity, size_t bytes,
	struct place *ret_place)
{
	uint64_t head;

	if (!find_place(ring, capacity, bytes, ret_place))
		return 2;
	head = ret_place->head;
	return a_cas_strong_rlx((_Atomic(uint64_t) *)&ring->head, &head,
		       head + ret_place->filler_bytes + ret_place->record_bytes)
		? 0
		: 1;
}

static void *fill_place(struct allod_percpu_ring *ring, size_t capacity, const struct place *place)
{
	if (place->filler_bytes) {
		/*
		 * [rseq.7] rel: nothing but the word itself, which is before what is written there
		 * after the reader has given the room back; pairs with consume()
		 */
		a_store_rel(word_at(ring, capacity, place->head),
			RECORD_COMMITTED | RECORD_NOTHING | (place->filler_bytes - WORD_BYTES));
	}
	return (char *)word_at(ring, capacity, place->head + place->filler_bytes) + WORD_BYTES;
}

PERCPU_EXPORT void *allod_percpu_ring_reserve_in(struct allod_percpu_view view,
	struct allod_percpu_ring ALLOD_PERCPU *ring, size_t capacity, size_t bytes)
{
	struct allod_percpu_ring *copy;
	struct place place;
	int32_t i;
	int ret;

	if (capacity < CAPACITY_LEAST || bytes >= RECORD_BYTES_MOST || room_for(bytes) > capacity)
		return NULL;
	do {
		if (allod_percpu_enter_(view, &i) || percpu_enter(view, &i)) {
			copy = allod_percpu_copy_(view, ring, i);
			ret = try_sequence(view, copy, i, capacity, bytes, &place);
		} else {
			copy = percpu_atomic_copy(view, ring);
			ret = try_atomic(copy, capacity, bytes, &place);
		}
	} while (ret == 1);
	return ret == 0 ? fill_place(copy, capacity, &place) : NULL;
}

static void commit(void *record, uint64_t word)
{
	/* [rseq.7] rel: the record; pairs with consume() */
	a_store_rel((_Atomic(uint64_t) *)(void *)((char *)record - WORD_BYTES),
		word | RECORD_COMMITTED);
}

PERCPU_EXPORT void allod_percpu_ring_commit(void *record, size_t bytes)
{
	commit(record, bytes);
}

PERCPU_EXPORT void allod_percpu_ring_discard(void *record, size_t bytes)
{
	commit(record, bytes | RECORD_NOTHING);
}

static void clear(_Atomic(uint64_t) *word, uint64_t bytes)
{
	uint64_t *data = (uint64_t *)(void *)(word + 1);

	a_store_rlx(word, 0);
	for (uint64_t i = 0; i < (bytes - WORD_BYTES) / 8; i++)
		a_data_write(&data[i], 0);
}

PERCPU_EXPORT size_t allod_percpu_ring_consume(struct allod_percpu_ring *copy, size_t capacity,
	void (*fn)(const void *record, size_t bytes, void *arg), void *arg)
{
	uint64_t tail = a_load_rlx((_Atomic(uint64_t) *)&copy->tail);
	size_t records = 0;

	for (;;) {
		_Atomic(uint64_t) *word = word_at(copy, capacity, tail);
		/* [rseq.7] acq: the record; pairs with commit() */
		const uint64_t seen = a_load_acq(word);
		const uint64_t bytes = seen & (RECORD_BYTES_MOST - 1);

		if (!(seen & RECORD_COMMITTED))
			return records;
		if (!(seen & RECORD_NOTHING)) {
			fn((char *)word + WORD_BYTES, bytes, arg);
			records++;
		}
		clear(word, room_for(bytes));
		tail += room_for(bytes);
		/* [rseq.6] rel: the room is clear; pairs with find_place() */
		a_store_rel((_Atomic(uint64_t) *)&copy->tail, tail);
	}
}
