/* SPDX-License-Identifier: MIT */
/*
 * A list whose nodes come by one call, and go by one; and an array that grows without moving.
 *
 *   cc list_by_batch.c $(pkg-config --cflags --libs allod) && ./a.out 1000000
 */
#include <stdio.h>
#include <stdlib.h>

#include "allod/batch.h"
#include "allod/heap.h"

struct node {
	struct node *next;
	long value;
};

/* Makes a list of `count` nodes; *ret_nodes is the array by which it is freed. */
static struct node *list_make(size_t count, void ***ret_nodes)
{
	size_t size = sizeof(struct node);
	size_t made = count;
	struct node *list = NULL;
	/* No array of ours: the call makes one, and fills it. */
	void **nodes =
		allod_batch_alloc1(NULL, NULL, &made, &size, 0, 0, ALLOD_M2_BATCH_IS_ALL_ALLOC);

	if (nodes == NULL || made != count) {
		fprintf(stderr, "no memory for %zu nodes\n", count);
		exit(EXIT_FAILURE);
	}
	while (made-- > 0) {
		struct node *node = nodes[made];
		node->next = list;
		node->value = (long)made;
		list = node;
	}
	*ret_nodes = nodes;
	return list;
}

static void list_free(void **nodes, size_t count)
{
	/* No size: every element is freed. */
	allod_batch_alloc1(NULL, nodes, &count, NULL, 0, 0, ALLOD_M2_BATCH_IS_ALL_FREE);
	allod_free(nodes);
}

/* An array that was promised room for `most` members. */
static long *array_make(size_t most)
{
	struct allod_mallocation5 array = {
		.size = 4096, .reserve = most * sizeof(long), .flags = ALLOD_M2_ZERO_MEMORY
	};
	struct allod_mallocation5 *element = &array;
	size_t count = 1;

	if (!allod_batch_alloc5(NULL, &element, &count)) {
		fprintf(stderr, "no memory for an array\n");
		exit(EXIT_FAILURE);
	}
	printf("an array of %zu bytes may grow to %zu where it is\n", array.size, array.reserve);
	return array.ptr;
}

int main(int argc, char **argv)
{
	const size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
	long *array = array_make(count);
	size_t room = allod_malloc_usable_size(array) / sizeof(long);
	size_t length = 0;
	unsigned steps = 0;
	void **nodes;

	for (const struct node *node = list_make(count, &nodes); node; node = node->next) {
		if (length == room) {
			const size_t wanted = 2 * room < count ? 2 * room : count;
			/* In place or not at all; pointers into the array stay good. */
			if (!allod_try_realloc(array, wanted * sizeof(long)))
				break;
			room = allod_malloc_usable_size(array) / sizeof(long);
			steps++;
		}
		array[length++] = node->value;
	}
	printf("%zu of %zu values were copied, and the array grew %u times in place\n", length,
		count, steps);
	list_free(nodes, count);
	allod_free(array);
	return length == count ? EXIT_SUCCESS : EXIT_FAILURE;
}
