/* SPDX-License-Identifier: MIT */
/*
 * The mapping calls: address space, memory, and hints about it. Stateless; every function is one
 * system call, or a few when an alignment must be cut out. Called through os/os.h only.
 */
#include "base/atomic.h"
#include "linux/linux.h"
#include "linux/sandbox.h"
#include "linux/syscall.h"

#include <errno.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/prctl.h>

/* Values that the C library's headers of supported systems may lack; all are kernel ABI. */
enum {
	OS_MADV_FREE = 8,
	OS_MADV_WIPEONFORK = 18,
	OS_MADV_POPULATE_WRITE = 23,
	OS_MADV_COLLAPSE = 25,
	/* What os_present() looks at in one call. */
	PRESENT_PAGES = 512,
	OS_MREMAP_DONTUNMAP = 4,
	OS_MAP_FIXED_NOREPLACE = 0x100000,
	OS_PR_SET_VMA = 0x53564d41,
	OS_PR_SET_VMA_ANON_NAME = 0,
	OS_MPOL_PREFERRED = 1,
};

/* Kernels have 1024 nodes at most. */
enum { WORD_BITS = 64, NODE_WORDS = 16 };

static const int map_private = MAP_PRIVATE | MAP_ANONYMOUS;
static const int prot_rw = PROT_READ | PROT_WRITE;

/*
 * The kernel puts an unmapping before any later mapping of the same addresses. The thread sanitizer
 * sees no raw system calls, so it is told.
 */
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>

static char kernel_order;

static void before_unmapping(void)
{
	__tsan_release(&kernel_order);
}

static void after_mapping(void)
{
	__tsan_acquire(&kernel_order);
}
#else
static void before_unmapping(void)
{
}

static void after_mapping(void)
{
}
#endif

static long map_raw(uintptr_t at, size_t bytes, int prot, int flags)
{
	long base = os_syscall6(SYS_mmap, (long)at, (long)bytes, prot, flags, -1, 0);

	after_mapping();
	return base;
}

static int unmap_raw(uintptr_t at, size_t bytes)
{
	before_unmapping();
	return bytes ? (int)os_syscall2(SYS_munmap, (long)at, (long)bytes) : 0;
}

static int advise(void *base, size_t bytes, int advice)
{
	return (int)os_syscall3(SYS_madvise, (long)base, (long)bytes, advice);
}

/*
 * Maps more than is wanted and unmaps both ends. The kernel may have joined the mapping with its
 * neighbours, so cutting can fail at vm.max_map_count; then all is given back, or, where even that
 * fails, address space is lost but no memory.
 */
static void *map_and_trim(size_t bytes, size_t align, int prot, int flags)
{
	size_t slack = bytes + align;
	uintptr_t start;
	uintptr_t base;
	long ret;

	if (slack < bytes)
		return NULL;
	ret = map_raw(0, slack, prot, flags);
	if (os_syscall_failed(ret))
		return NULL;
	start = (uintptr_t)ret;
	base = (start + align - 1) & -(uintptr_t)align;
	if (unmap_raw(start, base - start) ||
		unmap_raw(base + bytes, start + slack - base - bytes)) {
		unmap_raw(start, slack);
		return NULL;
	}
	return (void *)base;
}

/*
 * An aligned mapping. Most kernels place mappings downward, so the first answer tells where an
 * aligned one would fit just below it: that saves the over-reservation, which a limit on address
 * space might refuse.
 */
static void *map_aligned(size_t bytes, size_t align, int prot, int flags)
{
	long ret = map_raw(0, bytes, prot, flags);
	uintptr_t start = (uintptr_t)ret;
	uintptr_t hint;

	if (os_syscall_failed(ret))
		return NULL;
	if (!(start & (align - 1)))
		return (void *)start;
	unmap_raw(start, bytes);
	hint = start & -(uintptr_t)align;
	ret = map_raw(hint, bytes, prot, flags);
	if (os_syscall_failed(ret))
		return NULL;
	start = (uintptr_t)ret;
	if (!(start & (align - 1)))
		return (void *)start;
	unmap_raw(start, bytes);
	return map_and_trim(bytes, align, prot, flags);
}

void *os_linux_reserve(size_t bytes, size_t align)
{
	return map_aligned(bytes, align, PROT_NONE, map_private | MAP_NORESERVE);
}

int os_linux_reserve_at(void *base, size_t bytes)
{
	long ret = map_raw((uintptr_t)base, bytes, PROT_NONE,
		map_private | MAP_NORESERVE | OS_MAP_FIXED_NOREPLACE);

	if (os_syscall_failed(ret))
		return (int)ret;
	if ((void *)ret == base)
		return 0;
	/* Before Linux 4.17 the address is a mere hint. */
	unmap_raw((uintptr_t)ret, bytes);
	return -EEXIST;
}

void *os_linux_map(size_t bytes, size_t align)
{
	return map_aligned(bytes, align, prot_rw, map_private);
}

int os_linux_unmap(void *base, size_t bytes)
{
	return unmap_raw((uintptr_t)base, bytes);
}

int os_linux_commit(void *base, size_t bytes)
{
	return (int)os_syscall3(SYS_mprotect, (long)base, (long)bytes, prot_rw);
}

int os_linux_decommit(void *base, size_t bytes)
{
	return advise(base, bytes, MADV_DONTNEED);
}

int os_linux_lazyfree(void *base, size_t bytes)
{
	return advise(base, bytes, OS_MADV_FREE);
}

static int map_over(void *base, size_t bytes, int prot, int flags)
{
	long ret = map_raw((uintptr_t)base, bytes, prot, flags | MAP_FIXED);

	return os_syscall_failed(ret) ? (int)ret : 0;
}

int os_linux_map_fixed(void *base, size_t bytes)
{
	return map_over(base, bytes, prot_rw, map_private | MAP_NORESERVE);
}

int os_linux_remap_fixed_none(void *base, size_t bytes)
{
	return map_over(base, bytes, PROT_NONE, map_private | MAP_NORESERVE);
}

void *os_linux_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old)
{
	int flags = MREMAP_MAYMOVE;
	long ret;

	if (dst)
		flags |= MREMAP_FIXED;
	if (keep_old)
		flags |= OS_MREMAP_DONTUNMAP;
	before_unmapping();
	ret = os_syscall5(SYS_mremap, (long)old, (long)old_bytes, (long)new_bytes, flags,
		(long)dst);
	after_mapping();
	return os_syscall_failed(ret) ? NULL : (void *)ret;
}

/* Of anonymous memory, MS_ASYNC does nothing but look whether it is mapped. */
bool os_linux_is_mapped(void *base, size_t bytes)
{
	return !os_syscall3(SYS_msync, (long)base, (long)bytes, MS_ASYNC);
}

int os_linux_grow(void *base, size_t old_bytes, size_t new_bytes)
{
	long ret = os_syscall5(SYS_mremap, (long)base, (long)old_bytes, (long)new_bytes, 0, 0);

	after_mapping();
	return os_syscall_failed(ret) ? -ENOMEM : 0;
}

int os_linux_huge(void *base, size_t bytes, bool on)
{
	return advise(base, bytes, on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

int os_linux_collapse(void *base, size_t bytes)
{
	return advise(base, bytes, OS_MADV_COLLAPSE);
}

int os_linux_present(void *base, size_t bytes, size_t *ret_pages)
{
	unsigned char present[PRESENT_PAGES];
	size_t pages = bytes / os_facts()->page_bytes;
	size_t count = 0;
	long ret = pages > PRESENT_PAGES
		? -EINVAL
		: os_syscall3(SYS_mincore, (long)base, (long)bytes, (long)present);

	if (ret)
		return (int)ret;
	for (size_t i = 0; i < pages; i++)
		count += present[i] & 1;
	*ret_pages = count;
	return 0;
}

int os_linux_populate(void *base, size_t bytes)
{
	return advise(base, bytes, OS_MADV_POPULATE_WRITE);
}

int os_linux_prefer_node(void *base, size_t bytes, int node)
{
	unsigned long mask[NODE_WORDS] = { 0 };
	int ret;

	if (node < 0 || node >= NODE_WORDS * WORD_BITS)
		return -EINVAL;
	mask[node / WORD_BITS] = 1ul << node % WORD_BITS;
	ret = (int)os_syscall6(SYS_mbind, (long)base, (long)bytes, OS_MPOL_PREFERRED, (long)mask,
		NODE_WORDS * WORD_BITS, 0);
	return ret == -EINVAL ? ret : 0;
}

int os_linux_name(void *base, size_t bytes, const char *name)
{
	static _Atomic(bool) unknown; /* to this kernel: it is not asked again */
	static _Atomic(bool) started;
	int ret;

	if (a_load_rlx(&unknown))
		return -EINVAL;
	/* The first is made at the start, when all is permitted that the process was born with. */
	if (a_xchg_rlx(&started, true) && os_linux_sandboxed())
		return -EPERM;
	ret = (int)os_syscall5(SYS_prctl, OS_PR_SET_VMA, OS_PR_SET_VMA_ANON_NAME, (long)base,
		(long)bytes, (long)name);
	if (ret == -EINVAL)
		a_store_rlx(&unknown, true);
	return ret;
}

int os_linux_wipe_on_fork(void *base, size_t bytes)
{
	return advise(base, bytes, OS_MADV_WIPEONFORK);
}
