/* SPDX-License-Identifier: MIT */
/*
 * Giving back the free pages of slabs that still hold blocks. A block there that nobody has used
 * for decay_ms leaves the free list, its whole pages go back to the kernel, and it counts as not
 * carved again: a hole (heap/slab.h). So memory follows the program down when one block in twenty
 * survives. Slabs of more than SLAB_HOLES blocks are left as they are: where blocks are smaller
 * than 1 KiB few pages are without a survivor.
 *
 * operations: heap_scavenge(), all at once; a step of a round, by the janitor, or where there is
 * none by slow calls. A round begins once in half of decay_ms, and with it idle heaps lose their
 * attached slabs (seize.c): a thread that lives by its bins is idle in that sense, and so the
 * janitor comes to what it left. synchronization: the caller works on slabs of its own heap and on
 * open ones, which it adopts and opens again. ordering: that of adopting and opening. progress:
 * nobody waits; who is stopped in here keeps one slab. reclamation: none.
 *
 * Of each slab `seen` remembers how many blocks were in use at the last look, and since when. The
 * owner's allocations clear it; frees change the number. It is a hint, which threads may overwrite.
 */
#include "base/assert.h"
#include "base/options.h"
#include "heap/core.h"
#include "os/os.h"

enum {
	/* Records looked at in one go: at most 4 MiB and one slab are given back in it. */
	STRIDE_RECORDS = 64,
	/*
	 * A step is so many goes, or so many bytes given back: a millisecond or two on a slow host.
	 */
	STEP_STRIDES = 8,
	STEP_BYTES = 8 << 20,
	/*
	 * A thread looks after its slabs, or has the janitor do it, from 8 MiB beside the current
	 * ones.
	 */
	TICK_GRANULES = 128,
};

/* What a look at a slab is for. */
struct look {
	struct heap *heap;
	uint32_t now_ms;
	bool everything; /* do not ask how long nobody has used it */
	bool own_only;   /* the janitor looks after the open ones */
	size_t bytes;    /* given back so far */
	size_t waiting;  /* seen free, and not idle for long enough */
};

static uint64_t bits_of_list(const struct slab *slab)
{
	uint64_t bits = 0;
	slab_list_last(slab, slab->free);
	for (const struct block *at = slab->free; at != BLOCK_END; at = at->next)
		bits |= (uint64_t)1 << slab_index_of(slab, at);
	return bits;
}

/* The slab's blocks from `first` to before `end` as bits; first < end <= 64. */
static uint64_t bits_between(uint32_t first, uint32_t end)
{
	return UINT64_MAX >> (64 - (end - first)) << first;
}

/* Puts the blocks into the slab's own list, which is empty, in the order of their addresses. */
static void list_from_bits(struct slab *slab, uint64_t bits)
{
	struct block **end = &slab->free;
	for (; bits != 0; bits &= bits - 1) {
		struct block *block = slab_block_at(slab, (uint32_t)__builtin_ctzll(bits));
		*end = block;
		end = &block->next;
	}
	*end = BLOCK_END;
}

/*
 * Gives back the whole pages of a stretch of blocks of which none is in use, if that touches one of
 * `listed`. Returns the blocks that no longer are as they were, and adds up the bytes.
 */
static uint64_t give_back_stretch(const struct slab *slab, uint32_t first, uint32_t end,
	uint64_t listed, size_t *bytes)
{
	const uintptr_t page = os_facts()->page_bytes;
	const uintptr_t base = (uintptr_t)slab->base;
	const uintptr_t from = (base + (uintptr_t)first * slab->bytes + page - 1) & -page;
	/* Behind the last block lies nothing. */
	const uintptr_t to = end == slab->capacity
		? base + a_load_rlx(&slab->granules) * PAGE_GRANULE_BYTES
		: (base + (uintptr_t)end * slab->bytes) & -page;
	if (from >= to)
		return 0;
	const uint32_t last = (uint32_t)((to - 1 - base) / slab->bytes);
	const uint64_t touched =
		bits_between((uint32_t)((from - base) / slab->bytes), last < end ? last + 1 : end);
	if ((touched & listed) == 0)
		return 0;
	/* Where it fails, for pages that are locked, those before them are gone all the same. */
	if (os_decommit((void *)from, to - from) == 0)
		*bytes += to - from;
	return touched;
}

/* Turns free blocks of a slab that the caller holds into holes, where that frees pages. */
static size_t slab_scavenge(struct slab *slab)
{
	const uint64_t listed = bits_of_list(slab);
	const uint64_t idle = listed | a_load_rlx(&slab->holes);
	uint64_t gone = 0;
	size_t bytes = 0;
	uint32_t end;
	for (uint32_t first = 0; first < slab->capacity; first = end + 1) {
		for (end = first; end < slab->capacity && (idle >> end & 1); end++)
			continue;
		if (end > first)
			gone |= give_back_stretch(slab, first, end, listed, &bytes);
	}
	gone &= listed;
	if (gone == 0)
		return 0;
	list_from_bits(slab, listed & ~gone);
	a_store_rlx(&slab->holes, a_load_rlx(&slab->holes) | gone);
	a_store_rlx(&slab->carved,
		a_load_rlx(&slab->carved) - (uint32_t)__builtin_popcountll(gone));
	slab->zeroed = false;
	/* Frees come by the paths that know of holes from now on. */
	a_store_rlx(&slab->magic, 0);
	return bytes;
}

/* In `seen`, with the number: what can go has gone, and nothing is to be done until that changes. */
static uint64_t seen_done(uint32_t used)
{
	return (uint64_t)1 << 63 | (uint64_t)(used + 1) << 32;
}

/* Whether the slab's number of used blocks has been the same for decay_ms; notes what it sees. */
static bool is_quiet(struct slab *slab, uint32_t used, struct look *look)
{
	const uint64_t seen = a_load_rlx(&slab->seen);
	if (look->everything)
		return true;
	if (seen == seen_done(used))
		return false;
	if (seen >> 32 == used + 1 && look->now_ms - (uint32_t)seen >= options.decay_ms)
		return true;
	if (seen >> 32 != used + 1)
		a_store_rlx(&slab->seen, (uint64_t)(used + 1) << 32 | look->now_ms);
	const struct class *config = &heap_classes[a_load_rlx(&slab->class)];
	look->waiting += (size_t)(config->capacity - used) * config->bytes;
	return false;
}

/* A slab of the caller's heap, unless its blocks are given out by a bin. */
static void scavenge_own(struct slab *slab, struct look *look)
{
	const unsigned class = a_load_rlx(&slab->class);
	if (slab->free == BLOCK_END || !is_quiet(slab, slab_used(slab), look) ||
		(class_has_bin(class) && look->heap->current[class] == slab))
		return;
	look->bytes += slab_scavenge(slab);
	a_store_rlx(&slab->seen, seen_done(slab_used(slab)));
}

/* An open slab: it is the heap's for a moment. */
static void scavenge_open(struct slab *slab, uint64_t word, struct look *look)
{
	const uint32_t capacity = heap_classes[a_load_rlx(&slab->class)].capacity;
	const uint32_t held = capacity - word_count(word);
	if (held > capacity || word_head(word) == 0 || !is_quiet(slab, held, look) ||
		!slab_adopt(look->heap, slab))
		return;
	/* The record may have become another slab's since it was looked at. */
	if (slab_has_holes(slab)) {
		look->bytes += slab_scavenge(slab);
		a_store_rlx(&slab->seen, seen_done(slab_used(slab)));
	}
	slab_open(slab);
}

static void scavenge_record(void *record, void *arg)
{
	struct look *look = arg;
	struct slab *slab = record;
	const uint64_t word = a_load_rlx(&slab->word);
	const enum slab_state state = word_state(word);
	/* Before the slab is the caller's only its atomic fields may be read, as hints. */
	if ((state != SLAB_OWNED && state != SLAB_OPEN) ||
		heap_classes[a_load_rlx(&slab->class)].capacity > SLAB_HOLES)
		return;
	if (state == SLAB_OPEN && !look->own_only)
		scavenge_open(slab, word, look);
	else if (state == SLAB_OWNED && heap_touch(look->heap, slab))
		scavenge_own(slab, look);
}

static uint32_t milliseconds(uint64_t ns)
{
	return (uint32_t)(ns / 1000000);
}

/* A step of a round; returns the record to go on from, 0 when the round is over. */
static uint32_t scavenge_step(struct look *look, uint32_t at)
{
	for (int i = 0; i < STEP_STRIDES && look->bytes < STEP_BYTES; i++) {
		at = page_record_some(at, STRIDE_RECORDS, scavenge_record, look);
		if (at == 0)
			break;
	}
	return at;
}

size_t heap_scavenge(struct heap *heap)
{
	struct look look = { .heap = heap, .everything = true };
	uint32_t at = 0;
	do
		at = page_record_some(at, STRIDE_RECORDS, scavenge_record, &look);
	while (at != 0);
	return look.bytes;
}

/* Begins a round if that is due, and says when the next one is; false if it is not. */
static bool round_begin(struct heap *heap, uint64_t now, uint64_t *due_ns)
{
	if (now < *due_ns)
		return false;
	*due_ns = now + options.decay_ms * 500000;
	heap_seize_idle(heap);
	return true;
}

void heap_scavenge_tick(struct heap *heap)
{
	if (a_load_rlx(&heap->attached_granules) < TICK_GRANULES)
		return;
	/* Also where there is a janitor: nobody else may touch the slabs of a heap that is in use. */
	const bool own_only = !page_round_is_mine();
	const uint64_t now = os_now_ns();
	if (heap->scavenge_at == 0 && !round_begin(heap, now, &heap->scavenge_due_ns))
		return;
	struct look look = { .heap = heap, .now_ms = milliseconds(now), .own_only = own_only };
	heap->scavenge_at = scavenge_step(&look, heap->scavenge_at);
}

bool heap_scavenge_in_janitor(size_t *ret_waiting)
{
	/* There is one janitor at a time. */
	static uint64_t due_ns;
	static uint32_t at;
	struct heap *heap = heap_pool_take();
	if (heap == NULL)
		return false;
	heap->is_janitors = true;
	const uint64_t now = os_now_ns();
	struct look look = { .heap = heap, .now_ms = milliseconds(now) };
	if (at != 0 || round_begin(heap, now, &due_ns))
		at = scavenge_step(&look, at);
	heap->is_janitors = false;
	heap_release(heap);
	*ret_waiting += look.waiting;
	return at != 0;
}
