/* SPDX-License-Identifier: MIT */
/*
 * Restartable sequences: what libc registered, registration of areas, and the fence that makes the
 * sequences of other processors start again. Stateless; may be called by any thread.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>

#include "linux/linux.h"
#include "linux/syscall.h"

/* Kernel ABI that headers of supported systems may lack. */
enum {
	RSEQ_UNREGISTER = 1,
	BARRIER_RSEQ = 1 << 7,
	BARRIER_REGISTER_RSEQ = 1 << 8,
	BARRIER_FLAG_CPU = 1,
	AUX_RSEQ_FEATURE_BYTES = 27,
	CPUS_MOST = 8192, /* NR_CPUS of the largest kernels */
};

#ifndef SYS_rseq
#if defined(__x86_64__)
#define SYS_rseq 334
#else
#define SYS_rseq 293
#endif
#endif

/* What stands in front of each abort handler; the kernel compares. */
#if defined(__x86_64__)
#define SIGNATURE 0x53053053
#else
#define SIGNATURE 0xd428bc00
#endif

/* glibc 2.35 and later registers every thread and says so by these. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

bool os_rseq_libc(ptrdiff_t *ret_offset, unsigned *ret_bytes)
{
	if (!&__rseq_size || !&__rseq_offset || !__rseq_size)
		return false;
	*ret_offset = __rseq_offset;
	*ret_bytes = __rseq_size;
	return true;
}

unsigned os_rseq_kernel_bytes(void)
{
	return (unsigned)getauxval(AUX_RSEQ_FEATURE_BYTES);
}

int os_linux_rseq_register(void *area, unsigned bytes)
{
	return (int)os_syscall4(SYS_rseq, (long)area, bytes, 0, SIGNATURE);
}

int os_rseq_unregister(void *area, unsigned bytes)
{
	return (int)os_syscall4(SYS_rseq, (long)area, bytes, RSEQ_UNREGISTER, SIGNATURE);
}

int os_rseq_fence_register(void)
{
	return (int)os_syscall3(SYS_membarrier, BARRIER_REGISTER_RSEQ, 0, 0);
}

static int fence_by_membarrier(int cpu)
{
	long ret = os_syscall3(SYS_membarrier, BARRIER_RSEQ, cpu < 0 ? 0 : BARRIER_FLAG_CPU,
		cpu < 0 ? 0 : cpu);

	/* -EPERM: nobody has registered the process yet. */
	if (ret == -EPERM && os_rseq_fence_register() == 0)
		ret = os_syscall3(SYS_membarrier, BARRIER_RSEQ, cpu < 0 ? 0 : BARRIER_FLAG_CPU,
			cpu < 0 ? 0 : cpu);
	return (int)ret;
}

struct cpus {
	unsigned long words[CPUS_MOST / (8 * sizeof(unsigned long))];
};

/*
 * Runs on one processor: whoever ran there has been interrupted then. -EINVAL: this thread may not,
 * because no thread of its group of processors does.
 */
static int visit(int cpu)
{
	struct cpus one;

	memset(&one, 0, sizeof one);
	one.words[(unsigned)cpu / (8 * sizeof one.words[0])] = 1UL
		<< (unsigned)cpu % (8 * sizeof one.words[0]);
	return (int)os_syscall3(SYS_sched_setaffinity, 0, sizeof one, (long)&one);
}

int os_linux_rseq_fence_by_visits(int cpu)
{
	struct cpus before;
	long bytes;
	int visited = 0;

	memset(&before, 0, sizeof before);
	bytes = os_syscall3(SYS_sched_getaffinity, 0, sizeof before, (long)&before);
	if (bytes < 0)
		return (int)bytes;
	/* The kernel says how long its sets are: no processor is beyond. */
	for (int at = cpu < 0 ? 0 : cpu; at < (cpu < 0 ? (int)bytes * 8 : cpu + 1); at++) {
		const int ret = at < CPUS_MOST ? visit(at) : -EINVAL;

		if (ret != 0 && ret != -EINVAL)
			return ret;
		visited += ret == 0;
	}
	if (visited)
		os_syscall3(SYS_sched_setaffinity, 0, bytes, (long)&before);
	return visited || cpu >= 0 ? 0 : -EPERM;
}

void os_signals_block(uint64_t *ret_old)
{
	const uint64_t all = ~0ULL;

	os_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&all, (long)ret_old, sizeof all);
}

void os_signals_restore(const uint64_t *old)
{
	os_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)old, 0, sizeof *old);
}

int os_linux_rseq_fence(int cpu)
{
	const int ret = fence_by_membarrier(cpu);

	return ret == 0 ? 0 : os_linux_rseq_fence_by_visits(cpu);
}
