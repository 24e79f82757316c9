/* SPDX-License-Identifier: MIT */
/*
 * The memory limits of this process's control group. Files are read by os_file_read(), so this is
 * part of both implementations. Stateless; for `allod info` and the background task, not for the
 * allocation path.
 *
 * A limit of any ancestor holds as well, so the walk goes up to the root of what can be seen. In a
 * container that sees only its own subtree, the path in /proc/self/cgroup may lead outside of it:
 * then the root stands for the group.
 */
#include "base/format.h"
#include "number.h"
#include "os/os.h"

#include <string.h>

enum { path_bytes = 640, cgroup_file_bytes = 4096, levels_max = 64 };

/* Where each version keeps what; version 2 may also be mounted beside version 1. */
struct layout {
	int version;
	const char *root;
	const char *max;
	const char *high;
	const char *used;
};

static const struct layout layouts[] = {
	{ 2, "/sys/fs/cgroup", "memory.max", "memory.high", "memory.current" },
	{ 2, "/sys/fs/cgroup/unified", "memory.max", "memory.high", "memory.current" },
	{ 1, "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.soft_limit_in_bytes",
		"memory.usage_in_bytes" },
};

/* Version 1 says "no limit" by the largest multiple of a page below 2^63. */
static const uint64_t no_limit_from = (uint64_t)1 << 62;

static uint64_t number_at(const char *root, const char *group, const char *file)
{
	char path[path_bytes];
	char text[64];
	struct format f;

	format_init(&f, path, sizeof(path));
	format_str(&f, root);
	format_str(&f, group);
	format_char(&f, '/');
	format_str(&f, file);
	if (f.truncated || os_file_read(path, text, sizeof(text)) <= 0)
		return OS_UNLIMITED;
	return number_parse(text, OS_UNLIMITED);
}

static uint64_t smaller(uint64_t limit, uint64_t other)
{
	return other < limit && other < no_limit_from ? other : limit;
}

/* Cuts the last component off; false at the root. */
static bool go_up(char *group)
{
	char *slash = strrchr(group, '/');

	if (!slash)
		return false;
	*slash = '\0';
	return true;
}

/* The group of a version in the text of /proc/self/cgroup ("0::/a/b", "5:memory:/a/b"). */
static bool group_find(const char *text, int version, char *ret_group, size_t cap)
{
	const char *key = version == 2 ? "0::/" : ":memory:/";
	const char *at = strstr(text, key);
	size_t bytes;

	if (!at)
		return false;
	at += strlen(key) - 1;
	bytes = strcspn(at, "\n");
	if (bytes >= cap)
		return false;
	memcpy(ret_group, at, bytes);
	ret_group[bytes] = '\0';
	if (!strcmp(ret_group, "/"))
		ret_group[0] = '\0';
	return true;
}

static void directory_set(struct os_group_limits *l, const char *root, const char *group)
{
	struct format f;

	format_init(&f, l->directory, sizeof(l->directory));
	format_str(&f, root);
	format_str(&f, group);
}

/* Whether version 2, if it is mounted, accounts memory; version 1 shows it by its files. */
static bool accounts_memory(const struct layout *layout)
{
	char path[path_bytes];
	char text[512];
	struct format f;

	if (layout->version == 1)
		return true;
	format_init(&f, path, sizeof(path));
	format_str(&f, layout->root);
	format_str(&f, "/cgroup.controllers");
	return os_file_read(path, text, sizeof(text)) > 0 && strstr(text, "memory");
}

/* False: the layout is not that of this system. The root group of version 2 has no numbers. */
static bool layout_read(const struct layout *layout, char *group, struct os_group_limits *l)
{
	uint64_t used;

	if (!accounts_memory(layout))
		return false;
	used = number_at(layout->root, group, layout->used);
	while (used == OS_UNLIMITED && go_up(group))
		used = number_at(layout->root, group, layout->used);
	if (used == OS_UNLIMITED && layout->version == 1)
		return false;
	l->version = layout->version;
	l->used_bytes = used == OS_UNLIMITED ? 0 : used;
	directory_set(l, layout->root, group);
	for (int level = 0; level < levels_max; level++) {
		l->max_bytes = smaller(l->max_bytes, number_at(layout->root, group, layout->max));
		l->high_bytes =
			smaller(l->high_bytes, number_at(layout->root, group, layout->high));
		if (!go_up(group))
			break;
	}
	return true;
}

void os_group_limits_read(struct os_group_limits *ret_limits)
{
	char text[cgroup_file_bytes];
	char group[sizeof(ret_limits->directory)];

	memset(ret_limits, 0, sizeof(*ret_limits));
	ret_limits->max_bytes = OS_UNLIMITED;
	ret_limits->high_bytes = OS_UNLIMITED;
	if (os_file_read("/proc/self/cgroup", text, sizeof(text)) <= 0)
		return;
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		if (!group_find(text, layouts[i].version, group, sizeof(group)))
			continue;
		if (layout_read(&layouts[i], group, ret_limits))
			return;
	}
}
