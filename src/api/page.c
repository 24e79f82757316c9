/* SPDX-License-Identifier: MIT */
/* The calls of include/allod/page.h: arguments are checked here, and errno is set; block does the
 * work. */
#include "allod/page.h"

#include <string.h>

#include "block/block.h"
#include "face.h"
#include "heap/heap.h"
#include "page/page.h"

#define BLOCK_FLAGS                                                                               \
	(ALLOD_PAGE_ZEROED | ALLOD_PAGE_NO_COMMIT | ALLOD_PAGE_CONSTANT_TIME | ALLOD_PAGE_FIXED | \
		ALLOD_PAGE_SWAPPABLE | ALLOD_PAGE_NODE)
#define REALLOC_FLAGS \
	(ALLOD_PAGE_ZEROED | ALLOD_PAGE_IN_PLACE | ALLOD_PAGE_NO_COPY | ALLOD_PAGE_CONSTANT_TIME)

enum { TAG_MOST = 31 };

/* Whoever asks for less does not want to know. */
#define STATS_LEAST (offsetof(struct allod_page_stats, bytes) + sizeof(size_t))

/* What the first version of the structure has; later ones are longer. */
#define OPTIONS_LEAST sizeof(struct allod_page_options)

static bool options_are_valid(const struct allod_page_options *o)
{
	return o->struct_bytes >= OPTIONS_LEAST && !(o->flags & ~(unsigned)BLOCK_FLAGS) &&
		(!o->align_bytes || face_is_power_of_two(o->align_bytes)) &&
		(!o->tag || strnlen(o->tag, TAG_MOST + 1) <= TAG_MOST) &&
		(!(o->flags & ALLOD_PAGE_NODE) || block_node_exists(o->node));
}

static struct block_want want_of(const struct allod_page_options *o)
{
	return (struct block_want){
		.flags = o->flags,
		.node = o->node,
		.align_bytes = o->align_bytes,
		.reserve_bytes = o->reserve_bytes,
		.tag = o->tag && *o->tag ? o->tag : NULL,
	};
}

static void *alloc(size_t bytes, const struct block_want *want)
{
	void *block;
	int ret;

	if (!bytes)
		return face_fail(EINVAL);
	ret = heap_init();
	if (!ret)
		ret = block_alloc(bytes, want, &block);
	return ret ? face_fail(-ret) : block;
}

FACE_EXPORT void *allod_page_alloc(size_t bytes, const struct allod_page_options *options)
{
	static const struct block_want plain;
	struct block_want want;

	if (!options)
		return alloc(bytes, &plain);
	if (!options_are_valid(options))
		return face_fail(EINVAL);
	want = want_of(options);
	return alloc(bytes, &want);
}

FACE_EXPORT void allod_page_free(void *block)
{
	if (block)
		block_free(block);
}

FACE_EXPORT void *allod_page_realloc(void *block, size_t bytes, unsigned flags)
{
	void *new;
	int ret;

	if (!bytes || flags & ~(unsigned)REALLOC_FLAGS)
		return face_fail(EINVAL);
	if (!block) {
		const struct block_want want = {
			.flags = flags & (ALLOD_PAGE_ZEROED | ALLOD_PAGE_CONSTANT_TIME),
		};
		return alloc(bytes, &want);
	}
	ret = block_resize(block, bytes, flags, &new);
	return ret ? face_fail(-ret) : new;
}

FACE_EXPORT int allod_page_commit(void *address, size_t bytes)
{
	return block_commit(address, bytes);
}

FACE_EXPORT int allod_page_release(void *address, size_t bytes)
{
	return block_release(address, bytes);
}

FACE_EXPORT size_t allod_page_size(const void *block)
{
	struct block found;

	if (!block)
		return 0;
	block_must_find(block, &found);
	return found.bytes;
}

FACE_EXPORT size_t allod_page_room(const void *block)
{
	struct block found;

	if (!block)
		return 0;
	block_must_find(block, &found);
	return block_room(&found);
}

FACE_EXPORT int allod_page_stats(struct allod_page_stats *stats)
{
	const size_t bytes = stats->struct_bytes;
	struct allod_page_stats all;
	struct block_stats block;
	struct page_stats page;

	if (bytes < STATS_LEAST)
		return -EINVAL;
	block_stats_read(&block);
	page_stats(&page);
	all = (struct allod_page_stats){
		.struct_bytes = bytes,
		.slot_blocks = block.blocks[BLOCK_SLOT],
		.slot_bytes = block.bytes[BLOCK_SLOT],
		.mapped_blocks = block.blocks[BLOCK_LOOSE],
		.mapped_bytes = block.bytes[BLOCK_LOOSE],
		.waiting_bytes = block.waiting_bytes,
		.free_bytes = page.dirty_bytes,
		.cold_bytes = page.cold_bytes,
		.returned_bytes = page.purged_bytes,
		.reserved_bytes = page.reserved_bytes,
		.committed_bytes = page.committed_bytes - page.direct_bytes,
		.composed_blocks = page.composed_runs,
		.composed_bytes = page.composed_bytes,
	};
	for (int kind = 0; kind <= BLOCK_LOOSE; kind++) {
		all.blocks += block.blocks[kind];
		all.bytes += block.bytes[kind];
	}
	memcpy(stats, &all, bytes < sizeof(all) ? bytes : sizeof(all));
	return 0;
}

FACE_EXPORT int allod_page_swap(void *a, void *b, unsigned flags)
{
	if (a == b || flags & ~(unsigned)ALLOD_PAGE_NO_COPY)
		return -EINVAL;
	return block_swap(a, b, flags);
}
