/* SPDX-License-Identifier: MIT */
/*
 * Aligned allocation: what each standard function makes of an alignment that is no power of two.
 */
#include "face.h"
#include "heap/heap.h"
#include "os/os.h"

/* C17 with defect report 460: any power of two, and the size need not be a multiple of it. */
FACE_EXPORT void *FACE(aligned_alloc)(size_t alignment, size_t size)
{
	if (!face_is_power_of_two(alignment))
		return face_fail(EINVAL);
	return heap_alloc_aligned(alignment, size);
}

/*
 * POSIX: the error is the return value, and *ret_block stays as it is. For want of memory errno is
 * ENOMEM as well: glibc's is, and programs have come to look there.
 */
FACE_EXPORT int FACE(posix_memalign)(void **ret_block, size_t alignment, size_t size)
{
	void *block;

	if (!face_is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
		return EINVAL;
	block = heap_alloc_aligned(alignment, size);
	if (block == NULL)
		return ENOMEM;
	*ret_block = block;
	return 0;
}

/* Rounds up to a power of two; 0 when there is none. */
static size_t power_of_two_above(size_t n)
{
	if (n <= 1)
		return 1;
	if (n > SIZE_MAX / 2 + 1)
		return 0;
	return (size_t)1 << (64 - __builtin_clzll(n - 1));
}

_Static_assert(sizeof(size_t) == 8, "power_of_two_above() counts 64 bits");

FACE_EXPORT void *FACE(memalign)(size_t alignment, size_t size)
{
	alignment = power_of_two_above(alignment);
	if (alignment == 0)
		return face_fail(EINVAL);
	return heap_alloc_aligned(alignment, size);
}
FACE_SECOND_NAME(__libc_memalign, memalign);

FACE_EXPORT void *FACE(valloc)(size_t size)
{
	return heap_alloc_aligned(os_facts()->page_bytes, size);
}
FACE_SECOND_NAME(__libc_valloc, valloc);

FACE_EXPORT void *FACE(pvalloc)(size_t size)
{
	size_t page_bytes = os_facts()->page_bytes;
	size_t rounded;

	if (__builtin_add_overflow(size, page_bytes - 1, &rounded))
		return face_fail(ENOMEM);
	return heap_alloc_aligned(page_bytes, rounded & ~(page_bytes - 1));
}
FACE_SECOND_NAME(__libc_pvalloc, pvalloc);
