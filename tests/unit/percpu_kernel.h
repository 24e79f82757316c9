/* SPDX-License-Identifier: MIT */
/*
 * What a kernel does for restartable sequences, done by hand: an area that is registered nowhere,
 * and interruptions at instructions that the test chooses. A thread that is interrupted between
 * the beginning and the commitment of a sequence is sent to the sequence's abort handler.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* From here on the calling thread's operations use the area. */
void kernel_start(void);

/* The processor, and concurrency id, that the thread is on from now on. */
void kernel_move(int32_t number);

/*
 * Runs `work`, interrupts it at its k-th instruction, aborts the sequence that it may be in, and
 * calls `intruder`. x86-64: any instruction; false when there are fewer. aarch64: instructions of
 * sequences only, numbered through the program; the work may never come by.
 */
bool kernel_interrupt(long k, void (*work)(void), void (*intruder)(void));

/* How many k there are to try; -1: until kernel_interrupt() gives false. */
long kernel_steps(void);

/* Checks all descriptors of the program: ranges, handlers and their signatures. */
unsigned kernel_check_descriptors(void);
