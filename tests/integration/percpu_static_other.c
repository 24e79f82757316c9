/* SPDX-License-Identifier: MIT */
/* The second file of test_percpu_static.c: its variables lie in the same section. */
#include "percpu_static.h"

ALLOD_PERCPU_DEFINE(uint32_t, shared_small) = 5;
static ALLOD_PERCPU_DEFINE(struct wide, private_wide) = { .first = 9 };

void other_add(void)
{
	allod_percpu_add32(ALLOD_PERCPU_VAR(shared_small), 1);
	allod_percpu_add(&ALLOD_PERCPU_VAR(private_wide)->first, 1);
}

uint64_t other_first(unsigned cpu)
{
	return allod_percpu_ptr(ALLOD_PERCPU_VAR(private_wide), cpu)->first;
}

uintptr_t other_address(void)
{
	return (uintptr_t)ALLOD_PERCPU_VAR(private_wide);
}
