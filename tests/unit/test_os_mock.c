/* SPDX-License-Identifier: MIT */
/* The mock: what a test sets is what the code under test sees, and memory is real all the same. */
#include "harness.h"
#include "os/area.h"
#include "os/mock.h"

#include "base/atomic.h"
#include "base/options.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

TEST(memory_is_real)
{
	size_t page = os_facts()->page_bytes;
	char *p = os_reserve(16 * page, page);

	CHECK(p);
	CHECK_EQ(os_commit(p, page), 0);
	p[0] = 1;
	CHECK_EQ(os_decommit(p, page), 0);
	CHECK_EQ(p[0], 0);
	CHECK_EQ(os_unmap(p, 16 * page), 0);
}

TEST(the_nth_call_fails)
{
	size_t page = os_facts()->page_bytes;
	char *p = os_map(page, page);

	mock_reset();
	mock_fail(OS_CALL_DECOMMIT, 2, EINVAL);
	p[0] = 3;
	CHECK_EQ(os_decommit(p, page), 0);
	p[0] = 4;
	CHECK_EQ(os_decommit(p, page), -EINVAL);
	CHECK_EQ(p[0], 4);
	CHECK_EQ(os_decommit(p, page), 0);
	CHECK_EQ(mock_count(OS_CALL_DECOMMIT), 3);
	mock_fail(OS_CALL_DECOMMIT, 1, EINVAL);
	mock_fail(OS_CALL_DECOMMIT, 1, 0);
	CHECK_EQ(os_decommit(p, page), 0);
}

TEST(all_calls_behind_the_nth_fail)
{
	size_t page = os_facts()->page_bytes;

	mock_fail_all_after(OS_CALL_MAP, 1);
	CHECK(os_map(page, page));
	CHECK(!os_map(page, page));
	CHECK(!os_map(page, page));
	mock_reset();
	CHECK(os_map(page, page));
}

static int commit_or_null(char *base, size_t bytes, enum os_call kind)
{
	switch (kind) {
	case OS_CALL_RESERVE: return os_reserve(bytes, bytes) ? 0 : -ENOMEM;
	case OS_CALL_RESERVE_AT: return os_reserve_at(base, bytes);
	case OS_CALL_COMMIT: return os_commit(base, bytes);
	case OS_CALL_DECOMMIT: return os_decommit(base, bytes);
	case OS_CALL_LAZYFREE: return os_lazyfree(base, bytes);
	case OS_CALL_MAP: return os_map(bytes, bytes) ? 0 : -ENOMEM;
	case OS_CALL_UNMAP: return os_unmap(base, bytes);
	case OS_CALL_MAP_FIXED: return os_map_fixed(base, bytes);
	case OS_CALL_REMAP_FIXED_NONE: return os_remap_fixed_none(base, bytes);
	case OS_CALL_MOVE: return os_move(base, bytes, NULL, bytes, false) ? 0 : -ENOMEM;
	case OS_CALL_GROW: return os_grow(base, bytes, 2 * bytes);
	case OS_CALL_HUGE: return os_huge(base, bytes, true);
	case OS_CALL_COLLAPSE: return os_collapse(base, bytes);
	case OS_CALL_PRESENT: {
		size_t pages;
		return os_present(base, bytes, &pages);
	}
	case OS_CALL_POPULATE: return os_populate(base, bytes);
	case OS_CALL_PREFER_NODE: return os_prefer_node(base, bytes, 0);
	case OS_CALL_NAME: return os_name(base, bytes, "allod-test");
	case OS_CALL_WIPE_ON_FORK: return os_wipe_on_fork(base, bytes);
	case OS_CALL_BARRIER: return os_barrier();
	case OS_CALL_RSEQ_REGISTER: return os_rseq_register(base, 32);
	case OS_CALL_RSEQ_FENCE: return os_rseq_fence(-1);
	case OS_CALL_FILE_READ: {
		char buf[8];
		return (int)os_file_read("/proc/version", buf, sizeof(buf));
	}
	case OS_CALL_FILE_OPEN: return os_file_open("/proc/version");
	case OS_CALL_FILE_REREAD: {
		char buf[8];
		return (int)os_file_reread(0, buf, sizeof(buf));
	}
	case OS_CALL_PRESSURE_OPEN: {
		struct os_pressure pressure;
		return os_pressure_open(&pressure);
	}
	case OS_CALL_TASK_START: {
		static struct os_task task;
		return os_task_start(&task, NULL, NULL);
	}
	case OS_CALL_MAP_LAZY: return os_map_lazy(bytes, bytes) ? 0 : -ENOMEM;
	case OS_CALL_FILE_MAKE: return os_file_make("allod-test", bytes);
	case OS_CALL_FILE_MAP: return os_file_map_shared(-1, bytes) ? 0 : -ENOMEM;
	case OS_CALL_HIDE_FROM_FORK: return os_hide_from_fork(base, bytes);
	case OS_CALL_GUARD: return os_guard(base, bytes);
	case OS_CALL_DECOMMIT_MANY: {
		struct os_range range = { base, bytes };
		return os_decommit_many(&range, 1);
	}
	case OS_CALL_PAGES: {
		uint8_t kind_of_page;
		return os_pages(base, 1, &kind_of_page);
	}
	case OS_CALL_KINDS: break;
	}
	return 0;
}

TEST(every_kind_can_be_counted_recorded_and_failed)
{
	size_t page = os_facts()->page_bytes;

	for (enum os_call kind = 0; kind < OS_CALL_KINDS; kind++) {
		const struct mock_record *records;
		char *base = os_map(page, page);

		mock_reset();
		mock_fail_all_after(kind, 0);
		test_note("%s", mock_call_name(kind));
		CHECK_EQ(commit_or_null(base, page, kind), -ENOMEM);
		CHECK_EQ(mock_count(kind), 1);
		CHECK_EQ(mock_calls(&records), 1);
		CHECK_EQ(records[0].kind, kind);
		CHECK_EQ(records[0].result, -ENOMEM);
	}
}

TEST(records_say_what_was_asked)
{
	size_t page = os_facts()->page_bytes;
	const struct mock_record *records;
	char *p;

	mock_reset();
	p = os_reserve(4 * page, page);
	CHECK_EQ(os_commit(p + page, page), 0);
	CHECK_EQ(mock_calls(&records), 2);
	CHECK_EQ(records[0].kind, OS_CALL_RESERVE);
	CHECK_EQ(records[0].addr, p);
	CHECK_EQ(records[0].bytes, 4 * page);
	CHECK_EQ(records[1].kind, OS_CALL_COMMIT);
	CHECK_EQ(records[1].addr, p + page);
	CHECK_EQ(records[1].result, 0);
}

TEST(the_clock_moves_when_told)
{
	mock_clock_set(5000);
	CHECK_EQ(os_now_ns(), 5000);
	CHECK_EQ(os_now_ns(), 5000);
	mock_clock_advance(7);
	CHECK_EQ(os_now_ns(), 5007);
	mock_reset();
	CHECK_EQ(os_now_ns(), 1000000000);
}

TEST(facts_can_be_changed)
{
	mock_facts()->address_limit_bytes = 1 << 20;
	CHECK_EQ(os_facts()->address_limit_bytes, 1 << 20);
	mock_reset();
	CHECK(os_facts()->address_limit_bytes != 1 << 20);
}

TEST(the_environment_is_what_was_set)
{
	CHECK(!os_env("PATH"));
	mock_env_set("PATH", "here");
	CHECK_STR_EQ(os_env("PATH"), "here");
	mock_env_set("PATH", NULL);
	CHECK(!os_env("PATH"));
}

TEST(options_come_from_file_and_environment)
{
	struct options o;

	options_default(&o);
	mock_file_set("/conf", "decay_ms:7 # comment\nstats:json\n");
	mock_env_set("ALLOD_CONF_FILE", "/conf");
	mock_env_set("ALLOD_CONF", "decay_ms:8,background:off");
	CHECK_EQ(os_config_load(&o), 0);
	CHECK_EQ(o.decay_ms, 8);
	CHECK_EQ(o.stats, OPTION_STATS_JSON);
	CHECK_EQ(o.background, OPTION_BACKGROUND_OFF);
	CHECK_STR_EQ(mock_written(), "");
}

TEST(mistakes_are_told_with_their_source)
{
	struct options o;

	options_default(&o);
	mock_file_set("/conf", "nonsense:1\n");
	mock_env_set("ALLOD_CONF_FILE", "/conf");
	mock_env_set("ALLOD_CONF", "decay_ms:abc");
	CHECK_EQ(os_config_load(&o), 0);
	CHECK_STR_EQ(mock_written(),
		"allod: ALLOD_CONF_FILE: unknown option 'nonsense'\n"
		"allod: ALLOD_CONF: option 'decay_ms': 'abc' is not a number\n");
}

TEST(a_missing_file_is_told_and_the_rest_obeyed)
{
	struct options o;

	options_default(&o);
	mock_env_set("ALLOD_CONF_FILE", "/nowhere");
	mock_env_set("ALLOD_CONF", "decay_ms:9");
	CHECK_EQ(os_config_load(&o), -ENOENT);
	CHECK_EQ(o.decay_ms, 9);
	CHECK_STR_EQ(mock_written(),
		"allod: ALLOD_CONF_FILE: cannot read '/nowhere': no such file\n");
}

TEST(a_file_too_large_is_not_half_obeyed)
{
	static char text[9000];
	struct options o;

	options_default(&o);
	memset(text, '\n', sizeof(text) - 1);
	memcpy(text, "decay_ms:7", 10);
	mock_file_set("/conf", text);
	mock_env_set("ALLOD_CONF_FILE", "/conf");
	CHECK_EQ(os_config_load(&o), -EFBIG);
	CHECK_EQ(o.decay_ms, 500);
	CHECK_STR_EQ(mock_written(),
		"allod: ALLOD_CONF_FILE: cannot read '/conf': larger than 8 KiB\n");
}

TEST(a_secure_process_reads_no_options)
{
	struct options o;

	options_default(&o);
	mock_facts()->is_secure = true;
	mock_env_set("ALLOD_CONF", "decay_ms:9,nonsense:1");
	CHECK_EQ(os_config_load(&o), 0);
	CHECK_EQ(o.decay_ms, 500);
	CHECK_STR_EQ(mock_written(), "");
}

TEST(group_limits_are_the_smallest_on_the_way_up)
{
	struct os_group_limits limits;

	mock_file_set("/proc/self/cgroup", "0::/a/b\n");
	mock_file_set("/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
	mock_file_set("/sys/fs/cgroup/a/b/memory.current", "1000\n");
	mock_file_set("/sys/fs/cgroup/a/b/memory.max", "max\n");
	mock_file_set("/sys/fs/cgroup/a/memory.max", "500000\n");
	mock_file_set("/sys/fs/cgroup/a/b/memory.high", "400000\n");
	os_group_limits_read(&limits);
	CHECK_EQ(limits.version, 2);
	CHECK_EQ(limits.used_bytes, 1000);
	CHECK_EQ(limits.max_bytes, 500000);
	CHECK_EQ(limits.high_bytes, 400000);
	CHECK_STR_EQ(limits.directory, "/sys/fs/cgroup/a/b");
}

TEST(group_limits_of_version_one)
{
	struct os_group_limits limits;

	mock_file_set("/proc/self/cgroup", "8:pids:/\n4:memory:/a\n0::/\n");
	mock_file_set("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000\n");
	mock_file_set("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "300000\n");
	mock_file_set("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	os_group_limits_read(&limits);
	CHECK_EQ(limits.version, 1);
	CHECK_EQ(limits.max_bytes, 300000);
	CHECK_EQ(limits.high_bytes, OS_UNLIMITED);
}

TEST(without_groups_nothing_is_limited)
{
	struct os_group_limits limits;

	os_group_limits_read(&limits);
	CHECK_EQ(limits.version, 0);
	CHECK_EQ(limits.max_bytes, OS_UNLIMITED);
}

TEST(a_fatal_end_can_be_caught)
{
	static jmp_buf env;

	mock_fatal_catch(&env);
	if (!setjmp(env))
		os_fatal("allod: double free\n");
	CHECK_STR_EQ(mock_written(), "allod: double free\n");
}

TEST(a_fatal_end_that_nobody_catches_is_one)
{
	CHECK_DEATH(os_fatal("allod: invalid free\n"), SIGABRT, "allod: invalid free\n");
}

static struct os_task task;
static unsigned rounds;

static void count_rounds(void *arg)
{
	(void)arg;
	while (os_task_sleep(&task, 500))
		rounds++;
}

TEST(a_task_runs_when_the_test_says)
{
	CHECK_EQ(os_task_start(&task, count_rounds, NULL), 0);
	CHECK_EQ(os_task_start(&task, count_rounds, NULL), -EALREADY);
	CHECK(os_task_alive(&task));
	CHECK_EQ(rounds, 0);
	mock_clock_set(1000);
	mock_task_run(&task, 4);
	CHECK_EQ(rounds, 4);
	CHECK_EQ(os_now_ns(), 3000);
	CHECK(!os_task_alive(&task));
	mock_fail(OS_CALL_TASK_START, 1, EPERM);
	CHECK_EQ(os_task_start(&task, count_rounds, NULL), -EPERM);
	os_task_stop(&task);
	CHECK_EQ(os_task_start(&task, count_rounds, NULL), -EPERM);
}
