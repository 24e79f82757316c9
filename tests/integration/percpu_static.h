/* SPDX-License-Identifier: MIT */
#pragma once

#include <allod/percpu-static.h>

/* As demanding as variables get. */
struct wide {
	uint64_t first;
	char rest[248];
} __attribute__((aligned(256)));

ALLOD_PERCPU_DECLARE(uint32_t, shared_small);

void other_add(void);
uint64_t other_first(unsigned cpu);
uintptr_t other_address(void);
