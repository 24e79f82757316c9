/* SPDX-License-Identifier: MIT */
/*
 * Two matrices, of which each step of a simulation reads one and writes the other. Their names are
 * given away: other parts of the program hold pointers to `now` and to `next`. So not the pointers
 * are exchanged but the contents, in the same few microseconds whatever their size.
 *
 *   cc swap_matrices.c $(pkg-config --cflags --libs allod) && ./a.out 2000
 */
#include <stdio.h>
#include <stdlib.h>

#include "allod/page.h"

static double *matrix_make(size_t rows)
{
	const struct allod_page_options options = {
		.struct_bytes = sizeof(options),
		.flags = ALLOD_PAGE_SWAPPABLE | ALLOD_PAGE_ZEROED,
	};
	double *matrix = allod_page_alloc(rows * rows * sizeof(*matrix), &options);

	if (!matrix) {
		perror("swap_matrices");
		exit(EXIT_FAILURE);
	}
	return matrix;
}

/* Heat that spreads: each place becomes the mean of its neighbours. */
static void spread(const double *now, double *next, size_t rows)
{
	for (size_t y = 1; y + 1 < rows; y++)
		for (size_t x = 1; x + 1 < rows; x++) {
			const double *at = now + y * rows + x;
			next[y * rows + x] = (at[-1] + at[1] + *(at - rows) + at[rows]) / 4;
		}
}

static double total(const double *matrix, size_t rows)
{
	double sum = 0;

	for (size_t i = 0; i < rows * rows; i++)
		sum += matrix[i];
	return sum;
}

int main(int argc, char **argv)
{
	size_t rows = argc > 1 ? strtoul(argv[1], NULL, 10) : 500;
	size_t steps = rows / 4;
	double *now = matrix_make(rows);
	double *next = matrix_make(rows);
	double heat;

	now[rows / 2 * rows + rows / 2] = 1000;
	for (size_t i = 0; i < steps; i++) {
		spread(now, next, rows);
		if (allod_page_swap(now, next, 0)) {
			fprintf(stderr, "swap_matrices: the matrices cannot be exchanged\n");
			return EXIT_FAILURE;
		}
	}
	heat = total(now, rows);
	printf("%zu x %zu, %zu steps: %g of the heat is left\n", rows, rows, steps, heat / 1000);
	allod_page_free(now);
	allod_page_free(next);
	/* It has not come to the edges, where it would leave. */
	return heat > 999.999 && heat < 1000.001 ? EXIT_SUCCESS : EXIT_FAILURE;
}
