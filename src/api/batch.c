/* SPDX-License-Identifier: MIT */
/*
 * The N1527 interface. Its three calls differ in where an element's properties stand; they are
 * brought into one form, a window of elements at a time, and carried out by kind: frees, so that
 * their memory serves what follows, resizes, and allocations, equal neighbours together. Arrays in
 * which allod_batch_alloc1() only frees, or allocates from one end to the other, go to the heap as
 * they are.
 */
#include "allod/batch.h"

#include <string.h>

#include "face.h"
#include "heap/batch.h"
#include "heap/heap.h"

#define FLAGS_KNOWN                                                              \
	(ALLOD_M2_ZERO_MEMORY | ALLOD_M2_PREVENT_MOVE | ALLOD_M2_CONSTANT_TIME | \
		ALLOD_M2_RESERVE_IS_MULT | ALLOD_M2_BATCH_IS_ALL_ALLOC |         \
		ALLOD_M2_BATCH_IS_ALL_REALLOC | ALLOD_M2_BATCH_IS_ALL_FREE)

/* Elements brought into one form at a time: about 4 KiB of stack, which a signal handler has. */
#define WINDOW 48

enum kind { KIND_NONE, KIND_FREE, KIND_RESIZE, KIND_ALLOC, KIND_DONE };

struct element {
	struct allod_mallocation5 now;
	enum kind kind;
	int error;
};

/* The properties that allod_batch_alloc1() and 2 have in common for all elements. */
struct common {
	size_t alignment;
	size_t reserve;
	uintmax_t flags;
};

static enum kind kind_of(const struct allod_mallocation5 *now)
{
	if (now->size == 0)
		return now->ptr != NULL ? KIND_FREE : KIND_NONE;
	return now->ptr != NULL ? KIND_RESIZE : KIND_ALLOC;
}

static bool is_valid(size_t alignment, uintmax_t flags)
{
	return (alignment == 0 || face_is_power_of_two(alignment)) && (flags & ~FLAGS_KNOWN) == 0;
}

static struct heap_want want_of(size_t size, size_t alignment, size_t reserve, uintmax_t flags)
{
	struct heap_want want = {
		.align = alignment > HEAP_ALIGN_MIN ? alignment : HEAP_ALIGN_MIN,
		.reserve = reserve,
		.zeroed = flags & ALLOD_M2_ZERO_MEMORY,
		.fixed = flags & ALLOD_M2_PREVENT_MOVE,
		.brief = flags & ALLOD_M2_CONSTANT_TIME,
	};

	/* A product that is too large is a wish that cannot be met. */
	if (flags & ALLOD_M2_RESERVE_IS_MULT &&
		__builtin_mul_overflow(heap_good_size(size), reserve, &want.reserve))
		want.reserve = 0;
	return want;
}

static struct heap_want want_for(const struct allod_mallocation5 *now)
{
	return want_of(now->size, now->alignment, now->reserve, now->flags);
}

static void succeed(struct element *e, void *p)
{
	e->now.ptr = p;
	e->now.size = heap_usable_size(p);
	e->now.reserve = heap_room(p);
	e->error = 0;
}

static void free_elements(struct element *window, size_t count)
{
	void *brief[WINDOW];
	void *other[WINDOW];
	size_t briefs = 0;
	size_t others = 0;

	for (size_t i = 0; i < count; i++) {
		if (window[i].kind != KIND_FREE)
			continue;
		if (window[i].now.flags & ALLOD_M2_CONSTANT_TIME)
			brief[briefs++] = window[i].now.ptr;
		else
			other[others++] = window[i].now.ptr;
		window[i].now.ptr = NULL;
	}
	if (briefs != 0)
		heap_free_many(brief, briefs, true);
	if (others != 0)
		heap_free_many(other, others, false);
}

static void resize_element(struct element *e)
{
	const struct heap_want want = want_for(&e->now);
	void *p;
	const int error = heap_adjust(e->now.ptr, e->now.size, &want, &p);

	if (error != 0)
		e->error = -error;
	else
		succeed(e, p);
}

/* Whether two elements that allocate can be served by one request. */
static bool is_alike(const struct element *a, const struct element *b)
{
	return b->kind == KIND_ALLOC && a->now.size == b->now.size &&
		a->now.alignment == b->now.alignment && a->now.reserve == b->now.reserve &&
		a->now.flags == b->now.flags;
}

/*
 * Allocates for the first element and those like it right behind. Where memory ends, an element
 * fails and the next is tried: it may be the system's whim. After a second failure the rest fail
 * too.
 */
static void allocate_alike(struct element *window, size_t count)
{
	const struct heap_want want = want_for(&window[0].now);
	const size_t size = window[0].now.size;
	void *blocks[WINDOW];
	unsigned failures = 0;

	for (size_t i = 0; i < count;) {
		size_t got = 0;

		if (failures < 2)
			got = heap_alloc_many(size, &want, count - i, blocks);
		for (size_t j = 0; j < got; j++)
			succeed(&window[i + j], blocks[j]);
		i += got;
		if (i < count)
			window[i++].error = ENOMEM;
		failures++;
	}
}

static void allocate_elements(struct element *window, size_t count)
{
	for (size_t i = 0, n; i < count; i += n) {
		n = 1;
		if (window[i].kind != KIND_ALLOC)
			continue;
		while (i + n < count && is_alike(&window[i], &window[i + n]))
			n++;
		allocate_alike(window + i, n);
	}
}

/* Carries out a window; returns how many succeeded. */
static size_t window_run(struct element *window, size_t count)
{
	size_t succeeded = 0;

	for (size_t i = 0; i < count; i++) {
		window[i].kind = kind_of(&window[i].now);
		window[i].error = 0;
		if (window[i].kind > KIND_FREE &&
			!is_valid(window[i].now.alignment, window[i].now.flags)) {
			window[i].kind = KIND_DONE;
			window[i].error = EINVAL;
		}
	}
	free_elements(window, count);
	for (size_t i = 0; i < count; i++) {
		if (window[i].kind == KIND_RESIZE)
			resize_element(&window[i]);
	}
	allocate_elements(window, count);
	for (size_t i = 0; i < count; i++)
		succeeded += window[i].error == 0;
	return succeeded;
}

static void errnos_set(int *errnos, const struct element *window, size_t count)
{
	for (size_t i = 0; errnos != NULL && i < count; i++)
		errnos[i] = window[i].error;
}

static size_t window_size(size_t left)
{
	return left < WINDOW ? left : WINDOW;
}

FACE_EXPORT bool allod_batch_alloc5(int *errnos, struct allod_mallocation5 **restrict elements,
	size_t *restrict count)
{
	const size_t all = *count;
	const int saved = errno;
	struct element window[WINDOW];
	size_t succeeded = 0;

	for (size_t i = 0, n; i < all; i += n) {
		n = window_size(all - i);
		for (size_t j = 0; j < n; j++)
			window[j].now = elements[i + j] != NULL ? *elements[i + j]
								: (struct allod_mallocation5){ 0 };
		succeeded += window_run(window, n);
		for (size_t j = 0; j < n; j++) {
			if (elements[i + j] != NULL && window[j].error == 0)
				*elements[i + j] = window[j].now;
		}
		errnos_set(errnos != NULL ? errnos + i : NULL, window, n);
	}
	*count = succeeded;
	errno = saved;
	return succeeded == all;
}

FACE_EXPORT bool allod_batch_alloc2(int *errnos, struct allod_mallocation2 **restrict elements,
	size_t *restrict count, size_t alignment, size_t reserve, uintmax_t flags)
{
	const size_t all = *count;
	const int saved = errno;
	struct element window[WINDOW];
	size_t succeeded = 0;

	for (size_t i = 0, n; i < all; i += n) {
		n = window_size(all - i);
		for (size_t j = 0; j < n; j++) {
			const struct allod_mallocation2 *e = elements[i + j];
			window[j].now = (struct allod_mallocation5){ e != NULL ? e->ptr : NULL,
				e != NULL ? e->size : 0, alignment, reserve, flags };
		}
		succeeded += window_run(window, n);
		for (size_t j = 0; j < n; j++) {
			if (elements[i + j] != NULL && window[j].error == 0)
				*elements[i + j] = (struct allod_mallocation2){ window[j].now.ptr,
					window[j].now.size };
		}
		errnos_set(errnos != NULL ? errnos + i : NULL, window, n);
	}
	*count = succeeded;
	errno = saved;
	return succeeded == all;
}

static void no_errors(int *errnos, size_t count)
{
	if (errnos != NULL)
		memset(errnos, 0, count * sizeof(*errnos));
}

/* Frees all that the array holds. */
static size_t free_all(int *errnos, void **ptrs, size_t count, bool brief)
{
	heap_free_many(ptrs, count, brief);
	memset(ptrs, 0, count * sizeof(*ptrs));
	no_errors(errnos, count);
	return count;
}

/* Carries out elements of one size in windows; *smallest falls to the least usable size. */
static size_t mixed_run(int *errnos, void **ptrs, size_t count, size_t size,
	const struct common *common, size_t *smallest)
{
	struct element window[WINDOW];
	size_t succeeded = 0;

	for (size_t i = 0, n; i < count; i += n) {
		n = window_size(count - i);
		for (size_t j = 0; j < n; j++)
			window[j].now = (struct allod_mallocation5){ ptrs[i + j], size,
				common->alignment, common->reserve, common->flags };
		succeeded += window_run(window, n);
		for (size_t j = 0; j < n; j++) {
			if (window[j].error != 0)
				continue;
			ptrs[i + j] = window[j].now.ptr;
			if (window[j].now.size < *smallest)
				*smallest = window[j].now.size;
		}
		errnos_set(errnos != NULL ? errnos + i : NULL, window, n);
	}
	return succeeded;
}

/* Fills the whole array with new blocks; where the heap stops, window by window. */
static size_t allocate_all(int *errnos, void **ptrs, size_t count, size_t size,
	const struct common *common, size_t *smallest)
{
	const struct heap_want want =
		want_of(size, common->alignment, common->reserve, common->flags);
	size_t got = 0;

	if (is_valid(common->alignment, common->flags))
		got = heap_alloc_many(size, &want, count, ptrs);
	no_errors(errnos, got);
	/* Those that one request gives are alike, unless they are libc's. */
	for (size_t i = got; i-- > (face_is_delegated() || got == 0 ? 0 : got - 1);) {
		if (heap_usable_size(ptrs[i]) < *smallest)
			*smallest = heap_usable_size(ptrs[i]);
	}
	memset(ptrs + got, 0, (count - got) * sizeof(*ptrs));
	if (got == count)
		return count;
	return got +
		mixed_run(errnos != NULL ? errnos + got : NULL, ptrs + got, count - got, size,
			common, smallest);
}

static bool is_all_null(void *const *ptrs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (ptrs[i] != NULL)
			return false;
	}
	return true;
}

/* An array for `count` blocks, all NULL, or NULL. */
static void **array_make(size_t count)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, sizeof(void *), &bytes))
		return face_fail(ENOMEM);
	return heap_alloc_zeroed(bytes);
}

FACE_EXPORT void **allod_batch_alloc1(int *errnos, void **ptrs, size_t *restrict count,
	size_t *restrict size, size_t alignment, size_t reserve, uintmax_t flags)
{
	const struct common common = { alignment, reserve, flags };
	const size_t all = *count;
	const int saved = errno;
	size_t smallest = SIZE_MAX;
	bool fresh = flags & ALLOD_M2_BATCH_IS_ALL_ALLOC;

	if (ptrs == NULL) {
		ptrs = array_make(all);
		fresh = true;
		*count = 0;
		if (ptrs == NULL)
			return NULL;
	}
	if (size == NULL || *size == 0)
		*count = free_all(errnos, ptrs, all, flags & ALLOD_M2_CONSTANT_TIME);
	else if (fresh || is_all_null(ptrs, all))
		*count = allocate_all(errnos, ptrs, all, *size, &common, &smallest);
	else
		*count = mixed_run(errnos, ptrs, all, *size, &common, &smallest);
	if (smallest != SIZE_MAX)
		*size = smallest;
	errno = saved;
	return ptrs;
}

/* Resizes a block, or allocates one. */
static void *adjust(void *block, size_t alignment, size_t size, uintmax_t flags)
{
	const struct heap_want want = want_of(size, alignment, 0, flags);
	void *p;
	int error;

	if (block == NULL)
		return heap_alloc_aligned(want.align, size);
	if (size == 0) {
		heap_free(block);
		return NULL;
	}
	const int saved = errno;
	error = heap_adjust(block, size, &want, &p);
	errno = saved;
	return error == 0 ? p : face_fail(-error);
}

FACE_EXPORT void *allod_aligned_realloc(void *block, size_t alignment, size_t size)
{
	if (!face_is_power_of_two(alignment))
		return face_fail(EINVAL);
	return adjust(block, alignment, size, 0);
}

FACE_EXPORT void *allod_try_realloc(void *block, size_t size)
{
	return adjust(block, HEAP_ALIGN_MIN, size, ALLOD_M2_PREVENT_MOVE);
}

FACE_EXPORT void *allod_try_aligned_realloc(void *block, size_t alignment, size_t size)
{
	if (!face_is_power_of_two(alignment))
		return face_fail(EINVAL);
	return adjust(block, alignment, size, ALLOD_M2_PREVENT_MOVE);
}
