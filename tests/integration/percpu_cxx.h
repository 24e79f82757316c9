// SPDX-License-Identifier: MIT
// Sequences in code that the linker keeps one copy of, for test_percpu_cxx.cc.
#pragma once

#include <allod/counter.h>
#include <allod/percpu-static.h>

template <int N> struct Tally {
	uint64_t *words;

	void add(uint64_t value)
	{
		allod_percpu_add(words + N, value);
	}
};

// Not static: both files have it, and one of them is thrown away.
inline uint64_t exchange(uint64_t *words, uint64_t value)
{
	return allod_percpu_xchg(words, value);
}

void add_elsewhere(uint64_t *words);
