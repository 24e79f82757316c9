/* SPDX-License-Identifier: MIT */
#include "park.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "harness.h"
#include "park_face.h"

/* The victim that the thread is; none in the janitor, which copies the flag and the handler. */
static __thread struct victim *self;

#if defined(__x86_64__)

#define TRAP_FLAG 0x100

static const bool supported = true;

static void set_context_trap(ucontext_t *context, bool on)
{
	greg_t *flags = &context->uc_mcontext.gregs[REG_EFL];
	*flags = on ? *flags | TRAP_FLAG : *flags & ~(greg_t)TRAP_FLAG;
}

/* Steps over what the compiler keeps below the stack pointer. */
static inline __attribute__((always_inline)) void set_trap(void)
{
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "pushfq\n\t"
			 "orq %0, (%%rsp)\n\t"
			 "popfq\n\t"
			 "lea 128(%%rsp), %%rsp"
			 :
			 : "i"(TRAP_FLAG)
			 : "memory", "cc");
}

/*
 * The return address where the frame pointer is the caller's: at a function's first and last
 * instructions.
 */
static uintptr_t frameless_caller(const greg_t *regs, const struct symbol *symbol)
{
	const uintptr_t pc = (uintptr_t)regs[REG_RIP];
	const uint8_t *code = (const uint8_t *)pc;
	const uintptr_t *stack = (const uintptr_t *)regs[REG_RSP];
	if (symbol == NULL)
		return 0;
	if (pc == symbol->from || *code == 0xc3)
		return stack[0];
	return pc == symbol->from + 1 && code[-1] == 0x55 ? stack[1] : 0;
}

/*
 * The allocator keeps frame pointers; beneath libc's functions, which do not, the chain may end
 * early.
 */
static void record_stack(struct victim *v, const ucontext_t *context)
{
	const greg_t *regs = context->uc_mcontext.gregs;
	uintptr_t low = (uintptr_t)regs[REG_RSP];
	uintptr_t frame = (uintptr_t)regs[REG_RBP];
	v->depth = 0;
	v->frames[v->depth++] = (uintptr_t)regs[REG_RIP];
	const uintptr_t caller = frameless_caller(regs, symbol_at(v->frames[0]));
	if (caller != 0)
		v->frames[v->depth++] = caller;
	while (v->depth < PARK_FRAMES && frame >= low && frame < v->stack_top && frame % 8 == 0) {
		const uintptr_t *at = (const uintptr_t *)frame;
		v->frames[v->depth++] = at[1];
		low = frame + 1;
		frame = at[0];
	}
}

/*
 * Where the allocator is about to block all signals (starting the janitor) SIGTRAP is taken out of
 * the set, for a step with SIGTRAP blocked would end the process. The call may lie in a function of
 * its own, where the compiler puts nothing inline.
 */
static void keep_unblocked(const greg_t *regs, const struct symbol *symbol)
{
	const uint8_t *code = (const uint8_t *)(uintptr_t)regs[REG_RIP];
	if (symbol == NULL || symbol->is_tests)
		return;
	if (code[0] != 0x0f || code[1] != 0x05 || regs[REG_RAX] != SYS_rt_sigprocmask)
		return;
	if (regs[REG_RDI] != SIG_UNBLOCK && regs[REG_RSI] != 0)
		*(uint64_t *)(uintptr_t)regs[REG_RSI] &= ~((uint64_t)1 << (SIGTRAP - 1));
}

static const greg_t *registers(const ucontext_t *context)
{
	return context->uc_mcontext.gregs;
}

static uintptr_t program_counter(const ucontext_t *context)
{
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
}

#else

static const bool supported = false;

static void set_context_trap(ucontext_t *context, bool on)
{
	(void)context;
	(void)on;
}

static inline void set_trap(void)
{
}

static void record_stack(struct victim *v, const ucontext_t *context)
{
	(void)v;
	(void)context;
}

static void keep_unblocked(const void *regs, const struct symbol *symbol)
{
	(void)regs;
	(void)symbol;
}

static const void *registers(const ucontext_t *context)
{
	return context;
}

static uintptr_t program_counter(const ucontext_t *context)
{
	(void)context;
	return 0;
}

#endif

static uint32_t stack_regions(const struct victim *v)
{
	uint32_t set = 0;
	for (unsigned i = 0; i < v->depth; i++) {
		const struct symbol *symbol = symbol_at(v->frames[i] - (i > 0));
		uint32_t more = symbol != NULL ? symbol->regions : 0;
		for (unsigned r = 0; r < REGIONS; r++) {
			if (i > 0 && regions[r].innermost)
				more &= ~(1u << r);
		}
		set |= more;
	}
	return set;
}

static void park(struct victim *v, const ucontext_t *context)
{
	v->stepping = false;
	record_stack(v, context);
	v->regions = stack_regions(v);
	/*
	 * None before the first call, and none at the end of a thread, which still works on its
	 * heap.
	 */
	if (face_heap_id() != 0)
		v->heap_id = face_heap_id();
	a_store_rel(&v->phase, PARK_PARKED);
	while (!a_load_acq(&v->released))
		syscall(SYS_futex, &v->released, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

/* Not in libc, which has locks. */
static bool counts(const struct victim *v, const struct symbol *symbol)
{
	return symbol != NULL && !symbol->is_tests &&
		(v->target == REGION_ANY || (symbol->regions & 1u << v->target) != 0);
}

/* Stepping is off while a handler runs: the kernel clears the flag, and sets it again on return. */
static void on_trap(int number, siginfo_t *info, void *context)
{
	struct victim *v = self;
	if (v == NULL || !v->stepping) {
		set_context_trap(context, false);
		return;
	}
	const int saved_errno = errno;
	const struct symbol *symbol = symbol_at(program_counter(context));
	keep_unblocked(registers(context), symbol);
	if (++v->steps >= v->steps_most)
		v->stepping = false;
	else if (counts(v, symbol) && v->steps_in++ == v->k)
		park(v, context);
	set_context_trap(context, v->stepping);
	errno = saved_errno;
}

void park_init(void)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	if (!supported)
		SKIP("a thread can step itself on x86-64 only");
	CHECK_EQ(sigaction(SIGTRAP, &action, NULL), 0);
}

__attribute__((noinline)) void park_begin(struct victim *v)
{
	self = v;
	v->heap_id = face_heap_id();
	v->steps = 0;
	v->steps_in = 0;
	v->stepping = true;
	set_trap();
}

__attribute__((noinline)) void park_end(struct victim *v)
{
	v->stepping = false;
}

void park_release(struct victim *v)
{
	a_store_rel(&v->released, 1);
	syscall(SYS_futex, &v->released, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void park_describe(const struct victim *v, const char *op)
{
	char text[1024];
	size_t length = 0;
	for (unsigned i = 0; i < v->depth && i < 10 && length < sizeof text - 100; i++) {
		if (i > 0)
			length += (size_t)snprintf(text + length, sizeof text - length, " < ");
		length += symbol_describe(v->frames[i] - (i > 0), text + length,
			sizeof text - length);
	}
	test_note("victim %u, %s, step %ld: %.*s", v->number, op, v->steps, (int)length, text);
}
