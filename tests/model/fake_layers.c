/* SPDX-License-Identifier: MIT */
/* See fake_layers.h. */
#include "fake_layers.h"

#include <string.h>

#include "base/options.h"
#include "explore.h"
#include "heap/core.h"
#include "os/os.h"

static _Alignas(PAGE_GRANULE_BYTES) char granules[FAKE_GRANULES][PAGE_GRANULE_BYTES];
static _Alignas(64) struct slab records[FAKE_GRANULES];
static _Atomic(uint32_t) taken[FAKE_GRANULES];

struct page_arena page_arena;
struct options options = { .enabled = true };

const struct class heap_classes[CLASS_COUNT] = {
	[1] = { .bytes = 16,
		.capacity = 2,
		.threshold = 1,
		.magic = UINT32_MAX / 16 + 1,
		.inverse = UINT64_MAX / 16 + 1,
		.granules = 1,
		.batch = 2 },
	[2] = { .bytes = 32,
		.capacity = 4,
		.threshold = 2,
		.magic = UINT32_MAX / 32 + 1,
		.inverse = UINT64_MAX / 32 + 1,
		.granules = 1,
		.batch = 2 },
};

void fake_reset(void)
{
	memset(records, 0, sizeof(records));
	memset(granules[0], 0, FAKE_HEAPS * HEAP_BYTES);
	for (int i = 1; i < FAKE_GRANULES; i++)
		memset(granules[i], 0, 128);
	a_store_rlx(&page_arena.base, (uintptr_t)granules);
	a_store_rlx(&page_arena.bytes, sizeof(granules));
	a_store_rlx(&page_arena.records, (uintptr_t)&records[FAKE_GRANULES - 1]);
}

unsigned fake_granules_taken(void)
{
	unsigned count = 0;

	for (int i = 0; i < FAKE_GRANULES; i++)
		count += a_load_rlx(&taken[i]);
	return count;
}

int page_init(void)
{
	return 0;
}

/* The first granule goes to the chunk of heaps and is made zero; others are as they were left. */
int page_alloc(size_t count, size_t align_bytes, struct page_run *ret_run)
{
	EXPLORE_CHECK(count == 1);
	for (int i = 0; i < FAKE_GRANULES; i++) {
		uint32_t none = 0;
		if (a_load_rlx(&taken[i]) || !a_cas_strong_acq(&taken[i], &none, 1))
			continue;
		explore_map(granules[i], PAGE_GRANULE_BYTES);
		*ret_run = (struct page_run){ granules[i], 1, i == 0 };
		return 0;
	}
	return -1;
}

int page_alloc_composed(size_t granules, size_t used, size_t align_bytes, struct page_run *ret_run)
{
	return page_alloc(granules, align_bytes, ret_run);
}

void page_free(char *base, size_t count)
{
	size_t i = (size_t)(base - granules[0]) / PAGE_GRANULE_BYTES;

	EXPLORE_CHECK(count == 1 && base == granules[i]);
	EXPLORE_CHECK(a_load_rlx(&taken[i]) == 1);
	explore_unmap(base, PAGE_GRANULE_BYTES);
	a_store_rel(&taken[i], 0);
}

void *page_record_lookup(const void *p)
{
	return NULL;
}

void page_record_each(void (*fn)(void *record, void *arg), void *arg)
{
	for (int i = 0; i < FAKE_GRANULES; i++)
		fn(&records[i], arg);
}

void page_tick(void)
{
}

void page_thread_exit(void)
{
}

bool page_check(void)
{
	return true;
}

int os_init(void)
{
	return 0;
}

int os_config_load(struct options *o)
{
	return 0;
}

/* Time flies, so that whatever is due at times is due. */
uint64_t os_now_ns(void)
{
	static uint64_t now;

	return now += 1000000000;
}

void os_fatal(const char *line)
{
	explore_fail("%s", line);
}

void os_barrier_register(void)
{
}

int os_barrier(void)
{
	explore_barrier();
	return 0;
}

void page_keeper_add(const struct page_keeper *keeper)
{
	(void)keeper;
}

bool page_round_ends(void)
{
	return false;
}

/* The janitor goes the rounds, and no scenario is about what it does. */
bool page_round_is_mine(void)
{
	return false;
}

/* What the scenarios never come to. */

static _Noreturn void unexpected(const char *name)
{
	explore_fail("%s was called", name);
}

bool page_extend(char *base, size_t old_granules, size_t new_granules, bool *ret_zeroed)
{
	unexpected(__func__);
}

void page_shrink(char *base, size_t old_granules, size_t new_granules)
{
	unexpected(__func__);
}

int page_move(char *base, size_t old_granules, size_t new_granules, struct page_run *ret_run)
{
	unexpected(__func__);
}

size_t page_trim(void)
{
	unexpected(__func__);
}

uint32_t page_record_some(uint32_t from, uint32_t count, void (*fn)(void *record, void *arg),
	void *arg)
{
	unexpected(__func__);
}

int os_task_barrier(void)
{
	unexpected(__func__);
}

int os_decommit(void *base, size_t bytes)
{
	unexpected(__func__);
}

const struct os_facts *os_facts(void)
{
	unexpected(__func__);
}

void page_stats(struct page_stats *ret_stats)
{
	unexpected(__func__);
}

void page_fork_child(void)
{
	unexpected(__func__);
}
