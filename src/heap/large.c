/* SPDX-License-Identifier: MIT */
/*
 * Blocks above the size classes, and those aligned to more than a granule: each a run of page. The
 * state LARGE is taken away by one exchange, so of two frees of a block exactly one is told. A block
 * with a reservation has granules behind it that are its own, its room.
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
	a_store_rlx(&slab->room, 0);
	remote_begin(slab, SLAB_LARGE, 0);
	return run->base;
}

/* One with `room` granules of which `used` are the block's; fresh, rather than composed. */
static int run_alloc_one(size_t align, size_t room, size_t used, bool fresh,
	struct page_run *ret_run)
{
	return fresh ? page_alloc(room, align, ret_run)
		     : page_alloc_composed(room, used, align, ret_run);
}

/* A run that has room for the reservation, or just for the size. */
static int run_alloc(size_t align, size_t granules, size_t most, bool fresh,
	struct page_run *ret_run)
{
	if (most > granules && run_alloc_one(align, most, granules, fresh, ret_run) == 0)
		return 0;
	return run_alloc_one(align, granules, granules, fresh, ret_run);
}

void *large_alloc_room(size_t align, size_t size, size_t reserve, bool *ret_zeroed)
{
	const size_t granules = granules_for(size ? size : 1);
	const size_t most = reserve > HEAP_SIZE_MAX ? 0 : granules_for(reserve);
	struct page_run run;
	/* What is to read as zero would have to be written, used or not, if it were composed. */
	if (run_alloc(align, granules, most, ret_zeroed != NULL, &run) != 0)
		return NULL;
	if (ret_zeroed != NULL)
		*ret_zeroed = run.zeroed;
	/*
	 * What was a slab holds the marks of its free blocks. The one that lies here would be
	 * copied with the block's contents, and is a double free to see when it comes back to this
	 * address.
	 */
	if (!run.zeroed)
		((struct block *)(void *)run.base)->key = 0;
	const size_t room = run.granules - granules;
	run.granules = granules;
	void *p = large_begin(&run);
	struct slab *slab = page_record_of(p);
	slab->zeroed = run.zeroed;
	a_store_rlx(&slab->room, room);
	return p;
}

void *large_alloc(size_t align, size_t size, bool *ret_zeroed)
{
	page_tick();
	return large_alloc_room(align, size, 0, ret_zeroed);
}

void large_give(struct slab *slab, void *p)
{
	if (p != slab->base)
		heap_fatal_invalid_free();
	const size_t granules = a_load_rlx(&slab->granules) + a_load_rlx(&slab->room);
	if (!remote_end(slab, SLAB_LARGE))
		heap_fatal_double_free();
	page_free(p, granules);
	heap_watch_exit();
}

void large_free(struct slab *slab, void *p)
{
	large_give(slab, p);
	page_tick();
}

/* Resizes a block that has room, within that or beyond; what it gives up becomes room. */
static bool resize_with_room(struct slab *slab, size_t old, size_t new, bool *ret_zeroed)
{
	const size_t most = old + a_load_rlx(&slab->room);
	*ret_zeroed = slab->zeroed;
	if (new > most) {
		bool zeroed;
		if (!page_extend(slab->base, most, new, &zeroed))
			return false;
		*ret_zeroed = *ret_zeroed && zeroed;
	}
	if (new < old)
		slab->zeroed = false;
	a_store_rlx(&slab->room, new < most ? most - new : 0);
	a_store_rlx(&slab->granules, new);
	return true;
}

void large_reserve(struct slab *slab, size_t reserve)
{
	const size_t granules = a_load_rlx(&slab->granules);
	const size_t room = a_load_rlx(&slab->room);
	bool zeroed;
	if (reserve > HEAP_SIZE_MAX || granules_for(reserve) <= granules + room ||
		!page_extend(slab->base, granules + room, granules_for(reserve), &zeroed))
		return;
	slab->zeroed = zeroed && (room == 0 || slab->zeroed);
	a_store_rlx(&slab->room, granules_for(reserve) - granules);
}

bool large_resize_in_place(struct slab *slab, size_t size, bool *ret_zeroed)
{
	const size_t old = a_load_rlx(&slab->granules);
	const size_t new = granules_for(size);
	*ret_zeroed = false;
	if (a_load_rlx(&slab->room) != 0)
		return resize_with_room(slab, old, new, ret_zeroed);
	if (new > old && !page_extend(slab->base, old, new, ret_zeroed))
		return false;
	/* The size is written before the tail is let go: nobody may see it as this block's then. */
	a_store_rlx(&slab->granules, new);
	if (new < old) {
		page_shrink(slab->base, old, new);
		heap_watch_exit();
	}
	return true;
}

/* Gives up the block's room: it did not suffice, and moves as part of nothing. */
static void room_drop(struct slab *slab)
{
	const size_t granules = a_load_rlx(&slab->granules);
	const size_t room = a_load_rlx(&slab->room);
	if (room == 0)
		return;
	a_store_rlx(&slab->room, 0);
	page_shrink(slab->base, granules + room, granules);
}

void *large_resize(struct slab *slab, void *p, size_t size, bool *ret_zeroed)
{
	const size_t old = a_load_rlx(&slab->granules);
	const size_t new = granules_for(size);
	struct page_run run;
	if (new <= old)
		return NULL;
	room_drop(slab);
	/* The record goes to FREED first: page_move() may give the old run to another thread. */
	if (!remote_end(slab, SLAB_LARGE))
		heap_fatal_double_free();
	if (page_move(p, old, new, &run) != 0) {
		remote_begin(slab, SLAB_LARGE, 0);
		return NULL;
	}
	*ret_zeroed = run.zeroed;
	return large_begin(&run);
}
