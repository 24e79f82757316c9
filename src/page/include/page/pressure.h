/* SPDX-License-Identifier: MIT */
/*
 * page, the part about memory pressure: who wants to be told, and from where that is known. Nothing
 * here is used in the allocation path. See include/allod/pressure.h for what programs are promised.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "os/os.h"

enum { PRESSURE_SUBSCRIBERS = 32 };

typedef void pressure_call(void *fn, void *arg, const struct os_pressure_event *event,
	size_t given_bytes);

/* Enters a subscriber; its number (above 0) or -ENOSPC. `fn` and `arg` are only passed on. */
int pressure_subscribe(void *fn, void *arg, unsigned severity, bool wants_thread);
/* Ends it. 0; -EBUSY while it is being called by another thread; -ENOENT. */
int pressure_unsubscribe(int number);
/* How many want a thread. */
unsigned pressure_thread_wanted(void);
/* Has `call` tell each subscriber who wants to know; how many. */
unsigned pressure_deliver(const struct os_pressure_event *event, size_t given_bytes,
	pressure_call *call);

/*
 * The process's sources, opened by the first who asks. 0; -EAGAIN while another thread is at it;
 * -EOPNOTSUPP if there are none; errors of os_pressure_open().
 */
int pressure_sources(struct os_pressure **ret_sources);
