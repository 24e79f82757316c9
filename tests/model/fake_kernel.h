/* SPDX-License-Identifier: MIT */
/*
 * What the page layer's sources stand on in the model tests: an arena of four units of 64 MiB whose
 * addresses are numbers and no memory, and a kernel that knows which of them are mapped and which
 * are accessible. Its calls order nothing, so that the arena's own orders have to.
 */
#pragma once

#include <setjmp.h>

#include "arena.h"
#include "explore.h"

enum {
	FAKE_UNIT = RESERVE_UNIT_GRANULES,
	FAKE_UNITS = 4,
	FAKE_SLOT_STEPS = 2,
	/* It is always the same moment. */
	FAKE_EPOCH = 4096,
	FAKE_EPOCH_SHIFT = 28,
};

extern struct arena fake_arena;

/*
 * An arena of which the first unit is reserved, with its records, and [0, frontier) is accessible
 * and in use.
 */
void fake_kernel_reset(size_t frontier);

/* A stranger's mapping where unit `unit` of the granules would lie, or of the records. */
void fake_stranger_granules(unsigned unit);
void fake_stranger_records(unsigned unit);

/* Checks that the thread may touch these granules and their records. */
void fake_touch(size_t pos, size_t n);
/* The same for a record, those of direct slots included. */
void fake_touch_record(size_t index);

/* So many slots of direct runs have been used, and their steps of records are accessible. */
void fake_slots_used(size_t used);

/*
 * Thread 0 is the janitor: os_task_alive() says so until it is stopped for ever, or, if it shall be
 * killed, comes to os_decommit(), which then jumps to fake_killed.
 */
void fake_kill_janitor(void);
extern jmp_buf fake_killed;

/*
 * Pages may be moved: `on_touch` is told of each range whose page tables the kernel changes, before
 * and after.
 */
void fake_may_move(void (*on_touch)(size_t pos, size_t n, bool begins));

/* Mappings counted now by page_mappings_take(). */
uint64_t fake_mappings(void);

/* The records of all granules are reserved. */
void fake_records_ahead(void);
