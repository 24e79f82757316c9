/* SPDX-License-Identifier: MIT */
/*
 * What the scenarios of test_heap.c are made of: threads that are heaps, blocks that are given out
 * once, states of the heap to begin with, and what must hold at the end.
 */
#pragma once

#include "explore.h"
#include "heap/batch.h"
#include "heap/core.h"

enum { BLOCKS = 12 };

/* Made in set_up, freed by the threads. */
extern void *blocks[BLOCKS];

/* From here on the calling fiber, or set_up, is the thread of heap i, of 0 to 2. */
void become(int i);
/* The thread ends. */
void thread_exits(void);
/* Allocates and writes; frees after a write. No block may be given out twice. */
void *get(size_t size);
void give(void *p);
/* The same for several by one call. */
void get_many(size_t size, size_t count);
void give_many(void **batch, size_t count);

/* ---- States to begin with; heap 0 is the owner ---- */

/* It holds one slab, full. */
void set_up_full(void);
/* It holds a slab of four, of which two are out. */
void set_up_half(void);
/* A full slab whose owner has exited; and one of four, half free and listed. */
void set_up_open(void);
void set_up_open_half(void);
/* It holds a slab of four, all out; and the same when it has exited. */
void set_up_four(void);
void set_up_open_four(void);
/* It holds a slab of four, half carved; heap 1 has a slab of this class, too. */
void set_up_wanted(void);
/* The same with all four carved and out. */
void set_up_wanted_full(void);
/* It holds a slab with one free block beside its current one, and is idle by all looks. */
void set_up_idle(void);
/* The same with two blocks free in that slab. */
void set_up_idle_used(void);
/* As set_up_idle(), and that slab was taken. */
void set_up_taken(void);
/* As set_up_idle(), and heap 1 has a current slab of this class. */
void set_up_idle_wanted(void);
/* As set_up_idle(), and another slab is full and nobody's. */
void set_up_two_open(void);
/* It is idle and holds two slabs beside its current one, both listed for remote frees. */
void set_up_two_listed(void);
/* As set_up_open(), with one block freed; the next heap to be made is of a new chunk. */
void set_up_late_heap(void);
void set_up_stale_link(void);

/*
 * The heap's invariants hold; and when everything is freed and every heap released, every slab has
 * gone back to page.
 */
void finish(void);
