/* SPDX-License-Identifier: MIT */
#include "percpu_kernel.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <allod/percpu-ops.h>

#include "harness.h"
#include "percpu/rseq.h"

struct descriptor {
	uint32_t version;
	uint32_t flags;
	uint64_t start;
	uint64_t length;
	uint64_t abort;
};

/* Everything that was assembled into the section; the linker gives the names. */
extern const struct descriptor __start___rseq_cs[];
extern const struct descriptor __stop___rseq_cs[];

static __thread struct {
	int32_t cpu_id;
	int32_t mm_cid;
	uint64_t cs;
} area;

static void (*to_call)(void);
static volatile long left;
static volatile bool hit;

static ptrdiff_t offset_of(const volatile void *field)
{
	return (const volatile char *)field - (const volatile char *)percpu_thread_pointer();
}

static uint32_t signature_before(uint64_t address)
{
	uint32_t signature;

	memcpy(&signature, (const void *)(uintptr_t)(address - sizeof signature), sizeof signature);
	return signature;
}

/* As the kernel: leaves the sequence if the thread is in it, and forgets it in any case. */
static uint64_t leave_sequence(uint64_t at)
{
	const struct descriptor *d = (const struct descriptor *)(uintptr_t)area.cs;

	area.cs = 0;
	if (d == NULL || at - d->start >= d->length)
		return at;
	return d->abort;
}

static uint64_t interrupted(uint64_t at)
{
	hit = true;
	at = leave_sequence(at);
	to_call();
	area.cs = 0;
	return at;
}

void kernel_move(int32_t number)
{
	area.cpu_id = number;
	area.mm_cid = number;
}

#if defined(__x86_64__)

#define SIGNATURE 0x53053053
#define TRAP_FLAG 0x100

static void on_trap(int number, siginfo_t *info, void *arg)
{
	greg_t *registers = ((ucontext_t *)arg)->uc_mcontext.gregs;

	(void)number, (void)info;
	if (left < 0) {
		registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
		return;
	}
	if (left-- == 0) {
		registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
		registers[REG_RIP] = (greg_t)interrupted((uint64_t)registers[REG_RIP]);
	}
}

/* Steps over what the compiler keeps below the stack pointer. */
static void step(void)
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

bool kernel_interrupt(long k, void (*work)(void), void (*intruder)(void))
{
	to_call = intruder;
	hit = false;
	left = k;
	step();
	work();
	left = -1;
	/* The next instruction traps once more and ends the stepping. */
	__asm__ volatile("nop" : : : "memory");
	return hit;
}

long kernel_steps(void)
{
	return -1;
}

static void prepare(void)
{
}

#elif defined(__aarch64__)

#define SIGNATURE 0xd428bc00
#define BREAKPOINT 0xd4200000

static uint32_t *patched;
static uint32_t original;

static void patch(uint32_t *at, uint32_t instruction)
{
	*(volatile uint32_t *)at = instruction;
	__builtin___clear_cache((char *)at, (char *)(at + 1));
}

static void on_trap(int number, siginfo_t *info, void *arg)
{
	ucontext_t *context = arg;

	(void)number, (void)info;
	CHECK_EQ(context->uc_mcontext.pc, (uintptr_t)patched);
	patch(patched, original);
	context->uc_mcontext.pc = interrupted(context->uc_mcontext.pc);
}

/* The k-th instruction of all sequences. */
static uint32_t *instruction(long k)
{
	for (const struct descriptor *d = __start___rseq_cs; d < __stop___rseq_cs; d++) {
		if ((uint64_t)k < d->length / 4)
			return (uint32_t *)(uintptr_t)d->start + k;
		k -= (long)(d->length / 4);
	}
	return NULL;
}

bool kernel_interrupt(long k, void (*work)(void), void (*intruder)(void))
{
	to_call = intruder;
	hit = false;
	patched = instruction(k);
	original = *patched;
	patch(patched, BREAKPOINT);
	work();
	if (!hit)
		patch(patched, original);
	return hit;
}

long kernel_steps(void)
{
	long steps = 0;

	for (const struct descriptor *d = __start___rseq_cs; d < __stop___rseq_cs; d++)
		steps += (long)(d->length / 4);
	return steps;
}

static void prepare(void)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	for (const struct descriptor *d = __start___rseq_cs; d < __stop___rseq_cs; d++) {
		const uintptr_t first = d->start & ~(page - 1);
		const uintptr_t end = (d->start + d->length + page - 1) & ~(page - 1);

		CHECK_EQ(mprotect((void *)first, end - first, PROT_READ | PROT_WRITE | PROT_EXEC),
			0);
	}
}

#endif

void kernel_start(void)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER };

	allod_rseq_register();
	allod_rseq_state_.index[ALLOD_RSEQ_CPU_ID] = offset_of(&area.cpu_id);
	allod_rseq_state_.index[ALLOD_RSEQ_MM_CID] = offset_of(&area.mm_cid);
	allod_rseq_state_.cs = offset_of(&area.cs);
	memset(allod_percpu_active_, 1, sizeof allod_percpu_active_);
	CHECK_EQ(sigaction(SIGTRAP, &action, NULL), 0);
	prepare();
}

unsigned kernel_check_descriptors(void)
{
	unsigned count = 0;

	for (const struct descriptor *d = __start___rseq_cs; d < __stop___rseq_cs; d++, count++) {
		CHECK_EQ(d->version, 0);
		CHECK_EQ(d->flags, 0);
		CHECK(d->length > 0 && d->length < 256);
		CHECK(d->abort - d->start >= d->length);
		CHECK_EQ(signature_before(d->abort), SIGNATURE);
	}
	return count;
}
