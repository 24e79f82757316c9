/* SPDX-License-Identifier: MIT */
/*
 * survivors BYTES ONE_IN MS: allocates BYTES in blocks of 64 bytes to 64 KiB (each doubling equally
 * likely), frees all but random ones, one in ONE_IN, and then works lightly: a few small blocks
 * every millisecond, for MS. Reports memory over what is live.
 */
#include "workload.h"

enum { LOW = 64, HIGH = 65536, LIGHT = 10 };

static size_t fill(void **blocks, size_t *sizes, size_t limit, uint32_t *state)
{
	size_t count = 0;

	for (size_t filled = 0; filled < limit; count++) {
		sizes[count] = size_log(state, LOW, HIGH);
		blocks[count] = block_take(sizes[count]);
		filled += sizes[count];
	}
	return count;
}

static void work_lightly(size_t milliseconds, uint32_t *state)
{
	uint64_t end = now_ns() + milliseconds * 1000000u;

	while (now_ns() < end) {
		void *light[LIGHT];

		for (int i = 0; i < LIGHT; i++)
			light[i] = block_take(size_log(state, LOW, 1024));
		for (int i = 0; i < LIGHT; i++)
			block_give(light[i]);
		sleep_ms(1);
	}
}

int main(int argc, char **argv)
{
	size_t limit = number_of(argc, argv, 1);
	size_t one_in = number_of(argc, argv, 2);
	void **blocks = table_of(limit / LOW, sizeof(*blocks));
	size_t *sizes = table_of(limit / LOW, sizeof(*sizes));
	uint32_t state = 1;
	size_t count = fill(blocks, sizes, limit, &state);
	size_t live = 0;
	size_t resident;

	for (size_t i = 0; i < count; i++) {
		if (random_below(&state, one_in) == 0) {
			live += sizes[i];
			continue;
		}
		block_give(blocks[i]);
		blocks[i] = NULL;
	}
	work_lightly(number_of(argc, argv, 3), &state);
	resident = resident_bytes() - count * (sizeof(*blocks) + sizeof(*sizes));
	report("live", (double)live, "bytes");
	report("resident_over_live", (double)resident / (double)live, "ratio");
	for (size_t i = 0; i < count; i++)
		block_give(blocks[i]);
	return 0;
}
