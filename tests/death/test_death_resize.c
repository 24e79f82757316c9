/* SPDX-License-Identifier: MIT */
/*
 * A block that is freed while another thread makes it larger ends the process, whichever of the two
 * comes later. The free comes in the middle of the resize: the linker puts it into page_extend().
 */
#include <signal.h>

#include "allod/page.h"
#include "block/block.h"
#include "harness.h"
#include "heap/heap.h"
#include "page/page.h"

bool __wrap_page_extend(char *base, size_t old_granules, size_t new_granules, bool *ret_zeroed);
bool __real_page_extend(char *base, size_t old_granules, size_t new_granules, bool *ret_zeroed);

static void *to_free;

bool __wrap_page_extend(char *base, size_t old_granules, size_t new_granules, bool *ret_zeroed)
{
	const bool ret = __real_page_extend(base, old_granules, new_granules, ret_zeroed);

	if (to_free)
		block_free(to_free);
	to_free = NULL;
	return ret;
}

static void resize(void *p, bool freed)
{
	void *q;

	to_free = freed ? p : NULL;
	CHECK_EQ(block_resize(p, 3 << 20, ALLOD_PAGE_IN_PLACE, &q), 0);
}

TEST(freed_while_it_grows)
{
	static const size_t sizes[] = { 64 << 10, 1 << 20 };

	for (size_t i = 0; i < 2; i++) {
		const struct block_want want = { 0 };
		void *p;
		CHECK_EQ(heap_init(), 0);
		CHECK_EQ(block_alloc(sizes[i], &want, &p), 0);
		CHECK_DEATH(resize(p, true), SIGABRT, "allod: double page free\n");
		/* What it would have been without the free. */
		resize(p, false);
		block_free(p);
	}
}
