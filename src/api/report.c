/* SPDX-License-Identifier: MIT */
/*
 * The reports of process.c. Written with the formatter alone, so nothing is allocated; each is
 * handed over in as few writes as its buffer allows, since other processes may write to the same
 * file.
 */
#include "report.h"

#include "base/format.h"
#include "base/json.h"
#include "base/options.h"
#include "face.h"
#include "heap/heap.h"
#include "os/os.h"
#include "page/page.h"

/* Holds a report with all size classes; more than a pipe takes in one piece would be no use. */
#define REPORT_BYTES 4096
/* More than there are size classes. */
#define CLASS_ROWS 160
#define NAME_BYTES 32

struct report {
	struct format format;
	char buf[REPORT_BYTES];
	char name[NAME_BYTES]; /* of the program */
	struct heap_stats heap;
	struct page_stats page;
};

static void write_out(void *context, const char *text, size_t len)
{
	os_write(*(const int *)context, text, len);
}

/* The name under which the kernel knows the program: 15 characters of it. */
static void read_name(char ret_name[static NAME_BYTES])
{
	ssize_t len = os_file_read("/proc/self/comm", ret_name, NAME_BYTES - 1);

	while (len > 0 && ret_name[len - 1] == '\n')
		len--;
	ret_name[len > 0 ? len : 0] = '\0';
}

void report_options(void)
{
	struct format format;
	char buf[1024];
	int fd = 2;

	format_init_flush(&format, buf, sizeof(buf), write_out, &fd);
	options_print(&options, &format);
	format_end(&format);
}

/* One line of the text: an amount of memory, and how many blocks make it up. */
static void text_row(struct format *f, const char *name, uint64_t bytes, uint64_t blocks)
{
	format_str(f, "  ");
	format_str(f, name);
	format_pad(f, 26);
	format_bytes(f, bytes);
	if (blocks != 0) {
		format_pad(f, 40);
		format_u64(f, blocks);
		format_str(f, " blocks");
	}
	format_char(f, '\n');
}

static void text_report(struct report *r)
{
	struct format *f = &r->format;

	format_str(f, "allod " ALLOD_VERSION ": statistics of process ");
	format_u64(f, (uint64_t)os_pid());
	format_str(f, " (");
	format_str(f, r->name);
	if (!options.enabled) {
		format_str(f, "): served by libc, enabled:false\n");
		return;
	}
	format_str(f, ")\n");
	text_row(f, "in use at the end", r->heap.used_bytes, r->heap.used_blocks);
	text_row(f, "of it in large blocks", r->heap.large_bytes, r->heap.large_blocks);
	text_row(f, "free in slabs", r->heap.free_bytes, r->heap.free_blocks);
	text_row(f, "slabs", r->heap.slab_bytes, 0);
	text_row(f, "runs at the peak", r->page.used_peak_bytes, 0);
	text_row(f, "free, not given back", r->page.dirty_bytes, 0);
	text_row(f, "given back so far", r->page.purged_bytes, 0);
	text_row(f, "committed", r->page.committed_bytes, 0);
	format_str(f, "  heaps of threads");
	format_pad(f, 26);
	format_u64(f, r->heap.heaps);
	format_str(f, ", active ");
	format_u64(f, r->heap.heaps_active);
	format_char(f, '\n');
}

static void member_u64(struct json *j, const char *key, uint64_t value)
{
	json_key(j, key);
	json_u64(j, value);
}

static void json_classes(struct json *j)
{
	struct heap_class_stats rows[CLASS_ROWS];
	size_t count = heap_class_stats_read(rows, CLASS_ROWS);

	json_key(j, "classes");
	json_array_begin(j);
	for (size_t i = 0; i < count && i < CLASS_ROWS; i++) {
		if (rows[i].slabs == 0)
			continue;
		json_object_begin(j);
		member_u64(j, "block_bytes", rows[i].block_bytes);
		member_u64(j, "slabs", rows[i].slabs);
		member_u64(j, "used_blocks", rows[i].used_blocks);
		member_u64(j, "free_blocks", rows[i].free_blocks);
		json_object_end(j);
	}
	json_array_end(j);
}

static void json_heap(struct json *j, const struct heap_stats *s)
{
	json_key(j, "heap");
	json_object_begin(j);
	member_u64(j, "used_bytes", s->used_bytes);
	member_u64(j, "used_blocks", s->used_blocks);
	member_u64(j, "free_bytes", s->free_bytes);
	member_u64(j, "free_blocks", s->free_blocks);
	member_u64(j, "large_bytes", s->large_bytes);
	member_u64(j, "large_blocks", s->large_blocks);
	member_u64(j, "slabs", s->slabs);
	member_u64(j, "slab_bytes", s->slab_bytes);
	member_u64(j, "heaps", s->heaps);
	member_u64(j, "heaps_active", s->heaps_active);
	json_classes(j);
	json_object_end(j);
}

static void json_page(struct json *j, const struct page_stats *s)
{
	json_key(j, "page");
	json_object_begin(j);
	member_u64(j, "arena_bytes", s->arena_bytes);
	member_u64(j, "committed_bytes", s->committed_bytes);
	member_u64(j, "metadata_bytes", s->metadata_bytes);
	member_u64(j, "used_bytes", s->used_bytes);
	member_u64(j, "used_peak_bytes", s->used_peak_bytes);
	member_u64(j, "dirty_bytes", s->dirty_bytes);
	member_u64(j, "purged_bytes", s->purged_bytes);
	member_u64(j, "direct_bytes", s->direct_bytes);
	member_u64(j, "direct_runs", s->direct_runs);
	member_u64(j, "composed_bytes", s->composed_bytes);
	member_u64(j, "composed_runs", s->composed_runs);
	json_object_end(j);
}

static void json_report(struct report *r)
{
	struct json j;

	json_init(&j, &r->format);
	json_object_begin(&j);
	json_key(&j, "schema");
	json_str(&j, "allod.stats/1");
	json_key(&j, "version");
	json_str(&j, ALLOD_VERSION);
	member_u64(&j, "pid", (uint64_t)os_pid());
	json_key(&j, "program");
	json_str(&j, r->name);
	json_key(&j, "enabled");
	json_bool(&j, options.enabled);
	if (options.enabled) {
		json_heap(&j, &r->heap);
		json_page(&j, &r->page);
	}
	json_object_end(&j);
	json_end(&j);
}

void report_stats(void)
{
	int fd = (int)options.stats_fd;
	struct report r;

	if (options.stats == OPTION_STATS_OFF)
		return;
	read_name(r.name);
	if (options.enabled) {
		heap_stats_read(&r.heap);
		page_stats(&r.page);
	}
	format_init_flush(&r.format, r.buf, sizeof(r.buf), write_out, &fd);
	if (options.stats == OPTION_STATS_JSON)
		json_report(&r);
	else
		text_report(&r);
	format_end(&r.format);
}
