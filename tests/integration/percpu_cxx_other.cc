// SPDX-License-Identifier: MIT
// The second file of test_percpu_cxx.cc.
#include "percpu_cxx.h"

void add_elsewhere(uint64_t *words)
{
	Tally<0>{ words }.add(1);
	Tally<1>{ words }.add(10);
	exchange(words + 2, 100);
}
