/* SPDX-License-Identifier: MIT */
/*
 * The allocator behind liballod-malloc.so, to which `enabled:false` hands everything over:
 * whichever library the loader finds after this one, as a rule libc. Its functions bear the names
 * that this library has taken, so they are looked up, once, by the first allocation of the process.
 *
 * The lookup may itself allocate (old C libraries do, for dlerror()). Such a request, made while
 * its own thread is looking up, is served from a small buffer that is never used again.
 *
 * Invariant: libc_ready is published after every looked-up pointer, and none changes after. Several
 * threads may look up at once; they write the same values.
 */
#include "libc.h"

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#include "base/atomic.h"
#include "extensions.h"
#include "face.h"
#include "os/os.h"

#define EARLY_BYTES ((size_t)4096)
#define EARLY_ALIGN ((size_t)16)

static _Alignas(16) char early_buffer[EARLY_BYTES];
static _Atomic(size_t) early_used;
static _Thread_local bool looking_up;

static _Atomic(uint32_t) libc_ready;

/* The functions of the next allocator that need more than a change of type. */
static void *(*next_calloc)(size_t count, size_t size);
static void *(*next_malloc)(size_t size);
static void *(*next_memalign)(size_t alignment, size_t size);
static void *(*next_realloc)(void *block, size_t size);
static void (*next_free)(void *block);
static size_t (*next_usable_size)(void *block);

static bool is_early(const void *block)
{
	return (uintptr_t)block - (uintptr_t)early_buffer < EARLY_BYTES;
}

/* Takes from the early buffer, whose bytes are zero; only during a lookup. */
static FACE_COLD void *early_alloc(size_t size)
{
	size_t bytes = (size + EARLY_ALIGN - 1) & ~(EARLY_ALIGN - 1);
	size_t at;

	if (size > EARLY_BYTES)
		return face_fail(ENOMEM);
	at = a_add_rlx(&early_used, bytes);
	return at + bytes <= EARLY_BYTES ? early_buffer + at : face_fail(ENOMEM);
}

static void *libc_alloc(size_t size)
{
	return looking_up ? early_alloc(size) : next_malloc(size);
}

static void *libc_alloc_zeroed(size_t size)
{
	return looking_up ? early_alloc(size) : next_calloc(1, size);
}

static void *libc_alloc_aligned(size_t alignment, size_t size)
{
	if (!looking_up)
		return next_memalign(alignment, size);
	return alignment <= EARLY_ALIGN ? early_alloc(size) : face_fail(ENOMEM);
}

static void libc_free(void *block)
{
	if (!is_early(block))
		next_free(block);
}

static size_t libc_usable_size(const void *block)
{
	return is_early(block) ? 0 : next_usable_size((void *)block);
}

/* A block of the early buffer has no length, but what lies behind it to the end may be read. */
static void *libc_resize(void *block, size_t size)
{
	size_t rest = early_buffer + EARLY_BYTES - (char *)block;
	void *moved;

	if (!is_early(block))
		return next_realloc(block, size);
	moved = libc_alloc(size);
	if (moved != NULL)
		memcpy(moved, block, size < rest ? size : rest);
	return moved;
}

static struct face_libc libc = {
	.heap = {
		.alloc = libc_alloc,
		.alloc_zeroed = libc_alloc_zeroed,
		.alloc_aligned = libc_alloc_aligned,
		.free = libc_free,
		.resize = libc_resize,
		.usable_size = libc_usable_size,
	},
};

/* A call that the next library must have. */
static void *next_needed(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (function == NULL)
		os_fatal("allod: enabled:false: no other malloc to hand over to\n");
	return function;
}

/* One that glibc alone has. */
static void *next_or(const char *name, void *otherwise)
{
	void *function = dlsym(RTLD_NEXT, name);

	return function != NULL ? function : otherwise;
}

static FACE_COLD void look_up(void)
{
	looking_up = true;
	*(void **)&next_malloc = next_needed("malloc");
	*(void **)&next_calloc = next_needed("calloc");
	*(void **)&next_memalign = next_needed("memalign");
	*(void **)&next_realloc = next_needed("realloc");
	*(void **)&next_free = next_needed("free");
	*(void **)&next_usable_size = next_needed("malloc_usable_size");
	*(void **)&libc.trim = next_or("malloc_trim", (void *)extension_no_malloc_trim);
	*(void **)&libc.mallopt = next_or("mallopt", (void *)extension_no_mallopt);
	*(void **)&libc.mallinfo2 = next_or("mallinfo2", (void *)extension_no_mallinfo2);
	*(void **)&libc.info = next_or("malloc_info", (void *)extension_no_malloc_info);
	*(void **)&libc.stats = next_or("malloc_stats", (void *)extension_no_malloc_stats);
	looking_up = false;
	/* [face.1] rel: publishes libc and the next_ functions; pairs with face_libc() */
	a_store_rel(&libc_ready, 1);
}

const struct face_libc *face_libc(void)
{
	/* [face.1] acq: pairs with look_up() */
	if (a_load_acq(&libc_ready) == 0 && !looking_up)
		look_up();
	return &libc;
}

const struct heap_delegate *heap_libc(void)
{
	return &face_libc()->heap;
}
