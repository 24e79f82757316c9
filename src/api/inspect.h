/* SPDX-License-Identifier: MIT */
/* The totals behind mallinfo(), malloc_info() and malloc_stats(), so that the three agree. */
#pragma once

#include <stddef.h>

/* arena_bytes = used_bytes + free_bytes always holds. Large blocks are counted apart. */
struct face_totals {
	size_t arena_bytes;
	size_t used_bytes;
	size_t used_blocks;
	size_t free_bytes;
	size_t free_blocks;
	size_t cached_bytes; /* part of free_bytes that malloc_trim() may give back */
	size_t large_bytes;
	size_t large_blocks;
	size_t peak_bytes;
};

void face_totals_read(struct face_totals *ret_totals);
