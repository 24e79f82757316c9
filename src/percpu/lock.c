/* SPDX-License-Identifier: MIT */
/* The slow ways of the lock, and the epoch; see percpu/lock.h. */
#include "percpu/lock.h"

#include <errno.h>
#include <pthread.h>

#include "os/area.h"
#include "os/os.h"

/* Looks before a thread goes to sleep; the explorer's threads have less patience. */
#ifndef PERCPU_LOCK_SPINS
#define PERCPU_LOCK_SPINS 200
#endif

enum { FREE = 0, HELD = 1, WAITED = 2, SPINS = PERCPU_LOCK_SPINS };

static _Atomic(uint32_t) first_word = 1;
static _Atomic(uint32_t) last_epoch = 1;

_Atomic(uint32_t) *percpu_epoch_word = &first_word;
__thread _Atomic(uint32_t) percpu_locks_held;

/* Where the kernel cannot wipe a page, a child of fork() is told by this. */
static void epoch_forget(void)
{
	a_store_rlx(percpu_epoch_word, 0);
}

int percpu_epoch_start(void)
{
	const size_t page = os_facts()->page_bytes;
	_Atomic(uint32_t) *word = os_map(page, page);

	if (!word)
		return -ENOMEM;
	if (os_wipe_on_fork((void *)word, page))
		pthread_atfork(NULL, NULL, epoch_forget);
	percpu_epoch_word = word;
	/* Not the first number: a parent may have been here, with locks held. */
	percpu_epoch_renew();
	return 0;
}

/* The first look of a child. Its threads agree by the compare-and-swap. */
__attribute__((cold, noinline)) uint32_t percpu_epoch_renew(void)
{
	uint32_t none = 0;
	uint32_t next = (a_add_rlx(&last_epoch, 1) + 1) & 0x3fffffff;

	next += next == 0;
	return a_cas_strong_rlx(percpu_epoch_word, &none, next) ? next : none;
}

__attribute__((noinline)) void percpu_lock_slow(struct percpu_lock *lock, uint32_t epoch)
{
	for (unsigned spin = 0;; spin++) {
		uint32_t word = a_load_rlx(&lock->word);
		bool is_free = word >> 2 != epoch || (word & 3) == FREE;
		uint32_t held = epoch << 2 | (spin < SPINS ? HELD : WAITED);

		/* [percpu.1] acq: as in percpu_lock(). */
		if (is_free && a_cas_strong_acq(&lock->word, &word, held))
			return;
		if (is_free)
			continue;
		if (spin < SPINS) {
			a_pause();
			continue;
		}
		if ((word & 3) == HELD &&
			!a_cas_strong_rlx(&lock->word, &word, epoch << 2 | WAITED))
			continue;
		os_wait_while(&lock->word, epoch << 2 | WAITED, 100000000);
	}
}

__attribute__((noinline)) void percpu_unlock_slow(struct percpu_lock *lock)
{
	uint32_t word = a_load_rlx(&lock->word);

	/* [percpu.1] rel: as in percpu_unlock(). */
	word = a_xchg_rel(&lock->word, word & ~3u);
	if ((word & 3) == WAITED)
		os_wake(&lock->word);
}
