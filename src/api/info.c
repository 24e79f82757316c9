/* SPDX-License-Identifier: MIT */
/*
 * The two reports: malloc_info() as XML on a stream, malloc_stats() as lines on standard error.
 * The XML has glibc's elements, so that what reads glibc's reads ours; malloc_info() is the one
 * place of the library that uses stdio, since its interface does.
 */
#include <inttypes.h>

#include "base/format.h"
#include "face.h"
#include "heap/heap.h"
#include "inspect.h"
#include "libc.h"
#include "os/os.h"

/* More than there are size classes. */
#define CLASS_ROWS 160

static void print_count(FILE *stream, const char *type, size_t count, size_t bytes)
{
	fprintf(stream, "<total type=\"%s\" count=\"%zu\" size=\"%zu\"/>\n", type, count, bytes);
}

static void print_size(FILE *stream, const char *element, const char *type, size_t bytes)
{
	fprintf(stream, "<%s type=\"%s\" size=\"%zu\"/>\n", element, type, bytes);
}

/* The free blocks by size; a class holds every size above that of the class before it. */
static void print_sizes(FILE *stream)
{
	struct heap_class_stats rows[CLASS_ROWS];
	size_t count = heap_class_stats_read(rows, CLASS_ROWS);
	size_t below = 0;

	if (count > CLASS_ROWS)
		count = CLASS_ROWS;
	fprintf(stream, "<sizes>\n");
	for (size_t i = 0; i < count; i++) {
		uint64_t bytes = rows[i].block_bytes * rows[i].free_blocks;

		if (rows[i].free_blocks != 0)
			fprintf(stream,
				"  <size from=\"%zu\" to=\"%zu\" total=\"%" PRIu64
				"\" count=\"%" PRIu64 "\"/>\n",
				below + 1, rows[i].block_bytes, bytes, rows[i].free_blocks);
		if (rows[i].block_bytes != 0)
			below = rows[i].block_bytes;
	}
	fprintf(stream, "</sizes>\n");
}

static void print_system(FILE *stream, size_t now_bytes, size_t peak_bytes)
{
	print_size(stream, "system", "current", now_bytes);
	print_size(stream, "system", "max", peak_bytes > now_bytes ? peak_bytes : now_bytes);
	print_size(stream, "aspace", "total", now_bytes);
	print_size(stream, "aspace", "mprotect", now_bytes);
}

FACE_EXPORT int FACE(malloc_info)(int info_options, FILE *stream)
{
	struct face_totals t;

	if (face_is_delegated())
		return face_libc()->info(info_options, stream);
	if (info_options != 0) {
		errno = EINVAL;
		return EINVAL;
	}
	face_totals_read(&t);
	fprintf(stream, "<malloc version=\"1\">\n<heap nr=\"0\">\n");
	print_sizes(stream);
	print_count(stream, "fast", 0, 0);
	print_count(stream, "rest", t.free_blocks, t.free_bytes);
	print_system(stream, t.arena_bytes, t.peak_bytes);
	fprintf(stream, "</heap>\n");
	print_count(stream, "fast", 0, 0);
	print_count(stream, "rest", t.free_blocks, t.free_bytes);
	print_count(stream, "mmap", t.large_blocks, t.large_bytes);
	print_system(stream, t.arena_bytes, t.peak_bytes);
	fprintf(stream, "</malloc>\n");
	if (ferror(stream)) {
		errno = EIO;
		return EIO;
	}
	return 0;
}

static void write_stderr(void *context, const char *text, size_t len)
{
	(void)context;
	os_write(2, text, len);
}

static void format_row(struct format *f, const char *name, size_t count, size_t bytes)
{
	format_str(f, "  ");
	format_str(f, name);
	format_pad(f, 16);
	format_u64_width(f, count, 12);
	format_str(f, " blocks ");
	format_u64_width(f, bytes, 16);
	format_str(f, " bytes\n");
}

static void format_total(struct format *f, const char *name, size_t bytes)
{
	format_str(f, "  ");
	format_str(f, name);
	format_pad(f, 36);
	format_u64_width(f, bytes, 16);
	format_str(f, " bytes\n");
}

FACE_EXPORT void FACE(malloc_stats)(void)
{
	struct face_totals t;
	struct format f;
	char buf[512];

	if (face_is_delegated()) {
		face_libc()->stats();
		return;
	}
	face_totals_read(&t);
	format_init_flush(&f, buf, sizeof(buf), write_stderr, NULL);
	format_str(&f, "allod " ALLOD_VERSION " heap\n");
	format_row(&f, "in use", t.used_blocks, t.used_bytes);
	format_row(&f, "in use, large", t.large_blocks, t.large_bytes);
	format_row(&f, "free", t.free_blocks, t.free_bytes);
	format_total(&f, "of it a trim can give back", t.cached_bytes);
	format_total(&f, "committed", t.arena_bytes + t.large_bytes);
	format_total(&f, "most in use by runs so far", t.peak_bytes);
	format_end(&f);
}
