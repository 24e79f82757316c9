/* SPDX-License-Identifier: MIT */
/*
 * os/area.h on Linux: files in memory, guards, residency, nodes. Stateless. Called through
 * os/area.h only.
 */
#include "linux/area.h"

#include "base/atomic.h"
#include "linux/linux.h"
#include "linux/syscall.h"
#include "number.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>

/* Values that the C library's headers of supported systems may lack; all are kernel ABI. */
enum {
	AREA_MADV_GUARD_INSTALL = 102,
	AREA_MFD_CLOEXEC = 1,
	AREA_MFD_NOEXEC_SEAL = 8,
	AREA_MPOL_PREFERRED = 1,
	AREA_MPOL_MF_MOVE = 2,
};

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

static const int area_rw = PROT_READ | PROT_WRITE;

void *os_linux_map_lazy(size_t bytes, size_t align)
{
	void *base = os_linux_reserve(bytes, align);
	long ret;

	if (!base)
		return NULL;
	ret = os_syscall6(SYS_mmap, (long)base, (long)bytes, area_rw,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	if (!os_syscall_failed(ret))
		return base;
	os_linux_unmap(base, bytes);
	return NULL;
}

int os_linux_file_make(const char *name, size_t bytes)
{
	struct rlimit64 limit;
	long fd;
	long ret;

	/* A size beyond the limit would raise SIGXFSZ. */
	if (!os_syscall4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit) && bytes > limit.rlim_cur)
		return -EFBIG;
	fd = os_syscall2(SYS_memfd_create, (long)name, AREA_MFD_CLOEXEC | AREA_MFD_NOEXEC_SEAL);
	if (fd == -EINVAL)
		fd = os_syscall2(SYS_memfd_create, (long)name, AREA_MFD_CLOEXEC);
	if (fd < 0)
		return (int)fd;
	ret = os_syscall2(SYS_ftruncate, fd, (long)bytes);
	if (ret) {
		os_file_close((int)fd);
		return (int)ret;
	}
	return (int)fd;
}

void os_file_close(int fd)
{
	os_syscall1(SYS_close, fd);
}

void *os_linux_file_map_shared(int fd, size_t bytes)
{
	long ret =
		os_syscall6(SYS_mmap, 0, (long)bytes, area_rw, MAP_SHARED | MAP_NORESERVE, fd, 0);

	return os_syscall_failed(ret) ? NULL : (void *)ret;
}

int os_linux_file_map_private(int fd, void *base, size_t bytes)
{
	long ret = os_syscall6(SYS_mmap, (long)base, (long)bytes, area_rw,
		MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, 0);

	return os_syscall_failed(ret) ? (int)ret : 0;
}

static int area_advise(void *base, size_t bytes, int advice)
{
	return (int)os_syscall3(SYS_madvise, (long)base, (long)bytes, advice);
}

/*
 * Emulators of user mode take this advice for nothing, and say that it was taken. So it is tried out
 * at first; there, the range is made zero by hand.
 */
int os_file_discard(void *base, size_t bytes)
{
	enum { UNKNOWN, TAKEN, IGNORED };
	static _Atomic(uint32_t) advice;
	uint32_t known = a_load_rlx(&advice);
	volatile char *first = base;
	int ret;

	if (known == UNKNOWN)
		*first = 1;
	ret = area_advise(base, bytes, MADV_REMOVE);
	if (ret)
		return ret;
	if (known == UNKNOWN) {
		known = *first ? IGNORED : TAKEN;
		a_store_rlx(&advice, known);
	}
	if (known == IGNORED)
		memset(base, 0, bytes);
	return 0;
}

int os_linux_hide_from_fork(void *base, size_t bytes)
{
	return area_advise(base, bytes, MADV_DONTFORK);
}

int os_linux_guard(void *base, size_t bytes)
{
	return area_advise(base, bytes, AREA_MADV_GUARD_INSTALL);
}

static int decommit_each(const struct os_range *ranges, size_t count)
{
	int first = 0;

	for (size_t i = 0; i < count; i++) {
		int ret = area_advise(ranges[i].base, ranges[i].bytes, MADV_DONTNEED);
		first = first ? first : ret;
	}
	return first;
}

/*
 * One call for up to IOV_MAX ranges; the process descriptor is opened for it, since a forked child
 * must not use its parent's. Few ranges are quicker one by one.
 */
int os_linux_decommit_many(const struct os_range *ranges, size_t count)
{
	enum { FEW = 4, MOST = 1024 };
	long pid;
	size_t done = 0;

	_Static_assert(sizeof(struct os_range) == sizeof(struct iovec), "a range is an iovec");
	if (count <= FEW)
		return decommit_each(ranges, count);
	pid = os_syscall2(SYS_pidfd_open, os_pid(), 0);
	while (pid >= 0 && done < count) {
		size_t now = count - done < MOST ? count - done : MOST;
		size_t want = 0;
		long ret = os_syscall5(SYS_process_madvise, pid, (long)(ranges + done), (long)now,
			MADV_DONTNEED, 0);

		for (size_t i = 0; i < now; i++)
			want += ranges[done + i].bytes;
		if (ret < 0 || (size_t)ret != want)
			break;
		done += now;
	}
	if (pid >= 0)
		os_syscall1(SYS_close, pid);
	return decommit_each(ranges + done, count - done);
}

/* The kernel's interface of PAGEMAP_SCAN (Linux 6.7). */
struct scan_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

enum {
	SCAN_FILE = 4,
	SCAN_PRESENT = 8,
	SCAN_SWAPPED = 16,
	SCAN_ZERO = 32,
	SCAN_REGIONS = 64,
};
#define SCAN_IOCTL 0xc0606610ul /* _IOWR('f', 16, struct scan_arg) */

static uint8_t scan_kind(uint64_t categories)
{
	bool is_shared = (categories & (SCAN_FILE | SCAN_ZERO)) && !(categories & SCAN_SWAPPED);

	return is_shared ? OS_PAGE_SHARED : OS_PAGE_OWN;
}

static int pages_scan(int fd, uintptr_t start, size_t pages, uint8_t *ret)
{
	const size_t page = os_facts()->page_bytes;
	struct scan_region regions[SCAN_REGIONS];
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = start + pages * page,
		.vec = (uintptr_t)regions,
		.vec_len = SCAN_REGIONS,
		.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
		.return_mask = SCAN_FILE | SCAN_PRESENT | SCAN_SWAPPED | SCAN_ZERO,
	};

	memset(ret, OS_PAGE_NONE, pages);
	while (arg.start < arg.end) {
		long count = os_syscall3(SYS_ioctl, fd, (long)SCAN_IOCTL, (long)&arg);
		if (count < 0)
			return (int)count;
		for (long i = 0; i < count; i++)
			memset(ret + (regions[i].start - start) / page,
				scan_kind(regions[i].categories),
				(regions[i].end - regions[i].start) / page);
		if (arg.walk_end <= arg.start)
			return -EINVAL;
		arg.start = arg.walk_end;
	}
	return 0;
}

/* An entry of /proc/self/pagemap. */
#define MAP_PRESENT (1ull << 63)
#define MAP_SWAPPED (1ull << 62)
#define MAP_FILE_PAGE (1ull << 61)
#define MAP_EXCLUSIVE (1ull << 56)

static int pagemap_open(void)
{
	return (int)os_syscall4(SYS_openat, AT_FDCWD, (long)"/proc/self/pagemap",
		O_RDONLY | O_CLOEXEC, 0);
}

static long pagemap_read(int fd, uintptr_t start, uint64_t *ret, size_t count)
{
	const size_t page = os_facts()->page_bytes;

	return os_syscall4(SYS_pread64, fd, (long)ret, (long)(count * sizeof(*ret)),
		(long)(start / page * sizeof(*ret)));
}

/* Before Linux 6.7; the zero page looks like one of the process's own. */
static int pages_read(int fd, uintptr_t start, size_t pages, uint8_t *ret)
{
	const size_t page = os_facts()->page_bytes;
	uint64_t entries[64];

	for (size_t done = 0; done < pages;) {
		size_t now = pages - done < 64 ? pages - done : 64;
		long bytes = pagemap_read(fd, start + done * page, entries, now);

		if (bytes != (long)(now * sizeof(entries[0])))
			return bytes < 0 ? (int)bytes : -EIO;
		for (size_t i = 0; i < now; i++) {
			uint8_t kind = OS_PAGE_NONE;
			if (entries[i] & (MAP_PRESENT | MAP_SWAPPED))
				kind = entries[i] & MAP_FILE_PAGE ? OS_PAGE_SHARED : OS_PAGE_OWN;
			ret[done + i] = kind;
		}
		done += now;
	}
	return 0;
}

/* The file is opened for each question: a child must not use its parent's. */
int os_linux_pages(const void *base, size_t pages, uint8_t *ret)
{
	int fd = pagemap_open();
	int error;

	if (fd < 0)
		return fd;
	error = pages_scan(fd, (uintptr_t)base, pages, ret);
	if (error)
		error = pages_read(fd, (uintptr_t)base, pages, ret);
	os_syscall1(SYS_close, fd);
	return error;
}

bool os_may_swap(void)
{
	struct sysinfo info;

	memset(&info, 0, sizeof(info));
	return os_syscall1(SYS_sysinfo, (long)&info) || info.totalswap;
}

int os_linux_pages_quick(const void *base, size_t pages, uint8_t *ret)
{
	long error = os_syscall3(SYS_mincore, (long)base, (long)(pages * os_facts()->page_bytes),
		(long)ret);

	for (size_t i = 0; i < pages && !error; i++)
		ret[i] = ret[i] & 1 ? OS_PAGE_EITHER : OS_PAGE_NONE;
	return (int)error;
}

bool os_linux_page_is_exclusive(const void *page)
{
	int fd = pagemap_open();
	uint64_t entry = 0;

	if (fd < 0)
		return false;
	if (pagemap_read(fd, (uintptr_t)page, &entry, 1) != sizeof(entry))
		entry = 0;
	os_syscall1(SYS_close, fd);
	return (entry & MAP_PRESENT) && (entry & MAP_EXCLUSIVE);
}

/* The last number of a list like "0-3,8-511". */
unsigned os_cpus_possible(void)
{
	char text[1024];
	ssize_t len = os_linux_file_read("/sys/devices/system/cpu/possible", text, sizeof(text));
	const char *at;

	while (len > 0 && (text[len - 1] < '0' || text[len - 1] > '9'))
		text[--len] = '\0';
	if (len <= 0)
		return os_facts()->cpus_usable;
	for (at = text + len; at > text && at[-1] >= '0' && at[-1] <= '9'; at--)
		;
	return (unsigned)number_parse(at, 0) + 1;
}

/* How many digits a text begins with. */
static size_t digits(const char *text)
{
	size_t n = 0;

	while (text[n] >= '0' && text[n] <= '9')
		n++;
	return n;
}

/* Whether a list like "0-3,8" has the number. */
static bool list_has(const char *at, unsigned number)
{
	while (*at >= '0' && *at <= '9') {
		uint64_t first = number_parse(at, 0);
		uint64_t last = first;

		at += digits(at);
		if (*at == '-') {
			last = number_parse(++at, 0);
			at += digits(at);
		}
		if (number >= first && number <= last)
			return true;
		at += *at == ',';
	}
	return false;
}

int os_cpu_node(unsigned cpu)
{
	enum { NODES = 64 };
	char text[1024];

	for (int node = 0; node < NODES; node++) {
		char path[64] = "/sys/devices/system/node/node00/cpulist";
		char *number = path + strlen("/sys/devices/system/node/node");

		if (node < 10) {
			number[0] = (char)('0' + node);
			memcpy(number + 1, "/cpulist", sizeof("/cpulist"));
		} else {
			number[0] = (char)('0' + node / 10);
			number[1] = (char)('0' + node % 10);
		}
		if (os_linux_file_read(path, text, sizeof(text)) <= 0)
			continue;
		if (list_has(text, cpu))
			return node;
	}
	return -ENOENT;
}

int os_move_to_node(void *base, size_t bytes, int node)
{
	unsigned long mask = 1ul << node;

	return (int)os_syscall6(SYS_mbind, (long)base, (long)bytes, AREA_MPOL_PREFERRED,
		(long)&mask, sizeof(mask) * 8 + 1, AREA_MPOL_MF_MOVE);
}
