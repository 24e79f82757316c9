/* SPDX-License-Identifier: MIT */
/*
 * A process that has freed many blocks of pages and then calls nothing any more shrinks all the same,
 * within five seconds; and the one that does this for it keeps it from nothing: user namespaces can
 * be entered, sandboxes too, and a child of fork does as well. Blocks of every kind: pieces, runs,
 * slots.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "allod/page.h"
#include "harness.h"

#define MIB ((size_t)1 << 20)

enum { PIECES = 4096, RUNS = 32 };

/* What is live is next to nothing. */
#define IDLE_MOST_BYTES (16 * MIB)

/* Opened before sandboxes are entered. */
static int statm = -1;

/* Pages of anonymous memory: what is resident, without what is shared. */
static size_t resident(void)
{
	char text[128] = "";
	unsigned long size = 0;
	unsigned long all = 0;
	unsigned long shared = 0;

	CHECK(pread(statm, text, sizeof(text) - 1, 0) > 0);
	CHECK_EQ(sscanf(text, "%lu %lu %lu", &size, &all, &shared), 3);
	return (all - shared) * (size_t)sysconf(_SC_PAGESIZE);
}

static void fill(void *p, size_t bytes)
{
	CHECK(p != NULL);
	memset(p, 1, bytes);
}

/* 16 MiB of pieces, 64 of runs, 100 in a slot; every 64th piece stays. */
static void burst(void)
{
	static void *pieces[PIECES];
	void *runs[RUNS];
	void *slot = allod_page_alloc(100 * MIB, NULL);

	statm = open("/proc/self/statm", O_RDONLY);
	CHECK(statm >= 0);
	fill(slot, 100 * MIB);
	for (int i = 0; i < RUNS; i++)
		fill(runs[i] = allod_page_alloc(2 * MIB, NULL), 2 * MIB);
	for (int i = 0; i < PIECES; i++)
		fill(pieces[i] = allod_page_alloc(4096, NULL), 4096);
	CHECK(resident() > 180 * MIB);
	for (int i = 0; i < PIECES; i++)
		if (i % 64)
			allod_page_free(pieces[i]);
	for (int i = 0; i < RUNS; i++)
		allod_page_free(runs[i]);
	allod_page_free(slot);
}

static void pause_ms(long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

/* Nothing is called but what looks. */
static void check_shrinks(void)
{
	int waited = 0;

	for (; resident() > IDLE_MOST_BYTES && waited < 5000; waited += 50)
		pause_ms(50);
	test_note("%zu KiB after %d ms", resident() >> 10, waited);
	CHECK(resident() <= IDLE_MOST_BYTES);
}

TEST(an_idle_process_shrinks)
{
	DIR *dir;
	int tasks = 0;

	burst();
	check_shrinks();
	dir = opendir("/proc/self/task");
	CHECK(dir != NULL);
	for (struct dirent *e; (e = readdir(dir));)
		tasks += e->d_name[0] != '.';
	CHECK_EQ(tasks, 1);
}

static void *use_and_end(void *arg)
{
	char *p = allod_page_alloc(40 * MIB, NULL);

	fill(p, 40 * MIB);
	allod_page_free(p);
	return arg;
}

/*
 * Threads that never call malloc start the one that gives back, and it ends with them; what the last
 * one frees soon after goes all the same.
 */
TEST(after_threads_of_blocks_alone)
{
	statm = open("/proc/self/statm", O_RDONLY);
	for (int round = 0; round < 3; round++) {
		pthread_t threads[2];
		for (int i = 0; i < 2; i++)
			CHECK_EQ(pthread_create(&threads[i], NULL, use_and_end, NULL), 0);
		for (int i = 0; i < 2; i++)
			CHECK_EQ(pthread_join(threads[i], NULL), 0);
		(void)use_and_end(NULL);
		check_shrinks();
	}
}

TEST(in_a_new_user_namespace)
{
	burst();
	if (unshare(CLONE_NEWUSER) != 0)
		SKIP("unshare(CLONE_NEWUSER) is not permitted: %s", strerror(errno));
	check_shrinks();
}

TEST(in_a_childs_user_namespace)
{
	char path[64];
	int ready[2];
	char byte = 0;
	pid_t pid;
	int fd;

	CHECK(!pipe(ready));
	pid = fork();
	if (pid == 0) {
		byte = unshare(CLONE_NEWUSER) ? 'n' : 'y';
		if (write(ready[1], &byte, 1) == 1)
			pause();
		_exit(0);
	}
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	if (byte != 'y')
		SKIP("unshare(CLONE_NEWUSER) is not permitted");
	burst();
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(setns(fd, CLONE_NEWUSER), 0);
	check_shrinks();
	kill(pid, SIGKILL);
}

/* A sandbox that kills for whatever is not needed to sleep and to look. */
static void enter_sandbox(void)
{
	static const int permitted[] = { SYS_pread64, SYS_nanosleep, SYS_clock_nanosleep, SYS_write,
		SYS_exit_group, SYS_exit, SYS_futex, SYS_getpid, SYS_madvise, SYS_clock_gettime };
	enum { PERMITTED = sizeof(permitted) / sizeof(permitted[0]) };
	struct sock_filter code[2 * PERMITTED + 2];
	unsigned short n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < PERMITTED; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
			(unsigned)permitted[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	const struct sock_fprog program = { n, code };
	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		SKIP("no seccomp filters here");
}

TEST(in_a_sandbox_entered_later)
{
	int status = 1;
	pid_t pid = fork();

	if (pid == 0) {
		burst();
		enter_sandbox();
		int waited = 0;
		for (; resident() > IDLE_MOST_BYTES && waited < 5000; waited += 50)
			pause_ms(50);
		_exit(resident() <= IDLE_MOST_BYTES ? 0 : 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

/* Parent and child both: neither has the other's helper. */
TEST(a_child_of_fork_shrinks_and_so_does_its_parent)
{
	int status = 1;
	pid_t pid;

	burst();
	pid = fork();
	if (pid == 0) {
		burst();
		check_shrinks();
		_exit(0);
	}
	check_shrinks();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}
