/* SPDX-License-Identifier: MIT */
/*
 * The start: options, the page layer, handing over to libc. Runs at the first call of whatever
 * kind, which comes before the process has a second thread (making one allocates), or in the
 * constructor.
 */
#include "base/options.h"
#include "heap/core.h"
#include "os/os.h"

enum init_state { INIT_NONE, INIT_RUNNING, INIT_READY };

static _Atomic(int) state;
static _Atomic(const struct heap_delegate *) delegate;

static const struct page_keeper keeper = { .step = heap_scavenge_in_janitor,
	.watch = heap_watch_exit };

static void start(void)
{
	/* First, since others go on without us should we be stopped: so their heaps come back. */
	heap_thread_init();
	os_init();
	os_config_load(&options);
	os_barrier_register();
	page_keeper_add(&keeper);
	if (!options.enabled && heap_libc != NULL)
		a_store_rlx(&delegate, heap_libc());
}

int heap_init(void)
{
	/* [heap.6] acq: sees the options; pairs with the store below. */
	if (__builtin_expect(a_load_acq(&state) == INIT_READY, 1))
		return 0;
	int none = INIT_NONE;
	if (a_cas_strong_rlx(&state, &none, INIT_RUNNING))
		start();
	/* A signal handler that interrupted start() goes on with the options as they are. */
	const int error = page_init();
	/* [heap.6] rel: publishes the options. After a failure a later call tries again. */
	if (none == INIT_NONE && error == 0)
		a_store_rel(&state, INIT_READY);
	else if (none == INIT_NONE)
		a_store_rlx(&state, INIT_NONE);
	return error;
}

const struct heap_delegate *heap_delegated(void)
{
	heap_init();
	return a_load_rlx(&delegate);
}

_Noreturn void heap_fatal_double_free(void)
{
	os_fatal("allod: double free\n");
}

_Noreturn void heap_fatal_corrupted(void)
{
	os_fatal("allod: corrupted free list\n");
}

_Noreturn void heap_fatal_invalid_free(void)
{
	os_fatal("allod: invalid free\n");
}
