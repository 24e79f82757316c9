/* SPDX-License-Identifier: MIT */
/*
 * What elements contain when they are given out, and which pages of which processors have memory.
 * For the percpu layer only. The caller holds the pool's lock unless the call says otherwise.
 */
#pragma once

#include "percpu/percpu.h"

/* Content to give an element: `len` bytes, the rest zero. */
struct content {
	const void *bytes;
	size_t len;
};

/* A file chunk's window and overlay, in an arena or in a mapping of its own. */
void percpu_content_attach(struct percpu_chunk *chunk);
int percpu_content_map_own(struct percpu_chunk *chunk, size_t bytes);
void percpu_content_unmap_own(struct percpu_chunk *chunk);

/* The initial content at a place of the chunk, or NULL: it is zero, or not ours to look at. */
uint8_t *percpu_content_image(const struct percpu_chunk *chunk, uint32_t bit);
/* A file chunk of the parent's, whose pages the parent may still write. */
bool percpu_content_is_frozen(const struct percpu_chunk *chunk);

/*
 * Gives free elements, which nobody can be using, this content on every processor, and none a page
 * that has none, unless there is no other way. 0, or -ENOMEM with the content undefined.
 */
int percpu_content_put(struct percpu_chunk *chunk, uint32_t start, uint32_t bits,
	struct content content);
/* Once, at the start. */
int percpu_content_start(void);
/* Whether no forked child can be reading what this process wrote long ago. */
bool percpu_content_is_alone(void);
/* Zeroes free elements of one pool and size, in granules. */
int percpu_content_zero_many(const uintptr_t *elements, uint32_t count, uint32_t size);

/* Fills a free element with the pool's poison where it has memory, or looks whether it still is. */
void percpu_content_poison(struct percpu_chunk *chunk, uint32_t start, uint32_t bits);
bool percpu_content_is_poison(struct percpu_chunk *chunk, uint32_t start, uint32_t bits);

/* A processor that becomes active gets what the overlay has. */
int percpu_content_activate(struct percpu_chunk *chunk, unsigned cpu);

/* Gives back the memory of blocks that are free, on every active processor. Returns the bytes. */
size_t percpu_content_shrink(struct allod_percpu_pool *pool);
/* The same for a chunk that goes away; false: its addresses must not be used again yet. */
bool percpu_content_revert(struct percpu_chunk *chunk);
/* Forgets what classes of contents know of a chunk. */
void percpu_content_forget(struct percpu_chunk *chunk);
size_t percpu_content_known_bytes(const struct percpu_chunk *chunk);

/* An element's overlay ends with it; so does its place among the elements of its class. */
void percpu_content_freed(struct percpu_chunk *chunk, uint32_t start);

/*
 * The processors whose memory a pool's elements have: calls with each index in turn, and with its row
 * of `known`. Those that are not active have none (NOWHERE); they are walked if something was written
 * to all.
 */
struct cpu_walk {
	uint32_t at;
	uint32_t inactive;
};

bool percpu_cpu_walk_next(struct cpu_walk *walk, const struct allod_percpu_pool *pool,
	unsigned *ret_cpu, uint32_t *ret_row);
