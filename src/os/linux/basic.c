/* SPDX-License-Identifier: MIT */
/*
 * Time, identity, text in and out, and the end of the process. Stateless. Called through os/os.h
 * only; the background task and signal handlers call these too, so nothing here touches errno or
 * thread-local storage.
 */
#include "linux/linux.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What the kernel calls a signal set, and its struct sigaction; SIG_DFL is all zeros. */
struct kernel_sigaction {
	unsigned long words[4];
};

uint64_t os_linux_now_ns(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec + 1;
}

uint64_t os_linux_fine_ns(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int os_thread_id(void)
{
	return (int)os_syscall1(SYS_gettid, 0);
}

int os_pid(void)
{
	return (int)os_syscall1(SYS_getpid, 0);
}

void os_linux_write(int fd, const char *text, size_t bytes)
{
	while (bytes) {
		long ret = os_syscall3(SYS_write, fd, (long)text, (long)bytes);

		if (ret == -EINTR)
			continue;
		if (ret <= 0)
			return;
		text += ret;
		bytes -= (size_t)ret;
	}
}

static void abort_once(void)
{
	unsigned long set = 1UL << (SIGABRT - 1);

	os_syscall4(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, sizeof(set));
	os_syscall3(SYS_tgkill, os_pid(), os_thread_id(), SIGABRT);
}

/* As abort() does it, without its lock: the program's handler first, then the default action. */
_Noreturn void os_linux_fatal(const char *line)
{
	struct kernel_sigaction deflt = { { 0 } };

	os_linux_write(STDERR_FILENO, line, strlen(line));
	abort_once();
	for (;;) {
		os_syscall4(SYS_rt_sigaction, SIGABRT, (long)&deflt, 0, sizeof(unsigned long));
		abort_once();
		os_syscall1(SYS_exit_group, 127);
	}
}

const char *os_linux_env(const char *name)
{
	size_t bytes = strlen(name);

	/* Before libc's own start the array is missing; ld.so may allocate that early. */
	for (char **at = environ; at && *at; at++) {
		if (!strncmp(*at, name, bytes) && (*at)[bytes] == '=')
			return *at + bytes + 1;
	}
	return NULL;
}

/* From the descriptor's place on, or from the beginning where it stays. */
static ssize_t read_all(long fd, char *buf, size_t cap, bool from_place)
{
	size_t len = 0;
	long ret = 0;

	while (len + 1 < cap) {
		if (from_place)
			ret = os_syscall3(SYS_read, fd, (long)(buf + len), (long)(cap - 1 - len));
		else
			ret = os_syscall4(SYS_pread64, fd, (long)(buf + len), (long)(cap - 1 - len),
				(long)len);
		if (ret == -EINTR)
			continue;
		if (ret <= 0)
			break;
		len += (size_t)ret;
	}
	if (ret < 0)
		return ret;
	buf[len] = '\0';
	return (ssize_t)len;
}

int os_linux_file_open(const char *path)
{
	return (int)os_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
}

ssize_t os_linux_file_reread(int fd, char *buf, size_t cap)
{
	return read_all(fd, buf, cap, false);
}

ssize_t os_linux_file_read(const char *path, char *buf, size_t cap)
{
	int fd = os_linux_file_open(path);
	ssize_t ret;

	if (fd < 0)
		return fd;
	ret = read_all(fd, buf, cap, true);
	os_syscall1(SYS_close, fd);
	return ret;
}

/* Reads /proc/self/maps, if it can be read, to its end or until `take` wants no more of it. */
static void maps_read(bool (*take)(void *state, const char *text, size_t bytes), void *state)
{
	int fd = os_linux_file_open("/proc/self/maps");
	char buf[4096]; /* the kernel gives no more at once */
	bool more;

	if (fd < 0)
		return;
	do {
		const ssize_t ret = os_syscall3(SYS_read, fd, (long)buf, sizeof(buf));
		more = ret == -EINTR || (ret > 0 && take(state, buf, (size_t)ret));
	} while (more);
	os_syscall1(SYS_close, fd);
}

struct line_count {
	uint64_t lines;
	uint64_t most;
};

static bool count_lines(void *state, const char *text, size_t bytes)
{
	struct line_count *count = state;

	for (size_t i = 0; i < bytes; i++)
		count->lines += text[i] == '\n';
	return count->lines < count->most;
}

uint64_t os_linux_map_count(uint64_t most)
{
	struct line_count count = { 0, most };

	maps_read(count_lines, &count);
	return count.lines;
}

/* What is sought in the lines "BEGIN-END ...", and what is known of the present one. */
struct joint {
	uintptr_t low;
	uintptr_t high;
	uintptr_t begin;
	uintptr_t number; /* being read */
	enum { IN_BEGIN, IN_END, IN_REST } at;
	bool found;
};

static unsigned hex_digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static bool lies_across(uintptr_t begin, uintptr_t end, uintptr_t at)
{
	return begin < at && at < end;
}

static void joint_char(struct joint *j, char c)
{
	if (j->at == IN_REST) {
		if (c == '\n')
			*j = (struct joint){ .low = j->low, .high = j->high, .found = j->found };
	} else if (j->at == IN_BEGIN && c == '-') {
		j->begin = j->number;
		j->number = 0;
		j->at = IN_END;
	} else if (c == ' ') {
		j->found |= lies_across(j->begin, j->number, j->low) ||
			lies_across(j->begin, j->number, j->high);
		j->at = IN_REST;
	} else {
		j->number = j->number << 4 | hex_digit(c);
	}
}

static bool find_joint(void *state, const char *text, size_t bytes)
{
	struct joint *j = state;

	for (size_t i = 0; i < bytes; i++)
		joint_char(j, text[i]);
	return !j->found && j->begin < j->high;
}

bool os_linux_is_joined(const void *base, size_t bytes)
{
	struct joint j = { .low = (uintptr_t)base, .high = (uintptr_t)base + bytes };

	maps_read(find_joint, &j);
	return j.found;
}
