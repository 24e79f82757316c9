/* SPDX-License-Identifier: MIT */
/* The standard names, with liballod-malloc.so preloaded; see park_face.h. */
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "park_face.h"

enum { LEFT_BYTES_MOST = 128 << 10 }; /* what libc keeps: stacks' and streams' own blocks */

static size_t used_at_start;

struct module {
	const char *path;
	uintptr_t base;
};

static int find_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct module *module = arg;
	if (strstr(info->dlpi_name, "liballod-malloc") == NULL)
		return 0;
	*module = (struct module){ info->dlpi_name, info->dlpi_addr };
	return 1;
}

bool face_module(char *ret_path, size_t cap, uintptr_t *ret_base)
{
	struct module module = { NULL, 0 };
	dl_iterate_phdr(find_module, &module);
	if (module.path == NULL)
		return false;
	snprintf(ret_path, cap, "%s", module.path);
	*ret_base = module.base;
	return true;
}

void face_start(void)
{
	used_at_start = mallinfo2().uordblks + mallinfo2().hblkhd;
}

void face_trim(void)
{
	malloc_trim(0);
}

static void info_read(char *text, size_t cap)
{
	FILE *stream = fmemopen(text, cap, "w");
	CHECK(stream != NULL);
	CHECK_EQ(malloc_info(0, stream), 0);
	fclose(stream);
}

void face_stats(void)
{
	char text[16384];
	CHECK(mallinfo2().arena > 0);
	info_read(text, sizeof text);
}

uint64_t face_slab_bytes(void)
{
	char text[16384];
	uint64_t bytes = mallinfo2().uordblks;
	info_read(text, sizeof text);
	const char *end = strstr(text, "</sizes>");
	CHECK(end != NULL);
	for (const char *at = text; (at = strstr(at, "total=\"")) != NULL && at < end; at++)
		bytes += strtoull(at + strlen("total=\""), NULL, 10);
	return bytes;
}

uint32_t face_heap_id(void)
{
	return 0;
}

bool face_kept_is_bounded(const uint32_t *ids, unsigned count)
{
	(void)ids;
	(void)count;
	return true;
}

void face_check_empty(void)
{
	const size_t used = mallinfo2().uordblks + mallinfo2().hblkhd;
	CHECK(used <= used_at_start + LEFT_BYTES_MOST);
}
