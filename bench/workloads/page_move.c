/* SPDX-License-Identifier: MIT */
/*
 * page_move SOURCE MEMORY BYTES...: blocks that are full, MEMORY bytes in all, but four at least, are
 * made larger one after the other where they have no room, for each lies between two others: to
 * twice their size or, of allod's page calls, beyond what allod_page_room() says. Reported is the
 * median of what the call takes; new pages are not written to, all others are looked at afterwards.
 * Then the same with another thread running, whose processor has to be told when pages move.
 */
#include "pages.h"

#include "allod/page.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma weak allod_page_room

enum { LEAST = 4, MOST = 32 };

/* What allod's room is for the largest here, and a page. */
#define MOST_WANTED (((size_t)64 << 30) + PAGE_BYTES)

static const struct page_source *source;
static bool is_page;

static int compare(const void *left, const void *right)
{
	const char *a = *(char *const *)left;
	const char *b = *(char *const *)right;

	return a < b ? -1 : a > b;
}

/* The blocks to be moved: every other one of many stays empty, and lies between two of them. */
static void allocate(char **blocks, size_t count, size_t bytes)
{
	char **all = table_of(2 * count, sizeof(*all));

	for (size_t i = 0; i < 2 * count; i++) {
		all[i] = source->alloc(bytes, 0);
		if (!all[i])
			fail("no memory");
	}
	qsort(all, 2 * count, sizeof(*all), compare);
	for (size_t i = 0; i < count; i++) {
		blocks[i] = all[2 * i];
		pages_stamp(blocks[i], bytes, i);
	}
}

static size_t size_without_room(const char *block, size_t bytes)
{
	size_t wanted = 2 * bytes;

	if (is_page && allod_page_room(block) >= wanted)
		wanted = allod_page_room(block) + PAGE_BYTES;
	if (wanted > MOST_WANTED)
		fail("no block without room");
	return wanted;
}

/* Nanoseconds, or less than 0 if the other thread did not run. */
static double move_one(char **block, size_t bytes, struct companion *companion)
{
	size_t wanted = size_without_room(*block, bytes);
	bool ran = !companion || companion_runs(companion);
	uint64_t start = cpu_ns(), took;

	*block = source->resize(*block, bytes, wanted);
	took = cpu_ns() - start;
	if (!*block)
		fail("no memory");
	return ran ? (double)took : -1;
}

static void measure(const char *prefix, size_t bytes, size_t memory, struct companion *companion)
{
	size_t count = memory / bytes < MOST ? memory / bytes : MOST, taken = 0;
	double *samples = table_of(MOST, sizeof(*samples));
	char **blocks = table_of(MOST, sizeof(*blocks));
	double null = cpu_ns_alone();

	count = count < LEAST ? LEAST : count;
	allocate(blocks, count, bytes);
	for (size_t i = 0; i < count; i++) {
		double sample = move_one(&blocks[i], bytes, companion);

		if (sample >= 0)
			samples[taken++] = sample - null;
	}
	report_size(prefix, bytes, "move", median_of(samples, taken), "ns");
	for (size_t i = 0; i < count; i++)
		pages_check(blocks[i], bytes, i);
}

/* In a process of its own, so that what was measured before takes no addresses. */
static void measure_apart(size_t bytes, size_t memory, bool has_companion)
{
	struct companion companion;
	int status;
	pid_t child = fork();

	if (child < 0)
		fail("no process");
	if (child == 0) {
		if (has_companion)
			companion_start(&companion);
		measure(has_companion ? "2t-" : "1t-", bytes, memory,
			has_companion ? &companion : NULL);
		if (has_companion)
			companion_stop(&companion);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status != 0)
		fail("not measured");
}

int main(int argc, char **argv)
{
	size_t memory;

	if (argc < 4)
		fail("too few arguments");
	source = source_named(argv[1]);
	is_page = strcmp(source->name, "page") == 0 || strcmp(source->name, "swap") == 0;
	memory = number_of(argc, argv, 2);
	for (int companions = 0; companions < 2; companions++) {
		for (int i = 3; i < argc; i++)
			measure_apart(number_of(argc, argv, i), memory, companions > 0);
	}
	return 0;
}
