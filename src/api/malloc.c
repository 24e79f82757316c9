/* SPDX-License-Identifier: MIT */
/*
 * malloc, calloc, realloc, free and their near relations. The heap does the work; here is what the
 * standards say of sizes of 0, of products that overflow and of errno.
 */
#include "face.h"
#include "heap/fast.h"
#include "heap/heap.h"

FACE_EXPORT void *FACE(malloc)(size_t size)
{
	return heap_malloc_fast(size);
}
FACE_SECOND_NAME(__libc_malloc, malloc);

FACE_EXPORT void FACE(free)(void *block)
{
	heap_free_fast(block);
}
FACE_SECOND_NAME(__libc_free, free);
FACE_SECOND_NAME(cfree, free);

FACE_EXPORT void *FACE(calloc)(size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return face_fail(ENOMEM);
	return heap_alloc_zeroed(bytes);
}
FACE_SECOND_NAME(__libc_calloc, calloc);

/* Size 0 frees: C leaves it open, and programs written on Linux rely on what glibc does. */
FACE_EXPORT void *FACE(realloc)(void *block, size_t size)
{
	if (block == NULL)
		return heap_malloc_fast(size);
	if (size == 0) {
		heap_free_fast(block);
		return NULL;
	}
	return heap_resize(block, size);
}
FACE_SECOND_NAME(__libc_realloc, realloc);

/* By way of realloc() as it is found: a program may have one of its own, and none of this. */
FACE_EXPORT void *FACE(reallocarray)(void *block, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return face_fail(ENOMEM);
	return FACE(realloc)(block, bytes);
}

/*
 * The sizes are not trusted: a block that realloc() shrank where it is stays in its larger class,
 * so the class cannot be told from them. By way of free() as it is found, like reallocarray().
 */
FACE_EXPORT void FACE(free_sized)(void *block, size_t size)
{
	(void)size;
	FACE(free)(block);
}

FACE_EXPORT void FACE(free_aligned_sized)(void *block, size_t alignment, size_t size)
{
	(void)alignment;
	(void)size;
	FACE(free)(block);
}
