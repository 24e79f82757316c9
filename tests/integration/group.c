/* SPDX-License-Identifier: MIT */
/* See group.h. */
#include "group.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool group_put(const char *path, const char *file, const char *text)
{
	char name[GROUP_PATH_BYTES + 64];
	int fd;
	bool done;

	snprintf(name, sizeof(name), "%s/%s", path, file);
	fd = open(name, O_WRONLY);
	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done;
}

bool group_make(char ret_path[GROUP_PATH_BYTES], const char *name, const char *limit)
{
	static const char *const roots[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };
	static const char *const limits[] = { "memory.limit_in_bytes", "memory.max" };

	for (int i = 0; i < 2; i++) {
		snprintf(ret_path, GROUP_PATH_BYTES, "%s/%s-%d", roots[i], name, getpid());
		if (mkdir(ret_path, 0755) != 0)
			continue;
		if (group_put(ret_path, limits[i], limit))
			return true;
		rmdir(ret_path);
	}
	return false;
}

bool group_enter(const char *path)
{
	char self[16];

	snprintf(self, sizeof(self), "%d", getpid());
	return group_put(path, "cgroup.procs", self);
}

void group_remove(const char *path)
{
	const struct timespec time = { 0, 20000000 };

	for (int i = 0; rmdir(path) != 0 && errno == EBUSY && i < 100; i++)
		nanosleep(&time, NULL);
}
