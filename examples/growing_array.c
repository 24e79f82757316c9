/* SPDX-License-Identifier: MIT */
/*
 * An array that grows to any size without copying: where it is as long as its addresses allow, and
 * by moving its pages, not their bytes, when it must leave.
 *
 *   cc growing_array.c $(pkg-config --cflags --libs allod) && ./a.out 50000000
 */
#include <stdio.h>
#include <stdlib.h>

#include "allod/page.h"

struct array {
	double *values;
	size_t count;
	size_t most; /* that fit now */
	unsigned moves;
	unsigned copies;
};

/* Doubles the room; what was in the array is neither copied nor lost. */
static void array_grow(struct array *a)
{
	size_t bytes = a->values ? 2 * allod_page_size(a->values) : 1 << 20;
	/* An array that begins with a megabyte has pages enough to be moved at any time. */
	double *values = allod_page_realloc(a->values, bytes, ALLOD_PAGE_NO_COPY);

	/* Nothing is moved under limits on address space; there it is copied. */
	if (!values) {
		values = allod_page_realloc(a->values, bytes, 0);
		a->copies++;
	}
	if (!values) {
		perror("growing_array");
		exit(EXIT_FAILURE);
	}
	a->moves += a->values && values != a->values;
	a->values = values;
	a->most = allod_page_size(values) / sizeof(*values);
}

static void array_add(struct array *a, double value)
{
	if (a->count == a->most)
		array_grow(a);
	a->values[a->count++] = value;
}

int main(int argc, char **argv)
{
	size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
	struct array a = { 0 };
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		array_add(&a, (double)i);
	for (size_t i = 0; i < a.count; i++)
		sum += a.values[i];
	printf("%zu values, mean %g; the array moved %u times and was copied %u times\n", a.count,
		sum / (double)a.count, a.moves, a.copies);
	allod_page_free(a.values);
	/* The mean of 0 to n - 1. */
	return sum / (double)count == (double)(count - 1) / 2 ? EXIT_SUCCESS : EXIT_FAILURE;
}
