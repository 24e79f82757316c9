/* SPDX-License-Identifier: MIT */
/*
 * page_swap page|swap|copy TIMES BYTES...: exchanges the contents of two blocks of a size, both
 * full: by allod_page_swap(), of ordinary blocks or of those allocated for it, or by copying.
 * Reported is the median of a call; after each a byte at either end of both blocks is looked at, at
 * the end all pages. Then the same with another thread running.
 */
#include "pages.h"

#include "allod/page.h"

#include <string.h>

#pragma weak allod_page_swap

enum { PIECE_BYTES = 16384 };

static const struct page_source *source;
static bool copies;

static void exchange(char *left, char *right, size_t bytes)
{
	char piece[PIECE_BYTES];

	if (!copies) {
		if (allod_page_swap(left, right, 0) != 0)
			fail("not exchanged");
		return;
	}
	for (size_t i = 0; i < bytes; i += sizeof(piece)) {
		size_t now = bytes - i < sizeof(piece) ? bytes - i : sizeof(piece);

		memcpy(piece, left + i, now);
		memcpy(left + i, right + i, now);
		memcpy(right + i, piece, now);
	}
}

static void look(const char *block, size_t bytes, uint64_t seed)
{
	size_t last = bytes - PAGE_BYTES;

	if (*(const uint64_t *)block != seed || *(const uint64_t *)(block + last) != (last ^ seed))
		fail("not exchanged");
}

/* Samples in which the other thread did not run are taken again, as often as all together. */
static void measure(const char *prefix, size_t bytes, size_t times, struct companion *companion)
{
	double *samples = table_of(times, sizeof(*samples));
	double null = cpu_ns_alone();
	uint64_t seeds[2] = { 1, 2 };
	char *blocks[2];
	size_t taken = 0;

	for (int i = 0; i < 2; i++) {
		blocks[i] = source->alloc(bytes, 0);
		if (!blocks[i])
			fail("no memory");
		pages_stamp(blocks[i], bytes, seeds[i]);
	}
	for (size_t i = 0; i < 2 * times && taken < times; i++) {
		bool ran = !companion || companion_runs(companion);
		uint64_t start = cpu_ns(), seed;

		exchange(blocks[0], blocks[1], bytes);
		if (ran)
			samples[taken++] = (double)(cpu_ns() - start) - null;
		seed = seeds[0];
		seeds[0] = seeds[1];
		seeds[1] = seed;
		look(blocks[0], bytes, seeds[0]);
		look(blocks[1], bytes, seeds[1]);
	}
	report_size(prefix, bytes, "swap", median_of(samples, taken), "ns");
	for (int i = 0; i < 2; i++) {
		pages_check(blocks[i], bytes, seeds[i]);
		source->free(blocks[i], bytes);
	}
}

int main(int argc, char **argv)
{
	struct companion companion;
	size_t times;

	if (argc < 4)
		fail("too few arguments");
	source = source_named(argv[1]);
	copies = strcmp(source->name, "copy") == 0;
	times = number_of(argc, argv, 2);
	for (int i = 3; i < argc; i++)
		measure("1t-", number_of(argc, argv, i), times, NULL);
	companion_start(&companion);
	for (int i = 3; i < argc; i++)
		measure("2t-", number_of(argc, argv, i), times, &companion);
	companion_stop(&companion);
	return 0;
}
