/* SPDX-License-Identifier: MIT */
/* Memory with a copy for each processor, threads that hop between processors, and timer signals. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <allod/percpu-ops.h>

/* What the kernel may number at most on machines that tests run on; copies are a page apart. */
enum { COPIES = 512, STRIDE = 4096 };

extern const struct allod_percpu_view by_cpu;
extern const struct allod_percpu_view by_cid;

/* Zeroed; aligned to 4096; copies of STRIDE bytes each. */
void *percpu_memory(void);

/* The copy of a number. */
void *copy_of(const void *p, unsigned number);

/* The sum of a word over all copies. */
uint64_t sum_of(const uint64_t *p);

/* Moves the calling thread to the k-th of the processors that the process may run on. */
void hop(unsigned k);

/*
 * Runs `work` on so many threads at once, each with its number; each gets a timer signal every
 * `storm_us` microseconds and then runs `handler`, if those are given.
 */
void run_threads(unsigned threads, void (*work)(unsigned self), unsigned storm_us,
	void (*handler)(void));
