/* SPDX-License-Identifier: MIT */
/*
 * The way in which this process works on per-CPU memory, for the files of this layer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <allod/percpu-ops.h>

/* What is exported keeps its name visible; everything else of the library is hidden. */
#define PERCPU_EXPORT __attribute__((visibility("default")))

/*
 * For an operation whose thread has no number: registers the thread. True: it has one now, so the
 * sequence is to be tried. False: the process works by atomic instructions, for good.
 */
bool percpu_enter(struct allod_percpu_view view);

/* True when the process works by atomic instructions; once true, always true. */
bool percpu_is_atomic(void);

/* By atomic instructions: the copy to work on, whose number is noted as used. */
void *percpu_atomic_copy(struct allod_percpu_view view, const void *p);

#if defined(__x86_64__)

static inline void *percpu_thread_pointer(void)
{
	void *pointer;

	__asm__("movq %%fs:0, %0" : "=r"(pointer));
	return pointer;
}

#elif defined(__aarch64__)

static inline void *percpu_thread_pointer(void)
{
	void *pointer;

	__asm__("mrs %0, tpidr_el0" : "=r"(pointer));
	return pointer;
}

#endif
