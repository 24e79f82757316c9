/* SPDX-License-Identifier: MIT */
/*
 * Arenas: the addresses that chunks are cut from, and the way from a pointer to its chunk.
 *
 * An arena has ALLOD_PERCPU_STRIDE bytes of addresses for each processor. Anonymous memory is one
 * mapping for all of them; over a file it is one for each, and one for the overlay behind the last.
 * So the number of mappings depends on the processors, not on pools. There is one arena for each
 * kind of memory that pools ask for, and another when a pool asks for more processors than the
 * first of its kind has.
 *
 * Arenas are made under root.lock and never unmapped. The chunk of a slot is read without a lock,
 * by a free: the slot of a live element does not change.
 */
#include <errno.h>

#include "os/area.h"
#include "os/os.h"
#include "percpu/percpu.h"

enum {
	/* Addresses cost nothing, so that later pools may want more processors. */
	CPUS_SPARE = 512,
	WINDOW_LEAST = 4 << 20,
	/* Of the machine's memory, what an arena may be charged for under strict overcommit. */
	STRICT_PART = 32,
	TRIES = 64,
	/* 64 MiB for each processor. */
	SLOTS_FIRST = 1024,
	SLOTS = (int)(ALLOD_PERCPU_STRIDE >> SLOT_SHIFT),
};

static const size_t window_most = (size_t)1 << 30;

/* Where addresses are short: only a window of each processor's is mapped. Bases are tried in turn. */
static uintptr_t map_windows(unsigned areas, size_t window)
{
	for (uintptr_t base = (uintptr_t)1 << 36, i = 0; i < TRIES; i++) {
		unsigned area = 0;

		base = (uintptr_t)0x100000000000 + i * ((uintptr_t)1 << 39);
		while (area < areas &&
			!os_reserve_at((void *)(base + area * ALLOD_PERCPU_STRIDE), window) &&
			!os_commit((void *)(base + area * ALLOD_PERCPU_STRIDE), window))
			area++;
		if (area == areas)
			return base;
		/* The area that failed may be reserved or not; nothing else of ours is there. */
		while (area-- > 0)
			os_unmap((void *)(base + area * ALLOD_PERCPU_STRIDE), window);
	}
	return 0;
}

/*
 * Whether windows of this size leave room for more. Strict overcommit charges for all of them, and
 * for a file as large, whatever is touched.
 */
static bool window_fits(size_t window, unsigned areas)
{
	const struct os_facts *facts = os_facts();

	if (facts->overcommit_mode == 2 && window > WINDOW_LEAST &&
		window > facts->ram_bytes / STRICT_PART / areas)
		return false;
	return window <= facts->address_limit_bytes / 4 / areas;
}

static int map_areas(struct percpu_arena *arena, unsigned areas, bool may_be_short)
{
	const struct os_facts *facts = os_facts();
	bool is_short = facts->address_limit_bytes != OS_UNLIMITED || facts->overcommit_mode == 2;
	void *base = NULL;

	arena->window = ALLOD_PERCPU_STRIDE;
	if (!is_short)
		base = os_map_lazy((size_t)areas * ALLOD_PERCPU_STRIDE, (size_t)2 << 20);
	arena->base = (uintptr_t)base;
	if (base)
		os_huge(base, (size_t)areas * ALLOD_PERCPU_STRIDE, arena->kind & ARENA_HUGE);
	for (size_t window = window_most; !arena->base && may_be_short && window >= WINDOW_LEAST;
		window /= 4) {
		arena->window = window;
		if (window_fits(window, areas))
			arena->base = map_windows(areas, window);
	}
	return arena->base ? 0 : -ENOMEM;
}

static void unmap_areas(struct percpu_arena *arena, unsigned areas)
{
	for (unsigned i = 0; i < areas; i++)
		os_unmap((void *)(arena->base + i * ALLOD_PERCPU_STRIDE), arena->window);
}

/* The file that processors share, its window, and a mapping for each processor. */
static int map_file(struct percpu_arena *arena)
{
	int fd = os_file_make("allod-percpu", arena->window);
	int error = fd < 0 ? fd : 0;

	if (error)
		return error;
	arena->image = os_file_map_shared(fd, arena->window);
	error = arena->image ? os_hide_from_fork(arena->image, arena->window) : -ENOMEM;
	for (unsigned i = 0; !error && i < arena->cpus; i++)
		error = os_file_map_private(fd, (void *)(arena->base + i * ALLOD_PERCPU_STRIDE),
			arena->window);
	os_file_close(fd);
	if (error && arena->image)
		os_unmap(arena->image, arena->window);
	return error;
}

/* Free slots, few at first and then as many again: the bitmap is touched as far as it is told. */
static bool slots_tell(struct percpu_arena *arena)
{
	size_t all = arena->window >> SLOT_SHIFT;
	size_t from = arena->slots_known;
	size_t more = from ? from : SLOTS_FIRST;

	more = more < all - from ? more : all - from;
	/* A child that is made in between loses these addresses, and does not have them twice. */
	arena->slots_known = from + more;
	a_signal_fence();
	if (more)
		bitmap_put(&arena->slots, from, more);
	return more != 0;
}

static int slots_make(struct percpu_arena *arena)
{
	size_t slots = arena->window >> SLOT_SHIFT;
	void *storage = percpu_meta_alloc(bitmap_storage_bytes(slots));

	arena->chunk = percpu_meta_alloc(slots * sizeof(arena->chunk[0]));
	if (!storage || !arena->chunk)
		return -ENOMEM;
	bitmap_init(&arena->slots, storage, slots);
	slots_tell(arena);
	return 0;
}

static int arena_make(struct percpu_arena *arena, unsigned kind, unsigned cpus)
{
	bool is_file = kind & ARENA_FILE;
	unsigned possible = percpu_root->possible;
	/* Over a file each processor costs a mapping. */
	unsigned most = is_file ? possible : CPUS_SPARE;
	unsigned areas;
	int error;

	arena->kind = kind;
	arena->cpus = cpus > most ? cpus : most;
	arena->cpus = arena->cpus > possible ? arena->cpus : possible;
	if (os_facts()->address_limit_bytes != OS_UNLIMITED || os_facts()->overcommit_mode == 2)
		arena->cpus = cpus;
	areas = arena->cpus + is_file;
	error = map_areas(arena, areas, arena->cpus == cpus);
	if (error && arena->cpus > cpus) {
		/* A sanitizer's memory, or whatever else cuts the addresses up: without spare ones. */
		arena->cpus = cpus;
		areas = arena->cpus + is_file;
		error = map_areas(arena, areas, true);
	}
	if (error)
		return error;
	error = is_file ? map_file(arena) : 0;
	if (!error)
		error = slots_make(arena);
	arena->epoch = percpu_epoch();
	if (error)
		unmap_areas(arena, areas);
	return error;
}

/* The caller holds root.lock. */
struct percpu_arena *percpu_arena_get(unsigned kind, unsigned cpus, int *ret_error)
{
	uint32_t count = a_load_rlx(&percpu_root->arena_count);
	struct percpu_arena *arena;

	for (uint32_t i = 0; i < count; i++) {
		arena = &percpu_root->arenas[i];
		if (arena->kind == kind && arena->cpus >= cpus)
			return arena;
	}
	arena = &percpu_root->arenas[count];
	*ret_error = count < ARENAS_MAX ? arena_make(arena, kind, cpus) : -ENOMEM;
	if (*ret_error)
		return NULL;
	/* [percpu.2] rel: the arena is whole before it counts; pairs with percpu_arena_chunk_of(). */
	a_store_rel(&percpu_root->arena_count, count + 1);
	return arena;
}

/* The chunk that has the address in its first unit, or NULL. */
struct percpu_chunk *percpu_arena_chunk_of(uintptr_t element)
{
	/* [percpu.2] acq: finds arenas whole; pairs with percpu_arena_get(). */
	uint32_t count = a_load_acq(&percpu_root->arena_count);

	for (uint32_t i = 0; i < count; i++) {
		const struct percpu_arena *arena = &percpu_root->arenas[i];
		if (element - arena->base < arena->window)
			return a_load_rlx(&arena->chunk[(element - arena->base) >> SLOT_SHIFT]);
	}
	return percpu_radix_get(element);
}

/* Addresses for a chunk: the first that fit. 0 when there are none. */
uintptr_t percpu_arena_take(struct percpu_arena *arena, size_t bytes, size_t align)
{
	size_t slots = round_up(bytes, SLOT_BYTES) >> SLOT_SHIFT;
	size_t step = align > SLOT_BYTES ? align >> SLOT_SHIFT : 1;
	size_t at;

	if (slots > arena->window >> SLOT_SHIFT)
		return 0;
	do
		at = bitmap_take(&arena->slots, slots, step, arena->base >> SLOT_SHIFT & (step - 1),
			0);
	while (at == BITMAP_NONE && slots_tell(arena));
	return at == BITMAP_NONE ? 0 : arena->base + (at << SLOT_SHIFT);
}

void percpu_arena_put(struct percpu_arena *arena, uintptr_t base, size_t bytes)
{
	bitmap_put(&arena->slots, (base - arena->base) >> SLOT_SHIFT,
		round_up(bytes, SLOT_BYTES) >> SLOT_SHIFT);
}

void percpu_arena_set_chunk(struct percpu_arena *arena, uintptr_t base, size_t bytes,
	struct percpu_chunk *chunk)
{
	size_t first = (base - arena->base) >> SLOT_SHIFT;

	for (size_t i = 0; i < round_up(bytes, SLOT_BYTES) >> SLOT_SHIFT; i++)
		a_store_rlx(&arena->chunk[first + i], chunk);
}
