/* SPDX-License-Identifier: MIT */
/*
 * Where the arena lies: at a random place, far from where the kernel puts mappings by itself, so
 * that the addresses around its first part stay free until it grows into them.
 *
 * Linux loads programs at two thirds of the address space, with the heap of brk() behind them, and
 * puts mappings downward from the stack, or upward from one third. Even with the largest
 * randomisation that a kernel can be built with, what lies between 0.80 and 0.86 of the address
 * space (0x6600 to 0x6e00 of 0x8000) is more than a terabyte from each.
 *
 * Nothing here is trusted: the caller reserves without replacing anything, and looks elsewhere, or
 * leaves the choice to the kernel, when the place is taken or does not exist (a kernel for smaller
 * address spaces).
 */
#include "arena.h"

/* A range of addresses, in 2^-15 of the address space. */
struct window {
	uint16_t low;
	uint16_t high;
};

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#define HAS_TSAN __has_feature(thread_sanitizer)
#else
#define HAS_TSAN 0
#endif

#if defined(__x86_64__)
#define SPACE_BITS 47
#elif defined(__aarch64__) && !HAS_TSAN
#define SPACE_BITS 48
#else
#define SPACE_BITS 0
#endif

#if HAS_TSAN
/*
 * ThreadSanitizer keeps the state of programs' memory for few ranges; this one it knows as theirs.
 */
static const struct window usual = { 0x7e80, 0x7ef0 };
static const struct window large = { 0x7e80, 0x7ef0 };
#else
static const struct window usual = { 0x6600, 0x6e00 };
/* For arenas of terabytes; still clear with the randomisation that is usual. */
static const struct window large = { 0x5a00, 0x7000 };
#endif

/* Present in programs that these sanitizers watch, for which most of the address space is taboo. */
void __msan_init(void) __attribute__((weak));
void __tsan_init(void) __attribute__((weak));

static bool may_choose(void)
{
	if (SPACE_BITS == 0 || os_facts()->under_valgrind || __msan_init)
		return false;
	return HAS_TSAN || !__tsan_init;
}

/*
 * A number that differs from process to process as the addresses of its stack and its code do, and
 * tells neither: the same in each run when a debugger has switched randomisation off.
 */
static uint64_t scatter(unsigned attempt)
{
	uint64_t x = (uintptr_t)__builtin_frame_address(0) * 0x9e3779b97f4a7c15;

	x = (x ^ x >> 32 ^ (uintptr_t)&page_arena) * 0xd6e8feb86659fd93;
	x = (x ^ x >> 32 ^ attempt) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 29) * 0x94d049bb133111eb;
	return x ^ x >> 32;
}

uintptr_t place_choose(size_t below, size_t above, unsigned attempt)
{
	const size_t unit = (size_t)1 << SPACE_BITS >> 15;
	const size_t need = below + above + ARENA_ALIGN_BYTES;
	const struct window *w = need <= (usual.high - usual.low) * unit / 2 ? &usual : &large;
	const size_t room = (size_t)(w->high - w->low) * unit;
	size_t places;
	uintptr_t first;

	if (!may_choose() || need > room)
		return 0;
	places = (room - need) / ARENA_ALIGN_BYTES + 1;
	first = (w->low * unit + below + ARENA_ALIGN_BYTES - 1) & -ARENA_ALIGN_BYTES;
	return first + scatter(attempt) % places * ARENA_ALIGN_BYTES;
}
