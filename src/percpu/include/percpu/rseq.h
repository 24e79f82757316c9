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
 * For an operation whose thread has no number, or is where no thread was before: registers the
 * thread, and marks the number active. True: the sequence is to be tried at *ret_number. False: the
 * process works by atomic instructions, for good.
 */
bool percpu_enter(struct allod_percpu_view view, int32_t *ret_number);

/* True when the process works by atomic instructions; once true, always true. */
bool percpu_is_atomic(void);

/* By atomic instructions: the copy to work on, whose number is marked active. */
void *percpu_atomic_copy(struct allod_percpu_view view, const void ALLOD_PERCPU *p);

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
