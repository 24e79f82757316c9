/* SPDX-License-Identifier: MIT */
/*
 * The background task, seen from inside. Runs on a stack and thread-local block of its own, with
 * all signals blocked, in no thread group but its own; it must not call anything of libc that
 * could touch errno or locks.
 *
 * The task keeps the memory of the process alive as long as it lives. So it must notice, for
 * certain, when the process is gone or has executed another program: if it cannot, it ends at once
 * and for good. The end of the process kills it (PR_SET_PDEATHSIG, checked again by getppid()). For
 * an exec by the thread that started it there are two signs, either of which is enough: kcmp() says
 * that the memory is not shared any more; or the word that the kernel clears at the end of that
 * thread's use of this memory (set_tid_address()) is cleared. An exec by another thread ends the
 * starting thread and so kills the task.
 */
#include "base/atomic.h"
#include "linux/linux.h"
#include "linux/syscall.h"
#include "linux/task.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <time.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#if defined(__x86_64__)
#define TASK_AUDIT_ARCH AUDIT_ARCH_X86_64
#else
#define TASK_AUDIT_ARCH AUDIT_ARCH_AARCH64
#endif

/* The kernel's struct sigaction, where libc's differs. */
struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void *restorer;
	unsigned long mask;
};

/* x86-64 refuses to call a handler without a restorer; ours never returns to it. */
static const unsigned long sa_restorer = 0x04000000;

static const uint64_t slice_ns = 500000000;

static _Noreturn void end(void)
{
	for (;;)
		os_syscall1(SYS_exit, 0);
}

static void on_fault(int number)
{
	(void)number;
	end();
}

/*
 * A fault ends the task quietly: the default action would dump core, for which kernels before 5.16
 * kill every process that shares the memory.
 */
static void faults_catch(void)
{
	static const int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS };
	struct kernel_sigaction action = { on_fault, sa_restorer, NULL, ~0UL };
	unsigned long set = 0;

	action.restorer = (void *)on_fault;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		os_syscall4(SYS_rt_sigaction, numbers[i], (long)&action, 0, sizeof(action.mask));
		set |= 1UL << (numbers[i] - 1);
	}
	os_syscall4(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, sizeof(set));
}

/* Gives up what it got as a copy: descriptors (a pipe must not stay open), directory, group. */
static bool inherit_nothing(void)
{
	if (os_syscall3(SYS_close_range, 0, ~0U, 0))
		return false;
	os_syscall1(SYS_chdir, (long)"/");
	os_syscall2(SYS_setpgid, 0, 0);
	faults_catch();
	os_syscall2(SYS_prctl, PR_SET_NAME, (long)"allod-janitor");
	return true;
}

/* Compares the word and moves nobody: 0; -EAGAIN, or -EFAULT where it is unmapped, is the end. */
static long owner_word_compare(const struct os_task *task)
{
	return os_syscall6(SYS_futex, (long)task->owner_word, FUTEX_CMP_REQUEUE, 0, 0,
		(long)&task->wakes, task->owner_tid);
}

static bool owner_shares_memory(const struct os_task *task)
{
	if (task->can_compare)
		return os_syscall5(SYS_kcmp, os_pid(), task->owner_pid, KCMP_VM, 0, 0) == 0;
	return task->owner_word && owner_word_compare(task) == 0;
}

/* Whether the thread has ended before we came to run: another one may start the next task. */
static bool owner_has_ended(const struct os_task *task)
{
	const long ret = task->owner_word ? owner_word_compare(task) : 0;

	return ret == -EAGAIN || ret == -EFAULT;
}

static bool owner_lives(const struct os_task *task)
{
	return os_syscall1(SYS_getppid, 0) == task->owner_pid && owner_shares_memory(task);
}

/* Ties the task's life to the owner's; false: that is not possible. */
static bool tie_to_owner(struct os_task *task)
{
	if (os_syscall2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL))
		return false;
	task->can_compare = os_syscall5(SYS_kcmp, os_pid(), task->owner_pid, KCMP_VM, 0, 0) == 0;
	return owner_lives(task);
}

_Noreturn void os_task_main(void *arg)
{
	struct os_task *task = arg;

	if (tie_to_owner(task) && inherit_nothing())
		task->fn(task->arg);
	else if (!owner_has_ended(task))
		a_store_rlx(&task->stop, 1);
	end();
}

#define ALLOW(name)                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/*
 * What is left to the task: the memory it shares, sleeping, and descriptors it opened before. If
 * the process gives up privileges later, the task still has them but cannot use them.
 */
static const struct sock_filter filter[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TASK_AUDIT_ARCH, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(madvise),
	ALLOW(mincore),
	ALLOW(membarrier),
	ALLOW(futex),
	ALLOW(getppid),
	ALLOW(getpid),
	ALLOW(gettid),
	ALLOW(kcmp),
	ALLOW(clock_gettime),
	ALLOW(mprotect),
	ALLOW(mmap),
	ALLOW(munmap),
	ALLOW(mremap),
	ALLOW(read),
	ALLOW(pread64),
	ALLOW(write),
	ALLOW(ppoll),
	ALLOW(tgkill),
	ALLOW(exit),
	ALLOW(exit_group),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};

static bool seal(struct os_task *task)
{
	struct sock_fprog program = {
		.len = sizeof(filter) / sizeof(filter[0]),
		.filter = (struct sock_filter *)filter,
	};

	if (os_syscall5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return false;
	task->sealed = !os_syscall3(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&program);
	return task->sealed;
}

/* Sleeps once; a wake-up that came since the last sleep ends it before it begins. */
static void doze(struct os_task *task, uint64_t ns)
{
	struct timespec limit = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

	os_syscall6(SYS_futex, (long)&task->wakes, FUTEX_WAIT_PRIVATE, task->wakes_seen,
		(long)&limit, 0, 0);
}

static bool woken(struct os_task *task)
{
	/* [os.3] acq: sees what the waker did; pairs with os_task_wake() */
	uint32_t wakes = a_load_acq(&task->wakes);
	bool is_new = wakes != task->wakes_seen;

	task->wakes_seen = wakes;
	return is_new;
}

bool os_linux_task_sleep(struct os_task *task, uint64_t ns)
{
	if (!task->sealed && !seal(task)) {
		a_store_rlx(&task->stop, 1);
		return false;
	}
	for (;;) {
		uint64_t part = ns < slice_ns ? ns : slice_ns;

		doze(task, part);
		ns -= part;
		if (a_load_rlx(&task->stop) || !owner_lives(task))
			return false;
		if (woken(task) || !ns)
			return true;
	}
}
