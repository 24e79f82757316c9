/* SPDX-License-Identifier: MIT */
/*
 * Threads that park at an instruction of their choice. A victim steps itself through an operation
 * (see test_signal_self.h for how) and stops behind its k-th instruction, or behind the k-th that
 * lies in a region of the allocator. It stays there, inside a signal handler, until it is released;
 * then it goes on from that instruction at full speed.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "heap/class.h"
#include "park_symbols.h"

enum {
	PARK_FRAMES = 20,
	PARK_BLOCKS = 2048, /* that a victim holds */
	/* Then it ends without parking: in a copy, or a walk over all chunks, each word is a step. */
	PARK_STEPS_MOST = 40000,
	PARK_STEPS_MOST_SPECIAL = 120000, /* of the operations that come once a round */
};

enum park_phase { PARK_RUNNING = 0, PARK_PARKED, PARK_ENDED };

struct victim {
	/* Const once the thread runs. */
	pthread_t thread;
	unsigned number;
	unsigned op;
	enum region target; /* REGION_ANY: every step counts */
	long k;
	long steps_most;
	uint64_t seed;

	_Atomic(uint32_t) phase;
	_Atomic(uint32_t) released;
	bool joined; /* the driver's */

	/* Its own; others read them while it is parked. */
	bool stepping;
	unsigned exit_rounds;
	long steps;    /* all of them */
	long steps_in; /* of those that count */
	uintptr_t stack_top;
	uintptr_t frames[PARK_FRAMES]; /* the program counter, then return addresses */
	unsigned depth;
	uint32_t regions; /* that the stack is in */
	uint32_t heap_id;
	/*
	 * What it holds. Others free entries from `taken` to `count` while it is parked, and raise
	 * that.
	 */
	void *blocks[PARK_BLOCKS];
	_Atomic(uint32_t) count;
	_Atomic(uint32_t) taken;
	void *own[4];    /* blocks under work */
	void *hand[256]; /* that a helper frees */
	unsigned handed;
	bool classes[CLASS_COUNT]; /* that it allocated from */
};

/* Installs the handler; skips the test where a thread cannot step itself. */
void park_init(void);
/* From the next instruction on. */
void park_begin(struct victim *victim);
/* No more stepping; a victim that was not parked has ended. */
void park_end(struct victim *victim);
/* Lets a parked victim go on. */
void park_release(struct victim *victim);
/* Prints where the victim is, and all its callers. */
void park_describe(const struct victim *victim, const char *op);

static inline enum park_phase park_phase(const struct victim *victim)
{
	return (enum park_phase)a_load_acq(&victim->phase);
}
