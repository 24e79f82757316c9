/* SPDX-License-Identifier: MIT */
/*
 * What the heap's sources stand on in the model tests: a page layer of a few granules, an os that
 * does nothing, and two small size classes: 16 bytes, two blocks a slab, and 32 bytes, four blocks,
 * of which two are carved at a time.
 */
#pragma once

enum {
	FAKE_GRANULES = 6,
	FAKE_HEAPS = 4, /* of the first chunk, zero at first */
};

/* Makes the memory as if never used. */
void fake_reset(void);

/* Granules that the heap holds, that of the thread heaps included. */
unsigned fake_granules_taken(void);
