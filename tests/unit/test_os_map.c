/* SPDX-License-Identifier: MIT */
/* The mapping calls on the real kernel: what each does, and what it leaves behind when it fails. */
#include "harness.h"
#include "os/os.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t mib = 1 << 20;

static size_t page(void)
{
	return os_facts()->page_bytes;
}

/* Whether the kernel can read a byte there: true means mapped and readable. */
static bool readable(const void *p)
{
	int fds[2];
	bool ok;

	CHECK(!pipe(fds));
	ok = write(fds[1], p, 1) == 1;
	close(fds[0]);
	close(fds[1]);
	return ok;
}

static bool mapped(const void *p)
{
	unsigned char resident;

	return !mincore((void *)p, page(), &resident);
}

static bool resident(const void *p)
{
	unsigned char is_resident = 0;

	CHECK(!mincore((void *)p, page(), &is_resident));
	return is_resident & 1;
}

static void limit_address_space(size_t bytes)
{
	struct rlimit limit = { bytes, bytes };

	CHECK(!setrlimit(RLIMIT_AS, &limit));
}

TEST(reserving_gives_aligned_space_without_access)
{
	for (size_t align = page(); align <= 1024 * mib; align *= 2) {
		char *p = os_reserve(8 * mib, align);

		CHECK(p);
		CHECK_EQ((uintptr_t)p & (align - 1), 0);
		CHECK(mapped(p));
		CHECK(mapped(p + 8 * mib - page()));
		CHECK(!readable(p));
		CHECK_EQ(os_unmap(p, 8 * mib), 0);
		CHECK(!mapped(p));
	}
}

TEST(an_aligned_mapping_leaves_nothing_beside_it)
{
	size_t bytes = 64 * mib + page();
	char *blocker = os_map(page(), page());
	char *p = os_map(bytes, 32 * mib);

	CHECK(blocker);
	CHECK(p);
	/* Neighbours, if any, are other mappings: with ours they would not be PROT_NONE. */
	memset(p, 1, page());
	memset(p + bytes - page(), 1, page());
	CHECK_EQ(os_unmap(p, bytes), 0);
	CHECK(!mapped(p));
	CHECK(!mapped(p + bytes - page()));
}

TEST(reserving_more_than_there_is_gives_null)
{
	errno = 77;
	CHECK(!os_reserve((size_t)1 << 60, page()));
	CHECK(!os_map((size_t)1 << 60, 2 * mib));
	CHECK(!os_reserve(SIZE_MAX - 4 * mib + 1, 8 * mib));
	CHECK_EQ(errno, 77);
}

TEST_PLAIN(alignment_does_not_need_twice_the_space)
{
	/* Room for the block and little more: over-reserving by its alignment would not fit. */
	void *first = os_reserve(64 * mib, 64 * mib);
	struct rlimit old;

	CHECK(first);
	CHECK_EQ(os_unmap(first, 64 * mib), 0);
	CHECK(!getrlimit(RLIMIT_AS, &old));
	if (old.rlim_cur != RLIM_INFINITY)
		SKIP("RLIMIT_AS is already set");
	limit_address_space(160 * mib);
	CHECK(os_reserve(64 * mib, 64 * mib));
}

TEST(exact_addresses_are_reserved_or_refused)
{
	char *p = os_reserve(4 * mib, mib);

	CHECK_EQ(os_reserve_at(p + mib, mib), -EEXIST);
	CHECK_EQ(os_unmap(p + mib, mib), 0);
	CHECK_EQ(os_reserve_at(p + mib, 2 * mib), -EEXIST);
	CHECK(!mapped(p + mib));
	CHECK_EQ(os_reserve_at(p + mib, mib), 0);
	CHECK(mapped(p + mib));
	CHECK(!readable(p + mib));
}

TEST(committed_pages_are_zero_and_writable)
{
	char *p = os_reserve(4 * mib, mib);

	CHECK_EQ(os_commit(p + mib, mib), 0);
	for (size_t i = 0; i < mib; i += page())
		CHECK_EQ(p[mib + i], 0);
	memset(p + mib, 7, mib);
	CHECK(!readable(p + 2 * mib));
}

TEST(committing_what_is_not_mapped_fails)
{
	char *p = os_reserve(2 * mib, mib);

	CHECK_EQ(os_unmap(p + mib, mib), 0);
	CHECK_EQ(os_commit(p + mib, mib), -ENOMEM);
}

TEST(decommitted_pages_read_as_zero)
{
	char *p = os_map(mib, page());

	memset(p, 9, mib);
	CHECK_EQ(os_decommit(p, mib / 2), 0);
	CHECK(!resident(p));
	CHECK_EQ(p[0], 0);
	CHECK_EQ(p[mib / 2 - 1], 0);
	CHECK_EQ(p[mib / 2], 9);
	p[0] = 1;
}

TEST_PLAIN(decommitting_locked_memory_is_refused)
{
	char *p = os_map(page(), page());

	if (mlock(p, page()))
		SKIP("mlock is not permitted");
	*p = 5;
	CHECK_EQ(os_decommit(p, page()), -EINVAL);
	CHECK_EQ(*p, 5);
}

TEST(lazily_freed_pages_are_old_or_zero_and_writable)
{
	char *p = os_map(mib, page());

	memset(p, 9, mib);
	CHECK_EQ(os_lazyfree(p, mib), 0);
	for (size_t i = 0; i < mib; i += page())
		CHECK(p[i] == 9 || p[i] == 0);
	memset(p, 3, mib);
	CHECK_EQ(p[mib - 1], 3);
}

TEST(fresh_pages_replace_old_ones)
{
	char *p = os_map(3 * page(), page());

	memset(p, 9, 3 * page());
	CHECK_EQ(os_map_fixed(p + page(), page()), 0);
	CHECK_EQ(p[0], 9);
	CHECK_EQ(p[page()], 0);
	p[page()] = 1;
	CHECK_EQ(os_remap_fixed_none(p + page(), page()), 0);
	CHECK(!readable(p + page()));
	CHECK_EQ(p[2 * page()], 9);
	CHECK_EQ(os_commit(p + page(), page()), 0);
	CHECK_EQ(p[page()], 0);
}

TEST(moving_takes_the_pages_along)
{
	char *p = os_map(4 * page(), page());
	char *q;

	memset(p, 9, 4 * page());
	q = os_move(p, 4 * page(), NULL, 64 * page(), false);
	CHECK(q);
	CHECK_EQ(q[0], 9);
	CHECK_EQ(q[4 * page() - 1], 9);
	CHECK_EQ(q[4 * page()], 0);
	CHECK(q == p || !mapped(p));
}

TEST(moving_to_an_exact_place_replaces_what_is_there)
{
	char *dst = os_reserve(8 * page(), page());
	char *p = os_map(4 * page(), page());

	memset(p, 9, 4 * page());
	CHECK_EQ(os_move(p, 4 * page(), dst + page(), 4 * page(), false), dst + page());
	CHECK_EQ(dst[page()], 9);
	CHECK(!readable(dst));
	CHECK(!readable(dst + 5 * page()));
	CHECK(!mapped(p));
}

TEST(moving_may_keep_the_old_range)
{
	char *p = os_map(4 * page(), page());
	char *q;

	memset(p, 9, 4 * page());
	q = os_move(p, 4 * page(), NULL, 4 * page(), true);
	if (!q)
		SKIP("mremap(MREMAP_DONTUNMAP) is not supported");
	CHECK_EQ(q[0], 9);
	CHECK_EQ(p[0], 0);
	p[0] = 1;
	/* Unequal sizes are refused and leave the block as it is. */
	CHECK(!os_move(q, 4 * page(), NULL, 8 * page(), true));
	CHECK_EQ(q[0], 9);
}

TEST(growing_in_place)
{
	char *space = os_reserve(8 * mib, mib);
	char *p = space + mib;

	CHECK_EQ(os_unmap(p, 3 * mib), 0);
	CHECK_EQ(os_map_fixed(p, mib), 0);
	memset(p, 9, mib);
	CHECK_EQ(os_grow(p, mib, 2 * mib), 0);
	CHECK_EQ(p[mib - 1], 9);
	CHECK_EQ(p[mib], 0);
	p[2 * mib - 1] = 1;
	/* The reservation behind is in the way. */
	CHECK_EQ(os_grow(p, 2 * mib, 5 * mib), -ENOMEM);
	CHECK_EQ(p[0], 9);
	CHECK(!readable(p + 3 * mib));
}

TEST(populating_makes_pages_present)
{
	char *p = os_map(mib, page());
	int ret;

	p[0] = 9;
	ret = os_populate(p, mib);
	if (ret == -EINVAL)
		SKIP("MADV_POPULATE_WRITE is not supported");
	CHECK_EQ(ret, 0);
	CHECK(resident(p + mib - page()));
	CHECK_EQ(p[0], 9);
	/* What is not committed cannot be populated. */
	CHECK_EQ(os_populate(os_reserve(mib, page()), mib), -EINVAL);
}

TEST(present_pages_are_counted)
{
	char *p = os_map(mib, page());
	size_t pages = 7;

	CHECK_EQ(os_present(p, mib, &pages), 0);
	CHECK_EQ(pages, 0);
	for (size_t i = 0; i < 5; i++)
		p[2 * i * page()] = 1;
	CHECK_EQ(os_present(p, mib, &pages), 0);
	CHECK_EQ(pages, 5);
	CHECK_EQ(os_unmap(p + page(), page()), 0);
	CHECK_EQ(os_present(p, mib, &pages), -ENOMEM);
	CHECK_EQ(os_present(p, 513 * page(), &pages), -EINVAL);
}

TEST(collapsing_keeps_the_contents)
{
	char *p = os_map(2 * mib, 2 * mib);
	size_t pages = 0;
	int ret;

	for (size_t i = 0; i < 2 * mib; i += page())
		p[i] = (char)(i / page());
	CHECK_EQ(os_huge(p, 2 * mib, false), 0);
	CHECK_EQ(os_collapse(p, 2 * mib), -EINVAL);
	ret = os_huge(p, 2 * mib, true) ? -EINVAL : os_collapse(p, 2 * mib);
	if (ret == -EINVAL || ret == -ENOMEM || ret == -EAGAIN)
		SKIP("MADV_COLLAPSE is not supported, or there is no free huge page");
	CHECK_EQ(ret, 0);
	CHECK_EQ(os_present(p, 2 * mib, &pages), 0);
	CHECK_EQ(pages, 2 * mib / page());
	for (size_t i = 0; i < 2 * mib; i += page())
		CHECK_EQ(p[i], (char)(i / page()));
}

TEST_PLAIN(how_many_mappings)
{
	char *p = os_map(256 * page(), page());
	uint64_t before = os_map_count(UINT64_MAX);

	CHECK(before > 3);
	/* Every other one of another kind. */
	for (size_t i = 0; i < 256; i += 2)
		CHECK_EQ(os_remap_fixed_none(p + i * page(), page()), 0);
	CHECK(os_map_count(UINT64_MAX) >= before + 254);
	CHECK(os_map_count(UINT64_MAX) <= before + 257);
	CHECK(os_map_count(10) < before + 100);
}

TEST(what_is_mapped)
{
	char *p = os_reserve(4 * mib, 2 * mib);

	CHECK(os_is_mapped(p, 4 * mib));
	CHECK_EQ(os_unmap(p + mib, page()), 0);
	CHECK(!os_is_mapped(p, 4 * mib));
	CHECK(!os_is_mapped(p + mib, page()));
	CHECK(os_is_mapped(p, mib));
}

TEST(what_lies_across)
{
	char *p = os_map(16 * page(), page());

	/* Of the 16 pages, the first and the last six are mappings of another kind. */
	CHECK_EQ(os_remap_fixed_none(p, 6 * page()), 0);
	CHECK_EQ(os_remap_fixed_none(p + 10 * page(), 6 * page()), 0);
	CHECK(!os_is_joined(p + 6 * page(), 4 * page()));
	CHECK(os_is_joined(p + 7 * page(), 3 * page()));
	CHECK(os_is_joined(p + 6 * page(), 3 * page()));
	CHECK(os_is_joined(p + 7 * page(), 2 * page()));
	CHECK(os_is_joined(p + 5 * page(), 5 * page()));
	CHECK_EQ(os_unmap(p + 6 * page(), 4 * page()), 0);
	CHECK(!os_is_joined(p + 6 * page(), 4 * page()));
}

TEST(wiped_on_fork)
{
	char *p = os_map(page(), page());
	int status;
	pid_t pid;

	if (os_wipe_on_fork(p, page()))
		SKIP("MADV_WIPEONFORK is not supported");
	*p = 9;
	pid = fork();
	if (!pid)
		_exit(*p);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(*p, 9);
}

TEST(hints_are_accepted_or_not_supported)
{
	char *p = os_map(4 * mib, 2 * mib);
	int ret = os_huge(p, 4 * mib, true);

	CHECK(ret == 0 || ret == -EINVAL);
	CHECK_EQ(os_huge(p, 4 * mib, false), ret);
	ret = os_name(p, 4 * mib, "allod-test");
	CHECK(ret == 0 || ret == -EINVAL);
}

TEST_PLAIN(a_limit_on_address_space_is_a_plain_failure)
{
	limit_address_space(64 * mib);
	CHECK(!os_reserve(128 * mib, 2 * mib));
	CHECK(!os_map(128 * mib, page()));
	CHECK(os_map(mib, mib));
}
