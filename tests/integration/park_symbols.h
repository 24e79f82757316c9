/* SPDX-License-Identifier: MIT */
/*
 * Names for places in the allocator's code: the functions of a module by its ELF symbol table, and
 * the regions of the allocator that they belong to. Look-ups allocate nothing and take no lock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symbol {
	uintptr_t from;
	uintptr_t to;
	const char *name;
	uint32_t regions; /* a bit for each region that the function belongs to */
	bool is_tests;    /* of this program, where that has the allocator linked in */
};

enum region {
	REGION_MALLOC_FAST,
	REGION_FREE_FAST,
	REGION_MALLOC_SLOW,
	REGION_FREE_SLOW,
	REGION_PURGE,
	REGION_ADOPT,
	REGION_SEIZE,
	REGION_LISTS,
	REGION_GROW,
	REGION_MOVE,
	REGION_EXIT,
	REGION_TRIM,
	REGION_STATS,
	REGION_POOL,
	REGION_LARGE,
	REGION_JANITOR,
	REGIONS,
	REGION_ANY = REGIONS,
};

struct region_info {
	const char *name;
	const char *functions; /* separated by spaces */
	bool innermost;        /* counts only where the thread is in one of them, not beneath */
};

extern const struct region_info regions[REGIONS];

/* Reads the symbols of the module; false when it has no symbol table. */
bool symbols_load(const char *path, uintptr_t base);
/* The function at the address, or NULL. */
const struct symbol *symbol_at(uintptr_t pc);
/* Writes "name+0x12" or a number; returns the length. */
size_t symbol_describe(uintptr_t pc, char *text, size_t cap);
