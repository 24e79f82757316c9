/* SPDX-License-Identifier: MIT */
/* Facts, time, text, environment, the end of the process and the probes, on the real system. */
#include "harness.h"
#include "os/os.h"

#include "base/options.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

TEST(facts_agree_with_libc)
{
	const struct os_facts *f = os_facts();
	cpu_set_t set;

	CHECK_EQ(os_init(), 0);
	CHECK_EQ(os_facts(), f);
	CHECK_EQ(f->page_bytes, sysconf(_SC_PAGESIZE));
	CHECK_EQ(f->ram_bytes / f->page_bytes, sysconf(_SC_PHYS_PAGES));
	CHECK(!sched_getaffinity(0, sizeof(set), &set));
	CHECK_EQ(f->cpus_usable, CPU_COUNT(&set));
	CHECK(f->overcommit_mode >= 0 && f->overcommit_mode <= 2);
	CHECK(f->max_map_count > 0);
	CHECK(!f->is_secure);
}

TEST_PLAIN(limits_are_facts)
{
	struct rlimit address = { (rlim_t)1 << 40, (rlim_t)1 << 40 };
	struct rlimit data = { (rlim_t)1 << 39, (rlim_t)1 << 39 };

	CHECK(!setrlimit(RLIMIT_AS, &address));
	CHECK(!setrlimit(RLIMIT_DATA, &data));
	CHECK_EQ(os_facts()->address_limit_bytes, (uint64_t)1 << 40);
	CHECK_EQ(os_facts()->data_limit_bytes, (uint64_t)1 << 39);
}

enum { racers = 8 };
static pthread_barrier_t barrier;

static void *facts_racing(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&barrier);
	CHECK_EQ(os_init(), 0);
	return (void *)os_facts();
}

TEST(racing_first_callers_see_the_same_facts)
{
	pthread_t threads[racers];
	void *seen;

	pthread_barrier_init(&barrier, NULL, racers);
	for (int i = 0; i < racers; i++)
		CHECK(!pthread_create(&threads[i], NULL, facts_racing, NULL));
	for (int i = 0; i < racers; i++) {
		pthread_join(threads[i], &seen);
		CHECK_EQ(((const struct os_facts *)seen)->page_bytes, sysconf(_SC_PAGESIZE));
		CHECK_EQ(seen, os_facts());
	}
}

TEST(time_goes_on)
{
	struct timespec pause = { 0, 50000000 };
	uint64_t before = os_now_ns();
	uint64_t after;

	CHECK(before > 0);
	nanosleep(&pause, NULL);
	after = os_now_ns();
	CHECK(after - before >= 30000000);
	CHECK(after - before < 5000000000);
}

TEST(ids_are_those_of_the_kernel)
{
	CHECK_EQ(os_pid(), getpid());
	CHECK_EQ(os_thread_id(), syscall(SYS_gettid));
}

TEST(the_environment_is_found_by_whole_names)
{
	CHECK(!setenv("ALLOD_TEST_NAME", "a=b", 1));
	CHECK_STR_EQ(os_env("ALLOD_TEST_NAME"), "a=b");
	CHECK(!os_env("ALLOD_TEST_NAM"));
	CHECK(!os_env("ALLOD_TEST_NAMES"));
	clearenv();
	CHECK(!os_env("ALLOD_TEST_NAME"));
}

TEST(files_are_read_to_their_end_or_the_buffers)
{
	char buf[64];
	char small[5];
	FILE *f = tmpfile();
	char path[64];

	CHECK(f);
	fputs("0123456789", f);
	fflush(f);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fileno(f));
	CHECK_EQ(os_file_read(path, buf, sizeof(buf)), 10);
	CHECK_STR_EQ(buf, "0123456789");
	CHECK_EQ(os_file_read(path, small, sizeof(small)), 4);
	CHECK_STR_EQ(small, "0123");
	CHECK_EQ(os_file_read("/nowhere", buf, sizeof(buf)), -ENOENT);
	CHECK_EQ(os_file_read("/", buf, sizeof(buf)), -EISDIR);
}

TEST(writing_to_nowhere_is_silent)
{
	errno = 77;
	os_write(-1, "x", 1);
	CHECK_EQ(errno, 77);
}

TEST(writing_goes_on_after_a_full_pipe)
{
	static char text[200000];
	static char back[sizeof(text)];
	size_t got = 0;
	int fds[2];

	memset(text, 'x', sizeof(text));
	CHECK(!pipe(fds));
	if (!fork()) {
		os_write(fds[1], text, sizeof(text));
		_exit(0);
	}
	close(fds[1]);
	for (ssize_t n; (n = read(fds[0], back + got, sizeof(back) - got)) > 0;)
		got += (size_t)n;
	CHECK_EQ(got, sizeof(text));
	CHECK(!memcmp(text, back, sizeof(text)));
}

static void end(void)
{
	os_fatal("allod: corrupted free list\n");
}

static void returning_handler(int number)
{
	(void)number;
	os_write(2, "handler\n", 8);
}

static void end_with_handler(void)
{
	signal(SIGABRT, returning_handler);
	end();
}

static void end_ignored(void)
{
	signal(SIGABRT, SIG_IGN);
	end();
}

static void end_blocked(void)
{
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	end();
}

TEST(the_end_is_one_line_and_sigabrt)
{
	CHECK_DEATH(end(), SIGABRT, "allod: corrupted free list\n");
}

TEST(a_handler_sees_the_end_but_cannot_stop_it)
{
	CHECK_DEATH(end_with_handler(), SIGABRT, "allod: corrupted free list\nhandler\n");
}

TEST(the_end_comes_when_the_signal_is_ignored_or_blocked)
{
	CHECK_DEATH(end_ignored(), SIGABRT, "allod: corrupted free list\n");
	CHECK_DEATH(end_blocked(), SIGABRT, "allod: corrupted free list\n");
}

TEST(options_are_read_from_the_real_environment)
{
	struct options o;
	char path[] = "/tmp/allod-test-XXXXXX";
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	os_write(fd, "# all\nstats:text\ndecay_ms:3\n", 28);
	close(fd);
	options_default(&o);
	CHECK(!setenv("ALLOD_CONF_FILE", path, 1));
	CHECK(!setenv("ALLOD_CONF", "decay_ms:4", 1));
	CHECK_EQ(os_config_load(&o), 0);
	unlink(path);
	CHECK_EQ(o.stats, OPTION_STATS_TEXT);
	CHECK_EQ(o.decay_ms, 4);
}

struct seen {
	unsigned count;
	unsigned features;
	bool has_page_size;
	bool has_task;
	char last_group[16];
	unsigned groups;
};

static void probe_check(const struct os_probe *probe, void *arg)
{
	struct seen *s = arg;

	CHECK(probe->name && *probe->name);
	CHECK(probe->value && probe->enables && probe->lost && probe->group);
	/* A feature that is missing says why, and what that costs. */
	CHECK(probe->available || (*probe->value && *probe->lost));
	s->count++;
	s->features += !strcmp(probe->group, "features");
	s->has_page_size |= !strcmp(probe->name, "page-size") && *probe->value;
	s->has_task |= !strcmp(probe->name, "background-task");
	if (strcmp(probe->group, s->last_group)) {
		s->groups++;
		snprintf(s->last_group, sizeof(s->last_group), "%s", probe->group);
	}
}

static int files_open(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static int mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	int lines = 0;

	CHECK(f);
	for (int c; (c = getc(f)) != EOF;)
		lines += c == '\n';
	fclose(f);
	return lines;
}

TEST_PLAIN(probes_report_everything_and_leave_nothing_behind)
{
	struct seen seen = { 0 };
	int files;
	int maps;

	/* Once for what is made for good: the task's stack, libc's buffers. */
	os_probe_each(probe_check, &seen);
	mappings();
	files = files_open();
	maps = mappings();
	memset(&seen, 0, sizeof(seen));
	os_probe_each(probe_check, &seen);
	CHECK_EQ(files_open(), files);
	CHECK_EQ(mappings(), maps);
	CHECK_EQ(seen.groups, 3);
	CHECK(seen.count >= 35);
	CHECK(seen.features >= 20);
	CHECK(seen.has_page_size);
	CHECK(seen.has_task);
}
