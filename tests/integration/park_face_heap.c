/* SPDX-License-Identifier: MIT */
/* The heap's own calls, linked in; see park_face.h. */
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "heap/core.h"
#include "page/page.h"
#include "park_face.h"

enum { HEAPS_MOST = 4096 };

/* Slabs by heap and class, as a walk over all records finds them. */
static uint8_t held[HEAPS_MOST][CLASS_COUNT];
static unsigned open_slabs;

void face_start(void)
{
	CHECK_EQ(heap_init(), 0);
	heap_register_hooks();
}

void face_trim(void)
{
	heap_trim();
}

void face_stats(void)
{
	struct heap_stats stats;
	struct heap_class_stats rows[CLASS_COUNT];
	heap_stats_read(&stats);
	CHECK_EQ(heap_class_stats_read(rows, CLASS_COUNT), CLASS_COUNT);
}

uint64_t face_slab_bytes(void)
{
	struct heap_stats stats;
	heap_stats_read(&stats);
	return stats.slab_bytes;
}

static int first_base(struct dl_phdr_info *info, size_t size, void *arg)
{
	*(uintptr_t *)arg = info->dlpi_addr;
	return 1;
}

bool face_module(char *ret_path, size_t cap, uintptr_t *ret_base)
{
	snprintf(ret_path, cap, "/proc/self/exe");
	dl_iterate_phdr(first_base, ret_base);
	return true;
}

uint32_t face_heap_id(void)
{
	return a_load_rlx(&heap_self)->id;
}

static void count_slab(void *record, void *arg)
{
	const struct slab *slab = record;
	const uint64_t word = a_load_rlx(&slab->word);
	if (word_state(word) == SLAB_OPEN)
		open_slabs++;
	if (word_state(word) != SLAB_OWNED)
		return;
	CHECK(word_owner(word) < HEAPS_MOST);
	uint8_t *count = &held[word_owner(word)][a_load_rlx(&slab->class)];
	*count += *count < UINT8_MAX;
}

/* Slabs of the heap: one a class, and how many beside. */
static unsigned count_heap(uint32_t id, unsigned *ret_extra)
{
	unsigned first = 0;
	*ret_extra = 0;
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		first += held[id][class] > 0;
		*ret_extra += held[id][class] > 1 ? held[id][class] - 1u : 0;
	}
	return first;
}

static bool is_among(uint32_t id, const uint32_t *ids, unsigned count)
{
	unsigned i = 0;
	while (i < count && ids[i] != id)
		i++;
	return i < count;
}

bool face_kept_is_bounded(const uint32_t *ids, unsigned count)
{
	unsigned current = 0;
	unsigned beside = 0;
	unsigned strays = 0;
	unsigned most_beside = 0;
	const uint32_t own = face_heap_id();
	memset(held, 0, sizeof held);
	open_slabs = 0;
	page_record_each(count_slab, NULL);
	for (uint32_t id = 1; id <= heap_pool_count(); id++) {
		unsigned extra;
		const unsigned first = count_heap(id, &extra);
		if (id == own)
			continue;
		if (!is_among(id, ids, count)) {
			strays += first + extra;
			continue;
		}
		current += first;
		beside += extra;
		most_beside = extra > most_beside ? extra : most_beside;
	}
	test_note(
		"%u parked: %u slabs kept as one a class and thread, %u beside (bound %u; most of "
		"one thread %u), %u open ones, %u of heaps that are nobody's",
		count, current, beside, count, most_beside, open_slabs, strays);
	return beside + strays + open_slabs <= count && most_beside <= 1;
}

void face_check_empty(void)
{
	struct heap_stats stats;
	page_exit();
	heap_check();
	heap_stats_read(&stats);
	CHECK_EQ(stats.used_blocks, 0);
}
