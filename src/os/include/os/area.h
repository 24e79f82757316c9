/* SPDX-License-Identifier: MIT */
/*
 * The operating system, as the percpu layer sees it beside os/os.h: memory that many processors'
 * areas share until they write, and questions about what is present. The rules of os/os.h hold.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One range of addresses. */
struct os_range {
	void *base;
	size_t bytes;
};

/*
 * Maps readable and writable zero pages that are not charged before they are written
 * (MAP_NORESERVE); `align` as in os_reserve(). NULL when the system refuses: address space,
 * RLIMIT_AS, or vm.overcommit_memory=2, which charges such a mapping too.
 */
void *os_map_lazy(size_t bytes, size_t align);

/*
 * Makes a file in memory, of so many zero bytes, none of them present. The descriptor (closed on
 * exec), or a negative errno; -EFBIG when RLIMIT_FSIZE is lower.
 */
int os_file_make(const char *name, size_t bytes);
void os_file_close(int fd);

/* Maps a file from its beginning, shared. NULL when the system refuses. */
void *os_file_map_shared(int fd, size_t bytes);

/*
 * Puts a private, writable, uncharged mapping of the file from its beginning in place of whatever
 * is mapped in the range: pages are the file's until written. -ENOMEM: vm.max_map_count or
 * overcommit refuses; what was mapped may be gone then.
 */
int os_file_map_private(int fd, void *base, size_t bytes);

/* Makes a part of a shared mapping of a file zero, and gives its memory back. */
int os_file_discard(void *base, size_t bytes);

/* A forked child does not have the range. -EINVAL when not supported. */
int os_hide_from_fork(void *base, size_t bytes);

/*
 * Makes pages fault at any access, without a mapping of their own, also after os_decommit() and in
 * a forked child. -EINVAL before Linux 6.13 (6.15 for files).
 */
int os_guard(void *base, size_t bytes);

/*
 * os_decommit() of many ranges, in one call where the kernel can: private pages of a file read as
 * the file does afterwards. 0, or the errno of a range that could not be given back.
 */
int os_decommit_many(const struct os_range *ranges, size_t count);

/* What is known of a page of a private mapping. */
enum os_page {
	OS_PAGE_NONE,   /* never written: reads as zero, or as its file */
	OS_PAGE_SHARED, /* read, not written: the zero page or the file's own */
	OS_PAGE_OWN,    /* written: the process's own copy, present or in swap */
	OS_PAGE_EITHER, /* one of the last two: present, so that reading it changes nothing */
};

/*
 * Tells of each page in the range what it is, without touching it. `ret` has an entry for each. A
 * negative errno where /proc is not there.
 */
int os_pages(const void *base, size_t pages, uint8_t *ret);

/* Whether memory of this process may be in swap: false if the machine has none. */
bool os_may_swap(void);

/*
 * os_pages() of anonymous memory, quicker: it may say OS_PAGE_EITHER of what is present. Only while
 * os_may_swap() is false, since it does not tell what is in swap from what is nowhere.
 */
int os_pages_quick(const void *base, size_t pages, uint8_t *ret);

/*
 * Whether no other process shares this page, which the caller has written: false also when that
 * cannot be told. A page that is written once and never again tells so whether a forked child that
 * shares memory with this process is alive.
 */
bool os_page_is_exclusive(const void *page);

/* One more than the highest number that a processor of this machine may get; at least 1. */
unsigned os_cpus_possible(void);

/* The memory node of a processor; 0 where there is but one, -ENOENT if not known. */
int os_cpu_node(unsigned cpu);

/* Moves pages that are present to a node. 0 or negative errno, as move_pages(2). */
int os_move_to_node(void *base, size_t bytes, int node);
