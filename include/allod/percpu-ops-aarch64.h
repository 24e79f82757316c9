/* SPDX-License-Identifier: MIT */
/*
 * The restartable sequences of <allod/percpu-ops.h> for aarch64; not to be included by itself. As
 * in <allod/percpu-ops-x86_64.h>, function by function.
 */
#ifndef ALLOD_PERCPU_OPS_AARCH64_H
#define ALLOD_PERCPU_OPS_AARCH64_H

#include <allod/rseq.h>

#if defined(__aarch64__)

/* The descriptor; that it is set as current; and that the thread is still at `i`. */
#define ALLOD_CS_ENTER_                       \
	".pushsection __rseq_cs, \"aw?\"\n\t" \
	".balign 32\n"                        \
	"9:\n\t"                              \
	".long 0, 0\n\t"                      \
	".quad 1f, 2f - 1f, 4f\n\t"           \
	".popsection\n\t"                     \
	"mrs x14, tpidr_el0\n\t"              \
	"adrp x15, 9b\n\t"                    \
	"add x15, x15, :lo12:9b\n\t"          \
	"str x15, [x14, %[cs]]\n"             \
	"1:\n\t"                              \
	"ldr x15, %[live]\n\t"                \
	"ldr w15, [x14, x15]\n\t"             \
	"cmp w15, %w[i]\n\t"                  \
	"b.ne %l[again]\n\t"
#define ALLOD_CS_LEAVE_                          \
	"2:\n\t"                                 \
	".pushsection __rseq_abort, \"ax?\"\n\t" \
	".inst 0xd428bc00\n"                     \
	"4:\n\t"                                 \
	"b %l[again]\n\t"                        \
	".popsection\n\t"
#define ALLOD_CS_IN_ \
	[cs] "r"(allod_rseq_state_.cs), [live] "m"(allod_rseq_state_.index[by]), [i] "r"(i)

/* Code that may be unloaded leaves no pointer to its descriptors behind. */
#if defined(__PIC__) && !defined(__PIE__)
#define ALLOD_CS_CLEAR_()                                               \
	__asm__ __volatile__("mrs x14, tpidr_el0\n\tstr xzr, [x14, %0]" \
			     :                                          \
			     : "r"(allod_rseq_state_.cs)                \
			     : "memory", "x14")
#else
#define ALLOD_CS_CLEAR_() ((void)0)
#endif

/* One number of the thread's area. Not an access that a sanitizer sees. */
static __inline__ int32_t allod_cs_number_(enum allod_rseq_index by)
{
	int64_t at;

	__asm__ __volatile__("mrs x14, tpidr_el0\n\tldr %0, %1\n\tldrsw %0, [x14, %0]"
			     : "=&r"(at)
			     : "m"(allod_rseq_state_.index[by])
			     : "x14");
	return (int32_t)at;
}

/*
 * The number of the kind; negative while it cannot be used. When an area is unregistered the kernel
 * sets its concurrency id to 0: the processor's number tells.
 */
static __inline__ int32_t allod_cs_index_(enum allod_rseq_index by)
{
	const int32_t number = allod_cs_number_(by);

	return by == ALLOD_RSEQ_CPU_ID ? number
				       : number | (allod_cs_number_(ALLOD_RSEQ_CPU_ID) >> 31);
}

static __inline__ uint64_t allod_cs_load_(const void *p)
{
	uint64_t value;

	__asm__ __volatile__("ldr %0, %1" : "=r"(value) : "m"(*(const uint64_t *)p));
	return value;
}

static __inline__ uint32_t allod_cs_load32_(const void *p)
{
	uint32_t value;

	__asm__ __volatile__("ldr %w0, %1" : "=r"(value) : "m"(*(const uint32_t *)p));
	return value;
}

static __inline__ int allod_cs_is_zero_(const unsigned char *p)
{
	unsigned value;

	__asm__ __volatile__("ldrb %w0, %1" : "=r"(value) : "m"(*p) : "memory");
	return value == 0;
}

static __inline__ int allod_cs_add_return_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value, uint64_t *ret_new)
{
	uint64_t sum;

	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "ldr %[sum], [%[slot]]\n\t"
						  "add %[sum], %[sum], %[value]\n\t"
						  "str %[sum], [%[slot]]\n" ALLOD_CS_LEAVE_
				  : [sum] "=&r"(sum)
				  : ALLOD_CS_IN_, [slot] "r"(slot), [value] "r"(value)
				  : "memory", "cc", "x14", "x15"
				  : again);
	ALLOD_CS_CLEAR_();
	*ret_new = sum;
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

static __inline__ int allod_cs_add_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value)
{
	uint64_t sum;

	return allod_cs_add_return_(by, i, slot, value, &sum);
}

static __inline__ int allod_cs_add32_(enum allod_rseq_index by, int32_t i, uint32_t *slot,
	uint32_t value)
{
	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "ldr w15, [%[slot]]\n\t"
						  "add w15, w15, %w[value]\n\t"
						  "str w15, [%[slot]]\n" ALLOD_CS_LEAVE_
				  :
				  : ALLOD_CS_IN_, [slot] "r"(slot), [value] "r"(value)
				  : "memory", "cc", "x14", "x15"
				  : again);
	ALLOD_CS_CLEAR_();
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

static __inline__ int allod_cs_xchg_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value, uint64_t *ret_old)
{
	uint64_t old;

	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "ldr %[old], [%[slot]]\n\t"
						  "str %[value], [%[slot]]\n" ALLOD_CS_LEAVE_
				  : [old] "=&r"(old)
				  : ALLOD_CS_IN_, [slot] "r"(slot), [value] "r"(value)
				  : "memory", "cc", "x14", "x15"
				  : again);
	ALLOD_CS_CLEAR_();
	*ret_old = old;
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

static __inline__ int allod_cs_cmpxchg_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t expected, uint64_t value, uint64_t *ret_old)
{
	uint64_t old;

	__asm__ __volatile__ goto(
		ALLOD_CS_ENTER_ "ldr %[old], [%[slot]]\n\t"
				"cmp %[old], %[expected]\n\t"
				"b.ne 2f\n\t"
				"str %[value], [%[slot]]\n" ALLOD_CS_LEAVE_
		: [old] "=&r"(old)
		: ALLOD_CS_IN_, [slot] "r"(slot), [expected] "r"(expected), [value] "r"(value)
		: "memory", "cc", "x14", "x15"
		: again);
	ALLOD_CS_CLEAR_();
	*ret_old = old;
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

static __inline__ int allod_cs_push_(enum allod_rseq_index by, int32_t i, void *list, void *node)
{
	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "ldr x15, [%[list], #8]\n\t"
						  "cbnz x15, %l[closed]\n\t"
						  "ldr x15, [%[list]]\n\t"
						  "str x15, [%[node]]\n\t"
						  "str %[node], [%[list]]\n" ALLOD_CS_LEAVE_
				  :
				  : ALLOD_CS_IN_, [list] "r"(list), [node] "r"(node)
				  : "memory", "cc", "x14", "x15"
				  : again, closed);
	ALLOD_CS_CLEAR_();
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
closed:
	ALLOD_CS_CLEAR_();
	return 2;
}

static __inline__ int allod_cs_pop_(enum allod_rseq_index by, int32_t i, void *list,
	void **ret_node)
{
	void *node;

	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "ldr x15, [%[list], #8]\n\t"
						  "cbnz x15, %l[none]\n\t"
						  "ldr %[node], [%[list]]\n\t"
						  "cbz %[node], %l[none]\n\t"
						  "ldr x15, [%[node]]\n\t"
						  "str x15, [%[list]]\n" ALLOD_CS_LEAVE_
				  : [node] "=&r"(node)
				  : ALLOD_CS_IN_, [list] "r"(list)
				  : "memory", "cc", "x14", "x15"
				  : again, none);
	ALLOD_CS_CLEAR_();
	*ret_node = node;
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
none:
	ALLOD_CS_CLEAR_();
	return 2;
}

/*
 * An interrupt may divide a store of two registers where the processor lacks LSE2; an exclusive
 * store of two is done as a whole or not at all, and says which.
 */
static __inline__ int allod_cs_pair_add_(enum allod_rseq_index by, int32_t i, void *pair,
	uint64_t first, uint64_t second)
{
	__asm__ __volatile__ goto(
		ALLOD_CS_ENTER_ "ldxp x16, x17, [%[pair]]\n\t"
				"add x16, x16, %[first]\n\t"
				"add x17, x17, %[second]\n\t"
				"stxp w15, x16, x17, [%[pair]]\n" ALLOD_CS_LEAVE_
				"cbnz w15, %l[again]\n\t"
		:
		: ALLOD_CS_IN_, [pair] "r"(pair), [first] "r"(first), [second] "r"(second)
		: "memory", "cc", "x14", "x15", "x16", "x17"
		: again);
	ALLOD_CS_CLEAR_();
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

static __inline__ int allod_cs_copy_store_(enum allod_rseq_index by, int32_t i, uint64_t *word,
	uint64_t expected, uint64_t value, void *to, const void *from, size_t bytes)
{
	__asm__ __volatile__ goto(
		ALLOD_CS_ENTER_ "ldr x15, [%[word]]\n\t"
				"cmp x15, %[expected]\n\t"
				"b.ne %l[other]\n\t"
				"mov x16, #0\n"
				"5:\n\t"
				"add x15, x16, #8\n\t"
				"cmp x15, %[bytes]\n\t"
				"b.hi 6f\n\t"
				"ldr x17, [%[from], x16]\n\t"
				"str x17, [%[to], x16]\n\t"
				"mov x16, x15\n\t"
				"b 5b\n"
				"6:\n\t"
				"cmp x16, %[bytes]\n\t"
				"b.hs 7f\n\t"
				"ldrb w17, [%[from], x16]\n\t"
				"strb w17, [%[to], x16]\n\t"
				"add x16, x16, #1\n\t"
				"b 6b\n"
				"7:\n\t"
				"str %[value], [%[word]]\n" ALLOD_CS_LEAVE_
		:
		: ALLOD_CS_IN_, [word] "r"(word), [expected] "r"(expected), [value] "r"(value),
		[to] "r"(to), [from] "r"(from), [bytes] "r"(bytes)
		: "memory", "cc", "x14", "x15", "x16", "x17"
		: again, other);
	ALLOD_CS_CLEAR_();
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
other:
	ALLOD_CS_CLEAR_();
	return 2;
}

#endif /* __aarch64__ */

#endif /* ALLOD_PERCPU_OPS_AARCH64_H */
