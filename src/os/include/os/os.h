/* SPDX-License-Identifier: MIT */
/*
 * The operating system, as the rest of allod sees it.
 *
 * This header is the whole contract: what each call does, what may fail and with what. Two
 * implementations stand behind it: src/os/linux (raw system calls) and src/os/mock (the same
 * memory, with a virtual clock, scripted failures and recorded calls; see os/mock.h). A program
 * links one of the two.
 *
 * Rules that hold for every call here:
 *  - no call takes a lock, allocates from a heap, or writes errno;
 *  - the mapping calls are raw system calls, never libc's wrappers, which a program may interpose;
 *  - functions that return int give 0 or a negative errno value; nothing partial is left behind
 *    on failure unless the call says so;
 *  - addresses and sizes are multiples of os_facts()->page_bytes unless the call says otherwise;
 *    sizes are not 0;
 *  - every call may be made by any thread at any time, in a signal handler and in a forked child,
 *    unless the call says otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct options;

/* No limit, for the limits among the facts. */
#define OS_UNLIMITED UINT64_MAX

/* What is known of the machine and of the limits set on this process; const after os_init(). */
struct os_facts {
	size_t page_bytes;            /* size of a base page: 4 KiB to 64 KiB */
	uint64_t ram_bytes;           /* memory of the machine; not lowered by control groups */
	uint64_t address_limit_bytes; /* RLIMIT_AS, or OS_UNLIMITED */
	uint64_t data_limit_bytes;    /* RLIMIT_DATA, or OS_UNLIMITED */
	uint64_t max_map_count;       /* vm.max_map_count; 65530 if it cannot be read */
	int overcommit_mode;          /* vm.overcommit_memory, 0 to 2; 0 if it cannot be read */
	unsigned cpus_usable;         /* processors this process may run on, at least 1 */
	bool is_secure;               /* set-user-id or the like: the environment is not trusted */
	bool under_valgrind;          /* valgrind runs this process */
	int seccomp_mode;             /* at the start: 0, 2 for filters, -1 if it cannot be told */
	int seccomp_filters;          /* if the mode is 2, how many; -1 if that cannot be told */
};

/*
 * Gathers the facts. Cheap (see docs/design/os.md for the measured cost) and idempotent; racing
 * first callers each gather and one result is kept, nobody waits. The limits are read once: a
 * program that changes its limits later is not followed. Always 0.
 */
int os_init(void);

/* The facts; gathers them first if nobody has yet. Never NULL. */
const struct os_facts *os_facts(void);

/*
 * Mapping
 */

/*
 * Reserves address space: no access, no memory, not charged to overcommit (it does count against
 * RLIMIT_AS). `align` is a power of two, at least the page size. NULL when the system refuses,
 * that is for want of address space, RLIMIT_AS or vm.max_map_count.
 */
void *os_reserve(size_t bytes, size_t align);

/*
 * Reserves exactly these addresses. -EEXIST when something is mapped there, -ENOMEM as above;
 * nothing has changed then.
 */
int os_reserve_at(void *base, size_t bytes);

/*
 * Makes part of a reservation readable and writable. Fresh pages read as zero. -ENOMEM: overcommit,
 * RLIMIT_DATA or vm.max_map_count refuses, and the range is as it was.
 */
int os_commit(void *base, size_t bytes);

/*
 * Gives the memory back; the range stays committed and reads as zero afterwards. -EINVAL when the
 * range is locked in memory (mlockall): the contents are then kept.
 */
int os_decommit(void *base, size_t bytes);

/*
 * Lets the system take the pages when memory runs short; until a page is written again, it reads
 * either as it was or as zero. -EINVAL when locked in memory or not supported.
 */
int os_lazyfree(void *base, size_t bytes);

/* Maps committed zero pages; `align` as in os_reserve(). NULL when the system refuses. */
void *os_map(size_t bytes, size_t align);

/*
 * Removes whatever is mapped in the range. -ENOMEM: cutting a mapping in two would exceed
 * vm.max_map_count; nothing has changed then.
 */
int os_unmap(void *base, size_t bytes);

/*
 * Puts fresh, committed zero pages, like those of a reservation, in place of whatever is mapped in
 * the range, so that the kernel can merge them with a reservation around it. -ENOMEM as in
 * os_commit(); the old mapping may then be gone or not, so the caller must hold nothing in it.
 */
int os_map_fixed(void *base, size_t bytes);

/* Puts a reservation, as of os_reserve(), in place of whatever is mapped. -ENOMEM likewise. */
int os_remap_fixed_none(void *base, size_t bytes);

/*
 * Moves the pages of [old, old + old_bytes) to another address, without copying them, and returns
 * it. `dst` is the exact new address (what is mapped in [dst, dst + new_bytes) is replaced), or
 * NULL for any. new_bytes may exceed old_bytes: the rest are zero pages. With `keep_old` the old
 * range stays mapped, as zero pages, and old_bytes must equal new_bytes; otherwise it is unmapped.
 * The old range lies in one mapping. NULL when refused (no memory, no DONTUNMAP before Linux 5.7,
 * or a range that spans mappings): the old range is intact then, but a given `dst` range may have
 * been unmapped, and be mapped by another thread meanwhile: os_reserve_at() tells.
 */
void *os_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old);

/*
 * Whether every page of the range is mapped, by whomever: to tell, after a refused os_move(), a
 * destination that was left as it was from one that was unmapped. Never reads or writes the pages.
 */
bool os_is_mapped(void *base, size_t bytes);

/*
 * Whether one mapping lies across the beginning of the range, or across its end; false where that
 * cannot be known. Then not all of it was unmapped just now, if what is around it is the caller's.
 * Takes 0.3 us for each mapping of the process.
 */
bool os_is_joined(const void *base, size_t bytes);

/*
 * How many mappings the process has; it stops counting at `most`. 0 where that cannot be known.
 * Takes 0.3 us for each, so not for the allocation path.
 */
uint64_t os_map_count(uint64_t most);

/*
 * Grows a mapping made by os_map() where it is; the new part reads as zero. -ENOMEM when something
 * else is mapped behind it or the system refuses; nothing has changed then.
 */
int os_grow(void *base, size_t old_bytes, size_t new_bytes);

/* Asks for huge pages in the range, or forbids them. -EINVAL where the kernel has none. */
int os_huge(void *base, size_t bytes, bool on);

/*
 * Backs a range of whole huge pages with huge pages now; what it contains is kept, and what is not
 * present reads as zero as before, but is present then. Takes a millisecond for each 2 MiB, or
 * several. -EINVAL: the kernel has no such call (before Linux 6.1), or the range may not have huge
 * pages; -ENOMEM, -EAGAIN, -EBUSY: not now.
 */
int os_collapse(void *base, size_t bytes);

/* Counts the pages of a range that are present, 512 pages at most. -ENOMEM: not all is mapped. */
int os_present(void *base, size_t bytes, size_t *ret_pages);

/*
 * Makes committed pages present, in one call. -EINVAL before Linux 5.14 and for pages that are not
 * committed, -ENOMEM; some pages may be present then. Contents are never changed.
 */
int os_populate(void *base, size_t bytes);

/*
 * Names the range in /proc/PID/maps ("[anon:NAME]"). -EINVAL where the kernel cannot, -EPERM when
 * the process has put itself under seccomp since its start; the first call of a process is tried.
 */
int os_name(void *base, size_t bytes, const char *name);

/*
 * Asks for the pages of the range to come from that NUMA node, as long as it has some. -EINVAL when
 * there is no such node; 0 too where the kernel has no nodes or does not permit to choose.
 */
int os_prefer_node(void *base, size_t bytes, int node);

/* A forked child finds the range zero instead of a copy. -EINVAL when not supported. */
int os_wipe_on_fork(void *base, size_t bytes);

/*
 * A barrier for all threads
 *
 * After os_barrier() has returned 0, every other thread of the process has passed a full memory
 * barrier since the call began, or was not running. So a protocol with one frequent and one rare
 * side needs a compiler fence on the frequent one. Waits for no thread. A negative errno where the
 * kernel lacks it, or the process has put itself under seccomp since its start.
 */
int os_barrier(void);
/* Once before, while the process has one thread: later it takes milliseconds. */
void os_barrier_register(void);

/*
 * Restartable sequences (rseq(2)); see docs/design/percpu-ops.md
 */

/*
 * Where libc registered an area for each thread, as an offset from the thread pointer, and how much
 * of it libc says is in use. False when libc registers none.
 */
bool os_rseq_libc(ptrdiff_t *ret_offset, unsigned *ret_bytes);

/* How many bytes of an area the kernel fills, as it says (since Linux 6.3); 0: it does not say. */
unsigned os_rseq_kernel_bytes(void);

/*
 * Registers an area of 32 bytes or more, aligned to 32, for the calling thread, and takes it back.
 * -EBUSY: it is registered already. -EINVAL: another area is. -ENOSYS and others: not here.
 */
int os_rseq_register(void *area, unsigned bytes);
int os_rseq_unregister(void *area, unsigned bytes);

/* Prepares os_rseq_fence(): at the start it is cheap, with many threads it takes milliseconds. */
int os_rseq_fence_register(void);

/*
 * Makes all sequences under way on a processor, or on all (-1), start again or be over, with a full
 * barrier for the threads that ran them. Waits for no thread. Where membarrier() is refused, the
 * calling thread visits the processors instead, and has its old affinity afterwards. A negative
 * errno when neither can be done.
 */
int os_rseq_fence(int cpu);

/*
 * Keeps signals from the calling thread, and lets them in again. For the rare protocols that a
 * handler must not interrupt.
 */
void os_signals_block(uint64_t *ret_old);
void os_signals_restore(const uint64_t *old);

/*
 * Time and identity
 */

/* Monotonic time, some milliseconds coarse, cheap (no system call). Never 0. */
uint64_t os_now_ns(void);

/* Monotonic time to the nanosecond, for measuring; no system call as a rule. */
uint64_t os_fine_ns(void);

/* The kernel's id of the calling thread, and of the process; neither cached nor fooled by fork. */
int os_thread_id(void);
int os_pid(void);

/*
 * A number that tells processors apart: that of the one which runs the caller, or, where that is not
 * known without a system call, one of the calling thread. It may be out of date at once. Not for the
 * background task.
 */
unsigned os_cpu(void);

/*
 * Text in and out
 */

/* Writes all of the text; interrupted writes go on, other errors are dropped. */
void os_write(int fd, const char *text, size_t bytes);

/*
 * The end of the process, for corruption. Writes the line (it ends in '\n') to descriptor 2 and
 * raises SIGABRT; when a handler returns, or the signal is ignored or blocked, kills with it
 * anyway. Takes no lock, runs no atexit function, flushes no stream.
 */
_Noreturn void os_fatal(const char *line);

/* The process runs with privileges its caller has not (AT_SECURE); as among the facts. */
bool os_is_secure(void);

/*
 * The value of an environment variable, or NULL. For the start of a process only: it reads the
 * program's own environment array, which the program may change later. Does not consider
 * os_is_secure().
 */
const char *os_env(const char *name);

/*
 * Reads up to cap - 1 bytes of a file from its beginning and puts a NUL behind them. The number of
 * bytes read, or a negative errno. Meant for small files of /proc and /sys, and the option file.
 */
ssize_t os_file_read(const char *path, char *buf, size_t cap);

/*
 * Opens a file to be read again and again; a descriptor or a negative errno. os_file_reread() reads
 * as os_file_read() does, from the beginning.
 */
int os_file_open(const char *path);
ssize_t os_file_reread(int fd, char *buf, size_t cap);

/*
 * Sets options from the file that ALLOD_CONF_FILE names (a key:value, or several separated by
 * commas, to a line; '#' begins a comment) and then from ALLOD_CONF over it. Nothing is read when
 * os_is_secure(). What is wrong is told in a line each on descriptor 2, and skipped. 0, or the
 * negative errno that kept the file from being read (which is told as well).
 */
int os_config_load(struct options *opts);

/* Limits that control groups set on this process, the group's own and those of its ancestors. */
struct os_group_limits {
	int version;         /* of control groups that account memory: 1, 2, or 0 for none */
	uint64_t max_bytes;  /* above it the process is killed; OS_UNLIMITED if not set */
	uint64_t high_bytes; /* above it the process is slowed; OS_UNLIMITED if not set */
	uint64_t used_bytes; /* by the whole group now; 0 if not known */
	char directory[512]; /* of the group's files; "" if there are none */
};

/* The group that accounts memory, for the functions below. */
struct os_group {
	const struct os_group_layout *layout;
	char path[512]; /* below the layout's root; "" is the root itself */
};

/*
 * Reads the limits of the control group. Some system calls for each level of the group, so not for
 * the allocation path. What cannot be read is as if not set.
 */
void os_group_limits_read(struct os_group_limits *ret_limits);

/* What may still be used before the kernel slows or kills the process; see headroom.c. */
struct os_headroom {
	uint64_t bytes;       /* OS_UNLIMITED if nothing limits, or nothing can be known */
	uint64_t limit_bytes; /* the limit that is nearest; OS_UNLIMITED likewise */
	bool by_group;        /* it is that of a control group, not the machine's memory */
};

enum { OS_HEADROOM_LEVELS = 8 };

/* Files kept open, for who may not open any later: the background task. */
struct os_headroom_files {
	struct os_group group;
	unsigned levels;
	int fds[OS_HEADROOM_LEVELS][4];
	int machine;
	int stalls[2]; /* of the group and of the machine */
};

/* For how long tasks were stalled for want of memory so far: the larger of group and machine. */
struct os_stalls {
	uint64_t some_us; /* at least one of them */
	uint64_t full_us; /* all of them */
};
void os_stalls_read(const struct os_headroom_files *files, struct os_stalls *ret_stalls);

/* Opens them; whoever does never closes them. What cannot be opened is as if not there. */
void os_headroom_open(struct os_headroom_files *ret_files);

/*
 * Reads the headroom now, from files kept open or, with NULL, by opening them. `own_cold_bytes`: how
 * much of this process's memory may be under os_lazyfree(). Where at least `enough_bytes` are left
 * it is not looked for what the kernel could take beyond. Files are opened and read, ten for a group
 * just below the root, so never on a hit.
 */
void os_headroom_read(const struct os_headroom_files *files, uint64_t own_cold_bytes,
	uint64_t enough_bytes, struct os_headroom *ret_headroom);

/*
 * Memory pressure, told by whatever the system has: what is configured by the service manager, stall
 * information of the group and of the machine, events of the control group.
 */
enum os_pressure_source {
	OS_PRESSURE_WATCH = 1 << 0,        /* MEMORY_PRESSURE_WATCH, the protocol of systemd */
	OS_PRESSURE_STALL_GROUP = 1 << 1,  /* memory.pressure of the group */
	OS_PRESSURE_STALL_SYSTEM = 1 << 2, /* /proc/pressure/memory */
	OS_PRESSURE_EVENTS = 1 << 3,       /* memory.events, version 2 */
	OS_PRESSURE_LEVEL = 1 << 4,        /* memory.pressure_level, version 1 */
	OS_PRESSURE_USAGE = 1 << 5,        /* thresholds of memory.usage_in_bytes, version 1 */
};

struct os_pressure_entry {
	int fd;
	int aux;                   /* kept open with it; -1 */
	uint8_t source_bit;        /* 1 << source_bit is the source */
	uint8_t severity;          /* that it tells; 0: its file, or the headroom, tells */
	_Atomic(uint64_t) seen[3]; /* of memory.events */
};

enum { OS_PRESSURE_ENTRIES = 20 };

struct os_pressure {
	int fd;   /* becomes readable when one of the sources has something to tell */
	int wake; /* for os_pressure_wake() */
	unsigned sources;
	unsigned count;
	struct os_pressure_entry entries[OS_PRESSURE_ENTRIES];
};

/* Severity 1: memory is getting short; 2: it is short; 3: a kill or a stand-still is near. */
struct os_pressure_event {
	unsigned severity;
	unsigned sources;
};

/*
 * Opens what there is; `sources` tells what that was, perhaps nothing. A negative errno: nothing is
 * open. MEMORY_PRESSURE_WATCH=/dev/null means that nothing is wanted. Reads the environment.
 */
int os_pressure_open(struct os_pressure *ret_pressure);

/*
 * Waits for an event, `timeout_ms` at most, or as long as it takes if negative. True: one came, the
 * most severe of those there were. False: none, the time is over, or os_pressure_wake() was called.
 */
bool os_pressure_wait(struct os_pressure *pressure, int timeout_ms,
	struct os_pressure_event *ret_event);
void os_pressure_wake(const struct os_pressure *pressure);
void os_pressure_close(struct os_pressure *pressure);

/*
 * The background task
 *
 * A task that shares the process's memory and nothing else: it is no thread of the process (so
 * unshare(CLONE_NEWUSER), setns() and the like go on working), not seen by wait(), without signals
 * and descriptors. Its thread-local storage is a small zeroed block of its own; its function calls
 * nothing of libc but mem* and str*, and of this header anything but os_config_load() and
 * os_probe_each(). It dies with the process. At its first sleep it gives up, by a seccomp filter,
 * every system call but those on the process's memory, so that a process which drops privileges
 * later leaves none behind in the task.
 */
struct os_task {
	_Atomic(uint32_t) state; /* idle, starting or started; see task.c */
	_Atomic(uint32_t) tid;   /* the task's id; the kernel clears it when the task is gone */
	_Atomic(uint32_t) wakes; /* futex word: raised by os_task_wake() */
	_Atomic(uint32_t) stop;  /* raised by os_task_stop() */
	int owner_pid;           /* this and the rest: const while the task lives */
	uint32_t owner_tid;      /* the thread that started it */
	const void *owner_mark;  /* where that thread has its thread-local storage */
	uint32_t last_tid;       /* to reap it */
	bool can_compare;        /* the task's own: kcmp() works */
	bool sealed;             /* the task's own: the filter is in place */
	uint32_t wakes_seen;     /* the task's own */
	void *owner_word;        /* what the kernel clears when the owner thread ends or executes */
	char *stack;
	void (*fn)(void *arg);
	void *arg;
};

/*
 * Starts the task, which runs fn(arg) and ends when that returns. The struct is zero at first and
 * lives as long as the process. -EALREADY: it is running, or another caller is just starting it.
 * -ENOTSUP: never tried here (valgrind, a sanitizer), or its owner's end could not be noticed.
 * -EPERM: the process has put itself under seccomp since its start, so trying might kill it, or
 * os_task_stop() was called. Other values, -EAGAIN, -ENOMEM, -ENOSYS: the system refuses. The
 * caller does without. May be called again after the task has ended.
 *
 * The kernel ends the task when the *thread* that called this ends; see os_task_alive().
 */
int os_task_start(struct os_task *task, void (*fn)(void *arg), void *arg);

/* Whether the task runs. False as well after it died, whatever killed it. No system call. */
bool os_task_alive(const struct os_task *task);

/* Whether the calling thread started the task. No system call: a sandbox may forbid gettid(). */
bool os_task_is_mine(const struct os_task *task);

/* Whether this is the task that asks. No system call. */
bool os_task_is_me(const struct os_task *task);

/*
 * In the task: sleeps for `ns`, or until a wake-up; one that came since the last sleep counts.
 * False: the process is gone or executes another program, or the task shall stop; fn must return at
 * once. An exec is noticed after half a second at most; until then the task keeps the memory of the
 * program that was before.
 */
bool os_task_sleep(struct os_task *task, uint64_t ns);

/* In the task: os_barrier(), which would ask there whether the process is in a sandbox. */
int os_task_barrier(void);

/*
 * Waits while *word is `value`, `ns` nanoseconds at most, or until somebody wakes it (nobody need).
 * For threads that end, and those that asked to wait: nothing else does. It may return early.
 */
void os_wait_while(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns);

/* Wakes all who wait for the word. A system call; `word` need not be mapped any more. */
void os_wake(_Atomic(uint32_t) *word);

/* Ends the task's sleep early; never waits. One system call, so not for hot paths. */
void os_task_wake(struct os_task *task);

/*
 * For the end of a process (a destructor): ends the task for good and waits until the kernel has
 * forgotten it, so that nothing holds the program's file or memory once the process is gone. One
 * that has ended by itself is reaped too. Waits for the system call that the task is in, at most.
 */
void os_task_stop(struct os_task *task);

/* In a forked child, before any other call: forgets the parent's task, which is not the child's. */
void os_task_fork_child(struct os_task *task);

/*
 * Probes, for `allod info`
 */

/* What one probe found. The texts live as long as the call of the callback. */
struct os_probe {
	const char *name;    /* "mremap-dontunmap"; stable, machine-readable */
	bool available;      /* the feature works here; for plain facts always true */
	const char *value;   /* what was found, "" if there is nothing beyond `available` */
	const char *enables; /* what allod does with it */
	const char *lost;    /* what is lost without it */
	const char *group;   /* "host", "limits" or "features": probes of a group come together */
};

/*
 * Runs every probe and hands each result to `fn`, in a fixed order. Features are tried, not
 * derived from version numbers, in throw-away mappings, and in a forked child where trying could
 * change the process. Takes some milliseconds; not for the allocation path.
 */
void os_probe_each(void (*fn)(const struct os_probe *probe, void *arg), void *arg);
