/* SPDX-License-Identifier: MIT */
/*
 * The background task, seen by the process that owns it: starting, waking, stopping, reaping. What
 * the task itself does is in task_self.c; why it is no thread is told in docs/design/os.md.
 *
 * Operations: start, alive, wake, stop, fork_child, by any thread.
 * Synchronization table:
 *   start × start       `state`, by compare-and-swap; the loser returns -EALREADY
 *   start × the task    clone() orders what is written before it; fields are reused only when the
 *                       kernel has cleared `tid`, which it does after the task's last instruction
 *   wake × sleep        `wakes`, a futex word                                         [os.3]
 *   stop × sleep, start `stop`, and a wake
 * Linearization points: start: the kernel's writing of `tid`; end: the kernel's clearing of it.
 * Progress: nobody waits but os_task_stop(). A thread that is stopped for ever inside start leaves
 * `state` at starting: then there is no task, which every caller bears.
 * Reclamation: the stack is mapped once and reused by later tasks, never unmapped.
 */
#include "linux/task.h"

#include "base/atomic.h"
#include "linux/clone.h"
#include "linux/linux.h"
#include "linux/sandbox.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum task_state { TASK_IDLE = 0, TASK_STARTING, TASK_STARTED };

/*
 * From the bottom: a guard, the stack, room for what lies below the thread pointer (x86-64), the
 * thread pointer, room for what lies above it (aarch64). Multiples of 64 KiB, the largest page.
 */
enum {
	guard_bytes = 65536,
	stack_bytes = 65536,
	tls_room_bytes = 8192,
	stack_map_bytes = guard_bytes + stack_bytes,
};

/*
 * The sanitizers keep state of the running thread in thread-local storage, and have locks, which a
 * task that is killed amid an instrumented access would hold for ever.
 */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
static const bool has_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
static const bool has_sanitizer = true;
#else
static const bool has_sanitizer = false;
#endif
#else
static const bool has_sanitizer = false;
#endif

/*
 * Not CLONE_THREAD, _SIGHAND, _FS or _FILES: the task is no part of the process. No exit signal:
 * wait() does not see it. CLONE_UNTRACED: strace -f and gdb do not follow it.
 */
static const unsigned long clone_flags =
	CLONE_VM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_UNTRACED;

/* Its address is the thread's mark. */
static __thread char mark;

void os_task_claim(struct os_task *task)
{
	task->owner_mark = &mark;
}

bool os_task_is_mine(const struct os_task *task)
{
	return task->owner_mark == &mark;
}

bool os_linux_task_is_me(const struct os_task *task)
{
	/* It runs on a stack of its own, which stays mapped. */
	return task->stack &&
		(uintptr_t)__builtin_frame_address(0) - (uintptr_t)task->stack < stack_map_bytes;
}

bool os_linux_task_alive(const struct os_task *task)
{
	/* Relaxed: the kernel clears it, and whoever reuses the fields makes system calls first. */
	return a_load_rlx(&task->tid) != 0;
}

/*
 * After unshare(CLONE_NEWPID) the next child becomes the first process of the new namespace, and
 * its end the end of that: it must not be our task. The link exists in both forms since Linux 4.12;
 * without /proc nothing can be said.
 */
static bool children_go_elsewhere(void)
{
	struct stat own;
	struct stat children;
	long failed;

	memset(&own, 0, sizeof(own));
	memset(&children, 0, sizeof(children));
	failed = os_syscall4(SYS_newfstatat, AT_FDCWD, (long)"/proc/thread-self/ns/pid", (long)&own,
		0);
	failed |= os_syscall4(SYS_newfstatat, AT_FDCWD,
		(long)"/proc/thread-self/ns/pid_for_children", (long)&children, 0);
	return failed || own.st_ino != children.st_ino || own.st_dev != children.st_dev;
}

/*
 * A process that has put itself into a sandbox since its start might be killed for clone(). Where
 * it was born in one (containers), its filters are taken to allow what fork() needs.
 */
static int start_refused(const struct os_task *task)
{
	if (has_sanitizer || os_facts()->under_valgrind)
		return -ENOTSUP;
	if (a_load_rlx(&task->stop) || os_linux_sandboxed())
		return -EPERM;
	return children_go_elsewhere() ? -ENOTSUP : 0;
}

/* One caller may go on; -EALREADY to the others, and to all while a task runs. */
static int start_claim(struct os_task *task)
{
	uint32_t idle = TASK_IDLE;
	uint32_t started = TASK_STARTED;

	if (a_cas_strong_rlx(&task->state, &idle, TASK_STARTING))
		return 0;
	if (os_linux_task_alive(task))
		return -EALREADY;
	/* [os.2] acq: sees the fields of the last start; pairs with start_finish() */
	return a_cas_strong_acq(&task->state, &started, TASK_STARTING) ? 0 : -EALREADY;
}

static void start_finish(struct os_task *task, enum task_state state)
{
	/* [os.2] rel: the fields are written; pairs with start_claim() */
	a_store_rel(&task->state, (uint32_t)state);
}

/* Lets the kernel forget a task that has ended. False: it is still ending. */
static bool reap(struct os_task *task, int options)
{
	long ret;

	if (!task->last_tid)
		return true;
	do {
		ret = os_syscall4(SYS_wait4, (long)task->last_tid, 0, options | __WCLONE, 0);
	} while (ret == -EINTR);
	if (!ret)
		return false;
	task->last_tid = 0;
	return true;
}

static int stack_make(struct os_task *task)
{
	char *base;

	if (task->stack)
		return 0;
	base = os_linux_reserve(stack_map_bytes, guard_bytes);
	if (!base)
		return -ENOMEM;
	if (os_linux_commit(base + guard_bytes, stack_bytes)) {
		os_linux_unmap(base, stack_map_bytes);
		return -ENOMEM;
	}
	task->stack = base;
	return 0;
}

/* The word that the kernel clears when the calling thread ends or executes; see task_self.c. */
static void *owner_word_find(void)
{
	_Atomic(uint32_t) *word = NULL;

	if (os_syscall2(SYS_prctl, PR_GET_TID_ADDRESS, (long)&word) || !word)
		return NULL;
	return a_load_rlx(word) == (uint32_t)os_thread_id() ? word : NULL;
}

/* All signals are blocked while cloning, so that the task never runs a handler of the program's. */
static long clone_blocked(struct os_task *task)
{
	char *top = task->stack + stack_map_bytes;
	char *tls = top - tls_room_bytes;
	unsigned long all = ~0UL;
	unsigned long old = 0;
	struct clone_request request = {
		.flags = clone_flags,
		.stack_top = tls - tls_room_bytes,
		.tid = &task->tid,
		.tls = tls,
		.entry = os_task_main,
		.arg = task,
	};
	long ret;

	memset(tls - tls_room_bytes, 0, 2 * tls_room_bytes);
	/* Where x86-64 finds its own thread pointer. */
	((char **)tls)[0] = tls;
	((char **)tls)[2] = tls;
	os_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, sizeof(all));
	ret = clone_and_run(&request);
	os_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, sizeof(old));
	return ret;
}

static int start_claimed(struct os_task *task)
{
	int ret = stack_make(task);
	long tid;

	if (ret)
		return ret;
	task->owner_pid = os_pid();
	task->owner_tid = (uint32_t)os_thread_id();
	os_task_claim(task);
	task->owner_word = owner_word_find();
	task->can_compare = false;
	task->sealed = false;
	task->wakes_seen = a_load_rlx(&task->wakes);
	tid = clone_blocked(task);
	if (tid < 0)
		return (int)tid;
	task->last_tid = (uint32_t)tid;
	return 0;
}

int os_linux_task_start(struct os_task *task, void (*fn)(void *arg), void *arg)
{
	int ret = start_refused(task);

	if (!ret)
		ret = start_claim(task);
	if (ret)
		return ret;
	if (!reap(task, WNOHANG)) {
		start_finish(task, TASK_STARTED);
		return -EAGAIN;
	}
	task->fn = fn;
	task->arg = arg;
	ret = start_claimed(task);
	start_finish(task, ret ? TASK_IDLE : TASK_STARTED);
	return ret;
}

void os_linux_wait_while(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns)
{
	struct timespec limit = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

	os_syscall6(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, value, (long)&limit, 0, 0);
}

void os_linux_wake(_Atomic(uint32_t) *word)
{
	os_syscall6(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, INT_MAX, 0, 0, 0);
}

void os_linux_task_wake(struct os_task *task)
{
	/* [os.3] rel: what the waker did is seen by the task; pairs with os_task_sleep() */
	a_add_rel(&task->wakes, 1);
	os_syscall6(SYS_futex, (long)&task->wakes, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

/* Waits until the task is gone, at most `ms` milliseconds. */
static bool wait_gone(struct os_task *task, long ms)
{
	struct timespec limit = { 0, ms * 1000000 };
	uint32_t tid = a_load_rlx(&task->tid);

	/* Not FUTEX_PRIVATE: the kernel wakes the shared kind when it clears the word. */
	if (tid)
		os_syscall6(SYS_futex, (long)&task->tid, FUTEX_WAIT, tid, (long)&limit, 0, 0);
	return !os_linux_task_alive(task);
}

void os_linux_task_stop(struct os_task *task)
{
	a_store_rlx(&task->stop, 1);
	/* [os.2] acq: sees last_tid; pairs with start_finish() */
	if (a_load_acq(&task->state) != TASK_STARTED || task->owner_pid != os_pid())
		return;
	/*
	 * A sandbox might kill for what follows; the kernel ends the task with the process anyway.
	 */
	if (os_linux_sandboxed())
		return;
	os_linux_task_wake(task);
	if (!wait_gone(task, 10) && task->last_tid)
		os_syscall3(SYS_tgkill, task->last_tid, task->last_tid, SIGKILL);
	reap(task, 0);
}

void os_task_fork_child(struct os_task *task)
{
	a_store_rlx(&task->state, TASK_IDLE);
	a_store_rlx(&task->tid, 0);
	a_store_rlx(&task->stop, 0);
	task->last_tid = 0;
}
