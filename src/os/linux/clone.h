/* SPDX-License-Identifier: MIT */
/*
 * clone() that runs a function on a new stack, which no libc wrapper does without thread-local
 * storage and locks of its own. For src/os/linux/task.c only.
 */
#pragma once

#include <stdint.h>
#include <sys/syscall.h>

struct clone_request {
	unsigned long flags;
	void *stack_top; /* aligned to 16 bytes */
	void *tid;       /* set before the task runs, cleared by the kernel when it is gone */
	void *tls;
	void (*entry)(void *arg); /* must not return */
	void *arg;
};

#if defined(__x86_64__)

static inline long clone_and_run(const struct clone_request *r)
{
	register void *tid __asm__("r10") = r->tid;
	register void *tls __asm__("r8") = r->tls;
	register void (*entry)(void *) __asm__("r12") = r->entry;
	register void *arg __asm__("r13") = r->arg;
	long ret;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "ud2\n"
			 "1:"
			 : "=a"(ret)
			 : "a"((long)SYS_clone), "D"(r->flags), "S"(r->stack_top), "d"(r->tid),
			 "r"(tid), "r"(tls), "r"(entry), "r"(arg)
			 : "rcx", "r11", "memory");
	return ret;
}

#elif defined(__aarch64__)

static inline long clone_and_run(const struct clone_request *r)
{
	register long nr __asm__("x8") = SYS_clone;
	register long ret __asm__("x0") = (long)r->flags;
	register void *stack __asm__("x1") = r->stack_top;
	register void *ptid __asm__("x2") = r->tid;
	register void *tls __asm__("x3") = r->tls;
	register void *ctid __asm__("x4") = r->tid;
	register void (*entry)(void *) __asm__("x9") = r->entry;
	register void *arg __asm__("x10") = r->arg;

	__asm__ volatile("svc 0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, xzr\n\t"
			 "mov x30, xzr\n\t"
			 "mov x0, x10\n\t"
			 "blr x9\n\t"
			 "brk #0\n"
			 "1:"
			 : "+r"(ret)
			 : "r"(nr), "r"(stack), "r"(ptid), "r"(tls), "r"(ctid), "r"(entry), "r"(arg)
			 : "memory");
	return ret;
}

#endif
