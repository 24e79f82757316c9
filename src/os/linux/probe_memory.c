/* SPDX-License-Identifier: MIT */
/* Probes of what the kernel can do with mappings, each tried on a mapping that is thrown away. */
#include "linux/linux.h"
#include "linux/probe.h"
#include "linux/syscall.h"

#include <errno.h>
#include <string.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* Kernel ABI that headers of supported systems may lack. */
enum { ADVICE_COLD = 20, ADVICE_COLLAPSE = 25, ADVICE_GUARD_INSTALL = 102 };

static const size_t huge_bytes = 2 << 20;

/* Runs `fn` on a fresh mapping of pages. */
static int on_pages(size_t bytes, size_t align, int (*fn)(char *base, size_t bytes))
{
	char *base = os_linux_map(bytes, align);
	int ret;

	if (!base)
		return -ENOMEM;
	base[0] = 1;
	ret = fn(base, bytes);
	os_linux_unmap(base, bytes);
	return ret;
}

static int on_four_pages(int (*fn)(char *base, size_t bytes))
{
	size_t page_bytes = os_facts()->page_bytes;

	return on_pages(4 * page_bytes, page_bytes, fn);
}

static int try_dontunmap(char *base, size_t bytes)
{
	char *moved = os_linux_move(base, bytes, NULL, bytes, true);
	bool right;

	if (!moved)
		return -EINVAL;
	right = moved[0] == 1 && base[0] == 0;
	os_linux_unmap(moved, bytes);
	return right ? 0 : -EINVAL;
}

static int try_lazyfree(char *base, size_t bytes)
{
	return os_linux_lazyfree(base, bytes);
}

static int try_populate(char *base, size_t bytes)
{
	int ret = os_linux_populate(base, bytes);

	return ret ? ret : base[0] == 1 ? 0 : -EINVAL;
}

static int try_collapse(char *base, size_t bytes)
{
	return (int)os_syscall3(SYS_madvise, (long)base, (long)bytes, ADVICE_COLLAPSE);
}

/* The kernel, told to answer into a guarded page, says EFAULT where we would be killed. */
static int try_guard(char *base, size_t bytes)
{
	long ret = os_syscall3(SYS_madvise, (long)base, (long)bytes, ADVICE_GUARD_INSTALL);

	if (ret)
		return (int)ret;
	return os_syscall1(SYS_sysinfo, (long)base) == -EFAULT ? 0 : -EINVAL;
}

static int try_name(char *base, size_t bytes)
{
	return os_linux_name(base, bytes, "allod-probe");
}

static int try_wipe_on_fork(char *base, size_t bytes)
{
	return os_linux_wipe_on_fork(base, bytes);
}

static int try_process_madvise(char *base, size_t bytes)
{
	struct {
		void *base;
		size_t bytes;
	} range = { base, bytes };
	long fd = os_syscall2(SYS_pidfd_open, os_pid(), 0);
	long ret;

	if (fd < 0)
		return (int)fd;
	ret = os_syscall5(SYS_process_madvise, fd, (long)&range, 1, ADVICE_COLD, 0);
	os_syscall1(SYS_close, fd);
	return ret < 0 ? (int)ret : 0;
}

static int mremap_dontunmap(struct format *value)
{
	(void)value;
	return on_four_pages(try_dontunmap);
}

static int madv_free(struct format *value)
{
	(void)value;
	return on_four_pages(try_lazyfree);
}

static int madv_populate_write(struct format *value)
{
	(void)value;
	return on_four_pages(try_populate);
}

static int madv_collapse(struct format *value)
{
	(void)value;
	return on_pages(huge_bytes, huge_bytes, try_collapse);
}

static int madv_guard(struct format *value)
{
	(void)value;
	return on_four_pages(try_guard);
}

static int vma_name(struct format *value)
{
	(void)value;
	return on_four_pages(try_name);
}

static int wipe_on_fork(struct format *value)
{
	(void)value;
	return on_four_pages(try_wipe_on_fork);
}

static int process_madvise(struct format *value)
{
	(void)value;
	return on_four_pages(try_process_madvise);
}

const struct probe probes_memory[] = {
	{ "mremap-dontunmap", "a large block grows by moving its pages", "it grows by copying",
		mremap_dontunmap },
	{ "madv-free",
		"free memory goes cold first, so that it is cheap to have again and never "
		"the cause of a kill",
		"it is given back at once where memory is short", madv_free },
	{ "madv-populate-write", "the pages of a block of 64 KiB to 32 MiB come in one call",
		"each page takes a fault of its own", madv_populate_write },
	{ "madv-collapse", "memory that is used again and again gets huge pages",
		"only what comes at once gets them", madv_collapse },
	{ "madv-guard", "ALLOD_PERCPU_GUARD: guard pages without a mapping of their own",
		"guard pages cost a mapping each", madv_guard },
	{ "vma-name", "allod's memory is named in /proc/PID/maps", "it is not named there",
		vma_name },
	{ "wipe-on-fork", "per-CPU locks that a parent held are free in its child",
		"a handler of fork() frees them: not after a bare clone()", wipe_on_fork },
	{ "process-madvise", LATER "one process gives advice about another's memory",
		LATER "only each process for itself", process_madvise },
	{ 0 },
};
