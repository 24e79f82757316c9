/* SPDX-License-Identifier: MIT */
/*
 * The restartable sequences of <allod/percpu-ops.h> for x86-64; not to be included by itself.
 *
 * Each function works on the slot of number `i` and gives 0 when that is done, 1 when nothing has
 * been done because the thread was interrupted or is no longer at `i`, and 2 and above as it says.
 * Between labels 1 and 2 nothing but the last instruction may be seen by anybody: the kernel sends
 * a thread that is interrupted there to label 4, in front of which stands the signature.
 */
#ifndef ALLOD_PERCPU_OPS_X86_64_H
#define ALLOD_PERCPU_OPS_X86_64_H

#include <allod/rseq.h>

#if defined(__x86_64__)

/* The descriptor; that it is set as current; and that the thread is still at `i`. */
#define ALLOD_CS_ENTER_                       \
	".pushsection __rseq_cs, \"aw?\"\n\t" \
	".balign 32\n"                        \
	"9:\n\t"                              \
	".long 0, 0\n\t"                      \
	".quad 1f, 2f - 1f, 4f\n\t"           \
	".popsection\n\t"                     \
	"leaq 9b(%%rip), %%rax\n\t"           \
	"movq %%rax, %%fs:(%[cs])\n"          \
	"1:\n\t"                              \
	"movq %[live], %%rax\n\t"             \
	"cmpl %[i], %%fs:(%%rax)\n\t"         \
	"jne %l[again]\n\t"
#define ALLOD_CS_LEAVE_                          \
	"2:\n\t"                                 \
	".pushsection __rseq_abort, \"ax?\"\n\t" \
	".byte 0x0f, 0xb9, 0x3d\n\t"             \
	".long 0x53053053\n"                     \
	"4:\n\t"                                 \
	"jmp %l[again]\n\t"                      \
	".popsection\n\t"
#define ALLOD_CS_IN_ \
	[cs] "r"(allod_rseq_state_.cs), [live] "m"(allod_rseq_state_.index[by]), [i] "r"(i)

/* Code that may be unloaded leaves no pointer to its descriptors behind. */
#if defined(__PIC__) && !defined(__PIE__)
#define ALLOD_CS_CLEAR_() \
	__asm__ __volatile__("movq $0, %%fs:(%0)" : : "r"(allod_rseq_state_.cs) : "memory")
#else
#define ALLOD_CS_CLEAR_() ((void)0)
#endif

typedef long long allod_two_words_ __attribute__((__vector_size__(16), __may_alias__));

/* One number of the thread's area. Not an access that a sanitizer sees. */
static __inline__ int32_t allod_cs_number_(enum allod_rseq_index by)
{
	int64_t at;

	__asm__ __volatile__("movq %1, %0\n\tmovslq %%fs:(%0), %0"
			     : "=&r"(at)
			     : "m"(allod_rseq_state_.index[by]));
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

	__asm__ __volatile__("movq %1, %0" : "=r"(value) : "m"(*(const uint64_t *)p));
	return value;
}

static __inline__ uint32_t allod_cs_load32_(const void *p)
{
	uint32_t value;

	__asm__ __volatile__("movl %1, %0" : "=r"(value) : "m"(*(const uint32_t *)p));
	return value;
}

static __inline__ int allod_cs_is_zero_(const unsigned char *p)
{
	int zero;

	__asm__ __volatile__("cmpb $0, %1" : "=@ccz"(zero) : "m"(*p) : "memory");
	return zero;
}

static __inline__ int allod_cs_add_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value)
{
	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "addq %[value], (%[slot])\n" ALLOD_CS_LEAVE_
				  :
				  : ALLOD_CS_IN_, [slot] "r"(slot), [value] "er"(value)
				  : "memory", "cc", "rax"
				  : again);
	ALLOD_CS_CLEAR_();
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

static __inline__ int allod_cs_add32_(enum allod_rseq_index by, int32_t i, uint32_t *slot,
	uint32_t value)
{
	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "addl %[value], (%[slot])\n" ALLOD_CS_LEAVE_
				  :
				  : ALLOD_CS_IN_, [slot] "r"(slot), [value] "er"(value)
				  : "memory", "cc", "rax"
				  : again);
	ALLOD_CS_CLEAR_();
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

static __inline__ int allod_cs_add_return_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value, uint64_t *ret_new)
{
	uint64_t sum;

	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "movq (%[slot]), %[sum]\n\t"
						  "addq %[value], %[sum]\n\t"
						  "movq %[sum], (%[slot])\n" ALLOD_CS_LEAVE_
				  : [sum] "=&r"(sum)
				  : ALLOD_CS_IN_, [slot] "r"(slot), [value] "er"(value)
				  : "memory", "cc", "rax"
				  : again);
	ALLOD_CS_CLEAR_();
	*ret_new = sum;
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

static __inline__ int allod_cs_xchg_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t value, uint64_t *ret_old)
{
	uint64_t old;

	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "movq (%[slot]), %[old]\n\t"
						  "movq %[value], (%[slot])\n" ALLOD_CS_LEAVE_
				  : [old] "=&r"(old)
				  : ALLOD_CS_IN_, [slot] "r"(slot), [value] "r"(value)
				  : "memory", "cc", "rax"
				  : again);
	ALLOD_CS_CLEAR_();
	*ret_old = old;
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

/* 0 as well when the slot has another value, which *ret_old then is. */
static __inline__ int allod_cs_cmpxchg_(enum allod_rseq_index by, int32_t i, uint64_t *slot,
	uint64_t expected, uint64_t value, uint64_t *ret_old)
{
	uint64_t old;

	__asm__ __volatile__ goto(
		ALLOD_CS_ENTER_ "movq (%[slot]), %[old]\n\t"
				"cmpq %[expected], %[old]\n\t"
				"jne 2f\n\t"
				"movq %[value], (%[slot])\n" ALLOD_CS_LEAVE_
		: [old] "=&r"(old)
		: ALLOD_CS_IN_, [slot] "r"(slot), [expected] "r"(expected), [value] "r"(value)
		: "memory", "cc", "rax"
		: again);
	ALLOD_CS_CLEAR_();
	*ret_old = old;
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

/* `list` is {first, gate}. 2: the gate is closed. */
static __inline__ int allod_cs_push_(enum allod_rseq_index by, int32_t i, void *list, void *node)
{
	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "cmpq $0, 8(%[list])\n\t"
						  "jne %l[closed]\n\t"
						  "movq (%[list]), %%rax\n\t"
						  "movq %%rax, (%[node])\n\t"
						  "movq %[node], (%[list])\n" ALLOD_CS_LEAVE_
				  :
				  : ALLOD_CS_IN_, [list] "r"(list), [node] "r"(node)
				  : "memory", "cc", "rax"
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

/* 2: the gate is closed, or there is nothing. */
static __inline__ int allod_cs_pop_(enum allod_rseq_index by, int32_t i, void *list,
	void **ret_node)
{
	void *node;

	__asm__ __volatile__ goto(ALLOD_CS_ENTER_ "cmpq $0, 8(%[list])\n\t"
						  "jne %l[none]\n\t"
						  "movq (%[list]), %[node]\n\t"
						  "testq %[node], %[node]\n\t"
						  "jz %l[none]\n\t"
						  "movq (%[node]), %%rax\n\t"
						  "movq %%rax, (%[list])\n" ALLOD_CS_LEAVE_
				  : [node] "=&r"(node)
				  : ALLOD_CS_IN_, [list] "r"(list)
				  : "memory", "cc", "rax"
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

/* Both words are written by one instruction, which no interrupt divides. */
static __inline__ int allod_cs_pair_add_(enum allod_rseq_index by, int32_t i, void *pair,
	uint64_t first, uint64_t second)
{
	__asm__ __volatile__ goto(
		"movq %[first], %%xmm0\n\t"
		"movq %[second], %%xmm1\n\t"
		"punpcklqdq %%xmm1, %%xmm0\n\t" ALLOD_CS_ENTER_ "movdqa (%[pair]), %%xmm1\n\t"
		"paddq %%xmm0, %%xmm1\n\t"
		"movdqa %%xmm1, (%[pair])\n" ALLOD_CS_LEAVE_
		:
		: ALLOD_CS_IN_, [pair] "r"(pair), [first] "r"(first), [second] "r"(second)
		: "memory", "cc", "rax", "xmm0", "xmm1"
		: again);
	ALLOD_CS_CLEAR_();
	return 0;
again:
	ALLOD_CS_CLEAR_();
	return 1;
}

/* If *word is `expected`: copies, then stores `value` to it. 2: it is something else. */
static __inline__ int allod_cs_copy_store_(enum allod_rseq_index by, int32_t i, uint64_t *word,
	uint64_t expected, uint64_t value, void *to, const void *from, size_t bytes)
{
	__asm__ __volatile__ goto(
		ALLOD_CS_ENTER_ "cmpq %[expected], (%[word])\n\t"
				"jne %l[other]\n\t"
				"xorl %%ecx, %%ecx\n"
				"5:\n\t"
				"leaq 8(%%rcx), %%rax\n\t"
				"cmpq %[bytes], %%rax\n\t"
				"ja 6f\n\t"
				"movq (%[from],%%rcx), %%rdx\n\t"
				"movq %%rdx, (%[to],%%rcx)\n\t"
				"movq %%rax, %%rcx\n\t"
				"jmp 5b\n"
				"6:\n\t"
				"cmpq %[bytes], %%rcx\n\t"
				"jae 7f\n\t"
				"movb (%[from],%%rcx), %%dl\n\t"
				"movb %%dl, (%[to],%%rcx)\n\t"
				"incq %%rcx\n\t"
				"jmp 6b\n"
				"7:\n\t"
				"movq %[value], (%[word])\n" ALLOD_CS_LEAVE_
		:
		: ALLOD_CS_IN_, [word] "r"(word), [expected] "r"(expected), [value] "r"(value),
		[to] "r"(to), [from] "r"(from), [bytes] "r"(bytes)
		: "memory", "cc", "rax", "rcx", "rdx"
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

#endif /* __x86_64__ */

#endif /* ALLOD_PERCPU_OPS_X86_64_H */
