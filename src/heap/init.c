/* SPDX-License-Identifier: MIT */
/*
 * The start: options, the page layer, handing over to libc. Runs at the first call of whatever kind, which
 * comes before the process has a second thread (making one allocates), or in the constructor.
 */
#include "base/options.h"
#include "heap/core.h"
#include "heap/fast.h"
#include "os/os.h"

enum init_state { INIT_NONE, INIT_RUNNING, INIT_READY };

_Atomic(uintptr_t) heap_secret;

static _Atomic(int) state;
static _Atomic(const struct heap_delegate *) delegate;

/* Differs from run to run, so that no program's data looks like a key; it is no defence. */
static uintptr_t secret_make(void)
{
	const uintptr_t where = (uintptr_t)__builtin_frame_address(0) ^ (uintptr_t)&heap_secret;
	return ((where ^ os_now_ns()) * 0x9e3779b97f4a7c15u) | 1;
}

/*
 * Whoever comes first, be it a signal handler that interrupted start(), sets it before it makes a
 * block, and nobody sets it again: else blocks marked before would look corrupted.
 */
static void secret_set(void)
{
	uintptr_t none = 0;
	a_cas_strong_rlx(&heap_secret, &none, secret_make());
}

static void start(void)
{
	os_init();
	os_config_load(&options);
	os_barrier_register();
	if (!options.enabled && heap_libc != NULL)
		a_store_rlx(&delegate, heap_libc());
}

int heap_init(void)
{
	/* [heap.6] acq: sees the options; pairs with the store below. */
	if (__builtin_expect(a_load_acq(&state) == INIT_READY, 1))
		return 0;
	secret_set();
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
