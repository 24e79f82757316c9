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
CXX_OWN_NAME(cxx_own_delete, _ZdlPv);

DELETE_EXPORT _ZdlPvSt11align_val_t(void *block, size_t alignment)
{
	heap_free_fast(block);
}
CXX_OWN_NAME(cxx_own_delete_aligned, _ZdlPvSt11align_val_t);

/* What the others are defined by: the program's operator, if it has one. */
static inline void delete_plain(void *block)
{
	if (CXX_IS_OURS(_ZdlPv, cxx_own_delete))
		heap_free_fast(block);
	else
		_ZdlPv(block);
}

static inline void delete_aligned(void *block, size_t alignment)
{
	if (CXX_IS_OURS(_ZdlPvSt11align_val_t, cxx_own_delete_aligned))
		heap_free_fast(block);
	else
		_ZdlPvSt11align_val_t(block, alignment);
}

DELETE_EXPORT _ZdaPv(void *block)
{
	delete_plain(block);
}
CXX_OWN_NAME(cxx_own_delete_array, _ZdaPv);

DELETE_EXPORT _ZdaPvSt11align_val_t(void *block, size_t alignment)
{
	delete_aligned(block, alignment);
}
CXX_OWN_NAME(cxx_own_delete_array_aligned, _ZdaPvSt11align_val_t);

static inline void delete_array(void *block)
{
	if (CXX_IS_OURS(_ZdaPv, cxx_own_delete_array))
		delete_plain(block);
	else
		_ZdaPv(block);
}

static inline void delete_array_aligned(void *block, size_t alignment)
{
	if (CXX_IS_OURS(_ZdaPvSt11align_val_t, cxx_own_delete_array_aligned))
		delete_aligned(block, alignment);
	else
		_ZdaPvSt11align_val_t(block, alignment);
}

DELETE_EXPORT _ZdlPvm(void *block, size_t size)
{
	delete_plain(block);
}

DELETE_EXPORT _ZdaPvm(void *block, size_t size)
{
	delete_array(block);
}

DELETE_EXPORT _ZdlPvRKSt9nothrow_t(void *block, const struct nothrow *tag)
{
	delete_plain(block);
}

DELETE_EXPORT _ZdaPvRKSt9nothrow_t(void *block, const struct nothrow *tag)
{
	delete_array(block);
}

DELETE_EXPORT _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment)
{
	delete_aligned(block, alignment);
}

DELETE_EXPORT _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment)
{
	delete_array_aligned(block, alignment);
}

DELETE_EXPORT _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
	const struct nothrow *tag)
{
	delete_aligned(block, alignment);
}

DELETE_EXPORT _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
	const struct nothrow *tag)
{
	delete_array_aligned(block, alignment);
}
