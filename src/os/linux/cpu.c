/* SPDX-License-Identifier: MIT */
/*
 * Which processor runs us: glibc 2.35 and later have the kernel keep its number in each thread's
 * area for restartable sequences. Reading it is one load.
 */
#include "os/os.h"

/* Where the area lies from the thread pointer on, and how large it is; 0: not registered. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

/* Of struct rseq: cpu_id, negative as long as the thread is not registered. */
enum { RSEQ_CPU_ID = 4 };

/* Threads have their storage apart by some kilobytes at least. */
static unsigned thread_number(const void *thread)
{
	return (unsigned)(((uintptr_t)thread >> 12) * 0x9e3779b9u >> 16);
}

unsigned os_cpu(void)
{
	const char *thread = __builtin_thread_pointer();
	int cpu = -1;

	if (&__rseq_size && __rseq_size)
		cpu = *(const volatile int *)(thread + __rseq_offset + RSEQ_CPU_ID);
	return cpu >= 0 ? (unsigned)cpu : thread_number(thread);
}
