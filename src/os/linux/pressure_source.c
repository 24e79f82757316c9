/* SPDX-License-Identifier: MIT */
/*
 * The sources of memory pressure, and what each is asked for.
 *
 * | source                | asked for                                | severity |
 * |-----------------------|------------------------------------------|----------|
 * | MEMORY_PRESSURE_WATCH | what MEMORY_PRESSURE_WRITE says          | 2        |
 * | stalls (PSI) of group | some tasks stalled 5 % of two seconds    | 1        |
 * | and machine           | 20 %                                     | 2        |
 * |                       | all tasks stalled 10 %                   | 3        |
 * | memory.events, v2     | "high" was counted                       | 2        |
 * |                       | "max" or "oom"                           | 3        |
 * | memory.pressure_level | low, medium, critical                    | 1, 2, 3  |
 * | usage thresholds, v1  | 3/4, 7/8 and 15/16 of the limit, if the  | 1, 2, 3  |
 * |                       | headroom is as small as that             |          |
 *
 * Two seconds are the shortest window that the kernel allows without privileges. The environment
 * variables are those of systemd's "Memory Pressure Handling": the path names a PSI file, a FIFO or
 * a stream socket; what is to be written there is in base 64; "/dev/null" turns all of this off.
 */
#include "group.h"
#include "linux/pressure.h"
#include "number.h"

#include "base/atomic.h"
#include "base/format.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { path_bytes = 640, text_bytes = 1024 };

static const struct stall {
	const char *trigger;
	unsigned severity;
} stalls[] = {
	{ "some 100000 2000000", 1 },
	{ "some 400000 2000000", 2 },
	{ "full 200000 2000000", 3 },
};

static int open_file(const char *path, int flags)
{
	return (int)os_syscall4(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0);
}

static bool write_all(int fd, const void *data, size_t bytes)
{
	return os_syscall3(SYS_write, fd, (long)data, (long)bytes) == (long)bytes;
}

/* Each trigger wants a descriptor of its own. */
static void stalls_open(struct os_pressure *p, enum os_pressure_source source, const char *path)
{
	for (size_t i = 0; i < sizeof(stalls) / sizeof(stalls[0]); i++) {
		int fd = open_file(path, O_RDWR | O_NONBLOCK);
		if (fd < 0)
			return;
		/* The kernel wants the NUL as well. */
		if (write_all(fd, stalls[i].trigger, strlen(stalls[i].trigger) + 1))
			os_pressure_add(p, source, stalls[i].severity, fd, -1, EPOLLPRI);
		else
			os_pressure_close_fd(fd);
	}
}

/* The value of a character of base 64, or -1. */
static int digit_of(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Returns the bytes, or -1 if the text is not base 64 or too long. */
static long decode(const char *text, unsigned char *buf, size_t cap)
{
	uint32_t bits = 0;
	unsigned have = 0;
	size_t n = 0;

	for (; *text && *text != '='; text++) {
		int digit = digit_of(*text);
		if (digit < 0 || n == cap)
			return -1;
		bits = bits << 6 | (uint32_t)digit;
		have += 6;
		if (have >= 8) {
			have -= 8;
			buf[n++] = (unsigned char)(bits >> have);
		}
	}
	return (long)n;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, path, strlen(path));
	fd = (int)os_syscall3(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && os_syscall3(SYS_connect, fd, (long)&address, sizeof(address))) {
		os_pressure_close_fd(fd);
		fd = -1;
	}
	return fd;
}

/* What the service manager says. True: nothing else of the kind is wanted. */
static bool watch_open(struct os_pressure *p)
{
	const char *path = os_is_secure() ? NULL : os_env("MEMORY_PRESSURE_WATCH");
	const char *text = os_env("MEMORY_PRESSURE_WRITE");
	unsigned char data[text_bytes];
	long bytes = text ? decode(text, data, sizeof(data)) : 0;
	uint32_t events = EPOLLIN;
	struct stat st;
	int fd;

	if (!path)
		return false;
	memset(&st, 0, sizeof(st));
	if (*path != '/' || bytes < 0 ||
		os_syscall4(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0))
		return false;
	if (S_ISSOCK(st.st_mode)) {
		fd = connect_to(path);
	} else {
		fd = open_file(path,
			(bytes || S_ISFIFO(st.st_mode) ? O_RDWR : O_RDONLY) | O_NONBLOCK);
		events = S_ISREG(st.st_mode) ? EPOLLPRI : EPOLLIN;
	}
	if (fd < 0)
		return false;
	if (bytes && !write_all(fd, data, (size_t)bytes)) {
		os_pressure_close_fd(fd);
		return false;
	}
	struct os_pressure_entry *e = os_pressure_add(p, OS_PRESSURE_WATCH, 2, fd, -1, events);
	/* What comes by a FIFO or a socket is read and dropped. */
	if (e && events == EPOLLIN)
		a_store_rlx(&e->seen[0], 1);
	return e != NULL;
}

static bool is_turned_off(void)
{
	const char *path = os_is_secure() ? NULL : os_env("MEMORY_PRESSURE_WATCH");

	return path && !strcmp(path, "/dev/null");
}

static uint64_t event_count(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? number_parse(at + strlen(key), 0) : 0;
}

/* Reads memory.events; the severity of what was counted since the last time. */
static unsigned events_read(struct os_pressure_entry *e)
{
	static const char *const keys[3] = { "high ", "max ", "oom " };
	static const unsigned severities[3] = { 2, 3, 3 };
	char text[text_bytes];
	unsigned severity = 0;

	if (os_linux_file_reread(e->fd, text, sizeof(text)) <= 0)
		return 0;
	for (int i = 0; i < 3; i++) {
		uint64_t now = event_count(text, keys[i]);
		/* Of two threads that dispatch at once each looks. */
		if (now > a_xchg_rlx(&e->seen[i], now) && severities[i] > severity)
			severity = severities[i];
	}
	return severity;
}

static void events_open(struct os_pressure *p, const struct os_group *group)
{
	char path[path_bytes];
	struct os_pressure_entry *e;
	int fd;

	if (!os_group_path(group, "memory.events", path, sizeof(path)))
		return;
	fd = open_file(path, O_RDONLY);
	if (fd < 0)
		return;
	e = os_pressure_add(p, OS_PRESSURE_EVENTS, 0, fd, -1, EPOLLPRI);
	if (e)
		(void)events_read(e);
}

/* Has version 1 signal an eventfd: "EVENTFD FD ARGUMENT" to cgroup.event_control. */
static void signal_open(struct os_pressure *p, const struct os_group *group, const char *file,
	const char *argument, enum os_pressure_source source, unsigned severity)
{
	char path[path_bytes];
	char text[96];
	struct format f;
	int event = -1;
	int about = -1;
	int control = -1;

	if (os_group_path(group, file, path, sizeof(path)))
		about = open_file(path, O_RDONLY);
	if (os_group_path(group, "cgroup.event_control", path, sizeof(path)))
		control = open_file(path, O_WRONLY);
	event = (int)os_syscall2(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	format_init(&f, text, sizeof(text));
	format_u64(&f, (uint64_t)event);
	format_char(&f, ' ');
	format_u64(&f, (uint64_t)about);
	format_char(&f, ' ');
	format_str(&f, argument);
	if (event >= 0 && about >= 0 && control >= 0 && write_all(control, text, strlen(text))) {
		os_pressure_add(p, source, severity, event, about, EPOLLIN);
	} else {
		os_pressure_close_fd(event);
		os_pressure_close_fd(about);
	}
	os_pressure_close_fd(control);
}

static void version1_open(struct os_pressure *p, struct os_group *group)
{
	static const char *const levels[3] = { "low", "medium", "critical" };
	char text[64];
	struct format f;
	uint64_t limit;

	/* Of the nearest level that has a limit: what its usage means for us. */
	do {
		limit = OS_UNLIMITED;
		if (os_group_read(group, group->layout->max, text, sizeof(text)) > 0)
			limit = number_parse(text, OS_UNLIMITED);
	} while (limit >= OS_GROUP_NO_LIMIT && os_group_up(group));
	for (unsigned i = 0; i < 3; i++)
		signal_open(p, group, "memory.pressure_level", levels[i], OS_PRESSURE_LEVEL, i + 1);
	for (unsigned i = 0; limit < OS_GROUP_NO_LIMIT && i < 3; i++) {
		format_init(&f, text, sizeof(text));
		format_u64(&f, limit - (limit >> (i + 2)));
		signal_open(p, group, group->layout->used, text, OS_PRESSURE_USAGE, 0);
	}
}

void os_pressure_sources_open(struct os_pressure *p)
{
	char path[path_bytes];
	struct os_group group;

	if (is_turned_off())
		return;
	if (!watch_open(p)) {
		if (os_group_stall_path(path, sizeof(path)))
			stalls_open(p, OS_PRESSURE_STALL_GROUP, path);
		stalls_open(p, OS_PRESSURE_STALL_SYSTEM, "/proc/pressure/memory");
	}
	if (!os_group_find(&group))
		return;
	if (group.layout->version == 2)
		events_open(p, &group);
	else
		version1_open(p, &group);
}

/* A threshold counts only as far as pages of files, which the kernel can take, do not explain it. */
static unsigned usage_severity(void)
{
	struct os_headroom h;

	os_headroom_read(NULL, 0, UINT64_MAX / 2, &h);
	if (!h.by_group || h.bytes >= h.limit_bytes / 4)
		return 0;
	if (h.bytes >= h.limit_bytes / 8)
		return 1;
	return h.bytes >= h.limit_bytes / 16 ? 2 : 3;
}

unsigned os_pressure_entry_read(struct os_pressure_entry *e)
{
	char dropped[text_bytes];
	bool is_signal = e->aux >= 0 || a_load_rlx(&e->seen[0]);

	if (1u << e->source_bit == OS_PRESSURE_EVENTS)
		return events_read(e);
	/* An eventfd, a FIFO or a socket would stay readable; a PSI file is not to be read. */
	if (is_signal && os_syscall3(SYS_read, e->fd, (long)dropped, sizeof(dropped)) <= 0)
		return 0;
	if (1u << e->source_bit == OS_PRESSURE_USAGE)
		return usage_severity();
	return e->severity;
}
