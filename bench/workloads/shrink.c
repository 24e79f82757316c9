/* SPDX-License-Identifier: MIT */
/*
 * shrink COUNT LARGE SMALL IDLE_MS: COUNT blocks of LARGE bytes are made SMALL by realloc. Reports
 * memory over what is left, IDLE_MS later.
 */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t count = number_of(argc, argv, 1);
	size_t large = number_of(argc, argv, 2);
	size_t small = number_of(argc, argv, 3);
	uint64_t **blocks = table_of(count, sizeof(*blocks));

	for (size_t i = 0; i < count; i++) {
		blocks[i] = block_take(large);
		blocks[i][0] = i;
		blocks[i][small / 8 - 1] = i;
	}
	for (size_t i = 0; i < count; i++) {
		blocks[i] = realloc(blocks[i], small);
		if (!blocks[i] || blocks[i][0] != i || blocks[i][small / 8 - 1] != i)
			fail("realloc lost content");
	}
	sleep_ms(number_of(argc, argv, 4));
	report("resident_over_live", (double)resident_bytes() / (double)(count * small), "ratio");
	for (size_t i = 0; i < count; i++)
		free(blocks[i]);
	return 0;
}
