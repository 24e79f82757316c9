/* SPDX-License-Identifier: MIT */
/* os/area.h against the kernel: files that areas share, guards, what is present. */
#include "os/area.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "os/os.h"

static size_t page(void)
{
	return os_facts()->page_bytes;
}

TEST(private_areas_show_the_file_until_they_are_written)
{
	char *areas = os_map_lazy(2 * page(), page());
	int fd = os_file_make("allod-test", page());
	char *window;
	uint8_t kinds[2];

	CHECK(areas && fd >= 0);
	window = os_file_map_shared(fd, page());
	CHECK_EQ(os_file_map_private(fd, areas, page()), 0);
	CHECK_EQ(os_file_map_private(fd, areas + page(), page()), 0);
	os_file_close(fd);
	strcpy(window, "initial");
	CHECK_EQ(os_pages(areas, 2, kinds), 0);
	CHECK_EQ(kinds[0], OS_PAGE_NONE);
	areas[0] = 'I';
	CHECK_STR_EQ(areas, "Initial");
	CHECK_STR_EQ(areas + page(), "initial");
	CHECK_EQ(os_pages(areas, 2, kinds), 0);
	CHECK_EQ(kinds[0], OS_PAGE_OWN);
	CHECK_EQ(kinds[1], OS_PAGE_SHARED);
	CHECK_EQ(os_decommit_many(&(struct os_range){ areas, page() }, 1), 0);
	CHECK_STR_EQ(areas, "initial");
	CHECK_EQ(os_file_discard(window, page()), 0);
	CHECK_EQ(areas[0], 0);
}

TEST(many_ranges_are_given_back)
{
	enum { MANY = 300 };
	struct os_range ranges[MANY];
	char *p = os_map_lazy(2 * MANY * page(), page());

	for (int i = 0; i < MANY; i++) {
		ranges[i] = (struct os_range){ p + (size_t)i * 2 * page(), page() };
		p[(size_t)i * 2 * page()] = p[((size_t)i * 2 + 1) * page()] = 1;
	}
	CHECK_EQ(os_decommit_many(ranges, MANY), 0);
	for (int i = 0; i < MANY; i++) {
		CHECK_EQ(p[(size_t)i * 2 * page()], 0);
		CHECK_EQ(p[((size_t)i * 2 + 1) * page()], 1);
	}
}

TEST_PLAIN(a_guard_faults)
{
	char *p = os_map_lazy(2 * page(), page());

	if (os_guard(p + page(), page()))
		SKIP("no MADV_GUARD_INSTALL");
	p[0] = 1;
	CHECK_DEATH(((volatile char *)p)[page()] = 1, SIGSEGV, "");
	CHECK_EQ(os_decommit_many(&(struct os_range){ p, 2 * page() }, 1), 0);
	CHECK_DEATH(((volatile char *)p)[page()] = 1, SIGSEGV, "");
}

TEST(a_child_that_shares_memory_is_noticed)
{
	char *p = os_map(page(), page());
	int to_child[2];
	pid_t child;
	char byte;

	p[0] = 1;
	if (!os_page_is_exclusive(p))
		SKIP("/proc/self/pagemap does not tell");
	CHECK_EQ(pipe(to_child), 0);
	child = fork();
	if (!child) {
		close(to_child[1]);
		_exit(read(to_child[0], &byte, 1) < 0);
	}
	CHECK(!os_page_is_exclusive(p));
	close(to_child[1]);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK(os_page_is_exclusive(p));
}

TEST(processors_have_numbers_and_nodes)
{
	CHECK(os_cpus_possible() >= 1);
	CHECK(os_cpus_possible() >= os_facts()->cpus_usable);
	CHECK(os_cpu_node(0) >= 0 || os_cpu_node(0) == -ENOENT);
}
