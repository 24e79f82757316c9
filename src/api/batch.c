/* SPDX-License-Identifier: MIT */
/*
 * The N1527 interface. Its three calls differ in where an element's properties stand. A window of
 * elements at a time is carried out: frees, so that their memory serves what follows; small blocks,
 * in passing; and the rest, brought into one form: resizes, and allocations, equal neighbours
 * together. Arrays in which allod_batch_alloc1() only frees, or allocates from one end to the other,
 * go to the heap as they are.
 */
#include "allod/batch.h"

#include <string.h>

#include "face.h"
#include "heap/batch.h"
#include "heap/fast.h"
#include "heap/heap.h"

#define FLAGS_KNOWN                                                              \
	(ALLOD_M2_ZERO_MEMORY | ALLOD_M2_PREVENT_MOVE | ALLOD_M2_CONSTANT_TIME | \
		ALLOD_M2_RESERVE_IS_MULT | ALLOD_M2_BATCH_IS_ALL_ALLOC |         \
		ALLOD_M2_BATCH_IS_ALL_REALLOC | ALLOD_M2_BATCH_IS_ALL_FREE)

/* Elements looked at together: about 4 KiB of stack, which a signal handler has. */
#define WINDOW 48

/* The properties that allod_batch_alloc1() and 2 have in common for all elements. */
struct common {
	size_t alignment;
	size_t reserve;
	uintmax_t flags;
};

/* An element that is not done in passing. */
struct element {
	struct allod_mallocation5 now;
	size_t index; /* in the window */
	int error;
};

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

/* Whether an element allocates what the first of a request does. */
static bool is_alike(const struct element *a, const struct element *b)
{
	return b->now.ptr == NULL && b->error == 0 && a->now.size == b->now.size &&
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
		if (window[i].now.ptr != NULL || window[i].error != 0)
			continue;
		while (i + n < count && is_alike(&window[i], &window[i + n]))
			n++;
		allocate_alike(window + i, n);
	}
}

/* Carries out elements that resize or allocate. */
static void elements_run(struct element *window, size_t count)
{
	for (size_t i = 0; i < count; i++)
		window[i].error =
			is_valid(window[i].now.alignment, window[i].now.flags) ? 0 : EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (window[i].error == 0 && window[i].now.ptr != NULL)
			resize_element(&window[i]);
	}
	allocate_elements(window, count);
}

/* All properties of an element: its own, which stand behind the pointer and the size, or common. */
static struct allod_mallocation5 properties(const struct allod_mallocation2 *e,
	const struct common *common)
{
	if (common == NULL)
		return *(const struct allod_mallocation5 *)(const void *)e;
	return (struct allod_mallocation5){ e->ptr, e->size, common->alignment, common->reserve,
		common->flags };
}

_Static_assert(offsetof(struct allod_mallocation5, size) ==
		offsetof(struct allod_mallocation2, size),
	"an element of one kind begins as one of the other");

/* A small block by the fast path of malloc, or NULL; *ret_usable is its usable size. */
static inline __attribute__((always_inline)) void *alloc_fast(size_t size, size_t alignment,
	size_t reserve, uintmax_t flags, size_t *ret_usable)
{
	/* The other flags have no effect, or are looked at by who knows all of them. */
	const uintmax_t harmless = ALLOD_M2_ZERO_MEMORY | ALLOD_M2_PREVENT_MOVE |
		ALLOD_M2_CONSTANT_TIME | ALLOD_M2_BATCH_IS_ALL_ALLOC;
	if (size > CLASS_FAST_BYTES || alignment != 0 || flags & ~harmless ||
		(reserve > CLASS_BYTES_MAX && size >= HEAP_RESERVE_LEAST_BYTES))
		return NULL;
	void *p = heap_malloc_try(size);
	if (p == NULL)
		return NULL;
	*ret_usable = heap_classes[class_of(size)].bytes;
	return flags & ALLOD_M2_ZERO_MEMORY ? memset(p, 0, *ret_usable) : p;
}

/* Whether the element was done in passing: it does nothing, or allocates a small block. */
static inline __attribute__((always_inline)) bool is_done(struct allod_mallocation2 *e,
	const struct common *common)
{
	struct allod_mallocation5 *whole = (void *)e;
	size_t usable;
	void *p;

	if (e == NULL || e->size == 0)
		return true;
	if (e->ptr != NULL)
		return false;
	if (common == NULL)
		p = alloc_fast(e->size, whole->alignment, whole->reserve, whole->flags, &usable);
	else
		p = alloc_fast(e->size, common->alignment, common->reserve, common->flags, &usable);
	if (p == NULL)
		return false;
	e->ptr = p;
	e->size = usable;
	if (common == NULL)
		whole->reserve = usable;
	return true;
}

/* Frees first, so that their memory serves what follows. */
static inline __attribute__((always_inline)) void free_elements(
	struct allod_mallocation2 **elements, size_t count, const struct common *common)
{
	void *blocks[WINDOW];
	size_t n = 0;
	bool brief = false;

	for (size_t i = 0; i < count; i++) {
		struct allod_mallocation2 *e = elements[i];
		if (e == NULL || e->size != 0 || e->ptr == NULL)
			continue;
		brief |= (properties(e, common).flags & ALLOD_M2_CONSTANT_TIME) != 0;
		blocks[n++] = e->ptr;
		e->ptr = NULL;
	}
	if (n != 0)
		heap_free_many(blocks, n, brief);
}

static void store(struct allod_mallocation2 *e, const struct allod_mallocation5 *now,
	const struct common *common)
{
	if (common == NULL)
		*(struct allod_mallocation5 *)(void *)e = *now;
	else
		*e = (struct allod_mallocation2){ now->ptr, now->size };
}

/* Carries out what is left of a window, and returns how many of it failed. */
static size_t rest_run(int *errnos, struct allod_mallocation2 **elements, struct element *rest,
	size_t count, const struct common *common)
{
	size_t failed = 0;

	elements_run(rest, count);
	for (size_t i = 0; i < count; i++) {
		if (rest[i].error == 0)
			store(elements[rest[i].index], &rest[i].now, common);
		else
			failed++;
		if (errnos != NULL)
			errnos[rest[i].index] = rest[i].error;
	}
	return failed;
}

/*
 * Carries out a window of elements; returns how many succeeded. Without properties in common they
 * are the beginnings of struct allod_mallocation5.
 */
static inline __attribute__((always_inline)) size_t window_run(int *errnos,
	struct allod_mallocation2 **elements, size_t count, const struct common *common)
{
	struct element rest[WINDOW];
	size_t n = 0;

	free_elements(elements, count, common);
	for (size_t i = 0; i < count; i++) {
		if (!is_done(elements[i], common)) {
			rest[n].now = properties(elements[i], common);
			rest[n++].index = i;
		} else if (errnos != NULL) {
			errnos[i] = 0;
		}
	}
	return n == 0 ? count : count - rest_run(errnos, elements, rest, n, common);
}

static size_t window_size(size_t left)
{
	return left < WINDOW ? left : WINDOW;
}

static inline __attribute__((always_inline)) bool elements_all(int *errnos,
	struct allod_mallocation2 **elements, size_t *count, const struct common *common)
{
	const size_t all = *count;
	const int saved = errno;
	size_t succeeded = 0;

	for (size_t i = 0, n; i < all; i += n) {
		n = window_size(all - i);
		succeeded +=
			window_run(errnos != NULL ? errnos + i : NULL, elements + i, n, common);
	}
	*count = succeeded;
	errno = saved;
	return succeeded == all;
}

FACE_EXPORT bool allod_batch_alloc5(int *errnos, struct allod_mallocation5 **restrict elements,
	size_t *restrict count)
{
	return elements_all(errnos, (struct allod_mallocation2 **)(void *)elements, count, NULL);
}

FACE_EXPORT bool allod_batch_alloc2(int *errnos, struct allod_mallocation2 **restrict elements,
	size_t *restrict count, size_t alignment, size_t reserve, uintmax_t flags)
{
	const struct common common = { alignment, reserve, flags };

	return elements_all(errnos, elements, count, &common);
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
	struct allod_mallocation2 elements[WINDOW];
	struct allod_mallocation2 *pointers[WINDOW];
	size_t succeeded = 0;

	for (size_t i = 0, n; i < count; i += n) {
		n = window_size(count - i);
		for (size_t j = 0; j < n; j++) {
			elements[j] = (struct allod_mallocation2){ ptrs[i + j], size };
			pointers[j] = &elements[j];
		}
		int failures[WINDOW];
		succeeded += window_run(failures, pointers, n, common);
		for (size_t j = 0; j < n; j++) {
			ptrs[i + j] = elements[j].ptr;
			if (failures[j] == 0 && elements[j].size < *smallest)
				*smallest = elements[j].size;
		}
		if (errnos != NULL)
			memcpy(errnos + i, failures, n * sizeof(*errnos));
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
