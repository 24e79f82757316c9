/* SPDX-License-Identifier: MIT */
/*
 * page_grow SOURCE RUNS MOST: a simulation whose arrays grow: bodies that move and multiply, from a
 * thousand to MOST of them, RUNS times. Each array is made larger by an eighth more than is needed,
 * as often as the bodies outgrow it. Reported is how many resizes kept the address: the others had
 * to copy the array or to move its pages.
 */
#include "pages.h"

enum { FIRST = 1000, ARRAYS = 5, POSITION_X = 0, POSITION_Y, SPEED_X, SPEED_Y, AGE };

struct bodies {
	double *arrays[ARRAYS];
	size_t count;
	size_t capacity;
};

static const struct page_source *source;
static size_t resizes, kept;

static double *resized(double *array, size_t old_bytes, size_t bytes)
{
	double *new = source->resize(array, old_bytes, bytes);

	resizes++;
	kept += new == array;
	return new;
}

static void make_room(struct bodies *bodies, size_t count)
{
	size_t capacity = (count + count / 8 + 511) & ~(size_t)511;

	for (int i = 0; i < ARRAYS; i++) {
		size_t bytes = capacity * sizeof(double);

		bodies->arrays[i] = bodies->arrays[i]
			? resized(bodies->arrays[i], bodies->capacity * sizeof(double), bytes)
			: source->alloc(bytes, 0);
		if (!bodies->arrays[i])
			fail("no memory");
	}
	bodies->capacity = capacity;
}

static void be_born(struct bodies *bodies, size_t index)
{
	bodies->arrays[POSITION_X][index] = (double)(index % 1000);
	bodies->arrays[POSITION_Y][index] = (double)(index % 997);
	bodies->arrays[SPEED_X][index] = 1;
	bodies->arrays[SPEED_Y][index] = -1;
	bodies->arrays[AGE][index] = 0;
}

static void move(struct bodies *bodies)
{
	for (size_t i = 0; i < bodies->count; i++) {
		bodies->arrays[SPEED_X][i] -= 0.001 * bodies->arrays[POSITION_X][i];
		bodies->arrays[SPEED_Y][i] -= 0.001 * bodies->arrays[POSITION_Y][i];
		bodies->arrays[POSITION_X][i] += bodies->arrays[SPEED_X][i];
		bodies->arrays[POSITION_Y][i] += bodies->arrays[SPEED_Y][i];
		bodies->arrays[AGE][i] += 1;
	}
}

static double simulate(size_t most)
{
	struct bodies bodies = { .count = 0 };
	double sum = 0;

	for (size_t next = FIRST; next <= most; next += next / 4) {
		if (next > bodies.capacity)
			make_room(&bodies, next);
		for (; bodies.count < next; bodies.count++)
			be_born(&bodies, bodies.count);
		move(&bodies);
	}
	for (size_t i = 0; i < bodies.count; i++)
		sum += bodies.arrays[POSITION_X][i] + bodies.arrays[AGE][i];
	for (int i = 0; i < ARRAYS; i++)
		source->free(bodies.arrays[i], bodies.capacity * sizeof(double));
	return sum;
}

int main(int argc, char **argv)
{
	size_t runs = number_of(argc, argv, 2);
	size_t most = number_of(argc, argv, 3);
	double sum = 0;

	source = source_named(argv[1]);
	for (size_t i = 0; i < runs; i++)
		sum += simulate(most);
	report("resizes", (double)resizes, "count");
	report("kept", (double)kept, "count");
	/* Also so that nothing of it is left out. */
	if (sum != sum)
		fail("bodies were lost");
	return 0;
}
