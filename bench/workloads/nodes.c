/* SPDX-License-Identifier: MIT */
/*
 * nodes malloc|batch COUNT: a list of COUNT nodes of 24 bytes is made and given back, twice: with
 * memory fresh from the kernel ("first-"), and with what was freed. By malloc() and free() a node,
 * or by one call of allod_batch_alloc1() each, as N1527 has it. Reported are nanoseconds a node: of
 * the allocations alone, of them and linking all nodes, and of giving back.
 */
#include "timing.h"

#include <string.h>

#include "allod/batch.h"

#pragma weak allod_batch_alloc1

struct node {
	struct node *next;
	struct node *previous;
	uint64_t value;
};

static bool is_batch;

static void allocate(struct node **nodes, size_t count)
{
	size_t done = count, bytes = sizeof(struct node);

	if (is_batch) {
		allod_batch_alloc1(NULL, (void **)nodes, &done, &bytes, 0, 0,
			ALLOD_M2_BATCH_IS_ALL_ALLOC);
		if (done != count)
			fail("no memory");
		return;
	}
	for (size_t i = 0; i < count; i++) {
		nodes[i] = malloc(bytes);
		if (!nodes[i])
			fail("no memory");
	}
}

static void link_all(struct node **nodes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		nodes[i]->next = i + 1 < count ? nodes[i + 1] : NULL;
		nodes[i]->previous = i ? nodes[i - 1] : NULL;
		nodes[i]->value = (uintptr_t)nodes[i] ^ STAMP;
	}
}

static void give_back(struct node **nodes, size_t count)
{
	size_t done = count;

	if (is_batch) {
		allod_batch_alloc1(NULL, (void **)nodes, &done, NULL, 0, 0,
			ALLOD_M2_BATCH_IS_ALL_FREE);
		if (done != count)
			fail("not all were freed");
		return;
	}
	for (size_t i = 0; i < count; i++)
		free(nodes[i]);
}

/* Two owners of one block would have overwritten the first one's stamp. */
static void check(struct node **nodes, size_t count)
{
	size_t seen = 0;

	for (const struct node *node = nodes[0]; node; node = node->next, seen++) {
		if (node->value != ((uintptr_t)node ^ STAMP))
			fail("a block has another's content");
	}
	if (seen != count)
		fail("the list is not whole");
}

static void pass(struct node **nodes, size_t count, bool is_first)
{
	uint64_t start = cpu_ns(), allocated, linked, ended;

	allocate(nodes, count);
	allocated = cpu_ns();
	link_all(nodes, count);
	linked = cpu_ns();
	check(nodes, count);
	ended = cpu_ns();
	give_back(nodes, count);
	const double released = (double)(cpu_ns() - ended) / (double)count;
	report(is_first ? "first-allocate" : "allocate",
		(double)(allocated - start) / (double)count, "ns");
	report(is_first ? "first-construct" : "construct", (double)(linked - start) / (double)count,
		"ns");
	report(is_first ? "first-release" : "release", released, "ns");
}

int main(int argc, char **argv)
{
	size_t count = number_of(argc, argv, 2);
	struct node **nodes = table_of(count, sizeof(*nodes));

	is_batch = strcmp(argv[1], "batch") == 0;
	if (is_batch && !allod_batch_alloc1)
		fail("a library with allod_batch_alloc1() is to be preloaded");
	/* The table is the workload's own. */
	for (size_t i = 0; i < count; i += PAGE_BYTES / sizeof(*nodes))
		nodes[i] = NULL;
	pass(nodes, count, true);
	pass(nodes, count, false);
	return 0;
}
