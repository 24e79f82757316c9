/* SPDX-License-Identifier: MIT */
/* The control group that accounts this process's memory. For src/os only; see cgroup.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "os/os.h"

/* Where each version keeps what; version 2 may also be mounted beside version 1. */
struct os_group_layout {
	int version;
	const char *root;
	const char *max;
	const char *high;
	const char *used;
	/* In memory.stat, of the group and all below it. */
	const char *inactive_file;
	const char *file;
	const char *shmem;
};

/* False: memory is accounted to no group that can be seen. */
bool os_group_find(struct os_group *ret_group);
/* Goes to the group above; false at the root. */
bool os_group_up(struct os_group *group);
/* The path of one of the group's files; false if there is no room for it. */
bool os_group_path(const struct os_group *group, const char *file, char *buf, size_t cap);
/* The path of the group's memory.pressure, which is in the hierarchy of version 2. */
bool os_group_stall_path(char *buf, size_t cap);
/* As os_file_read(), of one of the group's files. */
ssize_t os_group_read(const struct os_group *group, const char *file, char *buf, size_t cap);

/* Limits of this size and above are none: version 1 has no word for it. */
#define OS_GROUP_NO_LIMIT ((uint64_t)1 << 62)
