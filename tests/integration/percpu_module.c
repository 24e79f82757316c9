/* SPDX-License-Identifier: MIT */
/* A shared object with static per-CPU variables of its own, for test_percpu_static.c. */
#include <allod/percpu-static.h>

uint64_t module_add(uint64_t value);
uint64_t module_word(unsigned cpu);

static ALLOD_PERCPU_DEFINE(uint64_t, module_hits);
static ALLOD_PERCPU_DEFINE(uint64_t, module_start) = 77;

__attribute__((visibility("default"))) uint64_t module_add(uint64_t value)
{
	allod_percpu_add(ALLOD_PERCPU_VAR(module_hits), value);
	return allod_percpu_read(ALLOD_PERCPU_VAR(module_start));
}

__attribute__((visibility("default"))) uint64_t module_word(unsigned cpu)
{
	return *allod_percpu_ptr(ALLOD_PERCPU_VAR(module_hits), cpu);
}
