/* SPDX-License-Identifier: MIT */
/*
 * phases ROUNDS BYTES KEPT: the program fills BYTES with blocks of one size, frees all but every
 * KEPT-th, and goes on with another size; the survivors of a phase go at the end of the next one.
 * The memory of a size class has to become another's.
 */
#include "workload.h"

static const size_t sizes[] = { 24, 720, 96, 3000, 40, 12000, 256, 64, 1500, 160 };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

struct phase {
	void **blocks;
	size_t count;
};

static void release(struct phase *phase, size_t kept)
{
	for (size_t i = 0; i < phase->count; i++) {
		if (kept && i % kept == 0)
			continue;
		block_give(phase->blocks[i]);
		phase->blocks[i] = NULL;
	}
}

int main(int argc, char **argv)
{
	size_t rounds = number_of(argc, argv, 1);
	size_t bytes = number_of(argc, argv, 2);
	size_t kept = number_of(argc, argv, 3);
	struct phase phases[2];

	for (int i = 0; i < 2; i++)
		phases[i] = (struct phase){ table_of(bytes / sizes[0], sizeof(void *)), 0 };
	for (size_t n = 0; n < rounds * SIZES; n++) {
		struct phase *phase = &phases[n % 2];
		size_t size = sizes[n % SIZES];

		phase->count = bytes / size;
		for (size_t i = 0; i < phase->count; i++)
			phase->blocks[i] = block_take(size);
		release(phase, kept);
		release(&phases[(n + 1) % 2], 0);
	}
	release(&phases[0], 0);
	release(&phases[1], 0);
	return 0;
}
