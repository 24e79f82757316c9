/* SPDX-License-Identifier: MIT */
/*
 * pressure SOURCE LIMIT FREED PIECE NEEDED PAUSE_MS own|mmap: a process in a control group of LIMIT
 * bytes frees FREED bytes, in blocks of PIECE, waits, and needs NEEDED bytes: by one block of the
 * same source, or by an mmap() of its own as another library would. Does it live? What an allocator
 * keeps of freed memory must not be the reason for a kill.
 *
 * The group is made and removed by this program, which may need to be run by root; the process in it
 * is a child.
 */
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 256 };

struct plan {
	const struct page_source *source;
	size_t limit;
	size_t freed;
	size_t piece;
	size_t needed;
	size_t pause_ms;
	bool by_mmap;
};

/* What the child found, in shared memory. */
struct result {
	uint64_t needed_ns; /* for having what it needed, and touching it */
	uint64_t freed_ns;  /* for freeing */
	size_t resident;    /* after the pause */
};

/* Where version 1 and version 2 have their groups, and what they call the limit. */
static const struct {
	const char *root;
	const char *limit;
} versions[] = {
	{ "/sys/fs/cgroup/memory", "memory.limit_in_bytes" },
	{ "/sys/fs/cgroup", "memory.max" },
};

static bool put(const char *group, const char *file, size_t number)
{
	char path[PATH_BYTES + 64];
	char text[32];
	int bytes = snprintf(text, sizeof(text), "%zu", number);
	int fd;

	snprintf(path, sizeof(path), "%s/%s", group, file);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;
	bool is_done = write(fd, text, (size_t)bytes) == bytes;
	close(fd);
	return is_done;
}

/* Makes a group with this limit; its path. */
static void group_make(char *path, size_t limit)
{
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		snprintf(path, PATH_BYTES, "%s/allod-bench-%d", versions[i].root, getpid());
		if (mkdir(path, 0755) != 0)
			continue;
		if (put(path, versions[i].limit, limit))
			return;
		rmdir(path);
	}
	fail("no control group with a memory limit can be made here");
}

/* The kernel forgets the processes of a group a moment after they end. */
static void group_remove(const char *path)
{
	for (int i = 0; rmdir(path) != 0 && errno == EBUSY && i < 100; i++)
		sleep_ms(20);
}

/* A block of the source or of the kernel; in both, each page is written and looked at. */
static void need(const struct plan *p, struct result *result)
{
	uint64_t begin = now_ns();
	void *block = p->by_mmap
		? mmap(NULL, p->needed, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
		: p->source->alloc(p->needed, 0);

	if (!block || block == MAP_FAILED)
		fail("no memory");
	pages_stamp(block, p->needed, 7);
	result->needed_ns = now_ns() - begin;
	pages_check(block, p->needed, 7);
}

static _Noreturn void run(const struct plan *p, const char *group, struct result *result)
{
	size_t count = p->freed / p->piece;
	void **pieces = table_of(count, sizeof(void *));
	uint64_t begin;

	if (!put(group, "cgroup.procs", (size_t)getpid()))
		fail("the control group cannot be entered");
	for (size_t i = 0; i < count; i++) {
		pieces[i] = p->source->alloc(p->piece, 0);
		if (!pieces[i])
			fail("no memory");
		pages_stamp(pieces[i], p->piece, i);
	}
	begin = now_ns();
	for (size_t i = 0; i < count; i++)
		p->source->free(pieces[i], p->piece);
	result->freed_ns = now_ns() - begin;
	sleep_ms(p->pause_ms);
	result->resident = resident_bytes();
	need(p, result);
	_exit(0);
}

int main(int argc, char **argv)
{
	const struct plan p = {
		.source = source_named(argv[1]),
		.limit = number_of(argc, argv, 2),
		.freed = number_of(argc, argv, 3),
		.piece = number_of(argc, argv, 4),
		.needed = number_of(argc, argv, 5),
		.pause_ms = number_of(argc, argv, 6),
		.by_mmap = argc > 7 && strcmp(argv[7], "mmap") == 0,
	};
	struct result *result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char group[PATH_BYTES];
	int status = 0;
	pid_t pid;

	if (result == MAP_FAILED)
		fail("no memory");
	group_make(group, p.limit);
	pid = fork();
	if (pid == 0)
		run(&p, group, result);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		fail("no child");
	group_remove(group);
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		fail("the child failed");
	report("survived", WIFEXITED(status), "runs");
	report("free", (double)result->freed_ns / 1e3, "us");
	report("resident", (double)result->resident, "bytes");
	if (WIFEXITED(status))
		report("need", (double)result->needed_ns / 1e3, "us");
	return 0;
}
