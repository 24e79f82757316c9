/* SPDX-License-Identifier: MIT */
/*
 * burst LIVE BURST BURSTS PAUSE_MS IDLE_MS LAST_BYTES LAST_CALLS: keeps LIVE bytes, allocates and
 * frees BURST bytes on top of them BURSTS times with a pause after each, and then does nothing for
 * IDLE_MS. Unless LAST_BYTES is 0 it then allocates and frees a block of that size, LAST_CALLS
 * times, before memory is read: what does an allocator that nothing runs for in the background make
 * of a few calls? Reports memory over what is live.
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

static void call(size_t bytes, size_t calls)
{
	for (size_t i = 0; bytes && i < calls; i++)
		block_give(block_take(bytes));
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
	call(number_of(argc, argv, 6), number_of(argc, argv, 7));
	resident = resident_bytes();
	report("resident_after_idle", (double)resident, "bytes");
	report("resident_beyond_live", (double)resident - 1.1 * (double)live, "bytes");
	empty(lasting, lasting_count);
	return 0;
}
