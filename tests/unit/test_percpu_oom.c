/* SPDX-License-Identifier: MIT */
/*
 * The sweep: each call to the system that pools make fails once, at each of its occurrences. What
 * fails says so and leaves nothing half done: afterwards everything works.
 */
#include "allod/percpu.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "os/mock.h"
#include "percpu/percpu.h"

enum { CPUS = 3, ELEMENTS = 300 };

/* Makes a pool, uses all that calls the system, and ends it. Whether everything worked. */
static bool use(unsigned flags, enum allod_percpu_content content, size_t stride)
{
	struct allod_percpu_options options = ALLOD_PERCPU_OPTIONS_DEFAULT;
	struct allod_percpu_pool *pool;
	uint64_t *elements[ELEMENTS] = { NULL };
	bool is_good = true;

	options.max_cpus = CPUS;
	options.flags = flags;
	options.content = content;
	options.stride = stride;
	errno = 0;
	pool = allod_percpu_pool_create("oom", &options);
	if (!pool) {
		CHECK(errno != 0);
		return false;
	}
	size_t step = allod_percpu_pool_stride(pool);
	is_good &= allod_percpu_mark_active(1) == 0;
	for (unsigned i = 0; i < ELEMENTS; i++) {
		uint64_t value = i % 3 ? 7 : i + 1;

		errno = 0;
		elements[i] = i % 2 ? allod_percpu_alloc_init(pool, 64, 0, &value, 8)
				    : allod_percpu_zalloc(pool, 512, 0);
		CHECK(elements[i] || errno != 0);
		is_good &= elements[i] != NULL;
		if (elements[i]) {
			CHECK_EQ(*allod_percpu_ptr_stride(elements[i], 1, step), i % 2 ? value : 0);
			*allod_percpu_ptr_stride(elements[i], 1, step) = 99;
		}
	}
	for (unsigned i = 0; i < ELEMENTS; i++)
		allod_percpu_free(elements[i]);
	allod_percpu_pool_trim(pool);
	CHECK_EQ(allod_percpu_pool_check(pool), NULL);
	CHECK_EQ(allod_percpu_pool_destroy(pool), 0);
	return is_good;
}

static void all_kinds_of_pools(void)
{
	use(0, ALLOD_PERCPU_CONTENT_AUTO, 0);
	use(ALLOD_PERCPU_GUARD | ALLOD_PERCPU_HUGE, ALLOD_PERCPU_CONTENT_ZERO, 0);
	use(ALLOD_PERCPU_ROBUST | ALLOD_PERCPU_POISON, ALLOD_PERCPU_CONTENT_INIT, 65536);
}

/* One failure, in a process of its own. Whether the call was made so often. */
static bool fail_once(enum os_call kind, unsigned nth)
{
	int status;
	pid_t child = fork();

	if (!child) {
		mock_reset();
		mock_fail(kind, nth, ENOMEM);
		all_kinds_of_pools();
		bool was_made = mock_count(kind) >= nth;
		mock_reset();
		CHECK(use(0, ALLOD_PERCPU_CONTENT_AUTO, 0));
		CHECK(use(0, ALLOD_PERCPU_CONTENT_INIT, 65536));
		_exit(was_made ? 0 : 42);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 42))
		test_fail(__FILE__, __LINE__, "%s, call %u: status %x", mock_call_name(kind), nth,
			(unsigned)status);
	return WEXITSTATUS(status) == 0;
}

TEST_TIMEOUT(every_call_may_fail_once, 60)
{
	for (enum os_call kind = 0; kind < OS_CALL_KINDS; kind++) {
		unsigned nth = 1;

		while (nth < 60 && fail_once(kind, nth))
			nth++;
		if (nth > 1)
			test_note("%s: %u calls", mock_call_name(kind), nth - 1);
	}
}

TEST_PLAIN(short_addresses_leave_a_window)
{
	mock_facts()->address_limit_bytes = (uint64_t)64 << 30;
	CHECK(use(0, ALLOD_PERCPU_CONTENT_AUTO, 0));
	CHECK(percpu_root->arenas[0].window < ALLOD_PERCPU_STRIDE);
}

TEST_PLAIN(strict_overcommit_leaves_a_window)
{
	mock_facts()->overcommit_mode = 2;
	CHECK(use(0, ALLOD_PERCPU_CONTENT_AUTO, 0));
	CHECK(percpu_root->arenas[0].window < ALLOD_PERCPU_STRIDE);
}

TEST(no_addresses_are_an_error)
{
	struct allod_percpu_pool *pool;

	mock_facts()->address_limit_bytes = (uint64_t)1 << 20;
	errno = 0;
	pool = allod_percpu_pool_create("none", NULL);
	CHECK(!pool || !allod_percpu_alloc(pool, 8, 0));
	CHECK_EQ(errno, ENOMEM);
}
