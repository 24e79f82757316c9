/* SPDX-License-Identifier: MIT */
/*
 * Every operation on per-CPU memory as a case that can be run on a small world, once made of
 * sequences and once of the plain C that says what each means (percpu_cases.c is compiled twice).
 */
#pragma once

#include <stdint.h>

#include <allod/percpu-ops.h>

enum { WORLD_COPIES = 2, WORLD_NODES = 6, WORLD_RECORDS = 4, WORLD_RING_BYTES = 128 };

struct world_copy {
	struct allod_percpu_list list;
	struct allod_percpu_list closed;
	struct allod_percpu_pair pair;
	uint64_t word;
	uint64_t compared;
	uint32_t small[2]; /* the second is used; the first would change by a store too wide */
	uint64_t depth;
	uint64_t stack[WORLD_RECORDS][3];
	struct allod_percpu_ring ring;
	char ring_data[WORLD_RING_BYTES];
};

struct world {
	struct world_copy copies[WORLD_COPIES];
	struct allod_percpu_node nodes[WORLD_NODES];
};

extern struct world world;
extern struct allod_percpu_view world_view;

/* What an operation gave; all of it counts. */
struct outcome {
	uint64_t words[4];
};

/* `by` tells two runs of the same case from each other: 0 or 1. */
struct percpu_case {
	const char *name;
	void (*run)(unsigned by, uint64_t value, struct outcome *ret_outcome);
};

/* The first READS of them store nothing. */
enum { CASES = 14, READS = 2 };

extern const struct percpu_case cases_of_sequences[CASES];
extern const struct percpu_case cases_of_reference[CASES];

/* The copy that the reference works on. */
void reference_move(int32_t copy);
