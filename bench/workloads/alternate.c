/* SPDX-License-Identifier: MIT */
/*
 * alternate BYTES ROUNDS SIZE_A SIZE_B: fills BYTES with blocks of one size, frees them all, fills
 * BYTES with blocks of the other size, and so on. An allocator that gives memory back too eagerly,
 * or cannot use it for another size, pays with page faults. Reports faults over pages used anew.
 */
#include "workload.h"

#include <sys/resource.h>

static size_t faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (size_t)usage.ru_minflt;
}

static void fill_and_empty(void **blocks, size_t bytes, size_t size)
{
	for (size_t i = 0; i < bytes / size; i++)
		blocks[i] = block_take(size);
	for (size_t i = 0; i < bytes / size; i++)
		block_give(blocks[i]);
}

int main(int argc, char **argv)
{
	size_t bytes = number_of(argc, argv, 1);
	size_t rounds = number_of(argc, argv, 2);
	size_t sizes[2] = { number_of(argc, argv, 3), number_of(argc, argv, 4) };
	size_t least = sizes[0] < sizes[1] ? sizes[0] : sizes[1];
	void **blocks = table_of(bytes / least, sizeof(*blocks));
	size_t first;

	fill_and_empty(blocks, bytes, sizes[0]);
	fill_and_empty(blocks, bytes, sizes[1]);
	first = faults();
	for (size_t i = 0; i < rounds; i++)
		fill_and_empty(blocks, bytes, sizes[i % 2]);
	report("faults_over_pages",
		(double)(faults() - first) / ((double)rounds * (double)bytes / PAGE_BYTES),
		"ratio");
	report("resident_over_live", (double)peak_bytes() / (double)bytes, "ratio");
	return 0;
}
