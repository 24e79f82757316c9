/* SPDX-License-Identifier: MIT */
/*
 * The background task on the real kernel: it runs, nobody notices it, it dies with its process in
 * every way a process can end, and it holds nothing the process has given up.
 */
#include "harness.h"
#include "linux/task.h"
#include "os/os.h"

#include "base/atomic.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const uint64_t tick_ns = 10000000;

static struct os_task task;
static _Atomic(uint32_t) ticks;

static void tick(void *arg)
{
	(void)arg;
	while (os_task_sleep(&task, tick_ns))
		a_add_rlx(&ticks, 1);
}

/* As if the kernel had no kcmp(), so that the word of set_tid_address() has to do. */
static void tick_without_kcmp(void *arg)
{
	task.can_compare = false;
	tick(arg);
}

static void sleep_long(void *arg)
{
	(void)arg;
	while (os_task_sleep(&task, 3600 * (uint64_t)1000000000))
		a_add_rlx(&ticks, 1);
}

static void start(void (*fn)(void *))
{
	int ret = os_task_start(&task, fn, NULL);

	if (ret == -ENOTSUP)
		SKIP("no background task here (a sanitizer, valgrind or no /proc)");
	if (ret == -EPERM || ret == -ENOSYS)
		SKIP("clone(CLONE_VM) is not permitted (seccomp)");
	CHECK_EQ(ret, 0);
}

static void pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* Waits for a condition, nearly as long as a subtest may take. */
#define CHECK_SOON(cond)                                          \
	do {                                                      \
		for (int left_ = 1600; left_ && !(cond); left_--) \
			pause_ms(5);                              \
		CHECK(cond);                                      \
	} while (0)

static bool gone(int tid)
{
	return kill(tid, 0) && errno == ESRCH;
}

/* 'Z', 'S' … from /proc/TID/stat, or 0 when there is no such task. */
static char state_of(int tid)
{
	char path[64];
	char text[512];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (os_file_read(path, text, sizeof(text)) <= 0)
		return 0;
	p = strrchr(text, ')');
	return p && p[1] ? p[2] : 0;
}

static bool ended(int tid)
{
	char state = state_of(tid);

	return !state || state == 'Z' || state == 'X';
}

TEST(it_runs_and_keeps_time)
{
	start(tick);
	CHECK(os_task_alive(&task));
	CHECK_EQ(os_task_start(&task, tick, NULL), -EALREADY);
	CHECK_SOON(a_load_rlx(&ticks) >= 3);
}

TEST(a_wake_up_ends_the_sleep)
{
	start(sleep_long);
	pause_ms(30);
	CHECK_EQ(a_load_rlx(&ticks), 0);
	os_task_wake(&task);
	CHECK_SOON(a_load_rlx(&ticks) == 1);
	os_task_wake(&task);
	CHECK_SOON(a_load_rlx(&ticks) == 2);
}

static int entries(const char *path)
{
	DIR *dir = opendir(path);
	int count = 0;

	CHECK(dir);
	for (struct dirent *e; (e = readdir(dir));)
		count += e->d_name[0] != '.';
	closedir(dir);
	return count;
}

static volatile sig_atomic_t child_signals;

static void on_child(int number)
{
	(void)number;
	child_signals++;
}

TEST(the_process_does_not_notice_it)
{
	char path[64];
	int fds[2];
	char byte;

	CHECK(!pipe(fds));
	signal(SIGCHLD, on_child);
	start(tick);
	CHECK_SOON(a_load_rlx(&ticks) >= 1);
	CHECK_EQ(entries("/proc/self/task"), 1);
	CHECK_EQ(wait(NULL), -1);
	CHECK_EQ(errno, ECHILD);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
	CHECK_EQ(errno, ECHILD);
	snprintf(path, sizeof(path), "/proc/%u/fd", a_load_rlx(&task.tid));
	CHECK_EQ(entries(path), 0);
	/* It holds no copy of the pipe, so closing this end is the end of the file. */
	close(fds[1]);
	CHECK_EQ(read(fds[0], &byte, 1), 0);
	os_task_stop(&task);
	CHECK_EQ(child_signals, 0);
}

TEST(a_loop_of_wait_sees_only_real_children)
{
	int seen = 0;

	start(tick);
	for (int i = 0; i < 3; i++) {
		if (!fork())
			_exit(i);
	}
	while (waitpid(-1, NULL, 0) > 0)
		seen++;
	CHECK_EQ(errno, ECHILD);
	CHECK_EQ(seen, 3);
	CHECK(os_task_alive(&task));
}

TEST(a_user_namespace_can_be_entered)
{
	start(tick);
	CHECK_SOON(a_load_rlx(&ticks) >= 1);
	if (unshare(CLONE_NEWUSER))
		SKIP("unshare(CLONE_NEWUSER) is not permitted: %s", strerror(errno));
	CHECK(os_task_alive(&task));
}

TEST(a_childs_user_namespace_can_be_entered)
{
	char path[64];
	int ready[2];
	char byte = 0;
	pid_t pid;
	int fd;

	CHECK(!pipe(ready));
	pid = fork();
	if (!pid) {
		byte = unshare(CLONE_NEWUSER) ? 'n' : 'y';
		if (write(ready[1], &byte, 1) == 1)
			pause();
		_exit(0);
	}
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	if (byte != 'y')
		SKIP("unshare(CLONE_NEWUSER) is not permitted");
	start(tick);
	CHECK_SOON(a_load_rlx(&ticks) >= 1);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(setns(fd, CLONE_NEWUSER), 0);
	kill(pid, SIGKILL);
}

TEST(a_forked_child_has_none_and_may_start_one)
{
	int status;
	pid_t pid;

	start(tick);
	pid = fork();
	if (!pid) {
		os_task_fork_child(&task);
		CHECK(!os_task_alive(&task));
		a_store_rlx(&ticks, 0);
		start(tick);
		CHECK_SOON(a_load_rlx(&ticks) >= 1);
		os_task_stop(&task);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(os_task_alive(&task));
}

/*
 * Forks a process that starts the task and hands its id out through shared memory; then the process
 * ends by end(). The orphaned task comes to this process, which has to see it die.
 */
static void check_dies_with(void (*end)(void))
{
	_Atomic(int) *tid =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	pid = fork();
	if (!pid) {
		start(tick);
		CHECK_SOON(a_load_rlx(&ticks) >= 1);
		a_store_rlx(tid, (int)a_load_rlx(&task.tid));
		end();
		pause();
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("no background task here (seccomp, a sanitizer or valgrind)");
	CHECK(a_load_rlx(tid));
	CHECK_SOON(ended(a_load_rlx(tid)));
	/* Nobody but the kernel's substitute for a dead parent had to do anything about it. */
	CHECK_EQ(waitpid(-1, &status, 0), a_load_rlx(tid));
}

static void end_by_exit(void)
{
	_exit(0);
}

static void end_by_kill(void)
{
	kill(getpid(), SIGKILL);
}

static void end_unprivileged(void)
{
	/* The raw call: without it the kernel does not let the dead parent's signal through. */
	if (syscall(SYS_setresuid, 65534, 65534, 65534))
		_exit(1);
	_exit(0);
}

TEST(it_dies_with_the_process)
{
	check_dies_with(end_by_exit);
}

TEST(it_dies_when_the_process_is_killed)
{
	check_dies_with(end_by_kill);
}

TEST(it_dies_when_privileges_were_dropped)
{
	if (geteuid())
		SKIP("needs root, to drop it");
	check_dies_with(end_unprivileged);
}

TEST(a_stopped_task_leaves_nothing)
{
	int tid;

	start(tick);
	tid = (int)a_load_rlx(&task.tid);
	os_task_stop(&task);
	CHECK(!os_task_alive(&task));
	CHECK(gone(tid));
	CHECK_EQ(os_task_start(&task, tick, NULL), -EPERM);
}

static void sleep_without_end(void *arg)
{
	(void)arg;
	os_task_sleep(&task, tick_ns);
	for (;;)
		a_pause();
}

TEST(a_busy_task_is_stopped_as_well)
{
	int tid;

	start(sleep_without_end);
	tid = (int)a_load_rlx(&task.tid);
	pause_ms(20);
	os_task_stop(&task);
	CHECK(gone(tid));
}

static void *start_on_thread(void *arg)
{
	start(arg);
	CHECK_SOON(a_load_rlx(&ticks) >= 1);
	return NULL;
}

TEST(it_ends_with_the_thread_that_started_it_and_can_be_started_again)
{
	pthread_t thread;
	int tid;

	CHECK(!pthread_create(&thread, NULL, start_on_thread, tick));
	pthread_join(thread, NULL);
	tid = (int)task.last_tid;
	CHECK_SOON(!os_task_alive(&task));
	CHECK_SOON(ended(tid));
	start(tick);
	/* The one before has been reaped. */
	CHECK(gone(tid));
	CHECK(os_task_alive(&task));
}

/* Runs a program by exec in a child that has the task, which must end while the program runs. */
static void check_exec(void (*fn)(void *))
{
	_Atomic(int) *tid =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid = fork();

	if (!pid) {
		start(fn);
		CHECK_SOON(a_load_rlx(&ticks) >= 1);
		a_store_rlx(tid, (int)a_load_rlx(&task.tid));
		execlp("sleep", "sleep", "60", NULL);
		_exit(1);
	}
	while (!a_load_rlx(tid) && !waitpid(pid, &status, WNOHANG))
		pause_ms(5);
	if (!a_load_rlx(tid))
		SKIP("no background task here (seccomp, a sanitizer or valgrind)");
	CHECK_SOON(ended(a_load_rlx(tid)));
	CHECK(!waitpid(pid, &status, WNOHANG));
	kill(pid, SIGKILL);
}

TEST(it_ends_when_the_process_executes_another_program)
{
	check_exec(tick);
}

TEST(it_sees_an_exec_without_kcmp)
{
	check_exec(tick_without_kcmp);
}

TEST(without_kcmp_it_lives_on_with_its_process)
{
	start(tick_without_kcmp);
	if (!task.owner_word)
		SKIP("prctl(PR_GET_TID_ADDRESS) gives no thread id");
	CHECK_SOON(a_load_rlx(&ticks) >= 3);
}

static _Atomic(int) open_result;

static long raw_open(void)
{
	long ret = syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY, 0);

	return ret < 0 ? -errno : ret;
}

static void try_to_open(void *arg)
{
	(void)arg;
	os_task_sleep(&task, 1);
	a_store_rlx(&open_result, (int)raw_open());
	while (os_task_sleep(&task, tick_ns))
		;
}

TEST(after_its_first_sleep_it_has_no_rights)
{
	start(try_to_open);
	CHECK_SOON(a_load_rlx(&open_result) != 0);
	CHECK_EQ(a_load_rlx(&open_result), -EPERM);
}

static void crash(void *arg)
{
	volatile int *nowhere = arg;

	*nowhere = 1;
}

TEST(a_fault_in_it_ends_it_alone)
{
	int tid;

	start(crash);
	tid = (int)task.last_tid;
	CHECK_SOON(!os_task_alive(&task));
	CHECK_SOON(ended(tid));
}

static void sandbox(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		SKIP("no seccomp filters");
}

TEST_PLAIN(a_process_that_entered_a_sandbox_is_left_alone)
{
	os_init();
	if (os_facts()->seccomp_mode)
		SKIP("this process was born under seccomp");
	sandbox();
	CHECK_EQ(os_task_start(&task, tick, NULL), os_facts()->under_valgrind ? -ENOTSUP : -EPERM);
}

/* As in a container: what it was born under is not held against it; one filter more is. */
TEST_PLAIN(a_process_born_in_a_sandbox_may_enter_another)
{
	sandbox();
	os_init();
	if (os_facts()->seccomp_filters < 0)
		SKIP("/proc does not tell how many filters there are (Linux 5.9)");
	start(tick);
	CHECK_SOON(a_load_rlx(&ticks) >= 1);
	os_task_stop(&task);
	CHECK(!os_task_alive(&task));
	a_store_rlx(&task.stop, 0);
	sandbox();
	pause_ms(20);
	CHECK_EQ(os_facts()->seccomp_mode, 2);
	CHECK_EQ(os_task_start(&task, tick, NULL), -EPERM);
}

TEST(it_never_becomes_the_first_process_of_a_namespace)
{
	pid_t pid;
	int status;

	if (unshare(CLONE_NEWPID) && unshare(CLONE_NEWUSER | CLONE_NEWPID))
		SKIP("unshare(CLONE_NEWPID) is not permitted");
	CHECK_EQ(os_task_start(&task, tick, NULL), -ENOTSUP);
	pid = fork();
	if (!pid)
		_exit(getpid() == 1 ? 0 : 1);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static _Atomic(uint32_t) started;
static _Atomic(uint32_t) refused;

static void *start_racing(void *arg)
{
	int ret = os_task_start(&task, tick, NULL);

	(void)arg;
	a_add_rlx(ret ? &refused : &started, 1);
	if (ret == -ENOTSUP || ret == -EPERM)
		a_add_rlx(&started, 1000);
	/* The task ends with its starter, which therefore stays. */
	pause();
	return NULL;
}

TEST(of_racing_starters_one_wins)
{
	enum { threads = 6 };
	pthread_t thread;

	for (int i = 0; i < threads; i++)
		CHECK(!pthread_create(&thread, NULL, start_racing, NULL));
	CHECK_SOON(a_load_rlx(&refused) + a_load_rlx(&started) % 1000 >= threads);
	if (a_load_rlx(&started) >= 1000)
		SKIP("no background task here (seccomp, a sanitizer or valgrind)");
	CHECK_EQ(a_load_rlx(&started), 1);
	CHECK(os_task_alive(&task));
}

/*
 * What the task does that came to run so late that its thread had ended, in a process that does not
 * share the memory, as far as kcmp() tells; whether it says that there shall be no other.
 */
static uint32_t stop_of(_Atomic(uint32_t) *owner_word)
{
	struct os_task *late =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;

	CHECK(late != MAP_FAILED);
	late->owner_pid = getpid();
	late->owner_tid = (uint32_t)getpid();
	late->owner_word = owner_word;
	child = fork();
	if (!child)
		os_task_main(late);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	return a_load_rlx(&late->stop);
}

TEST(a_thread_that_ended_at_once_is_no_reason_to_try_no_more)
{
	static _Atomic(uint32_t) word;

	CHECK_EQ(stop_of(&word), 0);
	CHECK_EQ(stop_of((void *)8), 0);
	/* Nothing can be known of the thread: then there shall be none. */
	CHECK_EQ(stop_of(NULL), 1);
}
