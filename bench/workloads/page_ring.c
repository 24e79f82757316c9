/* SPDX-License-Identifier: MIT */
/*
 * page_ring SOURCE LOOPS LEAST traverse|no-traverse [PREPARED]: the protocol of figures 7 to 10 of
 * N. Douglas, "User Mode Memory Page Allocation" (2011). A ring of 512 blocks; each step frees the
 * oldest, and that time counts for its size, and allocates another, and that, with a byte written
 * to each page unless no-traverse is said, counts for the new size. Sizes, from LEAST bytes (a
 * power of two) to 8 MiB, are chosen as there. Reported is the mean of both by powers of two, less
 * what the same loop takes with an allocator that does nothing.
 *
 * First, PREPARED bytes are allocated in blocks of 4 MiB, written to, and freed: there the page
 * allocator is loaded beforehand, here every allocator is that keeps memory. The first 1,024 steps
 * do not count either.
 *
 * Blocks of 256 KiB and more that are written to are timed by CPU time; others, which take less,
 * by the processor's counter, and what was interrupted by another program does not count.
 */
#include "pages.h"

#include <math.h>
#include <string.h>

enum {
	SLOTS = 512,
	BINS = 24,
	MOST_BYTES = 8 * MIB,
	PREPARED_BYTES = 4 * MIB,
	CPU_CLOCK_BYTES = 256 << 10,
	WARM_LOOPS = 2 * SLOTS,
	SUSPECT_NS = 5000, /* a change of processes and back takes longer */
	PREPARED_MOST = 4096
};

struct clocked {
	double total_ns;
	size_t count;
};

struct protocol {
	const struct page_source *source;
	size_t least;
	bool touches;
	bool has_cpu_clock;
	struct clocked allocs[BINS], frees[BINS];
};

struct slot {
	void *block;
	size_t bytes;
};

static size_t next_size(size_t least)
{
	int shift = __builtin_ctzl(least);
	size_t bytes;

	do {
		double power = pow(2, rand() / (RAND_MAX / 64.0) + shift);

		bytes = power >= 0x1p64 ? 0 : (size_t)power & (MOST_BYTES - 1);
		bytes &= ~(least - 1);
	} while (bytes < least);
	return bytes;
}

static int bin_of(size_t bytes)
{
	return 63 - __builtin_clzl(bytes);
}

/* Returns the block, or frees it and returns NULL. */
static void *step(const struct protocol *protocol, void *block, size_t bytes)
{
	if (block) {
		protocol->source->free(block, bytes);
		return NULL;
	}
	block = protocol->source->alloc(bytes, 0);
	if (!block)
		fail("no memory");
	if (protocol->touches)
		pages_touch(block, 0, bytes);
	return block;
}

static void *clocked_step(struct protocol *protocol, void *block, size_t bytes)
{
	struct clocked *clocked = &(block ? protocol->frees : protocol->allocs)[bin_of(bytes)];
	bool by_cpu = protocol->has_cpu_clock && bytes >= CPU_CLOCK_BYTES;
	uint64_t start = by_cpu ? cpu_ns() : ticks();
	double took;

	block = step(protocol, block, bytes);
	if (by_cpu)
		took = (double)(cpu_ns() - start);
	else
		took = (double)(ticks() - start) * ns_per_tick();
	if (by_cpu || took < SUSPECT_NS || !was_preempted()) {
		clocked->total_ns += took;
		clocked->count++;
	}
	return block;
}

static void run(struct protocol *protocol, size_t loops)
{
	static struct slot ring[SLOTS];

	srand(1);
	was_preempted();
	for (size_t i = 0; i < loops + WARM_LOOPS; i++) {
		struct slot *slot = &ring[i % SLOTS];
		size_t bytes = next_size(protocol->least);

		if (i == WARM_LOOPS) {
			memset(protocol->allocs, 0, sizeof(protocol->allocs));
			memset(protocol->frees, 0, sizeof(protocol->frees));
		}
		if (slot->block)
			clocked_step(protocol, slot->block, slot->bytes);
		slot->bytes = bytes;
		slot->block = clocked_step(protocol, NULL, bytes);
	}
	for (size_t i = 0; i < SLOTS; i++) {
		if (ring[i].block)
			protocol->source->free(ring[i].block, ring[i].bytes);
		ring[i].block = NULL;
	}
}

static void prepare(const struct page_source *source, size_t bytes)
{
	void *blocks[PREPARED_MOST];
	size_t count = bytes / PREPARED_BYTES;

	if (!source->may_keep)
		return;
	if (count > PREPARED_MOST)
		fail("too much to prepare");
	for (size_t i = 0; i < count; i++) {
		blocks[i] = source->alloc(PREPARED_BYTES, 0);
		if (!blocks[i])
			fail("no memory");
		pages_touch(blocks[i], 0, PREPARED_BYTES);
	}
	for (size_t i = 0; i < count; i++)
		source->free(blocks[i], PREPARED_BYTES);
}

static double mean(const struct clocked *clocked)
{
	return clocked->count ? clocked->total_ns / (double)clocked->count : 0;
}

int main(int argc, char **argv)
{
	static struct protocol measured, null;
	const char *prefix;
	size_t loops;

	if (argc < 5)
		fail("too few arguments");
	prefix = strcmp(argv[4], "traverse") == 0 ? "traverse-" : "no-traverse-";
	loops = number_of(argc, argv, 2);
	measured.source = source_named(argv[1]);
	measured.least = number_of(argc, argv, 3);
	measured.touches = strcmp(argv[4], "traverse") == 0;
	measured.has_cpu_clock = measured.touches;
	null.has_cpu_clock = measured.touches;
	null.source = source_named("nothing");
	null.least = measured.least;
	ns_per_tick();
	if (argc > 5)
		prepare(measured.source, number_of(argc, argv, 5));
	run(&null, loops);
	run(&measured, loops);
	for (int i = bin_of(measured.least); i < bin_of(MOST_BYTES); i++) {
		double empty = mean(&null.allocs[i]) + mean(&null.frees[i]);

		if (measured.allocs[i].count == 0 || measured.frees[i].count == 0)
			continue;
		report_size(prefix, (size_t)1 << i, "op",
			mean(&measured.allocs[i]) + mean(&measured.frees[i]) - empty, "ns");
	}
	return 0;
}
