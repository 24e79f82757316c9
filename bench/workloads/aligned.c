/* SPDX-License-Identifier: MIT */
/*
 * aligned LIVE OPERATIONS LOW HIGH BYTES: replaces a random one of LIVE blocks by one of random
 * alignment, a power of two from LOW up to HIGH, and of up to BYTES bytes.
 */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t live = number_of(argc, argv, 1);
	size_t operations = number_of(argc, argv, 2);
	size_t low = number_of(argc, argv, 3);
	size_t high = number_of(argc, argv, 4);
	size_t bytes = number_of(argc, argv, 5);
	size_t alignments = (size_t)(__builtin_ctzl(high) - __builtin_ctzl(low) + 1);
	void **blocks = table_of(live, sizeof(*blocks));
	uint32_t state = 1;

	for (size_t i = 0; i < operations; i++) {
		uint32_t slot = random_below(&state, live);
		size_t alignment = low << random_below(&state, alignments);
		size_t wanted = size_even(&state, 16, bytes);

		block_give(blocks[slot]);
		if (posix_memalign(&blocks[slot], alignment, wanted) != 0)
			fail("no memory");
		if ((uintptr_t)blocks[slot] % alignment != 0)
			fail("a block is not aligned");
		block_touch(blocks[slot], wanted);
	}
	for (size_t i = 0; i < live; i++)
		block_give(blocks[i]);
	return 0;
}
