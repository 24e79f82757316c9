/* SPDX-License-Identifier: MIT */
/*
 * Every replaceable operator new and delete of C++, written in C under the names that the Itanium
 * ABI gives them, so that the library needs no C++ run-time. That of the program is looked up when
 * an allocation has failed (cxx.h).
 *
 * Built with -fexceptions: a new_handler may throw, and the exception passes through these frames.
 * No frame in between holds anything that would have to be released.
 */
#include "cxx.h"
#include "face.h"
#include "heap/fast.h"
#include "heap/heap.h"

_Static_assert(sizeof(size_t) == sizeof(unsigned long), "the names below say unsigned long (m)");

/* [new.delete.single]: ask the new_handler for memory until there is some or it gives up. */
static FACE_COLD void *new_retry(size_t size)
{
	void *block;

	do {
		cxx_call_new_handler();
		block = heap_alloc(size);
	} while (block == NULL);
	return block;
}

static __attribute__((noinline)) void *new_slow(size_t size)
{
	void *block = heap_alloc_slow(size);

	return __builtin_expect(block != NULL, 1) ? block : new_retry(size);
}

static FACE_COLD void *new_aligned_retry(size_t size, size_t alignment)
{
	void *block;

	do {
		cxx_call_new_handler();
		block = heap_alloc_aligned(alignment, size);
	} while (block == NULL);
	return block;
}

static inline void *new_plain(size_t size)
{
	void *block = heap_malloc_try(size);

	return __builtin_expect(block != NULL, 1) ? block : new_slow(size);
}

/* An alignment that is no power of two cannot be had, as libstdc++ has it. */
static inline void *new_aligned(size_t size, size_t alignment)
{
	void *block;

	if (!face_is_power_of_two(alignment))
		cxx_throw_bad_alloc();
	block = heap_alloc_aligned(alignment, size);
	return __builtin_expect(block != NULL, 1) ? block : new_aligned_retry(size, alignment);
}

/*
 * The nothrow forms must turn an exception of the new_handler into NULL, which takes a catch
 * clause, which C has not: on failure the call goes on to the C++ run-time's own nothrow operator.
 * By [new.delete.single]/7 that calls the throwing operator (ours, since it is the one found first)
 * and catches.
 */
static __attribute__((noinline)) void *new_nothrow_slow(size_t size, const struct nothrow *tag,
	enum cxx_nothrow which)
{
	void *block = heap_alloc_slow(size);

	return __builtin_expect(block != NULL, 1) ? block : cxx_new_nothrow(which, size, tag);
}

static inline void *new_nothrow(size_t size, const struct nothrow *tag, enum cxx_nothrow which)
{
	void *block = heap_malloc_try(size);

	return __builtin_expect(block != NULL, 1) ? block : new_nothrow_slow(size, tag, which);
}

static inline void *new_aligned_nothrow(size_t size, size_t alignment, const struct nothrow *tag,
	enum cxx_nothrow which)
{
	void *block = NULL;

	if (face_is_power_of_two(alignment))
		block = heap_alloc_aligned(alignment, size);
	if (__builtin_expect(block != NULL, 1))
		return block;
	return cxx_new_aligned_nothrow(which, size, alignment, tag);
}

#define NEW_EXPORT FACE_EXPORT void *

NEW_EXPORT _Znwm(size_t size)
{
	return new_plain(size);
}
CXX_OWN_NAME(cxx_own_new, _Znwm);

NEW_EXPORT _ZnwmSt11align_val_t(size_t size, size_t alignment)
{
	return new_aligned(size, alignment);
}
CXX_OWN_NAME(cxx_own_new_aligned, _ZnwmSt11align_val_t);

/* The heap treats one object and arrays alike; a program that has its own operator new may not. */
NEW_EXPORT _Znam(size_t size)
{
	return CXX_IS_OURS(_Znwm, cxx_own_new) ? new_plain(size) : _Znwm(size);
}
CXX_OWN_NAME(cxx_own_new_array, _Znam);

NEW_EXPORT _ZnamSt11align_val_t(size_t size, size_t alignment)
{
	return CXX_IS_OURS(_ZnwmSt11align_val_t, cxx_own_new_aligned)
		? new_aligned(size, alignment)
		: _ZnwmSt11align_val_t(size, alignment);
}
CXX_OWN_NAME(cxx_own_new_array_aligned, _ZnamSt11align_val_t);

NEW_EXPORT _ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag)
{
	if (!CXX_IS_OURS(_Znwm, cxx_own_new))
		return cxx_new_nothrow_by_runtime(CXX_NEW, size, tag);
	return new_nothrow(size, tag, CXX_NEW);
}

NEW_EXPORT _ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag)
{
	if (!CXX_IS_OURS(_Znam, cxx_own_new_array) || !CXX_IS_OURS(_Znwm, cxx_own_new))
		return cxx_new_nothrow_by_runtime(CXX_NEW_ARRAY, size, tag);
	return new_nothrow(size, tag, CXX_NEW_ARRAY);
}

NEW_EXPORT _ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
	const struct nothrow *tag)
{
	if (!CXX_IS_OURS(_ZnwmSt11align_val_t, cxx_own_new_aligned))
		return cxx_new_aligned_nothrow_by_runtime(CXX_NEW_ALIGNED, size, alignment, tag);
	return new_aligned_nothrow(size, alignment, tag, CXX_NEW_ALIGNED);
}

NEW_EXPORT _ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
	const struct nothrow *tag)
{
	if (!CXX_IS_OURS(_ZnamSt11align_val_t, cxx_own_new_array_aligned) ||
		!CXX_IS_OURS(_ZnwmSt11align_val_t, cxx_own_new_aligned))
		return cxx_new_aligned_nothrow_by_runtime(CXX_NEW_ARRAY_ALIGNED, size, alignment,
			tag);
	return new_aligned_nothrow(size, alignment, tag, CXX_NEW_ARRAY_ALIGNED);
}
