/* SPDX-License-Identifier: MIT */
/*
 * Every replaceable operator delete of C++; see new.c. Sizes and alignments are not trusted: the
 * heap knows both from the address. The names are those of the Itanium ABI: dl is delete, da is
 * delete[]; Pv the block, m its size, St11align_val_t its alignment, RKSt9nothrow_t the tag.
 */
#include "cxx.h"
#include "face.h"
#include "heap/fast.h"
#include "heap/heap.h"

#define DELETE_EXPORT FACE_EXPORT void

DELETE_EXPORT _ZdlPv(void *block)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdaPv(void *block)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdlPvm(void *block, size_t size)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdaPvm(void *block, size_t size)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdlPvRKSt9nothrow_t(void *block, const struct nothrow *tag)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdaPvRKSt9nothrow_t(void *block, const struct nothrow *tag)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdlPvSt11align_val_t(void *block, size_t alignment)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdaPvSt11align_val_t(void *block, size_t alignment)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
	const struct nothrow *tag)
{
	heap_free_fast(block);
}

DELETE_EXPORT _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
	const struct nothrow *tag)
{
	heap_free_fast(block);
}
