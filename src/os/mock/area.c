/* SPDX-License-Identifier: MIT */
/* The calls of os/area.h, as the mock answers them; see calls.c. */
#include "linux/area.h"
#include "mock/mock.h"

#include <errno.h>

void *os_map_lazy(size_t bytes, size_t align)
{
	void *p = mock_enter(OS_CALL_MAP_LAZY) ? NULL : os_linux_map_lazy(bytes, align);

	mock_record(OS_CALL_MAP_LAZY, p, bytes, p ? 0 : -ENOMEM);
	return p;
}

int os_file_make(const char *name, size_t bytes)
{
	int ret = mock_enter(OS_CALL_FILE_MAKE);

	return mock_record(OS_CALL_FILE_MAKE, NULL, bytes,
		ret ? ret : os_linux_file_make(name, bytes));
}

void *os_file_map_shared(int fd, size_t bytes)
{
	void *p = mock_enter(OS_CALL_FILE_MAP) ? NULL : os_linux_file_map_shared(fd, bytes);

	mock_record(OS_CALL_FILE_MAP, p, bytes, p ? 0 : -ENOMEM);
	return p;
}

int os_file_map_private(int fd, void *base, size_t bytes)
{
	int ret = mock_enter(OS_CALL_FILE_MAP);

	return mock_record(OS_CALL_FILE_MAP, base, bytes,
		ret ? ret : os_linux_file_map_private(fd, base, bytes));
}

int os_hide_from_fork(void *base, size_t bytes)
{
	int ret = mock_enter(OS_CALL_HIDE_FROM_FORK);

	return mock_record(OS_CALL_HIDE_FROM_FORK, base, bytes,
		ret ? ret : os_linux_hide_from_fork(base, bytes));
}

int os_guard(void *base, size_t bytes)
{
	int ret = mock_enter(OS_CALL_GUARD);

	return mock_record(OS_CALL_GUARD, base, bytes, ret ? ret : os_linux_guard(base, bytes));
}

int os_decommit_many(const struct os_range *ranges, size_t count)
{
	int ret = mock_enter(OS_CALL_DECOMMIT_MANY);

	return mock_record(OS_CALL_DECOMMIT_MANY, count ? ranges->base : NULL, count,
		ret ? ret : os_linux_decommit_many(ranges, count));
}

int os_pages(const void *base, size_t pages, uint8_t *ret_pages)
{
	int ret = mock_enter(OS_CALL_PAGES);

	return mock_record(OS_CALL_PAGES, (void *)base, pages,
		ret ? ret : os_linux_pages(base, pages, ret_pages));
}

int os_pages_quick(const void *base, size_t pages, uint8_t *ret_pages)
{
	int ret = mock_enter(OS_CALL_PAGES);

	return mock_record(OS_CALL_PAGES, (void *)base, pages,
		ret ? ret : os_linux_pages_quick(base, pages, ret_pages));
}

bool os_page_is_exclusive(const void *page)
{
	return os_linux_page_is_exclusive(page);
}
