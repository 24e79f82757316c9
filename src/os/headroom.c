/* SPDX-License-Identifier: MIT */
/*
 * How much memory may still be used before the kernel must kill: that of the nearest limit of the
 * control groups, and of the machine. Part of both implementations, for files are read by
 * os_file_read(). Stateless.
 *
 * What the kernel can take at once counts as not used: pages of files that nobody uses just now,
 * and anonymous pages that were given up lazily (os_lazyfree()). The kernel counts both among the
 * inactive pages of files. But it counts a page there still after it was written to again, until it
 * comes across it; so no more is believed than pages of files and what the caller knows of its own.
 */
#include "group.h"
#include "number.h"
#include "os/os.h"

#include <string.h>

enum {
	path_bytes = 640,
	number_bytes = 64,
	stat_bytes = 4096,
	/* Of the machine's memory: below this part of it, its own headroom is not asked for. */
	ram_part = 8,
};

enum group_file { FILE_MAX, FILE_HIGH, FILE_USED, FILE_STAT, FILES };

/* The files of one level of the group; from descriptors if there are any. */
struct level {
	const struct os_group *group;
	const int *kept;
};

static const char *file_name(const struct os_group *group, enum group_file file)
{
	switch (file) {
	case FILE_MAX: return group->layout->max;
	case FILE_HIGH: return group->layout->high;
	case FILE_USED: return group->layout->used;
	default: return "memory.stat";
	}
}

static bool text_read(const struct level *l, enum group_file file, char *buf, size_t cap)
{
	if (l->kept)
		return l->kept[file] >= 0 && os_file_reread(l->kept[file], buf, cap) > 0;
	return os_group_read(l->group, file_name(l->group, file), buf, cap) > 0;
}

static uint64_t number_read(const struct level *l, enum group_file file)
{
	char text[number_bytes];

	return text_read(l, file, text, sizeof(text)) ? number_parse(text, OS_UNLIMITED)
						      : OS_UNLIMITED;
}

static uint64_t lesser(uint64_t x, uint64_t y)
{
	return x < y ? x : y;
}

/* The number behind a key at the beginning of a line; 0 if there is none. */
static uint64_t field(const char *text, const char *key, const char *between)
{
	size_t bytes = strlen(key);

	for (const char *at = text; (at = strstr(at, key)); at += bytes) {
		if ((at == text || at[-1] == '\n') && strchr(between, at[bytes]) && at[bytes]) {
			at += bytes;
			return number_parse(at + strspn(at, between), 0);
		}
	}
	return 0;
}

/* What the kernel could take of this group at once. */
static uint64_t takeable(const struct level *l, uint64_t own_cold)
{
	const struct os_group_layout *layout = l->group->layout;
	char text[stat_bytes];
	uint64_t inactive;
	uint64_t file;
	uint64_t shmem;

	if (!text_read(l, FILE_STAT, text, sizeof(text)))
		return 0;
	inactive = field(text, layout->inactive_file, " ");
	file = field(text, layout->file, " ");
	shmem = field(text, layout->shmem, " ");
	return lesser(inactive, (file > shmem ? file - shmem : 0) + own_cold);
}

/* The soft limit of version 1 is none: nobody is slowed by it. */
static uint64_t limit_of(const struct level *l)
{
	uint64_t limit = number_read(l, FILE_MAX);

	if (l->group->layout->version == 2)
		limit = lesser(limit, number_read(l, FILE_HIGH));
	return limit;
}

static void level_read(const struct level *l, uint64_t own_cold, uint64_t enough,
	struct os_headroom *ret)
{
	uint64_t limit = limit_of(l);
	uint64_t used;
	uint64_t room;

	if (limit >= OS_GROUP_NO_LIMIT)
		return;
	used = number_read(l, FILE_USED);
	if (used == OS_UNLIMITED)
		return;
	room = limit > used ? limit - used : 0;
	if (room < enough)
		room += lesser(takeable(l, own_cold), lesser(used, limit));
	if (room >= ret->bytes)
		return;
	*ret = (struct os_headroom){ .bytes = room, .limit_bytes = limit, .by_group = true };
}

/* MemAvailable counts what the kernel can take. */
static void machine_read(const struct os_headroom_files *files, struct os_headroom *ret)
{
	char text[stat_bytes / 2];
	uint64_t kib;
	ssize_t got = files ? os_file_reread(files->machine, text, sizeof(text))
			    : os_file_read("/proc/meminfo", text, sizeof(text));

	if (got <= 0)
		return;
	kib = field(text, "MemAvailable:", " ");
	if (kib && kib * 1024 < ret->bytes)
		*ret = (struct os_headroom){ kib * 1024, os_facts()->ram_bytes, false };
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=1311", and the same for "full". */
static uint64_t stall_total(const char *text, const char *kind)
{
	const char *line = strstr(text, kind);
	const char *total = line ? strstr(line, "total=") : NULL;

	return total ? number_parse(total + strlen("total="), 0) : 0;
}

static uint64_t larger(uint64_t x, uint64_t y)
{
	return x > y ? x : y;
}

void os_stalls_read(const struct os_headroom_files *files, struct os_stalls *ret_stalls)
{
	char text[stat_bytes / 8];

	*ret_stalls = (struct os_stalls){ 0, 0 };
	for (int i = 0; i < 2; i++) {
		if (files->stalls[i] < 0 ||
			os_file_reread(files->stalls[i], text, sizeof(text)) <= 0)
			continue;
		ret_stalls->some_us = larger(ret_stalls->some_us, stall_total(text, "some"));
		ret_stalls->full_us = larger(ret_stalls->full_us, stall_total(text, "full"));
	}
}

void os_headroom_open(struct os_headroom_files *ret_files)
{
	char path[path_bytes];

	ret_files->levels = 0;
	ret_files->machine = os_file_open("/proc/meminfo");
	ret_files->stalls[0] = os_group_stall_path(path, sizeof(path)) ? os_file_open(path) : -1;
	ret_files->stalls[1] = os_file_open("/proc/pressure/memory");
	if (!os_group_find(&ret_files->group))
		return;
	struct os_group group = ret_files->group;
	do {
		int *fds = ret_files->fds[ret_files->levels++];
		for (int file = 0; file < FILES; file++)
			fds[file] = os_group_path(&group, file_name(&group, (enum group_file)file),
					    path, sizeof(path))
				? os_file_open(path)
				: -1;
	} while (ret_files->levels < OS_HEADROOM_LEVELS && os_group_up(&group));
}

void os_headroom_read(const struct os_headroom_files *files, uint64_t own_cold_bytes,
	uint64_t enough_bytes, struct os_headroom *ret_headroom)
{
	struct os_group group;

	*ret_headroom = (struct os_headroom){ OS_UNLIMITED, OS_UNLIMITED, false };
	if (files) {
		for (unsigned i = 0; i < files->levels; i++)
			level_read(&(struct level){ &files->group, files->fds[i] }, own_cold_bytes,
				enough_bytes, ret_headroom);
	} else if (os_group_find(&group)) {
		do
			level_read(&(struct level){ &group, NULL }, own_cold_bytes, enough_bytes,
				ret_headroom);
		while (os_group_up(&group));
	}
	if (enough_bytes >= os_facts()->ram_bytes / ram_part)
		machine_read(files, ret_headroom);
}
