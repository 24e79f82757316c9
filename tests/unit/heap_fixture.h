/* SPDX-License-Identifier: MIT */
/*
 * What the unit tests of the heap share: a heap on the mock operating system, a look at its slabs,
 * and a second thread that does one thing at a time.
 */
#pragma once

#include <pthread.h>

#include "harness.h"
#include "heap/core.h"

/* Starts the heap with no janitor and the clock at 1000 s; threads that end give up their heaps. */
void fixture_start(void);

/* The slab of a live block, and the state that its word tells. */
struct slab *fixture_slab(const void *p);
enum slab_state fixture_state(const struct slab *slab);

/* The calling thread's heap. */
struct heap *fixture_heap(void);

/* Granules handed out by page, those for thread heaps and those lost to a refusal not counted. */
size_t fixture_granules(void);

/*
 * Nothing is held: no block, and after a trim no granule. The calling thread is the only one left.
 */
void fixture_check_empty(void);

/* Fills a block (a large one only here and there), and checks that it is still so. */
void fixture_fill(void *p, size_t bytes, uint64_t seed);
void fixture_check_fill(const void *p, size_t bytes, uint64_t seed);

/* A thread that runs what it is told, one after the other. */
struct peer {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	void (*fn)(void *arg); /* under the mutex; NULL: idle */
	void *arg;
	bool end;
};

void peer_start(struct peer *peer);
/* Runs fn(arg) on the thread and waits until it has returned. */
void peer_run(struct peer *peer, void (*fn)(void *arg), void *arg);
/* Ends the thread, and with it its heap. */
void peer_end(struct peer *peer);
