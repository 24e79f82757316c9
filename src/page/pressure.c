/* SPDX-License-Identifier: MIT */
/*
 * Who is told of memory pressure.
 *
 * Operations        pressure_subscribe, pressure_unsubscribe, pressure_deliver
 * Synchronization   any of them beside any other, in any number of threads. A subscriber's state
 *                   says in which phase it is and how many threads are calling it
 * Linearization     subscribe: the store of LIVE. Unsubscribe: the compare-and-swap to ENDING or
 *                   FREE. Deliver, for each subscriber: the compare-and-swap that counts the caller
 * Ordering          [page.9]: the fields are written before LIVE is seen, and read before the place
 *                   is given to another
 * Progress          lock-free; a thread that stops in a callback keeps that place, and no more. One
 *                   that stops while it opens the sources leaves the process without them
 * Reclamation       places are type-stable; the generation in the state tells an old number
 *
 * State: generation:32 | phase:16 | callers:16.
 */
#include "page/pressure.h"

#include "arena.h"

#include <errno.h>

enum phase { PHASE_FREE = 0, PHASE_FILLING, PHASE_LIVE, PHASE_ENDING };

enum { PHASE_SHIFT = 16, GENERATION_SHIFT = 32, CALLERS_MASK = 0xffff, PLACE_BITS = 5 };

/* A subscriber's number: generation and place + 1, in 31 bits. */
#define GENERATION_MASK ((uint32_t)0x1ffffff)

struct subscriber pressure_places[PRESSURE_SUBSCRIBERS];

__thread _Atomic(uint32_t) pressure_calling;

static enum phase phase_of(uint64_t state)
{
	return (enum phase)(state >> PHASE_SHIFT & 0xffff);
}

static uint64_t callers_of(uint64_t state)
{
	return state & CALLERS_MASK;
}

static uint64_t with_phase(uint64_t state, enum phase phase)
{
	return (state & ~((uint64_t)0xffff << PHASE_SHIFT)) | (uint64_t)phase << PHASE_SHIFT;
}

/* The place is free, and numbers of its last subscriber mean nothing any more. */
static uint64_t freed(uint64_t state)
{
	return ((state >> GENERATION_SHIFT) + 1) << GENERATION_SHIFT;
}

static int number_of(uint32_t place, uint64_t state)
{
	return (int)(((uint32_t)(state >> GENERATION_SHIFT) & GENERATION_MASK) << PLACE_BITS |
		       place) +
		1;
}

int pressure_subscribe(void *fn, void *arg, unsigned severity, bool wants_thread)
{
	for (uint32_t i = 0; i < PRESSURE_SUBSCRIBERS; i++) {
		struct subscriber *s = &pressure_places[i];
		uint64_t state = a_load_rlx(&s->state);
		/* [page.9] acq: who read the fields has done so; pairs with leave(). */
		if (phase_of(state) != PHASE_FREE ||
			!a_cas_strong_acq(&s->state, &state, with_phase(state, PHASE_FILLING)))
			continue;
		a_store_rlx(&s->fn, fn);
		a_store_rlx(&s->arg, arg);
		a_store_rlx(&s->severity, severity);
		a_store_rlx(&s->wants_thread, wants_thread);
		/* [page.9] rel: publishes the fields; pairs with enter(). */
		a_store_rel(&s->state, with_phase(state, PHASE_LIVE));
		return number_of(i, state);
	}
	return -ENOSPC;
}

int pressure_unsubscribe(int number)
{
	uint32_t place = ((uint32_t)number - 1) & (PRESSURE_SUBSCRIBERS - 1);
	struct subscriber *s = &pressure_places[place];
	uint64_t state = a_load_rlx(&s->state);
	uint64_t new;

	if (number <= 0)
		return -ENOENT;
	do {
		if (number_of(place, state) != number || phase_of(state) < PHASE_LIVE)
			return -ENOENT;
		if (phase_of(state) == PHASE_ENDING)
			return -EBUSY;
		new = callers_of(state) ? with_phase(state, PHASE_ENDING) : freed(state);
		/* [page.9] acqrel: what callers did is done; the next subscriber's fields are later. */
	} while (!a_cas_weak_acqrel(&s->state, &state, new));
	if (!callers_of(state) ||
		(callers_of(state) == 1 && a_load_rlx(&pressure_calling) == place + 1))
		return 0;
	return -EBUSY;
}

unsigned pressure_thread_wanted(void)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < PRESSURE_SUBSCRIBERS; i++)
		n += phase_of(a_load_rlx(&pressure_places[i].state)) == PHASE_LIVE &&
			a_load_rlx(&pressure_places[i].wants_thread);
	return n;
}

/* Counts us among the callers; false: there is nobody to call. */
static bool enter(struct subscriber *s)
{
	uint64_t state = a_load_rlx(&s->state);

	do {
		if (phase_of(state) != PHASE_LIVE || callers_of(state) == CALLERS_MASK)
			return false;
		/* [page.9] acq: sees the fields; pairs with pressure_subscribe(). */
	} while (!a_cas_weak_acq(&s->state, &state, state + 1));
	return true;
}

static void leave(struct subscriber *s)
{
	uint64_t state = a_load_rlx(&s->state);
	uint64_t new;

	do {
		/* Of calls within a call a child knows the inner one: pressure_fork_child(). */
		if (!callers_of(state))
			return;
		new = state - 1;
		if (phase_of(new) == PHASE_ENDING && !callers_of(new))
			new = freed(new);
		/* [page.9] acqrel: the call is over; pairs with pressure_unsubscribe() and the next
		 * pressure_subscribe(). */
	} while (!a_cas_weak_acqrel(&s->state, &state, new));
}

unsigned pressure_deliver(const struct os_pressure_event *event, size_t given_bytes,
	pressure_call *call)
{
	uint32_t before = a_load_rlx(&pressure_calling);
	unsigned n = 0;

	for (uint32_t i = 0; i < PRESSURE_SUBSCRIBERS; i++) {
		struct subscriber *s = &pressure_places[i];
		if (!enter(s))
			continue;
		if (event->severity >= a_load_rlx(&s->severity)) {
			a_store_rlx(&pressure_calling, i + 1);
			call(a_load_rlx(&s->fn), a_load_rlx(&s->arg), event, given_bytes);
			a_store_rlx(&pressure_calling, before);
			n++;
		}
		leave(s);
	}
	return n;
}

void pressure_fork_child(void)
{
	for (uint32_t i = 0; i < PRESSURE_SUBSCRIBERS; i++) {
		struct subscriber *s = &pressure_places[i];
		uint64_t state = a_load_rlx(&s->state) & ~(uint64_t)CALLERS_MASK;
		if (a_load_rlx(&pressure_calling) == i + 1)
			state++;
		if (phase_of(state) == PHASE_ENDING && !callers_of(state))
			state = freed(state);
		a_store_rlx(&s->state, state);
	}
}

/* The sources: 0 none yet, 1 being opened, 2 open; and the process whose they are. */
enum sources_state { SOURCES_NONE = 0, SOURCES_OPENING, SOURCES_OPEN };

static struct os_pressure sources;
static _Atomic(uint64_t) sources_state;

static uint64_t state_make(enum sources_state state)
{
	return (uint64_t)(uint32_t)os_pid() << 32 | state;
}

/* In a child the parent's descriptors are of no use: they tell of the parent's events. */
static int sources_open(uint64_t before)
{
	struct os_pressure parents = sources;
	int ret;

	if ((uint32_t)before == SOURCES_OPEN)
		os_pressure_close(&parents);
	ret = os_pressure_open(&sources);
	if (!ret && !sources.sources) {
		os_pressure_close(&sources);
		ret = -EOPNOTSUPP;
	}
	/* [page.10] rel: publishes the sources; pairs with pressure_sources(). */
	a_store_rel(&sources_state, ret ? 0 : state_make(SOURCES_OPEN));
	return ret;
}

int pressure_sources(struct os_pressure **ret_sources)
{
	/* [page.10] acq: sees the sources; pairs with sources_open(). */
	uint64_t state = a_load_acq(&sources_state);
	int ret = 0;

	if (state != state_make(SOURCES_OPEN)) {
		if (state == state_make(SOURCES_OPENING))
			return -EAGAIN;
		/* [page.10] acq: sees what to close. */
		if (!a_cas_strong_acq(&sources_state, &state, state_make(SOURCES_OPENING)))
			return -EAGAIN;
		ret = sources_open(state);
	}
	if (!ret)
		*ret_sources = &sources;
	return ret;
}
