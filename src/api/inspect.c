/* SPDX-License-Identifier: MIT */
/*
 * The calls that look at the heap, or tune it. None is on a hot path. Each first asks whether
 * `enabled:false` has handed everything over, and then passes the question on.
 */
#include <limits.h>
#include <string.h>

#include "base/format.h"
#include "base/options.h"
#include "face.h"
#include "heap/heap.h"
#include "inspect.h"
#include "libc.h"
#include "os/os.h"

bool face_is_delegated(void)
{
	heap_init();
	return !options.enabled;
}

FACE_EXPORT size_t FACE(malloc_usable_size)(void *block)
{
	return heap_usable_size(block);
}

/* Keeping `pad` bytes would serve a heap that grows at its end; free pages here have no end. */
FACE_EXPORT int FACE(malloc_trim)(size_t pad)
{
	if (face_is_delegated())
		return face_libc()->trim(pad);
	return heap_trim() != 0;
}

/* The largest values that glibc takes: 80 words for fast bins, half an arena for mmap. */
#define MXFAST_MAX (80 * sizeof(size_t) / 4)
#define MMAP_THRESHOLD_MAX ((size_t)32 << 20)

/* Programs check the result, so what glibc would take is taken; see allod-malloc(7). */
FACE_EXPORT int FACE(mallopt)(int param, int value)
{
	if (face_is_delegated())
		return face_libc()->mallopt(param, value);
	switch (param) {
	case M_MXFAST: return (size_t)value <= MXFAST_MAX;
	case M_MMAP_THRESHOLD: return (size_t)value <= MMAP_THRESHOLD_MAX;
	case M_TRIM_THRESHOLD:
	case M_TOP_PAD:
	case M_MMAP_MAX:
	case M_CHECK_ACTION:
	case M_PERTURB:
	case M_ARENA_TEST:
	case M_ARENA_MAX: return 1;
	default: return 0;
	}
}
FACE_SECOND_NAME(__libc_mallopt, mallopt);

/* a - b, or 0: the counters are read while other threads change them. */
static size_t difference(size_t a, size_t b)
{
	return a > b ? a - b : 0;
}

void face_totals_read(struct face_totals *ret_totals)
{
	struct heap_stats stats;
	struct face_totals t;

	heap_stats_read(&stats);
	t.used_bytes = difference(stats.used_bytes, stats.large_bytes);
	t.used_blocks = difference(stats.used_blocks, stats.large_blocks);
	t.large_bytes = stats.large_bytes;
	t.large_blocks = stats.large_blocks;
	t.free_blocks = stats.free_blocks;
	t.arena_bytes = difference(stats.committed_bytes, stats.large_bytes);
	if (t.arena_bytes < t.used_bytes + stats.free_bytes)
		t.arena_bytes = t.used_bytes + stats.free_bytes;
	t.free_bytes = t.arena_bytes - t.used_bytes;
	t.cached_bytes = stats.cached_bytes < t.free_bytes ? stats.cached_bytes : t.free_bytes;
	t.peak_bytes = stats.peak_bytes;
	*ret_totals = t;
}

FACE_EXPORT struct mallinfo2 FACE(mallinfo2)(void)
{
	struct face_totals t;

	if (face_is_delegated())
		return face_libc()->mallinfo2();
	face_totals_read(&t);
	return (struct mallinfo2){
		.arena = t.arena_bytes,
		.ordblks = t.free_blocks,
		.hblks = t.large_blocks,
		.hblkhd = t.large_bytes,
		.uordblks = t.used_bytes,
		.fordblks = t.free_bytes,
		.keepcost = t.cached_bytes,
	};
}

static int int_at_most_max(size_t n)
{
	return n > INT_MAX ? INT_MAX : (int)n;
}

/* glibc's wraps around; a ceiling is at least seen to be one. */
FACE_EXPORT struct mallinfo FACE(mallinfo)(void)
{
	struct mallinfo2 wide = FACE(mallinfo2)();

	return (struct mallinfo){
		.arena = int_at_most_max(wide.arena),
		.ordblks = int_at_most_max(wide.ordblks),
		.smblks = int_at_most_max(wide.smblks),
		.hblks = int_at_most_max(wide.hblks),
		.hblkhd = int_at_most_max(wide.hblkhd),
		.usmblks = int_at_most_max(wide.usmblks),
		.fsmblks = int_at_most_max(wide.fsmblks),
		.uordblks = int_at_most_max(wide.uordblks),
		.fordblks = int_at_most_max(wide.fordblks),
		.keepcost = int_at_most_max(wide.keepcost),
	};
}
/* glibc's header deprecates mallinfo(), whose second name is meant here all the same. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
FACE_SECOND_NAME(__libc_mallinfo, mallinfo);
#pragma GCC diagnostic pop
