/* SPDX-License-Identifier: MIT */
/*
 * burst LIVE BURST BURSTS PAUSE_MS IDLE_MS LAST_CALL: keeps LIVE bytes, allocates and frees BURST
 * bytes on top of them BURSTS times with a pause after each, and then does nothing for IDLE_MS.
 * LAST_CALL 1 makes one more call before memory is read: a block of 100 KiB, of a size that was not
 * used before, so that the allocator has to do more than take from a list at hand.
 * Reports memory over what is live.
 */
#include "workload.h"

enum { LOW = 16, HIGH = 16384, AVERAGE_LEAST = 64 };

/* Allocates this many bytes and returns how many blocks that were. */
static size_t fill(void **blocks, size_t bytes, uint32_t *state)
{
	size_t count = 0;

	for (size_t filled = 0; filled < bytes;) {
		size_t size = size_log(state, LOW, HIGH);

		blocks[count++] = block_take(size);
		filled += size;
	}
	return count;
}

static void empty(void **blocks, size_t count)
{
	for (size_t i = 0; i < count; i++)
		block_give(blocks[i]);
}

int main(int argc, char **argv)
{
	size_t live = number_of(argc, argv, 1);
	size_t burst = number_of(argc, argv, 2);
	size_t bursts = number_of(argc, argv, 3);
	size_t pause_ms = number_of(argc, argv, 4);
	void **lasting = table_of(live / AVERAGE_LEAST + 1, sizeof(void *));
	void **blocks = table_of(burst / AVERAGE_LEAST, sizeof(void *));
	uint32_t state = 1;
	size_t lasting_count = fill(lasting, live, &state);
	size_t resident;

	for (size_t i = 0; i < bursts; i++) {
		empty(blocks, fill(blocks, burst, &state));
		sleep_ms(pause_ms);
	}
	sleep_ms(number_of(argc, argv, 5));
	if (number_of(argc, argv, 6))
		block_give(block_take(100 << 10));
	resident = resident_bytes();
	report("resident_after_idle", (double)resident, "bytes");
	report("resident_beyond_live", (double)resident - 1.1 * (double)live, "bytes");
	empty(lasting, lasting_count);
	return 0;
}
