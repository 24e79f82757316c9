/* SPDX-License-Identifier: MIT */
/*
 * The calls of os/area.h that the mock replaces, forwarded to Linux. Linked where the mock is not.
 */
#include "linux/area.h"

void *os_map_lazy(size_t bytes, size_t align)
{
	return os_linux_map_lazy(bytes, align);
}

int os_file_make(const char *name, size_t bytes)
{
	return os_linux_file_make(name, bytes);
}

void *os_file_map_shared(int fd, size_t bytes)
{
	return os_linux_file_map_shared(fd, bytes);
}

int os_file_map_private(int fd, void *base, size_t bytes)
{
	return os_linux_file_map_private(fd, base, bytes);
}

int os_hide_from_fork(void *base, size_t bytes)
{
	return os_linux_hide_from_fork(base, bytes);
}

int os_guard(void *base, size_t bytes)
{
	return os_linux_guard(base, bytes);
}

int os_decommit_many(const struct os_range *ranges, size_t count)
{
	return os_linux_decommit_many(ranges, count);
}

int os_pages(const void *base, size_t pages, uint8_t *ret)
{
	return os_linux_pages(base, pages, ret);
}

int os_pages_quick(const void *base, size_t pages, uint8_t *ret)
{
	return os_linux_pages_quick(base, pages, ret);
}

bool os_page_is_exclusive(const void *page)
{
	return os_linux_page_is_exclusive(page);
}
