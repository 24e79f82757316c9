/* SPDX-License-Identifier: MIT */
/* The modelled memory, as explore_memory.c keeps it and explore_atomic.c acts on it. */
#pragma once

#include "explore_internal.h"

enum {
	MEMORY_LOCATIONS = 256,
	MEMORY_CANDIDATES = 24, /* stores that one operation may choose from */
	MEMORY_SLOTS = 512,     /* of a hash table: a power of two above its entries */
};

struct view;

struct store {
	struct store *older, *newer;
	/*
	 * What who acquires from it learns: all of it, and the part from release sequences that
	 * each thread heads. NULL = nothing.
	 */
	const struct view *view;
	const struct view *headed[EXPLORE_THREADS];
	uint64_t time; /* place in modification order */
	uint64_t value;
	bool is_rmw; /* belongs directly behind `older` */
};

/* What an operation may be chosen to do with a store. */
struct candidate {
	struct store *store;
	bool fails;    /* compare-and-swap: reads it and changes nothing */
	bool spurious; /* although it has the expected value */
};

/* What an operation does to which location, with its order as weakened. */
struct operation {
	const struct explore_site *site;
	enum explore_order order;
	unsigned location;
};

uint64_t memory_get(const volatile void *p, size_t size);
void memory_put(volatile void *p, size_t size, uint64_t value);

/* Waits for this fiber's turn and finds the location. */
struct operation memory_operation(struct explore_site *site, const volatile void *p, size_t size,
	bool write);

/* The stores that it may read; that it may put a new store behind; that it may do either with. */
unsigned memory_readable(const struct operation *op, struct candidate *ret);
unsigned memory_writable(const struct operation *op, struct candidate *ret);
unsigned memory_swappable(const struct operation *op, bool weak, uint64_t expected,
	struct candidate *ret);

/* Lets the search choose among the candidates. */
struct candidate memory_choose(const struct candidate *c, unsigned count);

/* The thread reads the store. */
void memory_see(const struct operation *op, const struct store *s);
/* The thread puts a store behind another one in modification order. */
void memory_put_behind(const struct operation *op, struct store *behind, uint64_t value,
	bool is_rmw);
void memory_fence(enum explore_order order);
/* A full fence of every thread at once. */
void memory_barrier(void);

/* Whether the running thread knows of an event of another. */
bool memory_knows(int of, uint32_t clock);

/* A hash table from addresses to indices that empties itself with each execution. */
struct memory_slot {
	uint32_t execution;
	uint16_t index;
};
struct memory_table {
	uintptr_t (*addr_of)(unsigned index);
	struct memory_slot slots[MEMORY_SLOTS];
};
/* The address's index, or `count` after having given it that one. */
unsigned memory_look_up(struct memory_table *table, uintptr_t addr, unsigned count);
/* Notes the value of an atomic before its first change, for the next execution to restore. */
void undo_remember(volatile void *p, size_t size);

/*
 * Where an operation that isn't for the modelled memory acts: outside of fibers on the object
 * itself, on a fiber on its own copy of a private object. NULL: it is for the modelled memory.
 */
volatile void *memory_direct(const volatile void *p, size_t size);

/* Forgets the histories of the locations in the range: their values are now what memory holds. */
void memory_forget(const volatile void *p, size_t bytes);

/* ---- explore_data.c ---- */
void data_begin_execution(void);
void data_check_mapped(uintptr_t addr, size_t size, const char *file, unsigned line);
