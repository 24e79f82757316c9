/* SPDX-License-Identifier: MIT */
/*
 * The layer's lock, which survives fork, and the number that tells processes apart.
 *
 * Operations        percpu_lock(), percpu_unlock(), percpu_epoch()
 * Synchronization   the word: epoch of the holder's process in the upper 30 bits, then 0 free,
 *                   1 held, 2 held and perhaps waited for. A word of another epoch is free,
 *                   whatever its state: its holder is a thread of the parent, which is not here.
 * Linearization     the compare-and-swap that makes the word held.
 * Ordering          [percpu.1] taking acquires, letting go releases.
 * Progress          blocking: a thread that is stopped while it holds a lock stops those that need
 *                   the same. The paths that take one are told in docs/design/percpu.md.
 * Reclamation       none is needed: locks lie in memory that is never unmapped.
 *
 * What a lock guards may be half changed in a child; who takes a lock finds out by an epoch kept
 * beside it. The epoch lies on a page that the kernel wipes in a forked child, so a child made by
 * a bare system call knows itself too.
 */
#pragma once

#include <stdint.h>

#include "base/atomic.h"

/* How many locks the thread holds: a signal handler that finds some must not wait for one. */
extern __thread _Atomic(uint32_t) percpu_locks_held;

struct percpu_lock {
	_Atomic(uint32_t) word;
};

/* Points at a word that is 0 in a process that has not looked yet. */
extern _Atomic(uint32_t) *percpu_epoch_word;

uint32_t percpu_epoch_renew(void);
/* Maps the page; 0 or -ENOMEM. */
int percpu_epoch_start(void);
void percpu_lock_slow(struct percpu_lock *lock, uint32_t epoch);
void percpu_unlock_slow(struct percpu_lock *lock);

/* The number of this process; never 0. */
static inline uint32_t percpu_epoch(void)
{
	uint32_t epoch = a_load_rlx(percpu_epoch_word);
	return __builtin_expect(epoch != 0, 1) ? epoch : percpu_epoch_renew();
}

static inline void percpu_lock(struct percpu_lock *lock)
{
	a_store_rlx(&percpu_locks_held, a_load_rlx(&percpu_locks_held) + 1);
	a_signal_fence();
	uint32_t epoch = percpu_epoch();
	uint32_t expected = epoch << 2;
	/* [percpu.1] acq: sees what the last holder did; pairs with percpu_unlock(). */
	if (!a_cas_strong_acq(&lock->word, &expected, epoch << 2 | 1))
		percpu_lock_slow(lock, epoch);
}

static inline void percpu_unlock(struct percpu_lock *lock)
{
	uint32_t word = a_load_rlx(&lock->word);
	/* [percpu.1] rel: publishes what the holder did; pairs with percpu_lock(). */
	if ((word & 3) != 1 || !a_cas_strong_rel(&lock->word, &word, word & ~3u))
		percpu_unlock_slow(lock);
	a_signal_fence();
	a_store_rlx(&percpu_locks_held, a_load_rlx(&percpu_locks_held) - 1);
}
