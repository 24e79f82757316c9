/* SPDX-License-Identifier: MIT */
/*
 * Memory pressure on the real kernel, through the public calls: the protocol of the service manager
 * over a FIFO, a socket and a PSI file; polling, dispatching, and the thread; fork; and events of a
 * control group, where one can be made.
 */
#include "allod/page.h"
#include "allod/pressure.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "group.h"
#include "harness.h"

#define MIB ((size_t)1 << 20)

enum { HIGH_ROUNDS_MOST = 10 };

static atomic_uint told;
static atomic_uint told_severity;
static atomic_uint told_sources;
static atomic_uint told_in;

static void on_pressure(const struct allod_page_pressure *pressure, void *arg)
{
	CHECK(pressure->struct_bytes >= sizeof(*pressure));
	CHECK_EQ(arg, (void *)&told);
	atomic_store(&told_severity, pressure->severity);
	atomic_fetch_or(&told_sources, pressure->sources);
	atomic_store(&told_in, (unsigned)gettid());
	atomic_fetch_add(&told, 1);
}

static void pause_ms(long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

static char directory[] = "/tmp/allod-pressure-XXXXXX";
static char path[128];

static void make_directory(const char *name)
{
	CHECK(mkdtemp(directory) != NULL);
	snprintf(path, sizeof(path), "%s/%s", directory, name);
}

static void remove_directory(void)
{
	unlink(path);
	rmdir(directory);
}

/* The manager's end of a FIFO, once the library has opened its own. */
static int fifo_watch(void)
{
	int fd;

	make_directory("fifo");
	CHECK_EQ(mkfifo(path, 0600), 0);
	setenv("MEMORY_PRESSURE_WATCH", path, 1);
	fd = open(path, O_RDWR | O_NONBLOCK);
	CHECK(fd >= 0);
	return fd;
}

TEST(a_fifo_of_the_manager)
{
	int manager = fifo_watch();
	int fd = allod_page_pressure_fd();
	int id;

	CHECK(fd >= 0);
	id = allod_page_pressure_subscribe(on_pressure, &told, 1, 0);
	CHECK(id > 0);
	CHECK_EQ(allod_page_pressure_dispatch(), 0);
	CHECK_EQ(write(manager, "x", 1), 1);
	CHECK(readable(fd, 1000));
	CHECK_EQ(allod_page_pressure_dispatch(), 2);
	CHECK_EQ(told, 1);
	CHECK_EQ(told_severity, 2);
	CHECK(told_sources & ALLOD_PAGE_PRESSURE_WATCH);
	CHECK_EQ(told_in, gettid());
	/* What was there has been read. */
	CHECK_EQ(allod_page_pressure_dispatch(), 0);
	CHECK_EQ(allod_page_pressure_unsubscribe(id), 0);
	CHECK_EQ(write(manager, "x", 1), 1);
	CHECK_EQ(allod_page_pressure_dispatch(), 2);
	CHECK_EQ(told, 1);
	remove_directory();
}

TEST(what_is_free_is_let_go_first)
{
	int manager = fifo_watch();
	void *block = allod_page_alloc(64 * MIB, NULL);

	CHECK(block != NULL);
	memset(block, 1, 64 * MIB);
	CHECK(allod_page_pressure_fd() >= 0);
	allod_page_free(block);
	CHECK_EQ(write(manager, "x", 1), 1);
	CHECK_EQ(allod_page_pressure_dispatch(), 2);
	/* It went cold; once more, and it goes. */
	CHECK(allod_page_trim(1) < MIB);
	CHECK(allod_page_trim(2) >= 64 * MIB);
	remove_directory();
}

/* What MEMORY_PRESSURE_WRITE says, of base 64, is what the manager gets first. */
TEST(a_socket_of_the_manager)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	char got[64] = "";
	int manager;

	make_directory("socket");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	CHECK_EQ(listen(listener, 1), 0);
	setenv("MEMORY_PRESSURE_WATCH", path, 1);
	setenv("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMDAgMjAwMDAwMAA=", 1);
	CHECK(allod_page_pressure_fd() >= 0);
	manager = accept(listener, NULL, NULL);
	CHECK(manager >= 0);
	CHECK_EQ(read(manager, got, sizeof(got)), 20);
	CHECK_EQ(memcmp(got, "some 200000 2000000", 20), 0);
	CHECK_EQ(write(manager, "y", 1), 1);
	CHECK(readable(allod_page_pressure_fd(), 1000));
	CHECK_EQ(allod_page_pressure_dispatch(), 2);
	remove_directory();
}

TEST(the_manager_may_turn_it_off)
{
	setenv("MEMORY_PRESSURE_WATCH", "/dev/null", 1);
	CHECK_EQ(allod_page_pressure_fd(), -EOPNOTSUPP);
	CHECK_EQ(allod_page_pressure_subscribe(on_pressure, &told, 1, 0), -EOPNOTSUPP);
	CHECK_EQ(allod_page_pressure_dispatch(), -EOPNOTSUPP);
}

TEST(what_the_manager_says_may_be_wrong)
{
	static const char *const wrong[] = { "", "relative", "/nonexistent/file", "/" };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		pid_t pid = fork();
		if (pid == 0) {
			setenv("MEMORY_PRESSURE_WATCH", wrong[i], 1);
			setenv("MEMORY_PRESSURE_WRITE", i % 2 ? "***" : "c29tZQ==", 1);
			int fd = allod_page_pressure_fd();
			_exit(fd >= 0 || fd == -EOPNOTSUPP ? 0 : 1);
		}
		int status = 1;
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}

TEST(a_psi_file_of_the_manager)
{
	setenv("MEMORY_PRESSURE_WATCH", "/proc/pressure/memory", 1);
	setenv("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMDAgMjAwMDAwMAA=", 1);
	int fd = allod_page_pressure_fd();
	if (fd < 0)
		SKIP("no trigger for stall information (PSI) can be set here");
	/* Nothing is wrong with it. What is stalled is the whole system's, and not known here. */
	CHECK(allod_page_pressure_dispatch() >= 0);
}

TEST(arguments)
{
	CHECK_EQ(allod_page_pressure_subscribe(NULL, NULL, 1, 0), -EINVAL);
	CHECK_EQ(allod_page_pressure_subscribe(on_pressure, NULL, 0, 0), -EINVAL);
	CHECK_EQ(allod_page_pressure_subscribe(on_pressure, NULL, 4, 0), -EINVAL);
	CHECK_EQ(allod_page_pressure_subscribe(on_pressure, NULL, 1, 8), -EINVAL);
	CHECK_EQ(allod_page_pressure_unsubscribe(0), -ENOENT);
	CHECK_EQ(allod_page_pressure_unsubscribe(77), -ENOENT);
}

/* Threads of this process, the first one included. */
static int threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int count = 0;

	CHECK(dir != NULL);
	for (struct dirent *e; (e = readdir(dir));)
		count += e->d_name[0] != '.';
	closedir(dir);
	return count;
}

static bool soon(unsigned wanted)
{
	for (int i = 0; i < 1600 && atomic_load(&told) < wanted; i++)
		pause_ms(5);
	return atomic_load(&told) >= wanted;
}

TEST(a_thread_waits_only_if_somebody_wants_it)
{
	int manager = fifo_watch();
	int polled = allod_page_pressure_subscribe(on_pressure, &told, 3, 0);
	int id;

	CHECK(polled > 0);
	CHECK_EQ(threads(), 1);
	id = allod_page_pressure_subscribe(on_pressure, &told, 1, ALLOD_PAGE_PRESSURE_THREAD);
	CHECK(id > 0);
	CHECK_EQ(threads(), 2);
	CHECK_EQ(write(manager, "x", 1), 1);
	CHECK(soon(1));
	CHECK(told_in != (unsigned)gettid());
	while (allod_page_pressure_unsubscribe(id) == -EBUSY)
		pause_ms(1);
	for (int i = 0; i < 1600 && threads() > 1; i++)
		pause_ms(5);
	CHECK_EQ(threads(), 1);
	/* And again. */
	id = allod_page_pressure_subscribe(on_pressure, &told, 1, ALLOD_PAGE_PRESSURE_THREAD);
	CHECK(id > 0);
	CHECK_EQ(write(manager, "x", 1), 1);
	CHECK(soon(2));
	remove_directory();
}

/* The child keeps subscriptions, has sources of its own, and leaves the parent's alone. */
TEST(a_child_of_fork)
{
	int manager = fifo_watch();
	int id = allod_page_pressure_subscribe(on_pressure, &told, 1, ALLOD_PAGE_PRESSURE_THREAD);
	int status = 1;
	pid_t pid;

	CHECK(id > 0);
	pid = fork();
	if (pid == 0) {
		CHECK_EQ(threads(), 1);
		int fd = allod_page_pressure_fd();
		CHECK(fd >= 0);
		_exit(allod_page_pressure_unsubscribe(id) == 0 &&
					allod_page_pressure_dispatch() >= 0
				? 0
				: 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(write(manager, "x", 1), 1);
	CHECK(soon(1));
	remove_directory();
}

/* ---- A control group ---- */

static char group[GROUP_PATH_BYTES];

/*
 * Uses nearly all of what the group may; is told of it. Version 2 tells when the limit is reached, so
 * there is something that the kernel can take then.
 */
static _Noreturn void fill_group(void)
{
	char *block;
	char *cold;

	if (!group_enter(group))
		_exit(2);
	if (allod_page_pressure_subscribe(on_pressure, &told, 3, 0) <= 0)
		_exit(3);
	if (group_put(group, "memory.high", "max")) {
		cold = mmap(NULL, 40 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0);
		memset(cold, 1, 40 * MIB);
		if (madvise(cold, 40 * MIB, MADV_FREE))
			_exit(5);
	}
	block = mmap(NULL, 98 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < 98 * MIB; i += 4096) {
		block[i] = 1;
		if (i % MIB == 0)
			(void)allod_page_pressure_dispatch();
	}
	_exit(told > 0 &&
				(told_sources &
					(ALLOD_PAGE_PRESSURE_USAGE | ALLOD_PAGE_PRESSURE_LEVEL |
						ALLOD_PAGE_PRESSURE_EVENTS))
			? 0
			: 4);
}

TEST_TIMEOUT(a_group_that_fills_tells_of_it, 30)
{
	int status = 1;
	pid_t pid;

	if (!group_make(group, "allod-pressure", "100m"))
		SKIP("no control group with a memory limit can be made here");
	pid = fork();
	if (pid == 0)
		fill_group();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	group_remove(group);
	CHECK_EQ(status, 0);
}

/*
 * Uses twice what the group is to use, as slowly as the kernel then makes it, and again until it is
 * told: how long one such round is held up depends on how fast the machine stores.
 */
static _Noreturn void go_above_high(unsigned source)
{
	char *block;

	if (!group_enter(group))
		_exit(2);
	if (allod_page_pressure_subscribe(on_pressure, &told, 1, ALLOD_PAGE_PRESSURE_THREAD) <= 0)
		_exit(3);
	block = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int round = 0; round < HIGH_ROUNDS_MOST && !(told_sources & source); round++) {
		for (size_t i = 0; i < 64 * MIB && !(told_sources & source); i += 4096)
			block[i] = 1;
		for (int i = 0; i < 100 && !(told_sources & source); i++)
			pause_ms(10);
		(void)madvise(block, 64 * MIB, MADV_DONTNEED);
	}
	_exit(told_sources & source ? 0 : 4);
}

static void above_high(unsigned source)
{
	int status = 1;
	pid_t pid;

	if (!group_make(group, "allod-pressure", "100m"))
		SKIP("no control group with a memory limit can be made here");
	if (!group_put(group, "memory.high", "32m")) {
		group_remove(group);
		SKIP("no control groups of version 2 that account memory");
	}
	pid = fork();
	if (pid == 0)
		go_above_high(source);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	group_remove(group);
	CHECK_EQ(status, 0);
}

TEST_TIMEOUT(a_group_above_its_high_tells_of_it, 60)
{
	above_high(ALLOD_PAGE_PRESSURE_EVENTS);
}

/* Whoever is above it is held up, and that is what stall information counts. */
TEST_TIMEOUT(a_group_that_is_held_up_tells_of_it, 60)
{
	int fd = open("/proc/pressure/memory", O_RDWR);

	if (fd < 0)
		SKIP("no trigger for stall information (PSI) can be set here");
	close(fd);
	above_high(ALLOD_PAGE_PRESSURE_STALL_GROUP);
}
