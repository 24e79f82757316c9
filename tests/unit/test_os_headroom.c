/* SPDX-License-Identifier: MIT */
/* What is left before the kernel kills, from made-up files of control groups and of the machine. */
#include "harness.h"
#include "os/mock.h"

#include <errno.h>

#define MIB ((uint64_t)1 << 20)

/* Never so much that it is not looked for what the kernel could take. */
static const uint64_t exactly = 1000 * MIB;

static struct os_headroom headroom(uint64_t own_cold)
{
	struct os_headroom h;

	os_headroom_read(NULL, own_cold, exactly, &h);
	return h;
}

static void two_levels(void)
{
	mock_reset();
	mock_facts()->ram_bytes = 64 * exactly;
	mock_file_set("/proc/self/cgroup", "0::/a/b\n");
	mock_file_set("/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
	mock_file_set("/sys/fs/cgroup/a/b/memory.max", "max\n");
	mock_file_set("/sys/fs/cgroup/a/b/memory.current", "52428800\n");
	mock_file_set("/sys/fs/cgroup/a/memory.max", "209715200\n");
	mock_file_set("/sys/fs/cgroup/a/memory.current", "104857600\n");
}

TEST(the_nearest_limit_counts_with_its_own_use)
{
	struct os_headroom h;

	two_levels();
	h = headroom(0);
	CHECK_EQ(h.bytes, 100 * MIB);
	CHECK_EQ(h.limit_bytes, 200 * MIB);
	CHECK(h.by_group);
	mock_file_set("/sys/fs/cgroup/a/b/memory.max", "83886080\n");
	CHECK_EQ(headroom(0).bytes, 30 * MIB);
	mock_file_set("/sys/fs/cgroup/a/b/memory.high", "62914560\n");
	CHECK_EQ(headroom(0).bytes, 10 * MIB);
	mock_file_set("/sys/fs/cgroup/a/b/memory.high", "1000\n");
	CHECK_EQ(headroom(0).bytes, 0);
}

TEST(pages_of_files_and_cold_pages_can_be_taken)
{
	two_levels();
	/* 40 MiB are inactive: 30 of files (32, 2 of them shared memory), the rest cold or was. */
	mock_file_set("/sys/fs/cgroup/a/memory.stat",
		"anon 1\nfile 33554432\nshmem 2097152\ninactive_anon 1\ninactive_file 41943040\n"
		"active_file 99\n");
	CHECK_EQ(headroom(0).bytes, 130 * MIB);
	CHECK_EQ(headroom(5 * MIB).bytes, 135 * MIB);
	CHECK_EQ(headroom(90 * MIB).bytes, 140 * MIB);
}

TEST(where_there_is_enough_no_more_is_read)
{
	struct os_headroom h;
	unsigned calls;

	two_levels();
	mock_file_set("/sys/fs/cgroup/a/memory.stat", "inactive_file 41943040\nfile 41943040\n");
	calls = mock_count(OS_CALL_FILE_READ);
	os_headroom_read(NULL, 0, 100 * MIB, &h);
	CHECK_EQ(h.bytes, 100 * MIB);
	calls = mock_count(OS_CALL_FILE_READ) - calls;
	test_note("%u files", calls);
	CHECK(calls <= 11);
}

TEST(version_one)
{
	mock_reset();
	mock_facts()->ram_bytes = 64 * exactly;
	mock_file_set("/proc/self/cgroup", "8:pids:/\n4:memory:/a\n0::/\n");
	mock_file_set("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "104857600\n");
	mock_file_set("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "209715200\n");
	mock_file_set("/sys/fs/cgroup/memory/a/memory.soft_limit_in_bytes", "1000\n");
	mock_file_set("/sys/fs/cgroup/memory/a/memory.stat",
		"cache 1\nshmem 0\ninactive_file 7\ntotal_cache 20971520\ntotal_shmem 0\n"
		"total_inactive_file 10485760\n");
	mock_file_set("/sys/fs/cgroup/memory/memory.usage_in_bytes", "999999999999\n");
	mock_file_set("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	CHECK_EQ(headroom(0).bytes, 110 * MIB);
}

TEST(the_machine_counts_when_much_of_it_is_meant)
{
	struct os_headroom h;

	two_levels();
	mock_file_set("/proc/meminfo",
		"MemTotal: 1 kB\nMemFree: 1 kB\nMemAvailable:    51200 kB\n");
	CHECK_EQ(headroom(0).bytes, 100 * MIB);
	mock_facts()->ram_bytes = exactly;
	h = headroom(0);
	CHECK_EQ(h.bytes, 50 * MIB);
	CHECK(!h.by_group);
}

TEST(what_cannot_be_known_does_not_bound)
{
	mock_reset();
	CHECK_EQ(headroom(0).bytes, OS_UNLIMITED);
	two_levels();
	mock_file_set("/sys/fs/cgroup/a/memory.current", NULL);
	CHECK_EQ(headroom(0).bytes, OS_UNLIMITED);
	two_levels();
	mock_file_set("/sys/fs/cgroup/a/memory.max", "max\n");
	CHECK_EQ(headroom(0).bytes, OS_UNLIMITED);
}

TEST(files_kept_open_tell_the_same)
{
	struct os_headroom_files files;
	struct os_headroom h;
	unsigned opened;

	two_levels();
	mock_file_set("/proc/meminfo", "MemAvailable: 51200 kB\n");
	mock_file_set("/sys/fs/cgroup/a/memory.stat", "inactive_file 41943040\nfile 41943040\n");
	os_headroom_open(&files);
	opened = mock_count(OS_CALL_FILE_OPEN) + mock_count(OS_CALL_FILE_READ);
	os_headroom_read(&files, 0, exactly, &h);
	CHECK_EQ(h.bytes, 140 * MIB);
	mock_file_set("/sys/fs/cgroup/a/memory.current", "157286400\n");
	os_headroom_read(&files, 0, exactly, &h);
	CHECK_EQ(h.bytes, 90 * MIB);
	CHECK_EQ(mock_count(OS_CALL_FILE_OPEN) + mock_count(OS_CALL_FILE_READ), opened);
	mock_facts()->ram_bytes = exactly;
	os_headroom_read(&files, 0, exactly, &h);
	CHECK_EQ(h.bytes, 50 * MIB);
}

/* Each file in turn cannot be opened, and then each cannot be read: less is known, no more. */
TEST(every_file_may_fail)
{
	struct os_headroom_files files;
	struct os_headroom h;

	for (unsigned nth = 1; nth <= 20; nth++) {
		two_levels();
		mock_fail(OS_CALL_FILE_READ, nth, EACCES);
		h = headroom(0);
		CHECK(h.bytes == 100 * MIB || h.bytes == OS_UNLIMITED);
		two_levels();
		mock_fail(OS_CALL_FILE_OPEN, nth, EMFILE);
		os_headroom_open(&files);
		mock_fail(OS_CALL_FILE_REREAD, nth, EIO);
		os_headroom_read(&files, 0, exactly, &h);
		CHECK(h.bytes == 100 * MIB || h.bytes == OS_UNLIMITED);
	}
}
