/* SPDX-License-Identifier: MIT */
/*
 * sandboxed CALL[,CALL…] PROGRAM [ARGUMENT…]: runs a program in a sandbox that answers system calls
 * with ENOSYS. Calls: rseq, membarrier, affinity.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_rseq
#define SYS_rseq 334
#endif

static const struct {
	const char *name;
	unsigned number;
} calls[] = {
	{ "rseq", SYS_rseq },
	{ "membarrier", SYS_membarrier },
	{ "affinity", SYS_sched_setaffinity },
};

enum { CALLS = sizeof calls / sizeof calls[0] };

int main(int argc, char **argv)
{
	struct sock_filter filter[2 * CALLS + 2] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		offsetof(struct seccomp_data, nr)) };
	unsigned short at = 1;

	if (argc < 3)
		return 2;
	for (unsigned i = 0; i < CALLS; i++) {
		if (strstr(argv[1], calls[i].name) == NULL)
			continue;
		filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
			calls[i].number, 0, 1);
		filter[at++] =
			(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	}
	filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { at, filter };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		printf("1..0 # SKIP the kernel has no seccomp filters\n");
		return 77;
	}
	execv(argv[2], argv + 2);
	perror(argv[2]);
	return 1;
}
