/* SPDX-License-Identifier: MIT */
/*
 * Memory pressure: one descriptor that becomes readable when any of the sources has something to
 * tell. Which there are, and what they are asked for, is in pressure_source.c.
 *
 * Not for the allocation path: descriptors are opened here that the program can see.
 */
#include "linux/pressure.h"

#include "linux/syscall.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { EVENTS_AT_ONCE = 8 };

/* In the data of an epoll event: that of `wake`. */
#define WAKE_DATA UINT32_MAX

bool os_pressure_watch_fd(struct os_pressure *p, uint32_t data, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data = { .u32 = data } };

	return !os_syscall4(SYS_epoll_ctl, p->fd, EPOLL_CTL_ADD, fd, (long)&event);
}

void os_pressure_close_fd(int fd)
{
	if (fd >= 0)
		os_syscall1(SYS_close, fd);
}

struct os_pressure_entry *os_pressure_add(struct os_pressure *p, enum os_pressure_source source,
	unsigned severity, int fd, int aux, uint32_t events)
{
	struct os_pressure_entry *e = &p->entries[p->count];

	if (p->count == OS_PRESSURE_ENTRIES || !os_pressure_watch_fd(p, p->count, fd, events)) {
		os_pressure_close_fd(fd);
		os_pressure_close_fd(aux);
		return NULL;
	}
	*e = (struct os_pressure_entry){
		.fd = fd,
		.aux = aux,
		.source_bit = (uint8_t)__builtin_ctz(source),
		.severity = (uint8_t)severity,
	};
	p->count++;
	p->sources |= source;
	return e;
}

int os_linux_pressure_open(struct os_pressure *p)
{
	memset(p, 0, sizeof(*p));
	p->fd = (int)os_syscall1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (p->fd < 0)
		return p->fd;
	p->wake = (int)os_syscall2(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake < 0 || !os_pressure_watch_fd(p, WAKE_DATA, p->wake, EPOLLIN)) {
		os_linux_pressure_close(p);
		return -EMFILE;
	}
	os_pressure_sources_open(p);
	return 0;
}

/* Takes an entry out that reports errors only: its file is gone, with the group. */
static void drop(struct os_pressure *p, struct os_pressure_entry *e)
{
	os_syscall4(SYS_epoll_ctl, p->fd, EPOLL_CTL_DEL, e->fd, 0);
}

bool os_linux_pressure_wait(struct os_pressure *p, int timeout_ms,
	struct os_pressure_event *ret_event)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	long n =
		os_syscall6(SYS_epoll_pwait, p->fd, (long)events, EVENTS_AT_ONCE, timeout_ms, 0, 0);

	*ret_event = (struct os_pressure_event){ 0, 0 };
	for (long i = 0; i < n; i++) {
		uint32_t data = events[i].data.u32;
		uint64_t count;
		if (data == WAKE_DATA) {
			os_syscall3(SYS_read, p->wake, (long)&count, sizeof(count));
			continue;
		}
		struct os_pressure_entry *e = &p->entries[data];
		unsigned severity = 0;
		if (events[i].events & (EPOLLPRI | EPOLLIN))
			severity = os_pressure_entry_read(e);
		else
			drop(p, e);
		if (severity)
			ret_event->sources |= 1u << e->source_bit;
		if (severity > ret_event->severity)
			ret_event->severity = severity;
	}
	return ret_event->severity != 0;
}

void os_linux_pressure_wake(const struct os_pressure *p)
{
	uint64_t one = 1;

	os_syscall3(SYS_write, p->wake, (long)&one, sizeof(one));
}

void os_linux_pressure_close(struct os_pressure *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		os_pressure_close_fd(p->entries[i].fd);
		os_pressure_close_fd(p->entries[i].aux);
	}
	os_pressure_close_fd(p->wake);
	os_pressure_close_fd(p->fd);
	p->count = 0;
	p->fd = -1;
	p->wake = -1;
}
