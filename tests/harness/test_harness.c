/* SPDX-License-Identifier: MIT */
/* The harness tests itself: programs made of its parts that must fail, skip, or run out of time. */
#include "harness.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		_exit(99);
}

/* Exit status of `stmt` in a process whose output is thrown away. */
#define STATUS_OF(stmt)                                    \
	({                                                 \
		int status_;                               \
		pid_t pid_ = fork();                       \
		if (pid_ == 0) {                           \
			close(STDOUT_FILENO);              \
			stmt;                              \
			_exit(0);                          \
		}                                          \
		CHECK(waitpid(pid_, &status_, 0) == pid_); \
		CHECK(WIFEXITED(status_));                 \
		WEXITSTATUS(status_);                      \
	})

TEST(true_checks_pass)
{
	CHECK(1 == 1);
	CHECK_EQ(3, 3u);
	CHECK_EQ((char *)NULL, 0);
	CHECK_EQ(-1, -1L);
	CHECK_STR_EQ("a", "a");
}

TEST(false_checks_fail)
{
	CHECK_EQ(STATUS_OF(CHECK(1 == 2)), 1);
	CHECK_EQ(STATUS_OF(CHECK_EQ(1, 2)), 1);
	CHECK_EQ(STATUS_OF(CHECK_STR_EQ("a", "b")), 1);
	CHECK_EQ(STATUS_OF(CHECK_STR_EQ("a", NULL)), 1);
}

TEST(skip_ends_with_77)
{
	CHECK_EQ(STATUS_OF(SKIP("for the test")), 77);
}

TEST(death_is_recognised)
{
	CHECK_DEATH(say("gone\n"); abort(), SIGABRT, "gone\n");
}

TEST(other_deaths_fail)
{
	CHECK_EQ(STATUS_OF(CHECK_DEATH(say("x"), SIGABRT, "x")), 1);
	CHECK_EQ(STATUS_OF(CHECK_DEATH(say("x"); abort(), SIGABRT, "y")), 1);
	CHECK_EQ(STATUS_OF(CHECK_DEATH(raise(SIGKILL), SIGABRT, "")), 1);
}

TEST(random_repeats_from_its_seed)
{
	uint64_t a = 7, b = 7;

	CHECK_EQ(test_random(&a), test_random(&b));
	CHECK(test_random(&a) != test_random(&a));
	CHECK_EQ(test_seed(), test_seed());
}

TEST(long_form_is_chosen_by_the_environment)
{
	unsetenv("TEST_LONG");
	CHECK_EQ(test_count(3, 9), 3);
	setenv("TEST_LONG", "0", 1);
	CHECK_EQ(test_count(3, 9), 3);
	setenv("TEST_LONG", "1", 1);
	CHECK_EQ(test_count(3, 9), 9);
}
