/* SPDX-License-Identifier: MIT */
/*
 * The inline operations once more, as functions that other languages, and code that is compiled
 * without these headers, can call.
 */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define ALLOD_PERCPU_INLINE_ __attribute__((visibility("default")))
#include <allod/counter.h>
#include <allod/percpu-ops.h>
