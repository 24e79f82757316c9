/* SPDX-License-Identifier: MIT */
/*
 * Huge pages for memory that is filled and used again, or populated.
 *
 * The arena forbids them, since the first byte of a heap would cost 2 MiB where the host's setting
 * is `always`, and a process that ends soon would pay for zeroing them. But large runs that are
 * handed out over and over are faster in them: fewer misses of the TLB. So each 2 MiB has a byte
 * that counts how often large runs were handed out there while they held pages. The janitor
 * collapses what has earned it and is present: it costs the process a background millisecond, and
 * no memory that it did not hold before. Where the host says `never` nothing is done.
 *
 * Chunks without pages that are about to be populated, all of them, get huge ones at once: a tenth of
 * the time, and no memory that they would not have had.
 *
 * What was collapsed or populated so is given back whole (purge.c), and forbidden again then.
 *
 * Synchronization   a byte counts up by compare-and-swap as far as HUGE_REUSES, and only the
 *                   janitor takes it further from there; who holds all of a chunk and populates it
 *                   takes it further from below; who gives pages back sets it to 0, by exchange. All
 *                   of it is a hint: the kernel keeps the contents whatever the byte says
 * Progress          wait-free, but for the kernel's work in the janitor
 */
#include "arena.h"

#include <string.h>

enum {
	/* So often a chunk's runs are handed out again before it is worth a huge page. */
	HUGE_REUSES = 8,
	/* Runs of 8 MiB lie in so many chunks, as a rule, or fewer. */
	HUGE_LOOKS = 5,
	/* It lies in one. */
	HUGE_BACKED = 255,
	/* It may have been collapsed when its pages had gone; see chunk_tidy(). */
	HUGE_UNTIDY = 254,
	/* The host's setting; at first it is not known, and then it is the kernel that obeys it. */
	HUGE_WANTED = 1,
	HUGE_NEVER = 2,
	/* 15 of 16 pages must be present, so that hardly any memory is added. */
	HUGE_PRESENT_SHARE = 16,
	/* 128 MiB a round at most: 40 to 80 ms here, of 268. */
	HUGE_ROUND_CHUNKS = 64,
	/* Huge pages of this size, which they have where base pages are 4 KiB, have 512 of those. */
	CHUNK_PAGES_SHIFT = 9,
	/* Of the mappings that the kernel allows, an eighth may be cut by chunks. */
	HUGE_MAPS_SHARE = 16,
};

/* Whether chunks [first, last] have all been counted as often as counts, few of them. */
static bool are_counted(const struct arena *a, size_t first, size_t last)
{
	uint8_t least = HUGE_BACKED;

	/* So many are looked at whatever their number: it is not to be guessed. */
	for (size_t i = 0; i < HUGE_LOOKS; i++) {
		uint8_t count = a_load_rlx(&a->chunks[min_size(first + i, last)]);
		least = count < least ? count : least;
	}
	return last - first < HUGE_LOOKS && least >= HUGE_REUSES;
}

__attribute__((noinline)) void huge_note_reuse(struct arena *a, size_t pos, size_t n)
{
	const size_t first = pos / ARENA_CHUNK_GRANULES;
	const size_t last = (pos + n - 1) / ARENA_CHUNK_GRANULES;

	if (are_counted(a, first, last))
		return;
	for (size_t i = first; i <= last; i++) {
		uint8_t count = a_load_rlx(&a->chunks[i]);
		if (count < HUGE_REUSES)
			(void)a_cas_weak_rlx(&a->chunks[i], &count, (uint8_t)(count + 1));
	}
}

void huge_start(struct arena *a)
{
	char text[64];

	uint8_t setting = HUGE_NEVER;

	if (os_facts()->page_bytes << CHUNK_PAGES_SHIFT == ARENA_CHUNK_BYTES &&
		os_file_read("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) > 0)
		setting = strstr(text, "[never]") ? HUGE_NEVER : HUGE_WANTED;
	a_store_rlx(&a->huge_setting, setting);
}

static uint64_t chunks_most(void)
{
	return os_facts()->max_map_count / HUGE_MAPS_SHARE;
}

static bool has_pages(const struct arena *a, size_t chunk)
{
	for (size_t i = 0; i < ARENA_CHUNK_GRANULES; i++) {
		if (stamp_get(a, chunk * ARENA_CHUNK_GRANULES + i) & STAMP_EPOCH)
			return true;
	}
	return false;
}

/* Marks a chunk that the caller holds as backed. The janitor may be at one that is due. */
static bool chunk_take(struct arena *a, size_t chunk)
{
	uint8_t count = a_load_rlx(&a->chunks[chunk]);

	if (has_pages(a, chunk))
		return false;
	if (count >= HUGE_REUSES || a_load_rlx(&a->huge_chunks) >= chunks_most() ||
		!a_cas_strong_rlx(&a->chunks[chunk], &count, HUGE_BACKED))
		return false;
	a_add_rlx(&a->huge_chunks, 1);
	return true;
}

void huge_allow(struct arena *a, size_t pos, size_t n)
{
	const size_t end = (pos + n) / ARENA_CHUNK_GRANULES;
	size_t from = (pos + ARENA_CHUNK_GRANULES - 1) / ARENA_CHUNK_GRANULES;

	if (os_facts()->page_bytes << CHUNK_PAGES_SHIFT != ARENA_CHUNK_BYTES ||
		a_load_rlx(&a->huge_setting) == HUGE_NEVER)
		return;
	while (from < end) {
		size_t to = from;

		while (to < end && chunk_take(a, to))
			to++;
		if (to > from &&
			os_huge(arena_address(a, from * ARENA_CHUNK_GRANULES),
				(to - from) * ARENA_CHUNK_BYTES, true))
			huge_forget(a, from * ARENA_CHUNK_GRANULES,
				(to - from) * ARENA_CHUNK_GRANULES);
		from = to + 1;
	}
}

bool huge_is_plain(const struct arena *a, size_t chunk)
{
	return a_load_rlx(&a->chunks[chunk]) < HUGE_REUSES;
}

void huge_adopt(struct arena *a, size_t chunk)
{
	uint8_t count = a_load_rlx(&a->chunks[chunk]);

	a_add_rlx(&a->huge_chunks, 1);
	if (count == HUGE_BACKED || !a_cas_strong_rlx(&a->chunks[chunk], &count, HUGE_BACKED))
		a_sub_rlx(&a->huge_chunks, 1);
}

bool huge_is(const struct arena *a, size_t pos)
{
	return a_load_rlx(&a->chunks[pos / ARENA_CHUNK_GRANULES]) == HUGE_BACKED;
}

/* Whether the chunk was backed; it is not any more. */
static bool chunk_forget(struct arena *a, size_t chunk)
{
	const uint8_t count = a_load_rlx(&a->chunks[chunk]);
	uint8_t old = 0;

	if (count != 0 && count != HUGE_UNTIDY)
		old = a_xchg_rlx(&a->chunks[chunk], 0);
	/* The janitor was here in between. */
	if (old == HUGE_UNTIDY)
		a_store_rlx(&a->chunks[chunk], HUGE_UNTIDY);
	if (old != HUGE_BACKED)
		return false;
	a_sub_rlx(&a->huge_chunks, 1);
	return true;
}

void huge_forget(struct arena *a, size_t pos, size_t n)
{
	const size_t end = (pos + n - 1) / ARENA_CHUNK_GRANULES + 1;
	size_t from = pos / ARENA_CHUNK_GRANULES;

	while (from < end) {
		size_t to = from;

		while (to < end && chunk_forget(a, to))
			to++;
		if (to > from)
			(void)os_huge(arena_address(a, from * ARENA_CHUNK_GRANULES),
				(to - from) * ARENA_CHUNK_BYTES, false);
		from = to + 1;
	}
}

void page_forbid_huge(const char *base, size_t granules)
{
	struct arena *a = arena_get();
	size_t pos;

	if (arena_position(a, base, &pos))
		huge_forget(a, pos, granules);
}

static bool is_filled(char *base)
{
	const size_t pages = ARENA_CHUNK_BYTES / os_facts()->page_bytes;
	size_t present;

	return !os_present(base, ARENA_CHUNK_BYTES, &present) &&
		present >= pages - pages / HUGE_PRESENT_SHARE;
}

/*
 * What was given back while it was being collapsed has pages that nobody knows of: in the next
 * round, when whoever was giving it back has done so, those of free granules that read as zero are
 * dropped.
 */
static void chunk_tidy(struct arena *a, size_t chunk)
{
	uint8_t untidy = HUGE_UNTIDY;
	const size_t end = (chunk + 1) * ARENA_CHUNK_GRANULES;
	size_t at = chunk * ARENA_CHUNK_GRANULES;
	size_t run = 0;

	if (!a_cas_strong_rlx(&a->chunks[chunk], &untidy, 0))
		return;
	while ((at = bitmap_next_free(&a->map, at, end, &run)) != BITMAP_NONE) {
		purge_tidy(a, at, run);
		at += run;
	}
}

/* A collapse came too late: the chunk is looked after, unless somebody has filled it again. */
static void chunk_note_untidy(struct arena *a, size_t chunk)
{
	uint8_t count = a_load_rlx(&a->chunks[chunk]);

	while (count < HUGE_REUSES && !a_cas_strong_rlx(&a->chunks[chunk], &count, HUGE_UNTIDY))
		;
}

/* Backs one chunk; one that cannot be, or has holes, must earn it anew. */
static void chunk_back(struct arena *a, size_t chunk)
{
	char *base = arena_address(a, chunk * ARENA_CHUNK_GRANULES);
	uint8_t expected = HUGE_REUSES;

	if (is_filled(base) && !os_huge(base, ARENA_CHUNK_BYTES, true)) {
		if (!os_collapse(base, ARENA_CHUNK_BYTES)) {
			a_add_rlx(&a->huge_chunks, 1);
			if (a_cas_strong_rlx(&a->chunks[chunk], &expected, HUGE_BACKED))
				return;
			/* Its pages have gone meanwhile; what it is now was counted by who made it so. */
			a_sub_rlx(&a->huge_chunks, 1);
			(void)os_huge(base, ARENA_CHUNK_BYTES, false);
			chunk_note_untidy(a, chunk);
			return;
		}
		(void)os_huge(base, ARENA_CHUNK_BYTES, false);
	}
	(void)a_cas_strong_rlx(&a->chunks[chunk], &expected, 0);
}

bool huge_round(struct arena *a)
{
	const size_t chunks = arena_frontier(a) / ARENA_CHUNK_GRANULES;
	unsigned budget = HUGE_ROUND_CHUNKS;
	bool is_untidy = false;

	if (a_load_rlx(&a->huge_setting) != HUGE_WANTED)
		return false;
	for (size_t i = 0; i < chunks && budget; i++) {
		const uint8_t count = a_load_rlx(&a->chunks[i]);
		if (count == HUGE_UNTIDY)
			chunk_tidy(a, i);
		if (count != HUGE_REUSES)
			continue;
		if (a_load_rlx(&a->huge_chunks) >= chunks_most() || page_round_ends())
			break;
		chunk_back(a, i);
		is_untidy |= a_load_rlx(&a->chunks[i]) == HUGE_UNTIDY;
		budget--;
	}
	return is_untidy;
}
