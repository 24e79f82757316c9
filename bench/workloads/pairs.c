/* SPDX-License-Identifier: MIT */
/*
 * pairs LOOPS: a hundred blocks of 64 bytes, then a hundred frees, and nothing else: the shortest
 * loop that is more than one block. Blocks are not touched, so that instructions can be counted.
 */
#include "workload.h"

enum { COUNT = 100, BYTES = 64 };

int main(int argc, char **argv)
{
	void *blocks[COUNT];
	size_t loops = number_of(argc, argv, 1);

	for (size_t loop = 0; loop < loops; loop++) {
		for (int i = 0; i < COUNT; i++)
			blocks[i] = malloc(BYTES);
		for (int i = 0; i < COUNT; i++)
			free(blocks[i]);
	}
	return 0;
}
