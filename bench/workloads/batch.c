/* SPDX-License-Identifier: MIT */
/*
 * batch ORDER COUNT BYTES LOOPS: allocates COUNT blocks, then frees them all, in the order of
 * their allocation (fifo), in reverse (lifo), or in one that is always the same (mixed).
 */
#include "workload.h"

#include <string.h>

/* Fills order with a permutation of 0 … count - 1. */
static void arrange(uint32_t *order, size_t count, const char *name)
{
	uint32_t state = 1;

	for (size_t i = 0; i < count; i++)
		order[i] = (uint32_t)(strcmp(name, "lifo") == 0 ? count - 1 - i : i);
	if (strcmp(name, "mixed") != 0)
		return;
	for (size_t i = count - 1; i > 0; i--) {
		uint32_t other = random_below(&state, i + 1);
		uint32_t kept = order[i];

		order[i] = order[other];
		order[other] = kept;
	}
}

int main(int argc, char **argv)
{
	size_t count = number_of(argc, argv, 2);
	size_t bytes = number_of(argc, argv, 3);
	size_t loops = number_of(argc, argv, 4);
	void **blocks = table_of(count, sizeof(*blocks));
	uint32_t *order = table_of(count, sizeof(*order));

	arrange(order, count, argv[1]);
	for (size_t loop = 0; loop < loops; loop++) {
		for (size_t i = 0; i < count; i++)
			blocks[i] = block_take(bytes);
		for (size_t i = 0; i < count; i++)
			block_give(blocks[order[i]]);
	}
	return 0;
}
