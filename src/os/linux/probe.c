/* SPDX-License-Identifier: MIT */
/*
 * Runs the tables of probes, for `allod info`. A probe tries what it is about in mappings of its
 * own, or in a forked process, and leaves nothing behind. Not for the allocation path.
 */
#include "linux/probe.h"

#include "linux/linux.h"
#include "linux/syscall.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { value_bytes = 1024, polls_max = 1000 };

int probe_forked(int (*fn)(void))
{
	struct timespec poll = { 0, 1000000 };
	int status = 0;
	long pid = os_syscall5(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid) {
		int ret = fn();

		os_syscall1(SYS_exit_group, ret < 0 ? -ret : 0);
	}
	if (pid < 0)
		return (int)pid;
	for (int i = 0; i < polls_max; i++) {
		if (os_syscall4(SYS_wait4, pid, (long)&status, WNOHANG, 0) == pid)
			return WIFEXITED(status) ? -WEXITSTATUS(status) : -EFAULT;
		os_syscall2(SYS_nanosleep, (long)&poll, 0);
	}
	os_syscall2(SYS_kill, pid, SIGKILL);
	os_syscall4(SYS_wait4, pid, 0, 0, 0);
	return -ETIME;
}

/* Why a feature is missing, in words where the errno alone would puzzle. */
static void reason(struct format *value, int error)
{
	switch (error) {
	case EPERM:
	case EACCES: format_str(value, "not permitted"); return;
	case ENOSYS: format_str(value, "no such system call"); return;
	case EINVAL:
	case ENOTTY:
	case ENOTSUP: format_str(value, "not supported"); return;
	case ENOENT: format_str(value, "not in this kernel"); return;
	case ENOMEM: format_str(value, "no memory"); return;
	case EAGAIN:
	case EBUSY: format_str(value, "not possible just now"); return;
	case ETIME: format_str(value, "does not answer"); return;
	default: format_str(value, "error "), format_i64(value, error); return;
	}
}

static void run_table(const struct probe *table, const char *group,
	void (*fn)(const struct os_probe *probe, void *arg), void *arg)
{
	for (const struct probe *p = table; p->name; p++) {
		char text[value_bytes];
		struct format value;
		struct os_probe result = { .name = p->name, .group = group };
		int ret;

		format_init(&value, text, sizeof(text));
		ret = p->run(&value);
		if (ret && !text[0])
			reason(&value, -ret);
		result.available = !ret;
		result.value = text;
		result.enables = p->enables;
		result.lost = p->lost;
		fn(&result, arg);
	}
}

void os_probe_each(void (*fn)(const struct os_probe *probe, void *arg), void *arg)
{
	run_table(probes_host, "host", fn, arg);
	run_table(probes_limits, "limits", fn, arg);
	run_table(probes_memory, "features", fn, arg);
	run_table(probes_watch, "features", fn, arg);
	run_table(probes_system, "features", fn, arg);
}
