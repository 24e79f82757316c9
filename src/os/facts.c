/* SPDX-License-Identifier: MIT */
/*
 * Keeps the one struct os_facts of the process. Part of both implementations.
 *
 * Operations: os_init(), os_facts(); any thread, any time.
 * Synchronization table: os_init() against itself and os_facts(): `published`, by compare-and-swap.
 * Linearization point: the compare-and-swap that sets `published`.
 * Ordering: [os.1]. Progress: wait-free; a caller that meets another in the middle gathers for
 * itself and the first to finish wins.
 * Reclamation: none; the struct that lost is static and stays unused, or is the loser's own map.
 */
#include "facts.h"
#include "base/atomic.h"
#include "linux/linux.h"

#include <stddef.h>

/* A multiple of every page size of the machines allod knows. */
enum { storage_bytes = 65536 };

/* For a caller that races the first one and gets no memory: nothing in it promises too much. */
static const struct os_facts conservative = {
	.page_bytes = storage_bytes,
	.address_limit_bytes = OS_UNLIMITED,
	.data_limit_bytes = OS_UNLIMITED,
	.max_map_count = 65530,
	.overcommit_mode = 2,
	.cpus_usable = 1,
};

static struct os_facts first;
static _Atomic(uint32_t) first_claimed;
static _Atomic(const struct os_facts *) published;

/* Storage to gather into: the static one for the first caller, a mapping for those that race it. */
static struct os_facts *storage_claim(void)
{
	uint32_t none = 0;

	if (a_cas_strong_rlx(&first_claimed, &none, 1))
		return &first;
	return os_linux_map(storage_bytes, storage_bytes);
}

static void storage_drop(struct os_facts *facts)
{
	if (facts != &first)
		os_linux_unmap(facts, storage_bytes);
}

__attribute__((cold, noinline)) static const struct os_facts *gather_and_publish(void)
{
	const struct os_facts *seen = NULL;
	struct os_facts *facts = storage_claim();

	if (!facts)
		return &conservative;
	os_facts_gather(facts);
	/* [os.1] rel: publishes the gathered facts; pairs with os_facts() */
	if (a_cas_strong_acqrel(&published, &seen, facts))
		return facts;
	storage_drop(facts);
	return seen;
}

const struct os_facts *os_facts(void)
{
	/* [os.1] acq: pairs with gather_and_publish() */
	const struct os_facts *facts = a_load_acq(&published);

	return facts ? facts : gather_and_publish();
}

int os_init(void)
{
	os_facts();
	return 0;
}

bool os_is_secure(void)
{
	return os_facts()->is_secure;
}
