/* SPDX-License-Identifier: MIT */
/*
 * The process-wide barrier: membarrier(2), private and expedited. It interrupts the CPUs that run
 * threads of this process and waits for no thread, so a stopped one does not matter.
 */
#include <errno.h>
#include <linux/membarrier.h>

#include "base/atomic.h"
#include "linux.h"
#include "os/os.h"
#include "sandbox.h"
#include "syscall.h"

static _Atomic(bool) registered;

void os_linux_barrier_register(void)
{
	const long ret =
		os_syscall3(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	a_store_rlx(&registered, ret == 0);
}

int os_linux_barrier(void)
{
	if (!a_load_rlx(&registered))
		return -ENOTSUP;
	/* A sandbox that the process has put itself into might kill it for the call. */
	if (os_linux_sandboxed())
		return -EPERM;
	return os_linux_task_barrier();
}

int os_linux_task_barrier(void)
{
	if (!a_load_rlx(&registered))
		return -ENOTSUP;
	return (int)os_syscall3(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}
