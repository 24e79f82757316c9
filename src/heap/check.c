/* SPDX-License-Identifier: MIT */
/*
 * The invariants of heap/slab.h, checked in every build, for tests: only while no thread is inside
 * the heap. A heap that is busy nevertheless (its thread is stopped, vanished in a fork, or left a
 * signal handler by longjmp) is not judged, nor are the owner's fields of its slabs.
 */
#include <stdbool.h>

#include "heap/core.h"
#include "os/os.h"

#define REQUIRE(cond) ((cond) ? (void)0 : os_fatal("allod: heap check: " #cond "\n"))

/* The free blocks of one slab that were met so far. */
struct seen {
	uint64_t bits[(1u << WORD_HEAD_BITS) / 64];
};

/*
 * A set of links: how many, and the sum of their mixed indices. Two sets are equal if both are,
 * but for a chance of 2^-64.
 */
struct links {
	uint64_t count;
	uint64_t sum;
};

static void links_add(struct links *links, uint32_t index)
{
	const uint64_t mixed = (index + 1) * 0x9e3779b97f4a7c15u;
	links->count++;
	links->sum += (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9u;
}

/* The length of a free list, each of whose blocks is carved and met for the first time. */
static uint32_t list_length(const struct slab *slab, struct seen *seen, const struct block *block)
{
	uint32_t count = 0;
	for (; block != BLOCK_END; block = block->next) {
		const size_t offset = (size_t)((const char *)block - slab->base);
		REQUIRE(offset % slab->bytes == 0);
		const size_t index = offset / slab->bytes;
		REQUIRE(slab_is_carved(slab, (uint32_t)index));
		const uint64_t bit = (uint64_t)1 << index % 64;
		REQUIRE((seen->bits[index / 64] & bit) == 0);
		seen->bits[index / 64] |= bit;
		count++;
	}
	return count;
}

/* Whether the heap's list of the class has the slab's entry. */
static bool is_attached(const struct heap *heap, const struct slab *slab, unsigned class)
{
	const struct attachment *entry = a_load_rlx(&heap->attached[class].first);
	while (entry != NULL && entry != slab->attachment)
		entry = a_load_rlx(&entry->next);
	return entry != NULL && a_load_rlx(&entry->slab) == slab;
}

static void check_owned(const struct slab *slab, uint64_t word, struct seen *seen, uint32_t remote)
{
	struct heap *heap = heap_at(word_owner(word));
	const unsigned class = a_load_rlx(&slab->class);
	const bool current = heap->current[class] == slab;
	REQUIRE(remote == word_count(word));
	if (!heap_is_at_rest(heap))
		return;
	const uintptr_t owner = a_load_rlx(&slab->owner);
	REQUIRE(current == (owner == ((uintptr_t)heap | OWNER_KEPT)));
	REQUIRE(current || owner == (uintptr_t)heap || owner_is_mark(owner, heap->id));
	REQUIRE(current != is_attached(heap, slab, class));
	REQUIRE((slab->attachment == NULL) == current);
	const uint32_t used = slab_used(slab);
	const uint32_t local = list_length(slab, seen, slab->free);
	const bool has_bin = current && class_has_bin(class);
	const uint32_t binned = has_bin ? list_length(slab, seen, heap->bin[class]) : 0;
	REQUIRE(local == slab_free_count(slab));
	REQUIRE(used >= binned + remote);
	REQUIRE(current || used > 0);
}

static void check_slab(const struct slab *slab, uint64_t word)
{
	const unsigned class = a_load_rlx(&slab->class);
	REQUIRE(class > 0 && class < CLASS_COUNT);
	const struct class *config = &heap_classes[class];
	REQUIRE(slab->bytes == config->bytes);
	const uint32_t magic = a_load_rlx(&slab->magic);
	REQUIRE(magic == config->magic || (magic == 0 && slab_has_holes(slab)));
	REQUIRE(slab->capacity == config->capacity);
	REQUIRE(a_load_rlx(&slab->granules) == config->granules);
	REQUIRE(page_record_of(slab->base) == slab);
	REQUIRE(a_load_rlx(&slab->carved) <= slab->capacity);
	REQUIRE(!slab_has_holes(slab) ||
		(uint32_t)__builtin_popcountll(a_load_rlx(&slab->holes)) ==
			slab->capacity - a_load_rlx(&slab->carved));
	struct seen seen = { 0 };
	const uint32_t remote = list_length(slab, &seen, word_list(slab, word));
	if (word_state(word) == SLAB_OWNED) {
		check_owned(slab, word, &seen, remote);
		return;
	}
	REQUIRE(a_load_rlx(&slab->owner) == 0 && slab->free == BLOCK_END);
	REQUIRE(word_count(word) == remote + slab->capacity - a_load_rlx(&slab->carved));
	REQUIRE(word_count(word) < slab->capacity);
}

static void check_inner(const struct slab *slab, uint32_t distance)
{
	const struct slab *first = page_record_at(page_record_index(slab) - distance);
	const enum slab_state state = word_state(a_load_rlx(&first->word));
	REQUIRE(state == SLAB_OWNED || state == SLAB_OPEN);
	REQUIRE(distance > 0 && distance < a_load_rlx(&first->granules));
}

/* One record; `arg` gathers the links that must be in a stack. */
static void check_record(void *record, void *arg)
{
	const struct slab *slab = record;
	const uint64_t word = a_load_rlx(&slab->word);
	if (word & WORD_LISTED)
		links_add(arg, page_record_index(slab));
	switch (word_state(word)) {
	case SLAB_OWNED:
	case SLAB_OPEN: check_slab(slab, word); break;
	case SLAB_LARGE:
		REQUIRE(a_load_rlx(&slab->granules) > 0 && page_record_of(slab->base) == slab);
		break;
	case SLAB_INNER: check_inner(slab, word_owner(word)); break;
	case SLAB_NONE:
	case SLAB_FREED: break;
	}
}

/* An entry is that of a slab of the heap and the class, or the slab was taken. */
static void check_entry(const struct heap *heap, const struct attachment *entry, unsigned class)
{
	const struct slab *slab = a_load_rlx(&entry->slab);
	const uintptr_t owner = a_load_rlx(&slab->owner);
	if (owner != (uintptr_t)heap && !owner_is_mark(owner, heap->id))
		return;
	REQUIRE(slab->attachment != entry || a_load_rlx(&slab->class) == class);
}

/* Returns the granules of the entries of the class. */
static uint32_t check_class(const struct heap *heap, unsigned class)
{
	const struct slab *current = heap->current[class];
	REQUIRE(current == NULL || heap_holds(heap, current));
	REQUIRE(heap->bin[class] == BLOCK_END || (current != NULL && class_has_bin(class)));
	uint32_t granules = 0;
	const struct attachment *prev = NULL;
	const struct attachment *entry = NULL;
	if (heap_attached_from(heap, class) == class)
		entry = a_load_rlx(&heap->attached[class].first);
	for (; entry != NULL; entry = a_load_rlx(&entry->next)) {
		REQUIRE(entry->prev == prev);
		check_entry(heap, entry, class);
		prev = entry;
		granules += heap_classes[class].granules;
		REQUIRE(granules <= a_load_rlx(&heap->attached_granules));
	}
	REQUIRE(heap->attached[class].last == prev);
	REQUIRE((granules != 0) == (heap_attached_from(heap, class) == class));
	REQUIRE(a_load_rlx(&heap->active) || (current == NULL && granules == 0));
	return granules;
}

static void check_heap(struct heap *heap)
{
	uint32_t granules = 0;
	for (unsigned class = 1; class < CLASS_COUNT; class ++)
		granules += check_class(heap, class);
	REQUIRE(granules == a_load_rlx(&heap->attached_granules));
}

static void check_stack(const struct stack *stack, struct links *links, const struct links *most)
{
	uint32_t index = stack_head_index(a_load_rlx(&stack->head));
	while (index != STACK_EMPTY) {
		const struct slab *slab = page_record_at(index);
		links_add(links, index);
		REQUIRE(links->count <= most->count);
		index = a_load_rlx(&slab->link);
	}
}

void heap_check(void)
{
	struct links listed = { 0 };
	struct links stacked = { 0 };
	page_record_each(check_record, &listed);
	for (unsigned class = 1; class < CLASS_COUNT; class ++)
		check_stack(slab_available(class), &stacked, &listed);
	for (uint32_t id = 1; id <= heap_pool_count(); id++) {
		struct heap *heap = heap_at(id);
		check_stack(&heap->pending, &stacked, &listed);
		REQUIRE(heap->bin[0] == BLOCK_END);
		if (heap_is_at_rest(heap))
			check_heap(heap);
	}
	REQUIRE(listed.count == stacked.count && listed.sum == stacked.sum);
	REQUIRE(page_check());
}
