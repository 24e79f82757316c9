/* SPDX-License-Identifier: MIT */
/*
 * Function attributes as far as the compiler has them, for the other headers of allod.
 * Compiles alone as C99 and as C++17.
 */
#ifndef ALLOD_ATTRIBUTES_H
#define ALLOD_ATTRIBUTES_H

#include <stddef.h>

#ifdef __has_attribute
#define ALLOD_HAS_ATTRIBUTE(name) __has_attribute(name)
#else
#define ALLOD_HAS_ATTRIBUTE(name) 0
#endif

#if ALLOD_HAS_ATTRIBUTE(malloc)
#define ALLOD_ATTR_MALLOC __attribute__((malloc))
#else
#define ALLOD_ATTR_MALLOC
#endif

/* GCC 11 and later match an allocation with the call that frees it; clang knows no arguments. */
#if ALLOD_HAS_ATTRIBUTE(malloc) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define ALLOD_ATTR_FREED_BY(function) __attribute__((malloc(function, 1)))
#else
#define ALLOD_ATTR_FREED_BY(function)
#endif

#if ALLOD_HAS_ATTRIBUTE(alloc_size)
#define ALLOD_ATTR_SIZE(n) __attribute__((alloc_size(n)))
#define ALLOD_ATTR_SIZE2(n, m) __attribute__((alloc_size(n, m)))
#else
#define ALLOD_ATTR_SIZE(n)
#define ALLOD_ATTR_SIZE2(n, m)
#endif

#if ALLOD_HAS_ATTRIBUTE(alloc_align)
#define ALLOD_ATTR_ALIGN(n) __attribute__((alloc_align(n)))
#else
#define ALLOD_ATTR_ALIGN(n)
#endif

#if ALLOD_HAS_ATTRIBUTE(warn_unused_result)
#define ALLOD_ATTR_USE_RESULT __attribute__((warn_unused_result))
#else
#define ALLOD_ATTR_USE_RESULT
#endif

#ifdef __cplusplus
#define ALLOD_NOTHROW noexcept
#elif ALLOD_HAS_ATTRIBUTE(nothrow)
#define ALLOD_NOTHROW __attribute__((nothrow))
#else
#define ALLOD_NOTHROW
#endif

#endif /* ALLOD_ATTRIBUTES_H */
