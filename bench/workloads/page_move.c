/* SPDX-License-Identifier: MIT */
/*
 * page_move SOURCE TIMES BYTES...: a block that is full is made larger where it has no room: to
 * twice its size or, of allod's page calls, beyond what allod_page_room() says. Reported is the
 * median of what the call takes; new pages are not written to, all others are looked at. So that it
 * has no room, it lies between two of many others that were allocated before. Then the same with
 * another thread running, whose processor has to be told when pages move.
 */
#include "pages.h"

#include "allod/page.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma weak allod_page_release
#pragma weak allod_page_room

enum { FENCES = 16 };

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

/* Every other of many blocks stays, so that what is allocated next lies between them. */
static void fence(char **fences, size_t bytes)
{
	for (int i = 0; i < FENCES; i++) {
		fences[i] = source->alloc(bytes, 0);
		if (!fences[i])
			fail("no memory");
	}
	qsort(fences, FENCES, sizeof(*fences), compare);
	for (int i = 0; i < FENCES; i += 2)
		source->free(fences[i], bytes);
}

/* What was moved is kept, without its pages, so that nothing is allocated at its addresses. */
static void put_away(void *block, size_t bytes)
{
	if (!is_page) {
		source->free(block, bytes);
		return;
	}
	if (allod_page_release(block, bytes) != 0)
		fail("not released");
}

/* Nanoseconds, or less than 0 if the other thread did not run. */
static double move_one(size_t bytes, struct companion *companion)
{
	char *block = source->alloc(bytes, 0);
	size_t wanted = 2 * bytes;
	uint64_t start, took;
	bool ran;

	if (!block)
		fail("no memory");
	pages_stamp(block, bytes, bytes);
	if (is_page && allod_page_room(block) >= wanted)
		wanted = allod_page_room(block) + PAGE_BYTES;
	if (wanted > MOST_WANTED)
		fail("no block without room");
	ran = !companion || companion_runs(companion);
	start = cpu_ns();
	block = source->resize(block, bytes, wanted);
	took = cpu_ns() - start;
	if (!block)
		fail("no memory");
	pages_check(block, bytes, bytes);
	put_away(block, wanted);
	return ran ? (double)took : -1;
}

static void measure(const char *prefix, size_t bytes, size_t times, struct companion *companion)
{
	double *samples = table_of(times, sizeof(*samples));
	double null = cpu_ns_alone();
	char *fences[FENCES];
	size_t taken = 0;

	fence(fences, bytes);
	move_one(bytes, companion);
	for (size_t i = 0; i < 2 * times && taken < times; i++) {
		double sample = move_one(bytes, companion);

		if (sample >= 0)
			samples[taken++] = sample - null;
	}
	report_size(prefix, bytes, "move", median_of(samples, taken), "ns");
}

/* In a process of its own, so that what was measured before takes no addresses. */
static void measure_apart(size_t bytes, size_t times, bool has_companion)
{
	struct companion companion;
	int status;
	pid_t child = fork();

	if (child < 0)
		fail("no process");
	if (child == 0) {
		if (has_companion)
			companion_start(&companion);
		measure(has_companion ? "2t-" : "1t-", bytes, times,
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
	size_t times;

	if (argc < 4)
		fail("too few arguments");
	source = source_named(argv[1]);
	is_page = strcmp(source->name, "page") == 0 || strcmp(source->name, "swap") == 0;
	times = number_of(argc, argv, 2);
	for (int companions = 0; companions < 2; companions++) {
		for (int i = 3; i < argc; i++)
			measure_apart(number_of(argc, argv, i), times, companions > 0);
	}
	return 0;
}
