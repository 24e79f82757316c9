/* SPDX-License-Identifier: MIT */
/*
 * launch [-n TIMES] [-l SECONDS] [-p LIBRARY] [-e NAME=VALUE] [-r FD] [-o FILE] -- PROGRAM [ARGUMENT...]
 *
 * Starts a program TIMES times, one after the other, with LIBRARY preloaded, and prints a line
 * about each, into FILE if one is given: its exit status (or minus the signal), user and system CPU
 * time and elapsed time in microseconds, peak memory in KiB, minor and major faults.
 *
 * It exists because the kernel counts the memory of the process that calls exec in the peak of what
 * is executed: started from an interpreter, every small program would seem to need as much as it.
 * So this one is small: it links nothing but libc. Descriptor FD becomes 3 in the program, for its
 * own results; a program that runs for SECONDS (60) is ended.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RESULT_FD = 3 };

static volatile sig_atomic_t child;
static unsigned limit_s = 60;

static void on_alarm(int signal)
{
	if (child > 0)
		kill((pid_t)child, SIGKILL);
}

static long long elapsed_us(const struct timespec *from, const struct timespec *to)
{
	return (to->tv_sec - from->tv_sec) * 1000000ll + (to->tv_nsec - from->tv_nsec) / 1000;
}

static long long time_us(const struct timeval *time)
{
	return time->tv_sec * 1000000ll + time->tv_usec;
}

/* The child's part; argv[0] is the program. */
static _Noreturn void execute(char **argv, const char *library, int result_fd)
{
	if (library && setenv("LD_PRELOAD", library, 1) != 0)
		_exit(126);
	if (result_fd >= 0 && dup2(result_fd, RESULT_FD) < 0)
		_exit(126);
	execvp(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

static int run_once(char **argv, const char *library, int result_fd, FILE *lines)
{
	struct timespec start, end;
	struct rusage usage;
	int status;
	pid_t pid;

	fflush(lines);
	clock_gettime(CLOCK_MONOTONIC, &start);
	pid = fork();
	if (pid == 0)
		execute(argv, library, result_fd);
	if (pid < 0) {
		perror("fork");
		return 1;
	}
	child = pid;
	alarm(limit_s);
	while (wait4(pid, &status, 0, &usage) != pid)
		;
	child = 0;
	clock_gettime(CLOCK_MONOTONIC, &end);
	fprintf(lines, "%d %lld %lld %lld %ld %ld %ld\n",
		WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status),
		time_us(&usage.ru_utime), time_us(&usage.ru_stime), elapsed_us(&start, &end),
		usage.ru_maxrss, usage.ru_minflt, usage.ru_majflt);
	return 0;
}

int main(int argc, char **argv)
{
	const struct sigaction action = { .sa_handler = on_alarm };
	const char *library = NULL;
	const char *output = NULL;
	int result_fd = -1;
	long times = 1;
	FILE *lines;
	int option;

	while ((option = getopt(argc, argv, "+n:l:p:e:r:o:")) != -1) {
		switch (option) {
		case 'n': times = atol(optarg); break;
		case 'l': limit_s = (unsigned)atoi(optarg); break;
		case 'p': library = optarg; break;
		case 'e': putenv(optarg); break;
		case 'o': output = optarg; break;
		case 'r': result_fd = atoi(optarg); break;
		default: return 2;
		}
	}
	if (optind == argc)
		return 2;
	lines = output ? fopen(output, "we") : stdout;
	if (!lines)
		return 2;
	sigaction(SIGALRM, &action, NULL);
	for (long i = 0; i < times; i++) {
		if (run_once(argv + optind, library, result_fd, lines) != 0)
			return 1;
	}
	return fclose(lines) == 0 ? 0 : 1;
}
