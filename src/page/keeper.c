/* SPDX-License-Identifier: MIT */
/*
 * The layers above that keep free memory of their own. They are entered one behind the other into a
 * table that only grows, so that it is read without order: who sees an entry sees a constant.
 */
#include "arena.h"

static _Atomic(const struct page_keeper *) keepers[PAGE_KEEPERS];

void page_keeper_add(const struct page_keeper *keeper)
{
	for (int i = 0; i < PAGE_KEEPERS; i++) {
		const struct page_keeper *found = NULL;
		if (a_cas_strong_rlx(&keepers[i], &found, keeper) || found == keeper)
			return;
	}
	os_fatal("allod: too many keepers\n");
}

static const struct page_keeper *keeper_at(int i)
{
	return i < PAGE_KEEPERS ? a_load_rlx(&keepers[i]) : NULL;
}

size_t keepers_round(struct arena *a, bool (*begin)(struct arena *a), void (*end)(struct arena *a))
{
	const struct page_keeper *keeper;
	size_t waiting = 0;

	for (int i = 0; (keeper = keeper_at(i)); i++) {
		bool more = keeper->step != NULL;
		while (more) {
			more = begin(a) && keeper->step(&waiting);
			end(a);
		}
	}
	return waiting;
}

size_t keepers_trim(unsigned severity)
{
	const struct page_keeper *keeper;
	size_t bytes = 0;

	for (int i = 0; (keeper = keeper_at(i)); i++)
		if (keeper->trim)
			bytes += keeper->trim(severity);
	return bytes;
}

void keepers_watch(void)
{
	const struct page_keeper *keeper;

	for (int i = 0; (keeper = keeper_at(i)); i++)
		if (keeper->watch)
			keeper->watch();
}

size_t keepers_warm(size_t *ret_cold)
{
	const struct page_keeper *keeper;
	size_t bytes = 0;

	for (int i = 0; (keeper = keeper_at(i)); i++)
		if (keeper->warm)
			bytes += keeper->warm(ret_cold);
	return bytes;
}
