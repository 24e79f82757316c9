/* SPDX-License-Identifier: MIT */
/* Seccomp, as the calling thread is under it. For src/os/linux only. */
#pragma once

#include <stdbool.h>

struct seccomp_status {
	int mode;    /* 0: none; 2: filters; -1: cannot be told */
	int filters; /* how many; -1 before Linux 5.9 */
};

struct seccomp_status os_linux_seccomp_read(void);

/*
 * Whether the calling thread may be under filters that the process was not under at its start. Some
 * 20 µs. Before any system call that is not among those named in docs/guide/processes.md.
 */
bool os_linux_sandboxed(void);
