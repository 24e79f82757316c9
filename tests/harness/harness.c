/* SPDX-License-Identifier: MIT */
/*
 * Runs the registered subtests one after the other, each in a forked process group, and prints
 * TAP. The parent stays single-threaded and allocates nothing. What a child has to tell beyond its
 * exit status (why it skipped) stands in one page shared with the parent.
 */
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_SKIPPED = 77,
	LINE_BYTES = 1024,
	DEATH_BYTES = 4096,
};

/* How much more time the long form has. */
enum { LONG_SCALE = 30 };

/* One page shared by the harness and its children. */
struct report {
	char skip_reason[256];
	uint64_t seed;
	bool seed_known;
};

/* How a subtest ended. */
enum outcome { PASSED, FAILED, SKIPPED };

static struct test *first_test;
static struct test **last_link = &first_test;
static struct report *report;
static unsigned timeout_scale = 1;
static sigset_t start_mask;

void test_register(struct test *t)
{
	*last_link = t;
	last_link = &t->next;
}

static void write_all(const char *text, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(STDOUT_FILENO, text, bytes);
		if (n < 0 && errno != EINTR)
			return;
		if (n > 0) {
			text += n;
			bytes -= (size_t)n;
		}
	}
}

/* Prints one line whole, so that lines of several threads don't mix; cut at LINE_BYTES. */
static void print_line(const char *prefix, const char *fmt, va_list args)
{
	char line[LINE_BYTES];
	size_t used = (size_t)snprintf(line, sizeof(line), "%s", prefix);
	int n = vsnprintf(line + used, sizeof(line) - used - 1, fmt, args);

	used += n < 0 ? 0 : (size_t)n;
	if (used > sizeof(line) - 2)
		used = sizeof(line) - 2;
	for (size_t i = 0; i < used; i++)
		if (line[i] == '\n')
			line[i] = '|';
	line[used++] = '\n';
	write_all(line, used);
}

__attribute__((format(printf, 1, 2))) static void print(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_line("", fmt, args);
	va_end(args);
}

void test_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_line("# ", fmt, args);
	va_end(args);
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	char prefix[256];
	va_list args;

	snprintf(prefix, sizeof(prefix), "# %s:%d: ", file, line);
	va_start(args, fmt);
	print_line(prefix, fmt, args);
	va_end(args);
	_exit(EXIT_FAILED);
}

void test_skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(report->skip_reason, sizeof(report->skip_reason), fmt, args);
	va_end(args);
	_exit(EXIT_SKIPPED);
}

void test_check_eq(const char *file, int line, const char *a_text, const char *b_text, uint64_t a,
	uint64_t b)
{
	if (a == b)
		return;
	test_fail(file, line, "%s is %lld (0x%llx), but %s is %lld (0x%llx)", a_text, (long long)a,
		(unsigned long long)a, b_text, (long long)b, (unsigned long long)b);
}

void test_check_str_eq(const char *file, int line, const char *a_text, const char *b_text,
	const char *a, const char *b)
{
	if (a && b && strcmp(a, b) == 0)
		return;
	test_note("%s: \"%s\"", a_text, a ? a : "(null)");
	test_note("%s: \"%s\"", b_text, b ? b : "(null)");
	test_fail(file, line, "%s differs from %s", a_text, b_text);
}

uint64_t test_seed(void)
{
	if (!report->seed_known) {
		const char *text = getenv("TEST_SEED");
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		report->seed = text ? strtoull(text, NULL, 0)
				    : (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
		report->seed_known = true;
		test_note("TEST_SEED=%llu", (unsigned long long)report->seed);
	}
	return report->seed;
}

uint64_t test_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static bool is_long(void)
{
	const char *text = getenv("TEST_LONG");

	return text && *text && strcmp(text, "0") != 0;
}

unsigned test_count(unsigned usual, unsigned when_long)
{
	return is_long() ? when_long : usual;
}

bool test_death_begin(struct test_death *death)
{
	int fds[2];

	if (pipe(fds) != 0)
		test_fail(__FILE__, __LINE__, "pipe: %s", strerror(errno));
	death->pid = fork();
	if (death->pid < 0)
		test_fail(__FILE__, __LINE__, "fork: %s", strerror(errno));
	death->stderr_fd = fds[0];
	if (death->pid == 0)
		dup2(fds[1], STDERR_FILENO);
	close(fds[1]);
	return death->pid == 0;
}

void test_death_survived(void)
{
	_exit(0);
}

static void read_death_text(int fd, char *text, size_t cap)
{
	size_t used = 0;
	ssize_t n;

	while (used < cap - 1) {
		n = read(fd, text + used, cap - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	text[used] = '\0';
	close(fd);
}

void test_death_end(struct test_death *death, const char *file, int line, const char *stmt,
	int want_signal, const char *want_text)
{
	char text[DEATH_BYTES];
	int status;

	read_death_text(death->stderr_fd, text, sizeof(text));
	while (waitpid(death->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFSIGNALED(status))
		test_fail(file, line, "%s did not die: exit status %d, stderr \"%s\"", stmt,
			WEXITSTATUS(status), text);
	if (WTERMSIG(status) != want_signal)
		test_fail(file, line, "%s died of signal %d, not of %d, stderr \"%s\"", stmt,
			WTERMSIG(status), want_signal, text);
	test_check_str_eq(file, line, "stderr", "expected", text, want_text);
}

_Noreturn static void run_child(const struct test *t)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigprocmask(SIG_SETMASK, &start_mask, NULL);
	t->run();
	_exit(0);
}

/* Waits for the child until the deadline; false when it had to be killed. */
static bool wait_child(pid_t pid, unsigned limit_s, int *ret_status)
{
	struct timespec now, deadline, rest;
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += limit_s;
	for (;;) {
		if (waitpid(pid, ret_status, WNOHANG) == pid)
			return true;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec >= deadline.tv_sec)
			break;
		rest = (struct timespec){ .tv_sec = deadline.tv_sec - now.tv_sec };
		sigtimedwait(&chld, NULL, &rest);
	}
	kill(-pid, SIGKILL);
	waitpid(pid, ret_status, 0);
	return false;
}

static enum outcome judge(const struct test *t, int number, int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		print("ok %d - %s", number, t->name);
		return PASSED;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED) {
		print("ok %d - %s # SKIP %s", number, t->name, report->skip_reason);
		return SKIPPED;
	}
	if (WIFSIGNALED(status))
		test_note("%s: killed by signal %d (%s)", t->name, WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != EXIT_FAILED)
		test_note("%s: exit status %d", t->name, WEXITSTATUS(status));
	print("not ok %d - %s", number, t->name);
	return FAILED;
}

static enum outcome run_test(const struct test *t, int number)
{
	unsigned limit_s = t->timeout_s * timeout_scale;
	bool in_time;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		run_child(t);
	if (pid < 0) {
		print("not ok %d - %s # fork: %s", number, t->name, strerror(errno));
		return FAILED;
	}
	setpgid(pid, pid);
	in_time = wait_child(pid, limit_s, &status);
	kill(-pid, SIGKILL); /* what the subtest left running */
	if (in_time)
		return judge(t, number, status);
	print("not ok %d - %s # no end after %u s", number, t->name, limit_s);
	return FAILED;
}

static bool is_selected(const struct test *t, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(t->name, argv[i]) == 0)
			return true;
	return argc <= 1;
}

/* True if every name on the command line is that of a subtest. */
static bool names_are_known(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const struct test *t = first_test;

		while (t && strcmp(t->name, argv[i]) != 0)
			t = t->next;
		if (!t) {
			print("# no such subtest: %s", argv[i]);
			return false;
		}
	}
	return true;
}

static int run_selected(int argc, char **argv)
{
	int number = 0, counts[3] = { 0 };

	for (struct test *t = first_test; t; t = t->next)
		number += is_selected(t, argc, argv);
	print("1..%d", number);
	number = 0;
	for (struct test *t = first_test; t; t = t->next)
		if (is_selected(t, argc, argv))
			counts[run_test(t, ++number)]++;
	/* Of a program that skipped all, its lines tell that: who reads them takes 77 for an error. */
	return counts[FAILED] > 0 || number == 0 ? EXIT_FAILED : 0;
}

static void set_up(void)
{
	const char *scale = getenv("TEST_TIMEOUT_SCALE");
	struct rlimit no_core = { 0, 0 };
	sigset_t chld;

	if (scale && atoi(scale) > 0)
		timeout_scale = (unsigned)atoi(scale);
	if (is_long())
		timeout_scale *= LONG_SCALE;
	setrlimit(RLIMIT_CORE, &no_core);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		0);
	if (report == MAP_FAILED)
		_exit(EXIT_FAILED);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &start_mask);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (struct test *t = first_test; t; t = t->next)
			print("%s", t->name);
		return 0;
	}
	if (!names_are_known(argc, argv))
		return EXIT_USAGE;
	set_up();
	return run_selected(argc, argv);
}
