/* SPDX-License-Identifier: MIT */
/*
 * The operators' names, and what they need of the program's C++ run-time once an allocation has
 * failed. Nothing here runs while memory is to be had.
 */
#pragma once

#include <stddef.h>

/* Stands for std::nothrow_t, which carries nothing. */
struct nothrow;

/* The nothrow operators new, by the forms that a C++ run-time defines. */
enum cxx_nothrow {
	CXX_NEW = 0,
	CXX_NEW_ARRAY,
	CXX_NEW_ALIGNED,
	CXX_NEW_ARRAY_ALIGNED,
	CXX_NOTHROW_COUNT,
};

/*
 * Calls the new_handler, or throws std::bad_alloc when none is set. A process without a C++
 * run-time has neither: it ends with a message.
 */
void cxx_call_new_handler(void);

/* Throws std::bad_alloc; without a C++ run-time the process ends with a message. */
_Noreturn void cxx_throw_bad_alloc(void);

/*
 * A nothrow new that has failed once: the new_handler is asked, and what it throws is caught.
 * NULL when there is no handler, or it gave up. `which` is one of the first two, or of the last
 * two.
 */
void *cxx_new_nothrow(enum cxx_nothrow which, size_t size, const struct nothrow *tag);
void *cxx_new_aligned_nothrow(enum cxx_nothrow which, size_t size, size_t alignment,
	const struct nothrow *tag);

void *_Znwm(size_t size);
void *_Znam(size_t size);
void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
void *_ZnamSt11align_val_t(size_t size, size_t alignment);
void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag);
void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const struct nothrow *tag);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const struct nothrow *tag);

void _ZdlPv(void *block);
void _ZdaPv(void *block);
void _ZdlPvm(void *block, size_t size);
void _ZdaPvm(void *block, size_t size);
void _ZdlPvRKSt9nothrow_t(void *block, const struct nothrow *tag);
void _ZdaPvRKSt9nothrow_t(void *block, const struct nothrow *tag);
void _ZdlPvSt11align_val_t(void *block, size_t alignment);
void _ZdaPvSt11align_val_t(void *block, size_t alignment);
void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment);
void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment);
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const struct nothrow *tag);
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const struct nothrow *tag);
