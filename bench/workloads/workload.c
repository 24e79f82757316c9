/* SPDX-License-Identifier: MIT */
/* The parts of workload.h that are not in any measured loop. */
#include "workload.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { REPORT_FD = 3 };

_Noreturn void fail(const char *what)
{
	dprintf(STDERR_FILENO, "workload: %s\n", what);
	abort();
}

size_t number_of(int argc, char **argv, int index)
{
	char *end;
	size_t value;

	if (index >= argc)
		fail("too few arguments");
	value = strtoul(argv[index], &end, 10);
	if (*end == 'k')
		value <<= 10;
	else if (*end == 'm')
		value <<= 20;
	if (end == argv[index] || (*end && end[1]))
		fail("an argument is not a number");
	return value;
}

void *table_of(size_t count, size_t bytes_each)
{
	void *table = mmap(NULL, count * bytes_each, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (table == MAP_FAILED)
		fail("no memory for a table");
	return table;
}

void thread_start(pthread_t *ret_thread, void *(*run)(void *), void *argument)
{
	if (pthread_create(ret_thread, NULL, run, argument) != 0)
		fail("no thread");
}

void thread_join(pthread_t thread)
{
	if (pthread_join(thread, NULL) != 0)
		fail("no such thread");
}

void sleep_ms(size_t milliseconds)
{
	struct timespec left = { (time_t)(milliseconds / 1000),
		(long)(milliseconds % 1000) * 1000000 };

	while (nanosleep(&left, &left) != 0)
		;
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

size_t resident_bytes(void)
{
	char text[2048];
	const char *line;
	ssize_t length = -1;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		length = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (length < 0)
		fail("cannot read /proc/self/smaps_rollup");
	text[length] = '\0';
	line = strstr(text, "\nRss:");
	if (!line)
		fail("no resident size in /proc/self/smaps_rollup");
	return strtoul(line + strlen("\nRss:"), NULL, 10) * 1024;
}

size_t peak_bytes(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (size_t)usage.ru_maxrss * 1024;
}

void report(const char *name, double value, const char *unit)
{
	if (fcntl(REPORT_FD, F_GETFD) != -1)
		dprintf(REPORT_FD, "%s %.4f %s\n", name, value, unit);
}
