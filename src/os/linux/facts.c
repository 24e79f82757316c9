/* SPDX-License-Identifier: MIT */
/*
 * Gathers struct os_facts from the auxiliary vector, a few system calls and two files of /proc.
 * Nothing here can fail: what cannot be read gets the value a plain Linux system has. Called by
 * os_init() (src/os/facts.c) only.
 */
#include "linux/linux.h"
#include "linux/sandbox.h"
#include "linux/syscall.h"
#include "number.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

static const uint64_t default_max_map_count = 65530;

static uint64_t limit_read(int resource)
{
	struct rlimit64 limit;

	if (os_syscall4(SYS_prlimit64, 0, resource, 0, (long)&limit))
		return OS_UNLIMITED;
	return limit.rlim_cur == RLIM64_INFINITY ? OS_UNLIMITED : limit.rlim_cur;
}

static uint64_t ram_read(void)
{
	struct sysinfo info;

	memset(&info, 0, sizeof(info));
	if (os_syscall1(SYS_sysinfo, (long)&info))
		return 0;
	return (uint64_t)info.totalram * info.mem_unit;
}

static unsigned cpus_read(void)
{
	unsigned long mask[128]; /* 8192 processors, the most that Linux can be built for */
	long bytes = os_syscall3(SYS_sched_getaffinity, 0, sizeof(mask), (long)mask);
	unsigned cpus = 0;

	for (long i = 0; i < bytes / (long)sizeof(mask[0]); i++)
		cpus += (unsigned)__builtin_popcountl(mask[i]);
	return cpus ? cpus : 1;
}

static uint64_t number_read(const char *path, uint64_t deflt)
{
	char buf[32];
	ssize_t len = os_linux_file_read(path, buf, sizeof(buf));

	return len > 0 ? number_parse(buf, deflt) : deflt;
}

/* valgrind runs its clients with a preload of its own, which it does not hide from them. */
static bool under_valgrind(void)
{
	const char *preload = os_linux_env("LD_PRELOAD");

	return preload && strstr(preload, "/vgpreload_");
}

/* The process was born under filters, or they refuse to tell. */
static void seccomp_read(struct os_facts *f)
{
	struct seccomp_status status = os_linux_seccomp_read();

	f->seccomp_mode = status.mode;
	f->seccomp_filters = status.filters;
}

void os_linux_facts_gather(struct os_facts *ret_facts)
{
	struct os_facts *f = ret_facts;

	memset(f, 0, sizeof(*f));
	f->page_bytes = getauxval(AT_PAGESZ);
	if (!f->page_bytes)
		f->page_bytes = 4096;
	f->ram_bytes = ram_read();
	f->address_limit_bytes = limit_read(RLIMIT_AS);
	f->data_limit_bytes = limit_read(RLIMIT_DATA);
	f->max_map_count = number_read("/proc/sys/vm/max_map_count", default_max_map_count);
	f->overcommit_mode = (int)number_read("/proc/sys/vm/overcommit_memory", 0);
	f->cpus_usable = cpus_read();
	f->is_secure = getauxval(AT_SECURE) != 0;
	f->under_valgrind = under_valgrind();
	f->seccomp_mode = (int)os_syscall2(SYS_prctl, PR_GET_SECCOMP, 0);
	if (f->seccomp_mode)
		seccomp_read(f);
}
