/* SPDX-License-Identifier: MIT */
/*
 * Blocks above the size classes, and those aligned to more than a granule: each a run of page. The
 * state LARGE is taken away by one exchange, so of two frees of a block exactly one is told.
 */
#include "heap/core.h"
#include "heap/fast.h"

static size_t granules_for(size_t size)
{
	return (size + PAGE_GRANULE_BYTES - 1) >> PAGE_GRANULE_SHIFT;
}

static void *large_begin(const struct page_run *run)
{
	struct slab *slab = page_record_of(run->base);
	slab->base = run->base;
	slab->bytes = 0;
	a_store_rlx(&slab->magic, 0);
	a_store_rlx(&slab->granules, run->granules);
	remote_begin(slab, SLAB_LARGE, 0);
	return run->base;
}

void *large_alloc(size_t align, size_t size, bool *ret_zeroed)
{
	struct page_run run;
	page_tick();
	if (page_alloc(granules_for(size ? size : 1), align, &run) != 0)
		return NULL;
	*ret_zeroed = run.zeroed;
	/*
	 * What was a slab holds the marks of its free blocks. The one that lies here would be
	 * copied with the block's contents, and is a double free to see when it comes back to this
	 * address.
	 */
	if (!run.zeroed)
		((struct block *)(void *)run.base)->key = 0;
	return large_begin(&run);
}

void large_free(struct slab *slab, void *p)
{
	if (p != slab->base)
		heap_fatal_invalid_free();
	const size_t granules = a_load_rlx(&slab->granules);
	if (!remote_end(slab, SLAB_LARGE))
		heap_fatal_double_free();
	page_free(p, granules);
	page_tick();
	heap_watch_exit();
}

bool large_resize_in_place(struct slab *slab, size_t size)
{
	const size_t old = a_load_rlx(&slab->granules);
	const size_t new = granules_for(size);
	bool zeroed;
	if (new > old && !page_extend(slab->base, old, new, &zeroed))
		return false;
	/* The size is written before the tail is let go: nobody may see it as this block's then. */
	a_store_rlx(&slab->granules, new);
	if (new < old) {
		page_shrink(slab->base, old, new);
		heap_watch_exit();
	}
	return true;
}

void *large_resize(struct slab *slab, void *p, size_t size)
{
	const size_t old = a_load_rlx(&slab->granules);
	const size_t new = granules_for(size);
	struct page_run run;
	if (new <= old)
		return NULL;
	/* The record goes to FREED first: page_move() may give the old run to another thread. */
	if (!remote_end(slab, SLAB_LARGE))
		heap_fatal_double_free();
	if (page_move(p, old, new, &run) != 0) {
		remote_begin(slab, SLAB_LARGE, 0);
		return NULL;
	}
	return large_begin(&run);
}
