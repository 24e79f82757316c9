/* SPDX-License-Identifier: MIT */
/*
 * When memory runs short: what allod keeps of freed memory, how much that may be, and being told of
 * pressure so that a program can give up caches of its own.
 * Compiles alone as C99 and as C++17.
 *
 * Rules that hold for every call here, unless the call says otherwise: sizes are in bytes; calls that
 * return int give 0 or more, or a negative errno value, and do not write errno; no call takes a lock.
 */
#ifndef ALLOD_PRESSURE_H
#define ALLOD_PRESSURE_H

#include <stddef.h>
#include <stdint.h>

#include "allod/attributes.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Gives free memory back, as far as `severity` says. Blocks of allod_page_alloc() and of malloc that
 * are live are never touched.
 *
 * severity: 0: what is due by its age (option decay_ms), as happens by itself; of blocks above 32
 *              MiB at most 64 MiB a call.
 *           1: all that is free goes cold: the kernel may take it when it needs some. It counts as
 *              resident until then, and is used again at hardly any cost.
 *           2: what is cold goes back, and the rest goes cold.
 *           3: all that is free goes back, with what caches and the calling thread's heap hold.
 *           Above 3 is as 3.
 * Returns: how many bytes went back, or cold.
 * Errors:  none.
 * Safety:  any thread, signal handlers. Other threads may allocate and free meanwhile.
 * Since:   0.1.
 * Source:  malloc_trim(); madvise(2), MADV_FREE and MADV_DONTNEED.
 */
size_t allod_page_trim(unsigned severity) ALLOD_NOTHROW;

/*
 * Sets how much free memory may be kept, in pages that are resident: by this bound what is freed
 * beyond goes back at once, by the call that frees it. A call that finds its block in a cache makes
 * no system call for it. Free blocks inside of the heap's slabs do not count.
 *
 * bytes:   0: no bound but the automatic one: what is warm stays below half of what the control
 *          group, or the machine, has left (see allod_page_limit_set(3)).
 * Returns: 0, or -ENOMEM when allod cannot be prepared.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  own; option page_cache_bytes.
 */
int allod_page_limit_set(size_t bytes) ALLOD_NOTHROW;

/* Who told of pressure. */
enum allod_page_pressure_source {
	/* The service manager, by MEMORY_PRESSURE_WATCH. */
	ALLOD_PAGE_PRESSURE_WATCH = 1 << 0,
	/* Stall information of the control group, and of the machine. */
	ALLOD_PAGE_PRESSURE_STALL_GROUP = 1 << 1,
	ALLOD_PAGE_PRESSURE_STALL_SYSTEM = 1 << 2,
	/* The control group's memory.events (version 2). */
	ALLOD_PAGE_PRESSURE_EVENTS = 1 << 3,
	/* Its memory.pressure_level, and thresholds of its usage (version 1). */
	ALLOD_PAGE_PRESSURE_LEVEL = 1 << 4,
	ALLOD_PAGE_PRESSURE_USAGE = 1 << 5
};

/* What a callback is told; fields may be added at the end in later versions. */
struct allod_page_pressure {
	size_t struct_bytes; /* sizeof(struct allod_page_pressure), as the library has it */
	unsigned severity;   /* 1: memory is getting short; 2: it is short; 3: a kill is near */
	unsigned sources;    /* enum allod_page_pressure_source */
	size_t given_bytes;  /* what allod itself has just let go, by allod_page_trim(severity) */
};

typedef void (*allod_page_pressure_fn)(const struct allod_page_pressure *pressure, void *arg);

/*
 * Flags of allod_page_pressure_subscribe().
 */
enum allod_page_pressure_flag {
	/* A thread of allod's own waits for pressure and calls back. Without this flag callbacks run
	 * in allod_page_pressure_dispatch() alone. */
	ALLOD_PAGE_PRESSURE_THREAD = 1 << 0
};

/*
 * Has `fn` called with `arg` when memory runs short. It may call anything, allod's functions
 * included, and take its time; two calls of one subscription may run in two threads at once if both
 * dispatch.
 *
 * severity: 1 to 3: the least of which it is to be told.
 * flags:    ALLOD_PAGE_PRESSURE_THREAD or 0. The thread is made by the first subscription that asks
 *           for it, with all signals blocked, and ends after the last was ended.
 * Returns:  a number, above 0, for allod_page_pressure_unsubscribe(); or a negative errno value.
 * Errors:   EINVAL: no function, a severity that is none, or unknown flags. ENOSPC: 32 subscriptions
 *           are there. EAGAIN: no thread can be made, or another thread is just opening the sources.
 *           EMFILE, ENOMEM: descriptors. EOPNOTSUPP: the system has no source, or the service
 *           manager has turned it off (MEMORY_PRESSURE_WATCH=/dev/null).
 * Safety:   any thread; not in signal handlers. A forked child keeps its subscriptions, and is told
 *           when it dispatches, or once it subscribes with the flag itself.
 * Since:    0.1.
 * Source:   own; systemd's "Memory Pressure Handling", Linux's psi.rst and cgroup documents.
 */
int allod_page_pressure_subscribe(allod_page_pressure_fn fn, void *arg, unsigned severity,
	unsigned flags) ALLOD_NOTHROW;

/*
 * Ends a subscription: after the call has returned 0, or -ENOENT, the function does not run, and
 * will not. It may end its own subscription while it runs.
 *
 * Returns: 0, or a negative errno value.
 * Errors:  EBUSY: it runs just now in another thread, and will not be called again; call once more to
 *          learn when it has ended. ENOENT: there is no such subscription, or no longer.
 * Safety:  any thread; not in signal handlers.
 * Since:   0.1.
 * Source:  own.
 */
int allod_page_pressure_unsubscribe(int subscription) ALLOD_NOTHROW;

/*
 * A descriptor that becomes readable when a source has something to tell, for poll(2) and the like;
 * allod_page_pressure_dispatch() then finds out what. It is allod's: not to be read or closed.
 *
 * Returns: the descriptor, or a negative errno value as of allod_page_pressure_subscribe().
 * Safety:  any thread; not in signal handlers. In a forked child: ask anew.
 * Since:   0.1.
 * Source:  own; epoll(7).
 */
int allod_page_pressure_fd(void) ALLOD_NOTHROW;

/*
 * Looks whether a source has something to tell, without waiting. If so, lets allod's free memory go
 * by allod_page_trim(severity), and calls the subscribers, in this thread.
 *
 * Returns: the severity, 0 if there was nothing; or a negative errno value as above.
 * Safety:  any thread; not in signal handlers.
 * Since:   0.1.
 * Source:  own.
 */
int allod_page_pressure_dispatch(void);

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_PRESSURE_H */
