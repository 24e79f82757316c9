/* SPDX-License-Identifier: MIT */
/*
 * The memory limits of this process's control group. Files are read by os_file_read(), so this is
 * part of both implementations. Stateless; for `allod info`, and for headroom.c.
 *
 * A limit of any ancestor holds as well, so the walk goes up to the root of what can be seen. In a
 * container that sees only its own subtree, the path in /proc/self/cgroup may lead outside of it:
 * then the root stands for the group.
 */
#include "base/format.h"
#include "group.h"
#include "number.h"
#include "os/os.h"

#include <errno.h>
#include <string.h>

enum { path_bytes = 640, cgroup_file_bytes = 4096, levels_max = 64 };

static const struct os_group_layout layouts[] = {
	{ 2, "/sys/fs/cgroup", "memory.max", "memory.high", "memory.current", "inactive_file",
		"file", "shmem" },
	{ 2, "/sys/fs/cgroup/unified", "memory.max", "memory.high", "memory.current",
		"inactive_file", "file", "shmem" },
	{ 1, "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.soft_limit_in_bytes",
		"memory.usage_in_bytes", "total_inactive_file", "total_cache", "total_shmem" },
};

bool os_group_path(const struct os_group *group, const char *file, char *buf, size_t cap)
{
	struct format f;

	format_init(&f, buf, cap);
	format_str(&f, group->layout->root);
	format_str(&f, group->path);
	format_char(&f, '/');
	format_str(&f, file);
	return !f.truncated;
}

ssize_t os_group_read(const struct os_group *group, const char *file, char *buf, size_t cap)
{
	char path[path_bytes];

	return os_group_path(group, file, path, sizeof(path)) ? os_file_read(path, buf, cap)
							      : -ENAMETOOLONG;
}

static uint64_t number_at(const struct os_group *group, const char *file)
{
	char text[64];

	if (os_group_read(group, file, text, sizeof(text)) <= 0)
		return OS_UNLIMITED;
	return number_parse(text, OS_UNLIMITED);
}

static uint64_t smaller(uint64_t limit, uint64_t other)
{
	return other < limit && other < OS_GROUP_NO_LIMIT ? other : limit;
}

bool os_group_up(struct os_group *group)
{
	char *slash = strrchr(group->path, '/');

	if (!slash)
		return false;
	*slash = '\0';
	return true;
}

/* The group of a version in the text of /proc/self/cgroup ("0::/a/b", "5:memory:/a/b"). */
static bool path_find(const char *text, int version, char *ret_path, size_t cap)
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
	memcpy(ret_path, at, bytes);
	ret_path[bytes] = '\0';
	if (!strcmp(ret_path, "/"))
		ret_path[0] = '\0';
	return true;
}

/* Whether version 2, if it is mounted, accounts memory; version 1 shows it by its files. */
static bool accounts_memory(const struct os_group_layout *layout)
{
	const struct os_group root = { layout, "" };
	char text[512];

	if (layout->version == 1)
		return true;
	return os_group_read(&root, "cgroup.controllers", text, sizeof(text)) > 0 &&
		strstr(text, "memory");
}

/*
 * Goes up to where usage can be read: in a container that sees only its own subtree, the path may
 * lead outside of it. The root group of version 2 has no such file.
 */
static bool settle(struct os_group *group)
{
	while (number_at(group, group->layout->used) == OS_UNLIMITED)
		if (!os_group_up(group))
			return group->layout->version == 2;
	return true;
}

bool os_group_find(struct os_group *ret_group)
{
	char text[cgroup_file_bytes];

	if (os_file_read("/proc/self/cgroup", text, sizeof(text)) <= 0)
		return false;
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		ret_group->layout = &layouts[i];
		if (path_find(text, layouts[i].version, ret_group->path, sizeof(ret_group->path)) &&
			accounts_memory(&layouts[i]) && settle(ret_group))
			return true;
	}
	return false;
}

bool os_group_stall_path(char *buf, size_t cap)
{
	char text[cgroup_file_bytes];
	struct os_group group;

	if (os_file_read("/proc/self/cgroup", text, sizeof(text)) <= 0 ||
		!path_find(text, 2, group.path, sizeof(group.path)))
		return false;
	for (size_t i = 0; layouts[i].version == 2; i++) {
		group.layout = &layouts[i];
		if (os_group_read(&group, "memory.pressure", text, sizeof(text)) > 0)
			return os_group_path(&group, "memory.pressure", buf, cap);
	}
	return false;
}

void os_group_limits_read(struct os_group_limits *ret_limits)
{
	struct os_group_limits *l = ret_limits;
	struct os_group group;

	memset(l, 0, sizeof(*l));
	l->max_bytes = OS_UNLIMITED;
	l->high_bytes = OS_UNLIMITED;
	if (!os_group_find(&group))
		return;
	l->version = group.layout->version;
	l->used_bytes = number_at(&group, group.layout->used);
	if (l->used_bytes == OS_UNLIMITED)
		l->used_bytes = 0;
	(void)os_group_path(&group, "", l->directory, sizeof(l->directory));
	l->directory[strlen(l->directory) - 1] = '\0';
	for (int level = 0; level < levels_max; level++) {
		l->max_bytes = smaller(l->max_bytes, number_at(&group, group.layout->max));
		l->high_bytes = smaller(l->high_bytes, number_at(&group, group.layout->high));
		if (!os_group_up(&group))
			break;
	}
}
