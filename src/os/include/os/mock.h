/* SPDX-License-Identifier: MIT */
/*
 * The mock operating system: os/os.h with a virtual clock, scripted failures and recorded calls.
 *
 * Memory is real: a call that is not told to fail is handed to Linux. The clock moves only when a
 * test moves it; the environment is what a test sets; nothing written reaches a descriptor. The
 * calls of this header belong to one thread, while no other is inside os/os.h; the calls of
 * os/os.h themselves may come from any number of threads, as ever.
 */
#pragma once

#include "os/os.h"

#include <setjmp.h>

/* The calls that can be counted and made to fail, for a sweep over all of them. */
enum os_call {
	OS_CALL_RESERVE,
	OS_CALL_RESERVE_AT,
	OS_CALL_COMMIT,
	OS_CALL_DECOMMIT,
	OS_CALL_LAZYFREE,
	OS_CALL_MAP,
	OS_CALL_UNMAP,
	OS_CALL_MAP_FIXED,
	OS_CALL_REMAP_FIXED_NONE,
	OS_CALL_MOVE,
	OS_CALL_GROW,
	OS_CALL_HUGE,
	OS_CALL_COLLAPSE,
	OS_CALL_PRESENT,
	OS_CALL_POPULATE,
	OS_CALL_PREFER_NODE,
	OS_CALL_NAME,
	OS_CALL_WIPE_ON_FORK,
	OS_CALL_BARRIER,
	OS_CALL_RSEQ_REGISTER,
	OS_CALL_RSEQ_FENCE,
	OS_CALL_FILE_READ,
	OS_CALL_FILE_OPEN,
	OS_CALL_FILE_REREAD,
	OS_CALL_PRESSURE_OPEN,
	OS_CALL_TASK_START,
	OS_CALL_MAP_LAZY, /* from here on: os/area.h */
	OS_CALL_FILE_MAKE,
	OS_CALL_FILE_MAP,
	OS_CALL_HIDE_FROM_FORK,
	OS_CALL_GUARD,
	OS_CALL_DECOMMIT_MANY,
	OS_CALL_PAGES,
	OS_CALL_KINDS, /* how many kinds there are */
};

/* One recorded call. */
struct mock_record {
	enum os_call kind;
	void *addr;   /* what the call was given; of os_reserve() and os_map(), what it gave */
	size_t bytes; /* the size; of os_move() and os_grow(), the new one */
	int result;   /* 0 or negative errno; -ENOMEM stands for NULL */
};

/* "reserve", "commit" …: for messages. */
const char *mock_call_name(enum os_call kind);

/* Forgets failures, counts, records, texts, files and overrides; the clock starts at one second. */
void mock_reset(void);

/*
 * Makes the nth call of this kind from now on (1 is the next) fail with `error`, a positive errno.
 * Calls before and after it succeed. One such failure per kind; error 0 takes it back.
 */
void mock_fail(enum os_call kind, unsigned nth, int error);

/* Lets n more calls of this kind succeed; all after them fail with ENOMEM, until mock_reset(). */
void mock_fail_all_after(enum os_call kind, unsigned n);

/* Calls of this kind since mock_reset(), failed ones among them. */
unsigned mock_count(enum os_call kind);

/* The calls since mock_reset(), oldest first; the first 4096 are kept. Returns their number. */
size_t mock_calls(const struct mock_record **ret_records);

/* The virtual clock of os_now_ns(). */
void mock_clock_set(uint64_t ns);
void mock_clock_advance(uint64_t ns);

/*
 * os_fine_ns() gives the virtual clock, and behind it what these steps add up to: each call adds the
 * next of them, the first again after the last. The array is the caller's, kept by address; NULL,
 * 0: none.
 */
void mock_fine_set(const uint64_t *steps, size_t count);

/* What os_pressure_wait() tells next, once. */
void mock_pressure_set(unsigned severity, unsigned sources);

/* The facts, to be changed at will; mock_reset() gives back those of the machine. */
struct os_facts *mock_facts(void);

/* What os_map_count() tells; 0, that it is not known, until this or after mock_reset(). */
void mock_map_count_set(uint64_t mappings);

/* Sets a variable, or removes it (NULL). Up to 24; the strings are the caller's, kept by address. */
void mock_env_set(const char *name, const char *value);

/* Gives a file contents (up to 24 files); os_file_read() finds only such. Strings as above. */
void mock_file_set(const char *path, const char *text);

/* All text given to os_write() and os_fatal() since mock_reset(), up to 8 KiB. */
const char *mock_written(void);

/* Where os_fatal() goes, by longjmp(env, 1); NULL: it ends the process as on Linux. */
void mock_fatal_catch(jmp_buf *env);

/*
 * Runs a task that os_task_start() accepted, on the calling thread. os_task_sleep() moves the
 * clock instead of sleeping and returns true `sleeps` times, then false. A task accepted by the
 * mock is alive until it has been run.
 */
void mock_task_run(struct os_task *task, unsigned sleeps);
