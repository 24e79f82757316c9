/* SPDX-License-Identifier: MIT */
/*
 * The calls of include/allod/pressure.h, and the thread that waits for pressure if a subscriber asks
 * for it; decision record 0006 tells why it is opt-in.
 *
 * The thread is there while `watcher` names this process, which it says itself when it begins: who
 * was just made may be the second one, and ends at once. It ends when nobody wants it any more: it
 * says so first and then looks once more, and whoever subscribes enters first and then looks whether
 * it is there; so one of the two sees the other. Who ends a subscription does so before he looks, and
 * wakes it.
 */
#include "allod/pressure.h"

#include "base/atomic.h"
#include "face.h"
#include "heap/heap.h"
#include "helper.h"
#include "os/os.h"
#include "page/page.h"
#include "page/pressure.h"

enum { SEVERITY_MOST = 3 };

/* The process whose thread waits; 0: none does. */
static _Atomic(int) watcher;

FACE_EXPORT size_t allod_page_trim(unsigned severity)
{
	if (heap_init() != 0)
		return 0;
	return severity >= SEVERITY_MOST ? heap_trim() : page_trim_by(severity);
}

FACE_EXPORT int allod_page_limit_set(size_t bytes)
{
	int ret = heap_init();

	return ret ? ret : page_limit_set(bytes);
}

static void call(void *fn, void *arg, const struct os_pressure_event *event, size_t given_bytes)
{
	const struct allod_page_pressure pressure = {
		.struct_bytes = sizeof(pressure),
		.severity = event->severity,
		.sources = event->sources,
		.given_bytes = given_bytes,
	};

	((allod_page_pressure_fn)fn)(&pressure, arg);
}

/* allod's own memory goes first: a callback may need some. */
static void deliver(const struct os_pressure_event *event)
{
	(void)pressure_deliver(event, allod_page_trim(event->severity), call);
}

/* Takes back that there is a thread; true: somebody wants it after all. */
static bool watcher_ends(int process)
{
	int none = 0;

	a_store_rlx(&watcher, 0);
	/* [pressure.1] seq: there is no thread, and then the look; pairs with watcher_need(). */
	a_fence_seq();
	return pressure_thread_wanted() == 0 || !a_cas_strong_rlx(&watcher, &none, process);
}

/* Whether the calling thread is the one from now on. */
static bool watcher_begins(int process)
{
	int there;

	/* [pressure.1] seq: who had us made is entered, and then the look; pairs with
	 * watcher_ends(). */
	a_fence_seq();
	there = a_load_rlx(&watcher);
	if (there == process || !a_cas_strong_rlx(&watcher, &there, process))
		return false;
	/* [pressure.1] seq: there is a thread, and then the look; pairs with watcher_wake(). */
	a_fence_seq();
	return true;
}

static void *watcher_main(void *arg)
{
	struct os_pressure *sources = arg;
	const int process = os_pid();
	struct os_pressure_event event;

	if (!watcher_begins(process))
		return NULL;
	while (pressure_thread_wanted() != 0 || !watcher_ends(process))
		if (os_pressure_wait(sources, -1, &event))
			deliver(&event);
	return NULL;
}

/* After somebody who wants it was entered: sees to it that there is a thread. */
static bool watcher_need(struct os_pressure *sources)
{
	/* [pressure.1] seq: the subscriber is entered, and then the look; pairs with
	 * watcher_ends(). */
	a_fence_seq();
	return a_load_rlx(&watcher) == os_pid() || helper_make(watcher_main, sources);
}

/* After a subscription was ended: if it was the last that wanted a thread, that is to end. */
static void watcher_wake(void)
{
	struct os_pressure *sources;

	/* [pressure.1] seq: it is ended, and then the look; pairs with watcher_begins(). */
	a_fence_seq();
	if (pressure_thread_wanted() == 0 && a_load_rlx(&watcher) == os_pid() &&
		!pressure_sources(&sources))
		os_pressure_wake(sources);
}

FACE_EXPORT int allod_page_pressure_subscribe(allod_page_pressure_fn fn, void *arg,
	unsigned severity, unsigned flags)
{
	const bool wants_thread = flags & ALLOD_PAGE_PRESSURE_THREAD;
	struct os_pressure *sources;
	int ret;

	if (!fn || severity < 1 || severity > SEVERITY_MOST ||
		flags & ~(unsigned)ALLOD_PAGE_PRESSURE_THREAD)
		return -EINVAL;
	ret = heap_init();
	if (!ret)
		ret = pressure_sources(&sources);
	if (!ret)
		ret = pressure_subscribe((void *)fn, arg, severity, wants_thread);
	if (ret > 0 && wants_thread && !watcher_need(sources)) {
		(void)pressure_unsubscribe(ret);
		ret = -EAGAIN;
	}
	return ret;
}

FACE_EXPORT int allod_page_pressure_unsubscribe(int subscription)
{
	int ret = pressure_unsubscribe(subscription);

	if (ret != -ENOENT)
		watcher_wake();
	return ret;
}

FACE_EXPORT int allod_page_pressure_fd(void)
{
	struct os_pressure *sources;
	int ret = heap_init();

	if (!ret)
		ret = pressure_sources(&sources);
	return ret ? ret : sources->fd;
}

FACE_EXPORT int allod_page_pressure_dispatch(void)
{
	struct os_pressure *sources;
	struct os_pressure_event event;
	int ret = heap_init();

	if (!ret)
		ret = pressure_sources(&sources);
	if (ret)
		return ret;
	if (!os_pressure_wait(sources, 0, &event)) {
		/* What it found was perhaps the wake-up of the thread. */
		watcher_wake();
		return 0;
	}
	deliver(&event);
	watcher_wake();
	return (int)event.severity;
}
