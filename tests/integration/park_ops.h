/* SPDX-License-Identifier: MIT */
/*
 * What victims do while they step, each operation made to come by one region of the allocator; and
 * what the other threads of the process do meanwhile.
 */
#pragma once

#include "park.h"

struct park_op {
	const char *name;
	enum region aim;
	void (*prepare)(struct victim *victim); /* at full speed, before */
	void (*run)(struct victim *victim);     /* NULL: the thread's end */
	bool is_special;                        /* needs what only the driver can arrange */
};

enum { OP_JANITOR, OP_SEIZE, OP_COMMON /* and those behind it */ };

extern const struct park_op park_ops[];
extern const unsigned park_op_count;

/* Makes a block known by its contents, and checks these. */
void *block_make(void *p, size_t size);
void block_check(const void *p);
void block_free(void *p);
/* Checks and frees what a victim holds and nobody has taken from it. */
void victim_free_blocks(struct victim *victim);
void victim_free_own(struct victim *victim);
/* The same for one that is parked, as far as it has nothing under work. */
void victim_free_rest(struct victim *victim);
/* What the victim may keep in slabs: one for each class that it used, and the one under work. */
size_t victim_slab_bytes_most(const struct victim *victim);

/*
 * The other threads: they allocate, free, exchange blocks, begin and end, fork, trim, read
 * statistics.
 */
void others_start(void);
/* Each has gone round this often since: notes where they are, and asks. */
void others_mark(void);
bool others_went_on(unsigned rounds);
void others_stop(void);
/* The child that is under way, or 0; for who ends the process. */
int others_child(void);
/* Blocks under way from thread to thread: leaves p (or nothing), returns what lay there. */
void *slot_exchange(uint64_t random, void *p);
void slots_free(void);
