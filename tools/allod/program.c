/* SPDX-License-Identifier: MIT */
/*
 * Program resolution and the checks before exec. See program.h.
 *
 * The checks look at the file as the kernel will: script interpreters are followed, then the ELF
 * header of the binary at the end is read. What cannot be read (a program may be executable only)
 * is given the benefit of the doubt.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "program.h"

enum {
	/* What the kernel reads of a file to find its format, and the scripts it follows. */
	HEAD_BYTES = 256,
	SCRIPT_DEPTH_MAX = 5,
	/* Far more program headers than any linker writes. */
	PROGRAM_HEADERS_MAX = 256,
};

/* The class and machine of this command, so of the library beside it. */
#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#else
#error "allod knows x86-64 and aarch64 only"
#endif

static enum program_state refuse(struct program *p, enum program_state state, const char *what,
	const char *detail)
{
	snprintf(p->reason, sizeof(p->reason), "%s%s", what, detail);
	return state;
}

/*
 * Finding the file
 */

static bool is_executable(const char *path, int *ret_errno)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		*ret_errno = errno;
		return false;
	}
	*ret_errno = S_ISDIR(st.st_mode) ? EISDIR : EACCES;
	return S_ISREG(st.st_mode) && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

/* Turns the reason why a file cannot be executed into a state and a message. */
static enum program_state refuse_errno(struct program *p, int error)
{
	bool missing = error == ENOENT || error == ENOTDIR;

	return refuse(p, missing ? PROGRAM_NOT_FOUND : PROGRAM_NOT_RUNNABLE, strerror(error), "");
}

/* Joins an entry of PATH, which ends at `end`, and a name; an empty entry is this directory. */
static bool join_path(char *ret, const char *entry, const char *end, const char *name)
{
	int length = (int)(end - entry);
	int written = snprintf(ret, PATH_MAX, "%.*s%s%s", length, entry, length ? "/" : "./", name);

	return written > 0 && written < PATH_MAX;
}

/* The first executable of that name in PATH; failing that, why the best candidate is none. */
static enum program_state search_path(const char *name, struct program *p)
{
	const char *entry = getenv("PATH");
	int best_error = ENOENT, error;

	for (entry = entry ? entry : "/bin:/usr/bin";;) {
		const char *end = strchrnul(entry, ':');

		if (join_path(p->path, entry, end, name)) {
			if (is_executable(p->path, &error))
				return PROGRAM_OK;
			if (error == EACCES)
				best_error = error;
		}
		if (*end == '\0')
			break;
		entry = end + 1;
	}
	if (best_error == ENOENT)
		return refuse(p, PROGRAM_NOT_FOUND, "there is no such program in PATH", "");
	return refuse_errno(p, best_error);
}

static enum program_state find_program(const char *name, struct program *p)
{
	int error;

	if (*name == '\0')
		return refuse_errno(p, ENOENT);
	if (!strchr(name, '/'))
		return search_path(name, p);
	if (strlen(name) >= sizeof(p->path))
		return refuse_errno(p, ENAMETOOLONG);
	strcpy(p->path, name);
	return is_executable(name, &error) ? PROGRAM_OK : refuse_errno(p, error);
}

/*
 * Scripts
 */

/* Reads the start of a file; the rest of the buffer is zeros. Returns the bytes, or -1. */
static ssize_t read_head(const char *path, char head[static HEAD_BYTES + 1])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t bytes;

	memset(head, 0, HEAD_BYTES + 1);
	if (fd < 0)
		return -1;
	bytes = read(fd, head, HEAD_BYTES);
	close(fd);
	return bytes;
}

/* Cuts the interpreter's path out of a line "#! /path argument"; NULL if there is none. */
static char *interpreter_of(char *head)
{
	char *path = head + 2 + strspn(head + 2, " \t");

	path[strcspn(path, " \t\r\n")] = '\0';
	return *path ? path : NULL;
}

/*
 * Follows p->image through script interpreters to the binary that will run. A text without "#!" is
 * run by /bin/sh, as execvp() does it.
 */
static enum program_state follow_scripts(struct program *p)
{
	char head[HEAD_BYTES + 1];
	int error;

	for (int depth = 0; depth < SCRIPT_DEPTH_MAX; depth++) {
		const char *interpreter = "/bin/sh";
		ssize_t bytes = read_head(p->image, head);

		if (bytes < 0 || (bytes >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0))
			return PROGRAM_OK;
		if (head[0] == '#' && head[1] == '!')
			interpreter = interpreter_of(head);
		if (!interpreter)
			return refuse(p, PROGRAM_NOT_RUNNABLE,
				"its first line names no interpreter", "");
		if (!is_executable(interpreter, &error)) {
			snprintf(p->reason, sizeof(p->reason), "its interpreter '%s': %s",
				interpreter, strerror(error));
			return PROGRAM_NOT_RUNNABLE;
		}
		snprintf(p->image, sizeof(p->image), "%s", interpreter);
	}
	return refuse(p, PROGRAM_NOT_RUNNABLE, strerror(ELOOP), "");
}

/*
 * Binaries
 */

/* Finds the dynamic loader that the binary asks for; an empty name if it asks for none. */
static bool read_loader(int fd, const Elf64_Ehdr *header, char loader[static PATH_MAX])
{
	Elf64_Phdr segment;

	loader[0] = '\0';
	if (header->e_phentsize != sizeof(segment) || header->e_phnum > PROGRAM_HEADERS_MAX)
		return false;
	for (unsigned i = 0; i < header->e_phnum; i++) {
		off_t at = (off_t)(header->e_phoff + i * sizeof(segment));

		if (pread(fd, &segment, sizeof(segment), at) != sizeof(segment))
			return false;
		if (segment.p_type != PT_INTERP)
			continue;
		if (segment.p_filesz == 0 || segment.p_filesz > PATH_MAX)
			return false;
		if (pread(fd, loader, segment.p_filesz, (off_t)segment.p_offset) !=
			(ssize_t)segment.p_filesz)
			return false;
		loader[segment.p_filesz - 1] = '\0';
	}
	return true;
}

/* The library is for the libc that this command is built for. */
#if defined(__GLIBC__)
#define LOADER_IS_OURS(loader) (!strstr(loader, "/ld-musl"))
#define LOADER_MISMATCH "it is linked against musl; liballod-malloc.so serves glibc programs"
#else
#define LOADER_IS_OURS(loader) (strstr(loader, "/ld-musl") != NULL)
#define LOADER_MISMATCH "it is linked against glibc; liballod-malloc.so serves musl programs"
#endif

static enum program_state check_loader(struct program *p, const char *loader)
{
	if (*loader == '\0')
		return refuse(p, PROGRAM_NOT_PRELOADABLE,
			"it is statically linked: nothing can be preloaded into it", "");
	if (!LOADER_IS_OURS(loader))
		return refuse(p, PROGRAM_NOT_PRELOADABLE, LOADER_MISMATCH, "");
	if (access(loader, X_OK) != 0)
		return refuse(p, PROGRAM_NOT_RUNNABLE, "its dynamic loader is missing: ", loader);
	return PROGRAM_OK;
}

static enum program_state check_elf(struct program *p, int fd)
{
	char loader[PATH_MAX];
	Elf64_Ehdr header;

	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		return refuse(p, PROGRAM_NOT_RUNNABLE, "its ELF header is cut off", "");
	if (header.e_ident[EI_CLASS] != ELFCLASS64)
		return refuse(p, PROGRAM_NOT_PRELOADABLE,
			"it is not a 64-bit program, so this library does not fit it", "");
	if (header.e_machine != OWN_MACHINE)
		return refuse(p, PROGRAM_NOT_PRELOADABLE,
			"it is for another processor architecture than this library", "");
	if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
		return refuse(p, PROGRAM_NOT_RUNNABLE, "it is an object file or a core dump", "");
	if (!read_loader(fd, &header, loader))
		return refuse(p, PROGRAM_NOT_RUNNABLE, "its ELF program headers are damaged", "");
	return check_loader(p, loader);
}

/* Whether executing the file would raise privileges, so that the loader ignores LD_PRELOAD. */
static bool gains_privileges(const char *path, const char **ret_how)
{
	struct statvfs filesystem;
	struct stat st;

	if (stat(path, &st) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	if (statvfs(path, &filesystem) == 0 && (filesystem.f_flag & ST_NOSUID))
		return false;
	*ret_how = "set-user-id";
	if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
		return true;
	*ret_how = "set-group-id";
	if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid())
		return true;
	*ret_how = "privileged by file capabilities";
	return getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
}

static enum program_state check_image(struct program *p)
{
	enum program_state state;
	const char *how;
	int fd;

	if (gains_privileges(p->image, &how)) {
		snprintf(p->reason, sizeof(p->reason),
			"it is %s: the loader ignores what is preloaded into such programs", how);
		return PROGRAM_NOT_PRELOADABLE;
	}
	fd = open(p->image, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return PROGRAM_OK;
	state = check_elf(p, fd);
	close(fd);
	return state;
}

enum program_state program_inspect(const char *name, struct program *p)
{
	enum program_state state = find_program(name, p);

	p->image[0] = '\0';
	if (state != PROGRAM_OK)
		return state;
	memcpy(p->image, p->path, sizeof(p->image));
	state = follow_scripts(p);
	return state == PROGRAM_OK ? check_image(p) : state;
}
