/* SPDX-License-Identifier: MIT */
/*
 * The test harness: subtests that each run in a process of their own, reported as TAP.
 *
 * main() is in the harness library. It never calls malloc after start, since the allocator under
 * test may be the process's own. A failed check ends its subtest and no other; it may be made on
 * any thread. Run `prog --list` for the names and `prog NAME…` for some of them.
 *
 * Environment: TEST_SEED fixes test_seed(); TEST_TIMEOUT_SCALE multiplies every time limit
 * (slow machines, sanitizers, valgrind); TEST_LONG=1 selects the long form of test_count().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct test {
	const char *name;
	void (*run)(void);
	unsigned timeout_s;
	struct test *next; /* main thread, before main() */
};

void test_register(struct test *t);

/* TEST(name) { … } defines a subtest with a limit of ten seconds. */
#define TEST(name) TEST_TIMEOUT(name, 10)

/* A subtest with a limit of its own. */
#define TEST_TIMEOUT(name, seconds)                                                \
	static void test_##name(void);                                             \
	static struct test test_entry_##name = { #name, test_##name, seconds, 0 }; \
	__attribute__((constructor)) static void test_register_##name(void)        \
	{                                                                          \
		test_register(&test_entry_##name);                                 \
	}                                                                          \
	static void test_##name(void)

/* Whether this is a sanitizer's build. */
#if defined(__has_feature)
#define TEST_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#else
#define TEST_SANITIZED 0
#endif

/*
 * A subtest that a sanitizer would falsify: its run-time maps terabytes, so no limit on address
 * space holds; it adds mappings of its own at any time; it turns mlock() into nothing. Not part of
 * sanitizer builds.
 */
#if TEST_SANITIZED
#define TEST_PLAIN(name) __attribute__((unused)) static void test_##name(void)
#else
#define TEST_PLAIN(name) TEST(name)
#endif

/* Each check prints what it saw and ends the subtest when it fails. */
#define CHECK(cond) ((cond) ? (void)0 : test_fail(__FILE__, __LINE__, "%s is false", #cond))

/* Integers and pointers of any width; values are compared after widening to 64 bits. */
#define CHECK_EQ(a, b)                                                      \
	test_check_eq(__FILE__, __LINE__, #a, #b, (uint64_t)(uintptr_t)(a), \
		(uint64_t)(uintptr_t)(b))

#define CHECK_STR_EQ(a, b) test_check_str_eq(__FILE__, __LINE__, #a, #b, a, b)

/* Runs stmt in a forked process, which must die of `signal` with exactly `text` on stderr. */
#define CHECK_DEATH(stmt, signal, text)                                           \
	do {                                                                      \
		struct test_death death_;                                         \
		if (test_death_begin(&death_)) {                                  \
			stmt;                                                     \
			test_death_survived();                                    \
		}                                                                 \
		test_death_end(&death_, __FILE__, __LINE__, #stmt, signal, text); \
	} while (0)

/* Ends the subtest as skipped; the reason names the kernel feature or program that is missing. */
#define SKIP(...) test_skip(__VA_ARGS__)

/* A diagnostic line ("# …") in the output. */
void test_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Ends the subtest as failed, with a message. */
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

_Noreturn void test_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The seed of this run, from TEST_SEED or the clock; printed when first asked for. */
uint64_t test_seed(void);

/* The next number of a splitmix64 sequence; start *state from test_seed(). */
uint64_t test_random(uint64_t *state);

/*
 * How often a test repeats what it does: `usual`, or `when_long` in the long form, which has thirty
 * times the time.
 */
unsigned test_count(unsigned usual, unsigned when_long);

/* What the macros above expand to. */
struct test_death {
	int pid;
	int stderr_fd;
};

void test_check_eq(const char *file, int line, const char *a_text, const char *b_text, uint64_t a,
	uint64_t b);
void test_check_str_eq(const char *file, int line, const char *a_text, const char *b_text,
	const char *a, const char *b);
bool test_death_begin(struct test_death *death);
_Noreturn void test_death_survived(void);
void test_death_end(struct test_death *death, const char *file, int line, const char *stmt,
	int want_signal, const char *want_text);
