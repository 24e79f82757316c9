/* SPDX-License-Identifier: MIT */
/*
 * The operators' names, what they have to do with one another, and what they need of the program's
 * C++ run-time.
 */
#pragma once

#include <stdbool.h>
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

/*
 * For a program that replaces operator new(size_t) and not the nothrow form: what the C++ run-time
 * would do, which is to call the throwing operator and to catch.
 */
void *cxx_new_nothrow_by_runtime(enum cxx_nothrow which, size_t size, const struct nothrow *tag);
void *cxx_new_aligned_nothrow_by_runtime(enum cxx_nothrow which, size_t size, size_t alignment,
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

/*
 * Our own definitions of the operators that others are defined by, under names that no program can
 * replace.
 */
#define CXX_HIDDEN __attribute__((visibility("hidden")))
CXX_HIDDEN extern __typeof__(_Znwm) cxx_own_new;
CXX_HIDDEN extern __typeof__(_Znam) cxx_own_new_array;
CXX_HIDDEN extern __typeof__(_ZnwmSt11align_val_t) cxx_own_new_aligned;
CXX_HIDDEN extern __typeof__(_ZnamSt11align_val_t) cxx_own_new_array_aligned;
CXX_HIDDEN extern __typeof__(_ZdlPv) cxx_own_delete;
CXX_HIDDEN extern __typeof__(_ZdaPv) cxx_own_delete_array;
CXX_HIDDEN extern __typeof__(_ZdlPvSt11align_val_t) cxx_own_delete_aligned;
CXX_HIDDEN extern __typeof__(_ZdaPvSt11align_val_t) cxx_own_delete_array_aligned;

#define CXX_OWN_NAME(own, function)                                    \
	extern __typeof__(function) own FACE_COPY_ATTRIBUTES(function) \
	CXX_HIDDEN                                                     \
	__attribute__((alias(#function)))

typedef void cxx_function(void);

/*
 * Whether an operator is ours. A program may replace a few of them: operator new(size_t) and
 * operator delete(void *), say. [new.delete] defines the others by those, so that a block comes
 * from one allocator and goes back to it, whatever forms are used; libraries mix them, and so do
 * compilers, which call a sized delete for a plain one. The compiler knows that both names are of
 * one function here, and must not conclude that they always are.
 */
static inline bool cxx_is_ours(cxx_function *found, cxx_function *own)
{
	__asm__("" : "+r"(found));
	return __builtin_expect(found == own, 1);
}

#define CXX_IS_OURS(function, own) cxx_is_ours((cxx_function *)(function), (cxx_function *)(own))
