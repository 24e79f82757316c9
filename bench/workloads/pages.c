/* SPDX-License-Identifier: MIT */
#include "pages.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "allod/page.h"

/* The library is preloaded: the same program runs without it. */
#pragma weak allod_page_alloc
#pragma weak allod_page_free
#pragma weak allod_page_realloc

static void *page_alloc(size_t bytes, size_t reserve)
{
	struct allod_page_options options = { .struct_bytes = sizeof(options),
		.reserve_bytes = reserve };

	return allod_page_alloc(bytes, reserve > bytes ? &options : NULL);
}

static void *swap_alloc(size_t bytes, size_t reserve)
{
	struct allod_page_options options = { .struct_bytes = sizeof(options),
		.flags = ALLOD_PAGE_SWAPPABLE,
		.reserve_bytes = reserve };

	return allod_page_alloc(bytes, &options);
}

static void page_free(void *block, size_t bytes)
{
	allod_page_free(block);
}

static void *page_resize(void *block, size_t old_bytes, size_t bytes)
{
	return allod_page_realloc(block, bytes, 0);
}

static void *map(size_t bytes, int flags)
{
	void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags,
		-1, 0);

	return block == MAP_FAILED ? NULL : block;
}

static void *map_alloc(size_t bytes, size_t reserve)
{
	return map(bytes, 0);
}

static void *populate_alloc(size_t bytes, size_t reserve)
{
	return map(bytes, MAP_POPULATE);
}

static void *thp_alloc(size_t bytes, size_t reserve)
{
	void *block = map(bytes, 0);

	if (block)
		madvise(block, bytes, MADV_HUGEPAGE);
	return block;
}

static void map_free(void *block, size_t bytes)
{
	munmap(block, bytes);
}

static void *map_resize(void *block, size_t old_bytes, size_t bytes)
{
	block = mremap(block, old_bytes, bytes, MREMAP_MAYMOVE);
	return block == MAP_FAILED ? NULL : block;
}

static void *malloc_alloc(size_t bytes, size_t reserve)
{
	return malloc(bytes);
}

static void malloc_free(void *block, size_t bytes)
{
	free(block);
}

static void *malloc_resize(void *block, size_t old_bytes, size_t bytes)
{
	return realloc(block, bytes);
}

static void *copy_resize(void *block, size_t old_bytes, size_t bytes)
{
	void *other = malloc(bytes);

	if (!other)
		return NULL;
	memcpy(other, block, old_bytes < bytes ? old_bytes : bytes);
	free(block);
	return other;
}

static void *nothing_alloc(size_t bytes, size_t reserve)
{
	static char place[8];

	return place;
}

static void nothing_free(void *block, size_t bytes)
{
}

static const struct page_source sources[] = {
	{ "page", true, page_alloc, page_free, page_resize },
	{ "swap", true, swap_alloc, page_free, page_resize },
	{ "mmap", false, map_alloc, map_free, map_resize },
	{ "populate", false, populate_alloc, map_free, map_resize },
	{ "thp", false, thp_alloc, map_free, map_resize },
	{ "malloc", true, malloc_alloc, malloc_free, malloc_resize },
	{ "copy", true, malloc_alloc, malloc_free, copy_resize },
	{ "nothing", false, nothing_alloc, nothing_free, NULL },
};

const struct page_source *source_named(const char *name)
{
	for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++) {
		if (strcmp(sources[i].name, name) != 0)
			continue;
		if (sources[i].free == page_free && !allod_page_alloc)
			fail("a library with allod_page_alloc() is to be preloaded");
		return &sources[i];
	}
	fail("no such source of blocks");
}

void pages_stamp(void *block, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += PAGE_BYTES)
		*(uint64_t *)((char *)block + i) = i ^ seed;
}

void pages_check(const void *block, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += PAGE_BYTES) {
		if (*(const uint64_t *)((const char *)block + i) != (i ^ seed))
			fail("a page has lost its content");
	}
}

void report_size(const char *prefix, size_t bytes, const char *name, double value, const char *unit)
{
	static const struct {
		size_t bytes;
		char letter;
	} units[] = { { 1u << 30, 'G' }, { 1u << 20, 'M' }, { 1u << 10, 'K' }, { 1, 'B' } };
	char full[64];
	size_t i = 0;

	while (bytes % units[i].bytes != 0)
		i++;
	snprintf(full, sizeof(full), "%s%zu%c/%s", prefix, bytes / units[i].bytes, units[i].letter,
		name);
	report(full, value, unit);
}
