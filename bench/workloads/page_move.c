/* SPDX-License-Identifier: MIT */
/*
 * page_move SOURCE TIMES BYTES...: a block that is full is made larger where it has no room: to
 * twice its size or, of allod's page calls, beyond what allod_page_room() says. Reported is the
 * median of what the call takes; new pages are not written to, all others are looked at. So that it
 * has no room, another block of the same size lies behind it. Then the same with another thread
 * running, whose processor has to be told when pages move.
 */
#include "pages.h"

#include "allod/page.h"

#include <string.h>

#pragma weak allod_page_room

static const struct page_source *source;

static size_t size_without_room(const void *block, size_t bytes)
{
	size_t wanted = 2 * bytes;
	bool is_page = strcmp(source->name, "page") == 0 || strcmp(source->name, "swap") == 0;

	if (is_page && allod_page_room(block) >= wanted)
		wanted = allod_page_room(block) + PAGE_BYTES;
	return wanted;
}

/* Nanoseconds, or less than 0 if the other thread did not run. */
static double move_one(size_t bytes, struct companion *companion)
{
	char *block = source->alloc(bytes, 0);
	void *behind = source->alloc(bytes, 0); /* the lower one is moved */
	uint64_t start, took;
	size_t wanted;
	bool ran;

	if (!block || !behind)
		fail("no memory");
	if ((char *)behind < block) {
		void *other = behind;

		behind = block;
		block = other;
	}
	pages_stamp(block, bytes, bytes);
	wanted = size_without_room(block, bytes);
	ran = !companion || companion_runs(companion);
	start = cpu_ns();
	block = source->resize(block, bytes, wanted);
	took = cpu_ns() - start;
	if (!block)
		fail("no memory");
	pages_check(block, bytes, bytes);
	source->free(block, wanted);
	source->free(behind, bytes);
	return ran ? (double)took : -1;
}

static void measure(const char *prefix, size_t bytes, size_t times, struct companion *companion)
{
	double *samples = table_of(times, sizeof(*samples));
	double null = cpu_ns_alone();
	size_t taken = 0;

	move_one(bytes, companion);
	for (size_t i = 0; i < 2 * times && taken < times; i++) {
		double sample = move_one(bytes, companion);

		if (sample >= 0)
			samples[taken++] = sample - null;
	}
	report_size(prefix, bytes, "move", median_of(samples, taken), "ns");
}

int main(int argc, char **argv)
{
	struct companion companion;
	size_t times;

	if (argc < 4)
		fail("too few arguments");
	source = source_named(argv[1]);
	times = number_of(argc, argv, 2);
	for (int i = 3; i < argc; i++)
		measure("1t-", number_of(argc, argv, i), times, NULL);
	companion_start(&companion);
	for (int i = 3; i < argc; i++)
		measure("2t-", number_of(argc, argv, i), times, &companion);
	companion_stop(&companion);
	return 0;
}
