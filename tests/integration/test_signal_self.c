/* SPDX-License-Identifier: MIT */
#include "test_signal_self.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#include "harness.h"

/* The thread that steps. */
static __thread volatile bool stepping;
static __thread volatile long steps;
static __thread long stop_at;
static __thread void (*stop_call)(void);

#if defined(__x86_64__)

#define TRAP_FLAG 0x100

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

static const bool supported = true;

#else

static void set_context_trap(ucontext_t *context, bool on)
{
	(void)context;
	(void)on;
}

static inline void set_trap(void)
{
}

static const bool supported = false;

#endif

/* Stepping is off while a handler runs: the kernel clears the flag, and sets it again on return. */
static void on_trap(int number, siginfo_t *info, void *context)
{
	const int saved_errno = errno;
	if (stepping && steps++ == stop_at) {
		stepping = false;
		steps = -1;
		stop_call();
	}
	set_context_trap(context, stepping);
	errno = saved_errno;
}

void step_init(void)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	if (!supported)
		SKIP("a thread can step itself on x86-64 only");
	CHECK_EQ(sigaction(SIGTRAP, &action, NULL), 0);
}

__attribute__((noinline)) void step_begin(long k, void (*at)(void))
{
	stop_at = k;
	stop_call = at;
	steps = 0;
	stepping = true;
	set_trap();
}

__attribute__((noinline)) long step_end(void)
{
	stepping = false;
	return steps;
}
