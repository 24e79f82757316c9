/* SPDX-License-Identifier: MIT */
/*
 * Large blocks of malloc that get the pages of free memory which lies scattered (src/page/compose.c),
 * on the mock operating system over real memory.
 */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap/batch.h"
#include "heap_fixture.h"
#include "os/mock.h"

#define MIB ((size_t)1 << 20)

enum { PIECES = 24, FREE = PIECES / 2 };

static char *pieces[PIECES];

static struct page_stats stats(void)
{
	struct page_stats s;
	page_stats(&s);
	return s;
}

static size_t composed(void)
{
	return stats().composed_bytes;
}

/* Bytes that are there before anybody wrote to them. */
static size_t present(char *p, size_t bytes)
{
	size_t pages;
	size_t sum = 0;
	for (size_t i = 0; i < bytes; i += 2 * MIB) {
		CHECK_EQ(os_present(p + i, 2 * MIB, &pages), 0);
		sum += pages * os_facts()->page_bytes;
	}
	return sum;
}

static void touch(char *p, size_t bytes, char mark)
{
	for (size_t i = 0; i < bytes; i += 4096)
		p[i] = mark;
}

/* Every other piece of 2 MiB is free, warm, and shorter than what is asked for then. */
static void scatter(void)
{
	fixture_start();
	mock_facts()->overcommit_mode = 0;
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	mock_facts()->data_limit_bytes = OS_UNLIMITED;
	for (int i = 0; i < PIECES; i++) {
		pieces[i] = heap_alloc(2 * MIB);
		CHECK(pieces[i] != NULL);
		touch(pieces[i], 2 * MIB, (char)i);
	}
	for (int i = 1; i < PIECES; i += 2)
		heap_free(pieces[i]);
}

static void need_moves(void)
{
	if (!composed())
		SKIP("mremap without MREMAP_DONTUNMAP (Linux 5.7)");
}

static void check_pieces(void)
{
	for (int i = 0; i < PIECES; i += 2)
		for (size_t at = 0; at < 2 * MIB; at += 4096)
			CHECK_EQ(pieces[i][at], i);
	CHECK(page_check());
	heap_check();
}

static void free_pieces(void)
{
	for (int i = 0; i < PIECES; i += 2)
		heap_free(pieces[i]);
}

TEST(a_large_block_gets_what_lies_scattered)
{
	scatter();
	const size_t dirty = stats().dirty_bytes;
	char *p = heap_alloc(16 * MIB);
	need_moves();
	CHECK(composed() >= 14 * MIB);
	CHECK(dirty - stats().dirty_bytes >= composed());
	CHECK(present(p, 16 * MIB) >= composed());
	touch(p, 16 * MIB, 77);
	check_pieces();
	/* It is a block like any other: grown by moving, or by copying. */
	p = heap_resize(p, 40 * MIB);
	for (size_t i = 0; i < 16 * MIB; i += 4096)
		CHECK_EQ(p[i], 77);
	check_pieces();
	heap_free(p);
	free_pieces();
	fixture_check_empty();
}

TEST(an_aligned_block_and_one_with_room_do_as_well)
{
	const struct heap_want want = { .align = HEAP_ALIGN_MIN, .reserve = 12 * MIB };
	void *reserved;
	scatter();
	char *p = heap_alloc_aligned(2 * MIB, 6 * MIB);
	need_moves();
	CHECK_EQ(composed(), 6 * MIB);
	CHECK_EQ(present(p, 6 * MIB), 6 * MIB);
	touch(p, 6 * MIB, 1);
	CHECK_EQ(heap_alloc_many(8 * MIB, &want, 1, &reserved), 1);
	CHECK(composed() >= 12 * MIB);
	check_pieces();
	heap_free(p);
	heap_free(reserved);
	free_pieces();
	fixture_check_empty();
}

/* What has to read as zero would have to be written whole, whether it is used or not. */
TEST(a_zeroed_block_is_fresh)
{
	scatter();
	char *p = heap_alloc_zeroed(16 * MIB);
	CHECK_EQ(composed(), 0);
	for (size_t i = 0; i < 16 * MIB; i += 512)
		CHECK_EQ(p[i], 0);
	check_pieces();
}

/* Nobody knows whether all of it will be used. */
TEST(a_block_above_32_mib_is_fresh)
{
	scatter();
	CHECK(heap_alloc(32 * MIB + 1) != NULL);
	CHECK_EQ(composed(), 0);
	CHECK(heap_alloc(32 * MIB) != NULL);
	need_moves();
	check_pieces();
}

/* In a process of its own: the nth such call is refused while a block is composed. */
static void refuse(enum os_call call, unsigned nth, int error)
{
	mock_fail(call, nth, error);
	errno = 0;
	char *p = heap_alloc(6 * MIB);
	if (p == NULL)
		CHECK_EQ(errno, ENOMEM);
	else
		touch(p, 6 * MIB, 5);
	check_pieces();
	for (size_t i = 0; p != NULL && i < 6 * MIB; i += 4096)
		CHECK_EQ(p[i], 5);
	heap_free(p);
	/* Granted again, all goes as ever. */
	p = heap_alloc(8 * MIB);
	CHECK(p != NULL);
	touch(p, 8 * MIB, 6);
	check_pieces();
	heap_free(p);
	free_pieces();
	fixture_check_empty();
	CHECK_EQ(stats().lost_bytes, 0);
	_exit(0);
}

TEST_TIMEOUT(every_refusal_leaves_all_in_order, 60)
{
	static const enum os_call calls[] = { OS_CALL_MOVE, OS_CALL_PRESENT, OS_CALL_HUGE,
		OS_CALL_RESERVE_AT, OS_CALL_MAP_FIXED, OS_CALL_COMMIT, OS_CALL_DECOMMIT,
		OS_CALL_NAME };
	static const int errors[] = { ENOMEM, EINVAL, EAGAIN };
	scatter();
	for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
		for (unsigned nth = 1; nth <= 5; nth++) {
			const pid_t child = fork();
			int status;
			if (!child)
				refuse(calls[c], nth, errors[nth % 3]);
			CHECK_EQ(waitpid(child, &status, 0), child);
			CHECK_EQ(status, 0);
		}
	}
}

TEST(a_child_has_what_was_composed)
{
	int status;
	scatter();
	char *p = heap_alloc(8 * MIB);
	need_moves();
	touch(p, 8 * MIB, 9);
	const pid_t child = fork();
	if (!child) {
		for (size_t i = 0; i < 8 * MIB; i += 4096)
			CHECK_EQ(p[i], 9);
		char *more = heap_alloc(8 * MIB);
		touch(more, 8 * MIB, 10);
		heap_free(p);
		heap_free(more);
		check_pieces();
		_exit(0);
	}
	touch(p, 8 * MIB, 11);
	check_pieces();
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	for (size_t i = 0; i < 8 * MIB; i += 4096)
		CHECK_EQ(p[i], 11);
}
