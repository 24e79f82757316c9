/* SPDX-License-Identifier: MIT */
/*
 * Where pages come from: how many calls a block that the cache does not hold costs, and how many
 * faults it takes to write to each of its pages for the first time. The mock counts the calls, the
 * kernel the faults; docs/design/block.md says where there are any, and why.
 */
#include "allod/page.h"
#include "base/options.h"
#include "block/block.h"
#include "harness.h"
#include "os/mock.h"
#include "page/page.h"

#include <sys/resource.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum {
	/* Reservation, naming, accessibility, huge pages, population; records and table of granules. */
	CALLS_MOST = 12,
	/* Of the program itself, while it touches: its stack. */
	FAULTS_MOST = 2,
};

static size_t minor_faults(void)
{
	struct rusage usage;

	CHECK_EQ(getrusage(RUSAGE_SELF, &usage), 0);
	return (size_t)usage.ru_minflt;
}

/* Faults that it takes to write to each page. */
static size_t touch(char *p, size_t bytes)
{
	const size_t page = os_facts()->page_bytes;
	const size_t before = minor_faults();

	for (size_t i = 0; i < bytes; i += page)
		((volatile char *)p)[i] = 1;
	return minor_faults() - before;
}

static unsigned calls(void)
{
	unsigned sum = 0;

	for (int i = 0; i < OS_CALL_KINDS; i++)
		sum += mock_count((enum os_call)i);
	return sum;
}

static char *take(size_t bytes, unsigned flags)
{
	const struct block_want want = { .flags = flags };
	void *p = NULL;

	CHECK_EQ(block_alloc(bytes, &want, &p), 0);
	return p;
}

static void start(void)
{
	mock_reset();
	options.background = OPTION_BACKGROUND_OFF;
	block_free(take(4 * KIB, 0));
	if (touch(take(64 * KIB, 0), 64 * KIB))
		SKIP("MADV_POPULATE_WRITE (Linux 5.14)");
}

/* The same number of calls whatever the size, and no fault. */
TEST(from_64_kib_to_32_mib_all_pages_come_in_one_call)
{
	start();
	for (size_t bytes = 64 * KIB; bytes <= 32 * MIB; bytes *= 2) {
		const unsigned populates = mock_count(OS_CALL_POPULATE);
		const unsigned before = calls();
		char *p = take(bytes, 0);
		test_note("%zu KiB: %u calls", bytes / KIB, calls() - before);
		CHECK(calls() - before <= CALLS_MOST);
		CHECK_EQ(mock_count(OS_CALL_POPULATE), populates + 1);
		CHECK(touch(p, bytes) <= FAULTS_MOST);
	}
}

/* What was freed is warm: neither a call nor a fault. */
TEST(a_hit_costs_nothing)
{
	char *p[2];

	start();
	for (size_t bytes = 4 * KIB; bytes <= 128 * MIB; bytes *= 4) {
		unsigned before;
		p[0] = take(bytes, 0);
		touch(p[0], bytes);
		block_free(p[0]);
		before = calls();
		p[1] = take(bytes, 0);
		CHECK_EQ(calls(), before);
		CHECK(touch(p[1], bytes) <= FAULTS_MOST);
		block_free(p[1]);
	}
}

/* A fault a page: their neighbours may never be wanted. */
TEST(pieces_come_page_by_page)
{
	char *p;

	start();
	p = take(60 * KIB, 0);
	CHECK(touch(p, 60 * KIB) <= 60 * KIB / os_facts()->page_bytes + FAULTS_MOST);
}

/* Nobody knows whether they will be used; who does says so, by one call. */
TEST(above_32_mib_pages_come_when_they_are_wanted)
{
	char *p[2];
	unsigned before;

	start();
	p[0] = take(33 * MIB, 0);
	CHECK(touch(p[0], 33 * MIB) >= 33 * MIB / (2 * MIB));
	p[1] = take(33 * MIB, 0);
	before = calls();
	CHECK_EQ(block_commit(p[1], 33 * MIB), 0);
	CHECK_EQ(calls(), before + 1);
	CHECK(touch(p[1], 33 * MIB) <= FAULTS_MOST);
}

TEST(so_do_those_of_what_a_resize_adds)
{
	const struct block_want want = { .reserve_bytes = 8 * MIB };
	unsigned before;
	void *grown;
	void *p;

	start();
	CHECK_EQ(block_alloc(MIB, &want, &p), 0);
	touch(p, MIB);
	CHECK_EQ(block_resize(p, 8 * MIB, 0, &grown), 0);
	CHECK(touch((char *)grown + MIB, 7 * MIB) >= 3);
	CHECK_EQ(block_resize(grown, 16 * MIB, 0, &p), 0);
	before = calls();
	CHECK_EQ(block_commit((char *)p + 8 * MIB, 8 * MIB), 0);
	CHECK_EQ(calls(), before + 1);
	CHECK(touch((char *)p + 8 * MIB, 8 * MIB) <= FAULTS_MOST);
}
