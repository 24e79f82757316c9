/* SPDX-License-Identifier: MIT */
/*
 * A heap's slabs beside the current ones. Each class has a list, slabs worth taking from first; a
 * slab is worth it from its class's threshold of free blocks on, so that a refill finds more than
 * one block. The slab's mark is the value of `used` at which its owner's next free has to look at
 * it.
 *
 * The lists consist of entries (struct attachment), which only the heap's thread changes. Another
 * thread may take a slab from an idle heap (seize.c); it leaves the entry, and whoever holds the
 * slab later has it in a list of his own. So before anything is done to a slab that is found in a
 * list it is touched, and its entry dropped if the slab is not the heap's, or is so by another
 * entry. Other threads follow the lists forwards at any time.
 */
#include "base/assert.h"
#include "heap/core.h"

static bool slab_is_usable(const struct slab *slab)
{
	return slab->capacity - slab_used(slab) >= slab_threshold(slab);
}

/* ---- Entries ---- */

/* More entries; false when there is no memory. What was never used is not touched either. */
static bool entries_make(struct heap *heap)
{
	struct page_run run;
	if (page_alloc(1, 0, &run) != 0)
		return false;
	heap->attachment_granules++;
	heap->fresh_attachments = (struct attachment *)(void *)run.base;
	heap->fresh_end = heap->fresh_attachments + PAGE_GRANULE_BYTES / sizeof(struct attachment);
	return true;
}

static struct attachment *entry_get(struct heap *heap)
{
	struct attachment *entry = heap->free_attachments;
	if (entry != NULL) {
		heap->free_attachments = a_load_rlx(&entry->next);
		return entry;
	}
	if (heap->fresh_attachments == heap->fresh_end && !entries_make(heap))
		return NULL;
	return heap->fresh_attachments++;
}

static void entry_put(struct heap *heap, struct attachment *entry)
{
	a_store_rlx(&entry->next, heap->free_attachments);
	heap->free_attachments = entry;
}

/* The bit of the class is set while its list has entries. */
static void bit_flip(struct heap *heap, unsigned class)
{
	_Atomic(uint64_t) *word = &heap->attached_classes[class / 64];
	a_store_rlx(word, a_load_rlx(word) ^ (uint64_t)1 << class % 64);
}

static void list_insert(struct heap *heap, unsigned class, struct attachment *entry, bool front)
{
	struct attachment_list *list = &heap->attached[class];
	struct attachment *first = a_load_rlx(&list->first);
	if (first == NULL)
		bit_flip(heap, class);
	entry->prev = front ? NULL : list->last;
	a_store_rlx(&entry->next, front ? first : NULL);
	*(front && first != NULL ? &first->prev : &list->last) = entry;
	/* [heap.8] rel: who finds the entry finds it whole; pairs with follow(). */
	a_store_rel(entry->prev != NULL ? &entry->prev->next : &list->first, entry);
}

static void list_remove(struct heap *heap, unsigned class, struct attachment *entry)
{
	struct attachment_list *list = &heap->attached[class];
	struct attachment *next = a_load_rlx(&entry->next);
	*(next != NULL ? &next->prev : &list->last) = entry->prev;
	/* [heap.8] rel: as in list_insert(), for the one behind; pairs with follow(). */
	a_store_rel(entry->prev != NULL ? &entry->prev->next : &list->first, next);
	if (list->last == NULL)
		bit_flip(heap, class);
}

static void granules_add(struct heap *heap, unsigned class, int sign)
{
	const uint32_t granules = heap_classes[class].granules;
	const uint32_t sum = a_load_rlx(&heap->attached_granules);
	a_store_rlx(&heap->attached_granules, sum + (uint32_t)sign * granules);
}

static void entry_drop(struct heap *heap, unsigned class, struct attachment *entry)
{
	list_remove(heap, class, entry);
	granules_add(heap, class, -1);
	entry_put(heap, entry);
}

/* Whether the entry's slab, which is touched by this, is the heap's by this entry. */
static bool entry_holds(struct heap *heap, const struct attachment *entry)
{
	struct slab *slab = a_load_rlx(&entry->slab);
	return heap_touch(heap, slab) && slab->attachment == entry;
}

/*
 * Drops an entry whose slab is not the heap's by it. False: the slab was taken and is not open yet,
 * so that it is still listed with this heap; then the entry stays, to remember that.
 */
static bool entry_settle(struct heap *heap, unsigned class, struct attachment *entry)
{
	const struct slab *slab = a_load_rlx(&entry->slab);
	const uint64_t word = a_load_rlx(&slab->word);
	const bool open = word_state(word) != SLAB_OWNED || word_owner(word) != heap->id ||
		heap_holds(heap, slab);
	if (open)
		entry_drop(heap, class, entry);
	return open;
}

/* ---- Slabs, which the heap has touched ---- */

static bool attach(struct heap *heap, struct slab *slab)
{
	const unsigned class = a_load_rlx(&slab->class);
	const bool usable = slab_is_usable(slab);
	struct attachment *entry = entry_get(heap);
	if (entry == NULL)
		return false;
	a_store_rlx(&entry->slab, slab);
	slab->attachment = entry;
	slab_set_mark(slab, usable ? 0 : slab->capacity - slab_threshold(slab));
	list_insert(heap, class, entry, usable);
	granules_add(heap, class, 1);
	return true;
}

static void detach(struct heap *heap, struct slab *slab)
{
	ASSERT(slab->attachment != NULL);
	entry_drop(heap, a_load_rlx(&slab->class), slab->attachment);
	slab->attachment = NULL;
	slab_set_mark(slab, MARK_NEVER);
}

void slab_attach(struct heap *heap, struct slab *slab)
{
	if (slab_used(slab) == 0)
		slab_destroy(slab);
	else if (!attach(heap, slab))
		slab_open(slab);
}

/* Of the current slabs above a granule, one may stay empty: its next use is likely and cheap. */
static void spare_replace(struct heap *heap, struct slab *slab)
{
	struct slab *old = heap->spare;
	heap->spare = slab;
	if (old == NULL || old == slab || !heap_holds(heap, old))
		return;
	const unsigned class = a_load_rlx(&old->class);
	if (heap->current[class] != old || slab_used(old) != 0)
		return;
	heap->current[class] = NULL;
	slab_destroy(old);
}

void slab_relieved(struct heap *heap, struct slab *slab)
{
	const unsigned class = a_load_rlx(&slab->class);
	const bool empty = slab_used(slab) == 0;
	if (slab->attachment == NULL) {
		if (slab->mark == 0 && empty)
			spare_replace(heap, slab);
	} else if (empty) {
		detach(heap, slab);
		slab_destroy(slab);
	} else if (slab->mark != 0 && slab_is_usable(slab)) {
		slab_set_mark(slab, 0);
		list_remove(heap, class, slab->attachment);
		list_insert(heap, class, slab->attachment, true);
	}
}

/* Drops the entries of slabs that were taken. */
static void lists_clean(struct heap *heap)
{
	a_store_rlx(&heap->taken, 0);
	unsigned class = 0;
	while ((class = heap_attached_from(heap, class + 1)) < CLASS_COUNT) {
		struct attachment *next;
		struct attachment *entry = a_load_rlx(&heap->attached[class].first);
		for (; entry != NULL; entry = next) {
			next = a_load_rlx(&entry->next);
			if (!entry_holds(heap, entry))
				entry_settle(heap, class, entry);
		}
	}
}

struct slab *slab_take_attached(struct heap *heap, unsigned class)
{
	if (a_load_rlx(&heap->attached_granules) == 0)
		return NULL;
	if (a_load_rlx(&heap->taken) != 0)
		lists_clean(heap);
	struct attachment *next;
	struct attachment *entry = a_load_rlx(&heap->attached[class].first);
	for (; entry != NULL; entry = next) {
		struct slab *slab = a_load_rlx(&entry->slab);
		next = a_load_rlx(&entry->next);
		if (!entry_holds(heap, entry)) {
			entry_settle(heap, class, entry);
		} else if (slab->mark == 0) {
			detach(heap, slab);
			return slab;
		} else {
			break;
		}
	}
	return NULL;
}

/* One by one: where the thread stops, others can take the rest. */
bool slab_open_attached(struct heap *heap)
{
	bool all = true;
	unsigned class = 0;
	while ((class = heap_attached_from(heap, class + 1)) < CLASS_COUNT) {
		struct attachment *next;
		struct attachment *entry = a_load_rlx(&heap->attached[class].first);
		for (; entry != NULL; entry = next) {
			struct slab *slab = a_load_rlx(&entry->slab);
			next = a_load_rlx(&entry->next);
			if (!entry_holds(heap, entry)) {
				all &= entry_settle(heap, class, entry);
				continue;
			}
			detach(heap, slab);
			slab_open(slab);
		}
	}
	return all;
}
