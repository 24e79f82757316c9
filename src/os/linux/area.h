/* SPDX-License-Identifier: MIT */
/* os/area.h on Linux under names of its own, for the mock to stand in front of. For src/os only. */
#pragma once

#include "os/area.h"

void *os_linux_map_lazy(size_t bytes, size_t align);
int os_linux_file_make(const char *name, size_t bytes);
void *os_linux_file_map_shared(int fd, size_t bytes);
int os_linux_file_map_private(int fd, void *base, size_t bytes);
int os_linux_hide_from_fork(void *base, size_t bytes);
int os_linux_guard(void *base, size_t bytes);
int os_linux_decommit_many(const struct os_range *ranges, size_t count);
int os_linux_pages(const void *base, size_t pages, uint8_t *ret);
int os_linux_pages_quick(const void *base, size_t pages, uint8_t *ret);
bool os_linux_page_is_exclusive(const void *page);
