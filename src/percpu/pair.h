/* SPDX-License-Identifier: MIT */
/*
 * Two neighbouring words at once: what the atomic way of lists and pairs is made of. Written out,
 * since the compilers' own would call libatomic.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pair {
	uint64_t first;
	uint64_t second;
} __attribute__((aligned(16)));

/* Not of one moment: to be confirmed by pair_cas(). */
static inline struct pair pair_peek(const volatile struct pair *p)
{
	const struct pair seen = { p->first, p->second };
	return seen;
}

#if defined(__x86_64__)

/*
 * Stores `value` if *p is *expected, else puts what *p is into *expected; a full barrier. All
 * processors for x86-64 but the very first have the instruction.
 */
static inline bool pair_cas(volatile struct pair *p, struct pair *expected, struct pair value)
{
	bool done;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(done), "+m"(*p), "+a"(expected->first), "+d"(expected->second)
			 : "b"(value.first), "c"(value.second)
			 : "memory");
	return done;
}

#elif defined(__aarch64__)

/* As on x86-64; acquires and releases. */
static inline bool pair_cas(volatile struct pair *p, struct pair *expected, struct pair value)
{
	uint64_t first;
	uint64_t second;
	uint32_t failed;

	do {
		__asm__ volatile("ldaxp %0, %1, %2"
				 : "=&r"(first), "=&r"(second)
				 : "Q"(*p)
				 : "memory");
		const bool same = first == expected->first && second == expected->second;

		/* What was read is of one moment only if the store succeeds. */
		__asm__ volatile("stlxp %w0, %2, %3, %1"
				 : "=&r"(failed), "=Q"(*p)
				 : "r"(same ? value.first : first),
				 "r"(same ? value.second : second)
				 : "memory");
		if (!failed && same)
			return true;
	} while (failed);
	expected->first = first;
	expected->second = second;
	return false;
}

#endif

/* Both words of one moment; stores what is there where the processor has no other way. */
static inline struct pair pair_read(volatile struct pair *p)
{
	struct pair seen = pair_peek(p);

	pair_cas(p, &seen, seen);
	return seen;
}
