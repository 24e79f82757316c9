/* SPDX-License-Identifier: MIT */
/*
 * Probes of userfaultfd and of page-map scanning. What might block on a page that nobody serves
 * runs in a forked process with a time limit.
 */
#include "linux/linux.h"
#include "linux/probe.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>

/* Kernel ABI that headers of supported systems may lack. */
enum { FLAG_USER_MODE_ONLY = 1 };
static const uint64_t feature_wp = 1 << 0;
static const uint64_t feature_wp_async = 1 << 15;
static const uint64_t feature_move = 1 << 16;

struct move_request {
	uint64_t dst;
	uint64_t src;
	uint64_t bytes;
	uint64_t mode;
	int64_t moved;
};

/* struct pm_scan_arg and struct page_region of linux/fs.h. */
struct scan_request {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t regions;
	uint64_t regions_max;
	uint64_t pages_max;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

struct scan_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

static const uint64_t page_is_present = 1 << 3;

#define IOCTL_MOVE _IOWR(UFFDIO, 0x05, struct move_request)
#define IOCTL_SCAN _IOWR('f', 16, struct scan_request)

static long control(long fd, unsigned long request, void *arg)
{
	return os_syscall3(SYS_ioctl, fd, (long)request, (long)arg);
}

/* A userfaultfd with these features agreed upon, or a negative errno. */
static long watch_open(int flags, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	long fd = os_syscall1(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
	long ret;

	if (fd < 0)
		return fd;
	ret = control(fd, UFFDIO_API, &api);
	if (!ret && (api.features & features) == features)
		return fd;
	os_syscall1(SYS_close, fd);
	return ret ? ret : -ENOTSUP;
}

static long watch_range(long fd, char *base, size_t bytes, uint64_t mode)
{
	struct uffdio_register range = {
		.range = { (uintptr_t)base, bytes },
		.mode = mode,
	};

	return control(fd, UFFDIO_REGISTER, &range);
}

static int open_only(int flags)
{
	long fd = watch_open(flags, 0);

	if (fd < 0)
		return (int)fd;
	os_syscall1(SYS_close, fd);
	return 0;
}

static int userfaultfd(struct format *value)
{
	(void)value;
	return open_only(FLAG_USER_MODE_ONLY);
}

static int userfaultfd_kernel(struct format *value)
{
	(void)value;
	return open_only(0);
}

/* Arms the write watch on a present page. The process ends afterwards, so nothing is undone. */
static long arm(uint64_t features, char **ret_page)
{
	size_t bytes = os_facts()->page_bytes;
	char *page = os_linux_map(bytes, bytes);
	long fd = watch_open(FLAG_USER_MODE_ONLY, features);
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)page, bytes },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	long ret;

	if (fd < 0)
		return fd;
	if (!page)
		return -ENOMEM;
	page[0] = 1;
	ret = watch_range(fd, page, bytes, UFFDIO_REGISTER_MODE_WP);
	if (!ret)
		ret = control(fd, UFFDIO_WRITEPROTECT, &wp);
	*ret_page = page;
	return ret;
}

static int try_wp(void)
{
	char *page;

	return (int)arm(feature_wp, &page);
}

/* The write must go through by itself. */
static int try_wp_async(void)
{
	char *page;
	long ret = arm(feature_wp | feature_wp_async, &page);

	if (ret)
		return (int)ret;
	((volatile char *)page)[0] = 2;
	return 0;
}

static int try_move(void)
{
	size_t bytes = os_facts()->page_bytes;
	char *base = os_linux_map(2 * bytes, bytes);
	long fd = watch_open(FLAG_USER_MODE_ONLY, feature_move);
	struct move_request move = { .bytes = bytes };
	long ret;

	if (fd < 0)
		return (int)fd;
	if (!base)
		return -ENOMEM;
	base[bytes] = 1;
	ret = watch_range(fd, base, bytes, UFFDIO_REGISTER_MODE_MISSING);
	if (ret)
		return (int)ret;
	move.dst = (uintptr_t)base;
	move.src = (uintptr_t)base + bytes;
	ret = control(fd, IOCTL_MOVE, &move);
	if (ret)
		return (int)ret;
	return base[0] == 1 ? 0 : -ENOTSUP;
}

static int userfaultfd_wp(struct format *value)
{
	(void)value;
	return probe_forked(try_wp);
}

static int userfaultfd_wp_async(struct format *value)
{
	(void)value;
	return probe_forked(try_wp_async);
}

static int userfaultfd_move(struct format *value)
{
	(void)value;
	return probe_forked(try_move);
}

/* Of three pages the middle one is touched; the scan must report it and no other. */
static int scan(long fd, char *base, size_t page_bytes)
{
	struct scan_region region = { 0, 0, 0 };
	struct scan_request request = {
		.size = sizeof(request),
		.start = (uintptr_t)base,
		.end = (uintptr_t)base + 3 * page_bytes,
		.regions = (uintptr_t)&region,
		.regions_max = 1,
		.category_mask = page_is_present,
		.return_mask = page_is_present,
	};
	long ret;

	base[page_bytes] = 1;
	ret = control(fd, IOCTL_SCAN, &request);
	if (ret < 0)
		return (int)ret;
	return ret == 1 && region.start == (uintptr_t)base + page_bytes ? 0 : -ENOTSUP;
}

static int pagemap_scan(struct format *value)
{
	size_t page_bytes = os_facts()->page_bytes;
	char *base = os_linux_map(3 * page_bytes, page_bytes);
	long fd = os_syscall4(SYS_openat, AT_FDCWD, (long)"/proc/self/pagemap",
		O_RDONLY | O_CLOEXEC, 0);
	int ret = base ? (int)fd : -ENOMEM;

	(void)value;
	if (base && fd >= 0) {
		os_linux_huge(base, 3 * page_bytes, false);
		ret = scan(fd, base, page_bytes);
	}
	if (fd >= 0)
		os_syscall1(SYS_close, fd);
	if (base)
		os_linux_unmap(base, 3 * page_bytes);
	return ret;
}

const struct probe probes_watch[] = {
	{ "userfaultfd", LATER "watched pages and a pager in user mode, without privileges",
		LATER "no watched pages, no pager", userfaultfd },
	{ "userfaultfd-kernel", LATER "watched pages that system calls may touch as well",
		LATER "system calls on a missing page fail with EFAULT", userfaultfd_kernel },
	{ "userfaultfd-wp", LATER "write watch without a mapping for each page",
		LATER "write watch by mprotect() and a signal", userfaultfd_wp },
	{ "userfaultfd-wp-async", LATER "dirty tracking that nobody has to serve",
		LATER "dirty tracking costs a handler", userfaultfd_wp_async },
	{ "userfaultfd-move", LATER "pages change their address without copying or mappings",
		LATER "mremap() or copying", userfaultfd_move },
	{ "pagemap-scan", "statistics of per-CPU memory ask for many pages in one call",
		"they read a word for each page", pagemap_scan },
	{ 0 },
};
