/* SPDX-License-Identifier: MIT */
/*
 * zeroed LIVE OPERATIONS LOW HIGH: replaces a random one of LIVE blocks by a zeroed one, of sizes
 * with equally likely doublings. Each is looked at, and dirtied, at every half KiB.
 */
#include "workload.h"

enum { STRIDE = 512 };

static void dirty(char *block, size_t bytes)
{
	if (block[bytes - 1])
		fail("a block is not zeroed to its end");
	block[bytes - 1] = 1;
	for (size_t i = 0; i < bytes - 1; i += STRIDE) {
		if (block[i])
			fail("a block is not zeroed");
		block[i] = 1;
	}
}

int main(int argc, char **argv)
{
	size_t live = number_of(argc, argv, 1);
	size_t operations = number_of(argc, argv, 2);
	size_t low = number_of(argc, argv, 3);
	size_t high = number_of(argc, argv, 4);
	char **blocks = table_of(live, sizeof(*blocks));
	uint32_t state = 1;

	for (size_t i = 0; i < operations; i++) {
		uint32_t slot = random_below(&state, live);
		size_t bytes = size_log(&state, low, high);

		free(blocks[slot]);
		blocks[slot] = calloc(1, bytes);
		if (!blocks[slot])
			fail("no memory");
		dirty(blocks[slot], bytes);
	}
	for (size_t i = 0; i < live; i++)
		free(blocks[i]);
	return 0;
}
