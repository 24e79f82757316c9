/* SPDX-License-Identifier: MIT */
/*
 * page_move SOURCE MEMORY BYTES...: 16 blocks are made larger one after the other where they have no
 * room, for each lies between two others: to twice their size or, of allod's page calls, beyond what
 * allod_page_room() says. Reported is the median of what a call takes, and apart from it the first
 * one, which finds the kernel's own memory cold: blocks were filled just before, and moved never.
 * Then the same with another thread running, whose processor has to be told when pages move.
 *
 * The blocks have a stamp in each page, or in each 2nd, 4th and so forth, at least one for each page
 * table, so that they take up MEMORY bytes together: what moves are page tables, full or not. New
 * pages are not written to; all stamps are looked at afterwards. Huge pages are off on all hosts.
 *
 * SOURCE slots is what the kernel alone takes: mremap() of a gigabyte of addresses, one entry of the
 * third level of the page table, to a mapping that was made for it, the old one left without pages.
 */
#include "pages.h"

#include "allod/page.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma weak allod_page_room

enum { BLOCKS = 16, TABLE_BYTES = 2 << 20, SUSPECT_NS = 20000 };

/* What allod's room is for the largest here, and a page. */
#define MOST_WANTED (((size_t)64 << 30) + PAGE_BYTES)
#define SLOT_BYTES ((size_t)1 << 30)

static const struct page_source *source;
static bool is_page;

static int compare(const void *left, const void *right)
{
	const char *a = *(char *const *)left;
	const char *b = *(char *const *)right;

	return a < b ? -1 : a > b;
}

/* Slots for blocks, each between two others, and as many mappings of their own. */
static void *slots_alloc(size_t bytes, size_t reserve)
{
	static char *next;
	const size_t all = (4 * (size_t)BLOCKS + 1) * SLOT_BYTES;

	if (!next) {
		next = mmap(NULL, all, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (next == MAP_FAILED)
			return NULL;
		next = (char *)(((uintptr_t)next + SLOT_BYTES - 1) & -SLOT_BYTES);
		for (size_t i = 0; i < BLOCKS; i++)
			mprotect(next + (2 * BLOCKS + 2 * i) * SLOT_BYTES, SLOT_BYTES, PROT_NONE);
	}
	next += SLOT_BYTES;
	return bytes <= SLOT_BYTES ? next - SLOT_BYTES : NULL;
}

static void *slots_resize(void *block, size_t old_bytes, size_t bytes)
{
	char *to = (char *)block + 2 * BLOCKS * SLOT_BYTES;

	to = mremap(block, SLOT_BYTES, SLOT_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		to);
	return to == MAP_FAILED ? NULL : to;
}

static const struct page_source slots = { "slots", false, slots_alloc, NULL, slots_resize };

/* One page in so many bytes is filled. */
static size_t stride_for(size_t bytes, size_t memory)
{
	size_t stride = PAGE_BYTES;

	while (stride < TABLE_BYTES && bytes / stride * PAGE_BYTES > memory / BLOCKS)
		stride *= 2;
	return stride;
}

static void stamp(char *block, size_t bytes, size_t stride, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += stride)
		*(uint64_t *)(void *)(block + i) = i ^ seed;
}

static void check(const char *block, size_t bytes, size_t stride, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += stride) {
		if (*(const uint64_t *)(const void *)(block + i) != (i ^ seed))
			fail("a page has lost its content");
	}
}

/* The blocks to be moved: every other one stays empty, and lies between two of them. */
static void allocate(char **blocks, size_t bytes, size_t stride)
{
	char *all[2 * BLOCKS];

	for (size_t i = 0; i < 2 * BLOCKS; i++) {
		all[i] = source->alloc(bytes, 0);
		if (!all[i])
			fail("no memory");
	}
	qsort(all, 2 * BLOCKS, sizeof(*all), compare);
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = all[2 * i];
		stamp(blocks[i], bytes, stride, i);
	}
}

static size_t size_without_room(const char *block, size_t bytes)
{
	size_t wanted = 2 * bytes;

	if (is_page && allod_page_room(block) >= wanted)
		wanted = allod_page_room(block) + PAGE_BYTES;
	if (wanted > MOST_WANTED)
		fail("no block without room");
	return wanted;
}

/*
 * Nanoseconds, or less than 0 if the other thread did not run. By the clock that is exact, but for
 * what took so long that the processor may have been taken away.
 */
static double move_one(char **block, size_t bytes, struct companion *companion)
{
	size_t wanted = size_without_room(*block, bytes);
	bool ran = !companion || companion_runs(companion);
	double null = cpu_ns_alone(), took;
	uint64_t cpu = cpu_ns(), start = ticks();

	*block = source->resize(*block, bytes, wanted);
	took = (double)(ticks() - start) * ns_per_tick();
	if (took >= SUSPECT_NS)
		took = (double)(cpu_ns() - cpu) - null;
	if (!*block)
		fail("no memory");
	return ran ? took : -1;
}

static void measure(const char *prefix, size_t bytes, size_t memory, struct companion *companion)
{
	size_t stride = stride_for(bytes, memory), taken = 0;
	double samples[BLOCKS], first;
	char *blocks[BLOCKS];

	allocate(blocks, bytes, stride);
	first = move_one(&blocks[0], bytes, companion);
	for (size_t i = 1; i < BLOCKS; i++) {
		double sample = move_one(&blocks[i], bytes, companion);

		if (sample >= 0)
			samples[taken++] = sample;
	}
	report_size(prefix, bytes, "move", median_of(samples, taken), "ns");
	if (first > 0)
		report_size(prefix, bytes, "first", first, "ns");
	for (size_t i = 0; i < BLOCKS; i++)
		check(blocks[i], bytes, stride, i);
}

/* In a process of its own, so that what was measured before takes no addresses. */
static void measure_apart(size_t bytes, size_t memory, bool has_companion)
{
	struct companion companion;
	int status;
	pid_t child = fork();

	if (child < 0)
		fail("no process");
	if (child == 0) {
		if (has_companion)
			companion_start(&companion);
		measure(has_companion ? "2t-" : "1t-", bytes, memory,
			has_companion ? &companion : NULL);
		if (has_companion)
			companion_stop(&companion);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status != 0)
		fail("not measured");
}

int main(int argc, char **argv)
{
	size_t memory;

	if (argc < 4)
		fail("too few arguments");
	source = strcmp(argv[1], slots.name) == 0 ? &slots : source_named(argv[1]);
	is_page = strcmp(source->name, "page") == 0 || strcmp(source->name, "swap") == 0;
	memory = number_of(argc, argv, 2);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	(void)ns_per_tick();
	for (int companions = 0; companions < 2; companions++) {
		for (int i = 3; i < argc; i++)
			measure_apart(number_of(argc, argv, i), memory, companions > 0);
	}
	return 0;
}
