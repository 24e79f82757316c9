/* SPDX-License-Identifier: MIT */
/*
 * What programs get from librseq by <rseq/mempool.h> beside the pools: <rseq/compiler.h>. Librseq's
 * own is taken where it is found, so that the rest of librseq can be used with these pools; what
 * follows stands in for it elsewhere.
 */
#ifndef ALLOD_COMPAT_RSEQ_COMPILER_H
#define ALLOD_COMPAT_RSEQ_COMPILER_H

#pragma GCC system_header

#include <stddef.h>

#if defined(__has_include_next)
#if __has_include_next(<rseq/compiler.h>)
#define ALLOD_HAS_LIBRSEQ_ 1
#endif
#endif

#ifdef ALLOD_HAS_LIBRSEQ_
#include_next <rseq/compiler.h>
#else

#define rseq_likely(x) __builtin_expect(!!(x), 1)
#define rseq_unlikely(x) __builtin_expect(!!(x), 0)
#define rseq_barrier() __asm__ __volatile__("" : : : "memory")
#define rseq_after_asm_goto() rseq_barrier()

#define RSEQ_ACCESS_ONCE(x) (*(__volatile__ __typeof__(x) *)&(x))
#define RSEQ_READ_ONCE(x) RSEQ_ACCESS_ONCE(x)
#define RSEQ_WRITE_ONCE(x, v) __extension__({ RSEQ_ACCESS_ONCE(x) = (v); })

#define RSEQ__COMBINE_TOKENS(a, b) a##b
#define RSEQ_COMBINE_TOKENS(a, b) RSEQ__COMBINE_TOKENS(a, b)

#define RSEQ_BITS_PER_LONG (__SIZEOF_LONG__ * 8)

#define RSEQ_PARAM_SELECT_ARG1(arg0, arg1, ...) arg1

#endif

#endif /* ALLOD_COMPAT_RSEQ_COMPILER_H */
