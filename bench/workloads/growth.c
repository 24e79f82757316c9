/* SPDX-License-Identifier: MIT */
/*
 * growth BUFFERS LOW HIGH ADDED STEPS: buffers that grow by realloc, a random one at each step,
 * from LOW to beyond HIGH bytes, and then start again. A buffer grows by ADDED percent, or by 16
 * bytes if ADDED is 0, as a string does that is appended to.
 */
#include "workload.h"

struct buffer {
	uint64_t *words;
	size_t bytes;
};

/* The first and the last word hold the buffer's own address in the table. */
static void mark(struct buffer *buffer)
{
	char *at = (char *)buffer->words;

	for (size_t i = PAGE_BYTES; i < buffer->bytes; i += PAGE_BYTES)
		at[i] = 1;
	buffer->words[0] = (uintptr_t)buffer;
	buffer->words[buffer->bytes / 8 - 1] = (uintptr_t)buffer;
}

static void check(const struct buffer *buffer, size_t bytes)
{
	if (buffer->words[0] != (uintptr_t)buffer ||
		buffer->words[bytes / 8 - 1] != (uintptr_t)buffer)
		fail("realloc lost content");
}

static void grow(struct buffer *buffer, size_t low, size_t high, size_t added)
{
	size_t old = buffer->bytes;

	if (old > high) {
		free(buffer->words);
		*buffer = (struct buffer){ NULL, 0 };
		old = 0;
	}
	if (old == 0)
		buffer->bytes = low;
	else
		buffer->bytes += added ? (old * added / 100 + 7) & ~(size_t)7 : 16;
	buffer->words = realloc(buffer->words, buffer->bytes);
	if (!buffer->words)
		fail("no memory");
	if (old)
		check(buffer, old);
	mark(buffer);
}

int main(int argc, char **argv)
{
	size_t count = number_of(argc, argv, 1);
	size_t low = number_of(argc, argv, 2);
	size_t high = number_of(argc, argv, 3);
	size_t added = number_of(argc, argv, 4);
	size_t steps = number_of(argc, argv, 5);
	struct buffer *buffers = table_of(count, sizeof(*buffers));
	uint32_t state = 1;

	for (size_t i = 0; i < steps; i++)
		grow(&buffers[random_below(&state, count)], low, high, added);
	for (size_t i = 0; i < count; i++)
		free(buffers[i].words);
	return 0;
}
