/* SPDX-License-Identifier: MIT */
/*
 * The memory that the explorer models: for each atomic location the history of its stores, for each
 * thread what it knows of them. The rules are C11's for everything that can be built by performing
 * the threads' operations one after the other:
 *
 * - Each location has its stores in modification order. A thread has a view: for each location the
 *   oldest store it may still see. A load may see that store or any newer one; the search chooses.
 *   What it sees becomes its view, so coherence holds. After it has seen the same older store three
 *   times in a row it is shown a newer one (a store becomes visible in finite time).
 * - A release store carries the thread's view; a relaxed one carries the view of the thread's last
 *   release fence. A load that acquires joins the view of the store it sees; a relaxed load keeps it
 *   aside for a later acquire fence.
 * - A read-modify-write takes its place directly after the store that it read, and nothing is put
 *   between them later. It carries on that store's view, and so does a plain store of the thread that
 *   began it: release sequences as C11 to C17 have them (C++20 has dropped the latter part). If a store
 *   is put in between later, what was carried on stays, which is slightly stronger than C17. A failed
 *   compare-and-swap is a load.
 * - A store may take any place in modification order behind the thread's view, so stores of two
 *   threads can be ordered otherwise than they were performed (the litmus test 2+2W).
 * - A sequentially consistent fence joins the thread's view with one global view, both ways; such
 *   loads and stores do so for their location only. This is slightly stronger than C11 where they
 *   are mixed with weaker accesses of the same location.
 * - explore_barrier(), the kernel's barrier for all threads of a process, is a sequentially consistent
 *   fence of every thread at once; what others did before it happens before what the caller does
 *   behind it, and the reverse.
 * - Plain accesses told by a_data_read() and a_data_write() are no scheduling points; vector clocks
 *   find those that race, in whatever order they were performed. They are recognized by the address
 *   of their first byte.
 *
 * Not modelled: a load that sees a store which its own thread's later stores led to, or one not yet
 * performed (load buffering, out of thin air); consume; accesses of different sizes to overlapping
 * atomics, which are reported; plain accesses that nobody told it of. A plain store to an atomic
 * location after set_up is reported.
 */
#include <string.h>

#include "explore_memory.h"

enum {
	SAME_STALE_READS = 3,
	ARENA_BYTES = 24 << 20,
};

/* What somebody knows: events of each thread, and for each location the time of a store. */
struct view {
	uint32_t clock[EXPLORE_THREADS];
	unsigned count; /* times that follow; those not stored are 0 */
	uint64_t time[MEMORY_LOCATIONS];
};

struct location {
	uintptr_t addr;
	size_t size;
	struct store *newest;
	struct stale {
		const struct store *seen;
		unsigned times;
	} stale[EXPLORE_THREADS];
};

struct knowledge {
	struct view now;
	struct view fence_release;
	struct view fence_acquire; /* seen by relaxed loads, for an acquire fence */
	bool has_fence_release;
};

static uintptr_t location_addr(unsigned index);

static struct knowledge threads[EXPLORE_THREADS];
static struct view global_sc;
static struct location locations[MEMORY_LOCATIONS];
static unsigned location_count;
static struct memory_table location_table = { .addr_of = location_addr };
static uint32_t execution;
static char arena[ARENA_BYTES] __attribute__((aligned(16)));
static size_t arena_used;
static unsigned stale_left, failures_left;
static int thread_count;

static uintptr_t location_addr(unsigned index)
{
	return locations[index].addr;
}

static void *arena_take(size_t bytes)
{
	void *p = arena + arena_used;

	arena_used += (bytes + 15) & ~(size_t)15;
	if (arena_used > sizeof(arena))
		explore_fail("the explorer's memory is full: a shorter scenario is needed");
	return p;
}

static void view_clear(struct view *v)
{
	memset(v->clock, 0, sizeof(v->clock));
	v->count = 0;
}

static uint64_t view_time(const struct view *v, unsigned location)
{
	return location < v->count ? v->time[location] : 0;
}

static void view_raise(struct view *v, unsigned location, uint64_t time)
{
	while (v->count <= location)
		v->time[v->count++] = 0;
	if (v->time[location] < time)
		v->time[location] = time;
}

static void view_join_times(struct view *v, const struct view *with)
{
	for (unsigned i = 0; i < with->count; i++)
		view_raise(v, i, with->time[i]);
}

static void view_join(struct view *v, const struct view *with)
{
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (v->clock[t] < with->clock[t])
			v->clock[t] = with->clock[t];
	view_join_times(v, with);
}

static void view_copy(struct view *to, const struct view *from)
{
	memcpy(to, from, offsetof(struct view, time) + from->count * sizeof(from->time[0]));
}

static bool is_release(enum explore_order o)
{
	return o == EXPLORE_REL || o >= EXPLORE_ACQREL;
}

static bool is_acquire(enum explore_order o)
{
	return o == EXPLORE_ACQ || o >= EXPLORE_ACQREL;
}

void memory_begin_execution(const struct explore_limits *limits, int count)
{
	execution++;
	thread_count = count;
	location_count = 0;
	arena_used = 0;
	stale_left = limits->stale_reads ? limits->stale_reads : UINT32_MAX;
	stale_left = limits->newest_only ? 0 : stale_left;
	failures_left = limits->weak_failures;
	view_clear(&global_sc);
	for (int t = 0; t < count; t++) {
		view_clear(&threads[t].now);
		view_clear(&threads[t].fence_acquire);
		threads[t].has_fence_release = false;
		threads[t].now.clock[t] = 1;
	}
	data_begin_execution();
}

uint32_t memory_clock(int thread, int of)
{
	return threads[thread].now.clock[of];
}

bool memory_knows(int of, uint32_t clock)
{
	return of == sched_self || threads[sched_self].now.clock[of] >= clock;
}

uint64_t memory_get(const volatile void *p, size_t size)
{
	switch (size) {
	case 1: return *(const volatile uint8_t *)p;
	case 2: return *(const volatile uint16_t *)p;
	case 4: return *(const volatile uint32_t *)p;
	case 8: return *(const volatile uint64_t *)p;
	default: explore_fail("an atomic of %zu bytes", size);
	}
}

void memory_put(volatile void *p, size_t size, uint64_t value)
{
	switch (size) {
	case 1: *(volatile uint8_t *)p = (uint8_t)value; break;
	case 2: *(volatile uint16_t *)p = (uint16_t)value; break;
	case 4: *(volatile uint32_t *)p = (uint32_t)value; break;
	case 8: *(volatile uint64_t *)p = value; break;
	default: explore_fail("an atomic of %zu bytes", size);
	}
}

unsigned memory_look_up(struct memory_table *table, uintptr_t addr, unsigned count)
{
	unsigned i = (unsigned)((addr * 0x9e3779b97f4a7c15u) >> 55);
	struct memory_slot *slot = &table->slots[i];

	while (slot->execution == execution && table->addr_of(slot->index) != addr)
		slot = &table->slots[++i % MEMORY_SLOTS];
	if (slot->execution != execution)
		*slot = (struct memory_slot){ execution, (uint16_t)count };
	return slot->index;
}

/* A location's history begins with the value that set_up left in memory. */
static void location_make(struct location *l, uintptr_t addr, size_t size)
{
	struct store *first = arena_take(sizeof(*first));

	*first = (struct store){ .time = 1, .value = memory_get((void *)addr, size) };
	*l = (struct location){ .addr = addr, .size = size, .newest = first };
}

struct operation memory_operation(struct explore_site *site, const volatile void *p, size_t size,
	bool write)
{
	struct explore_access access = { .addr = (uintptr_t)p, .size = size, .write = write };
	struct operation op = { .site = site, .order = site_order(site) };
	struct location *l;

	access.sc = op.order == EXPLORE_SEQ;
	sched_point(&access);
	data_check_mapped(access.addr, size, site->file, site->line);
	op.location = memory_look_up(&location_table, access.addr, location_count);
	if (op.location == MEMORY_LOCATIONS)
		explore_fail("more than %d atomic locations", MEMORY_LOCATIONS);
	l = &locations[op.location];
	if (op.location == location_count) {
		undo_remember((volatile void *)p, size);
		location_make(l, access.addr, size);
		location_count++;
	}
	if (l->size != size)
		explore_fail("%s:%u: an atomic accessed in two sizes", site->file, site->line);
	if (memory_get(p, size) != l->newest->value)
		explore_fail("%s:%u: a plain store changed an atomic", site->file, site->line);
	return op;
}

void memory_forget(const volatile void *p, size_t bytes)
{
	for (unsigned i = 0; i < location_count; i++)
		if (locations[i].addr - (uintptr_t)p < bytes)
			location_make(&locations[i], locations[i].addr, locations[i].size);
}

/* Nothing may come between a store and the read-modify-write that read it. */
static bool has_room_behind(const struct store *s)
{
	return !s->newer || !s->newer->is_rmw;
}

/* True if the thread has seen this older store so often that it must see a newer one. */
static bool is_worn(const struct operation *op, const struct store *s)
{
	const struct stale *stale = &locations[op->location].stale[sched_self];

	return s->newer && stale->seen == s && stale->times >= SAME_STALE_READS;
}

static void note_seen(const struct operation *op, const struct store *s)
{
	struct stale *stale = &locations[op->location].stale[sched_self];

	stale->times = stale->seen == s ? stale->times + 1 : 1;
	stale->seen = s;
}

/* The next store that the operation may still choose, from the newest on; NULL behind the last. */
static struct store *next_choice(const struct operation *op, struct store *s, unsigned count)
{
	uint64_t oldest = view_time(&threads[sched_self].now, op->location);
	uint64_t sc = op->order == EXPLORE_SEQ ? view_time(&global_sc, op->location) : 0;

	s = s ? s->older : locations[op->location].newest;
	if (!s || s->time < oldest || s->time < sc)
		return NULL;
	if (count + 2 > MEMORY_CANDIDATES || (count > 0 && stale_left == 0))
		return NULL;
	return s;
}

unsigned memory_readable(const struct operation *op, struct candidate *ret)
{
	unsigned count = 0;

	for (struct store *s = NULL; (s = next_choice(op, s, count));)
		if (!is_worn(op, s))
			ret[count++] = (struct candidate){ .store = s };
	return count;
}

unsigned memory_writable(const struct operation *op, struct candidate *ret)
{
	unsigned count = 0;

	for (struct store *s = NULL; (s = next_choice(op, s, count));)
		if (has_room_behind(s))
			ret[count++] = (struct candidate){ .store = s };
	return count;
}

unsigned memory_swappable(const struct operation *op, bool weak, uint64_t expected,
	struct candidate *ret)
{
	unsigned count = 0;

	for (struct store *s = NULL; (s = next_choice(op, s, count));) {
		if (s->value == expected && has_room_behind(s))
			ret[count++] = (struct candidate){ .store = s };
		if (s->value != expected && !is_worn(op, s))
			ret[count++] = (struct candidate){ .store = s, .fails = true };
		if (s->value == expected && weak && failures_left > 0)
			ret[count++] = (struct candidate){ s, .fails = true, .spurious = true };
	}
	return count;
}

struct candidate memory_choose(const struct candidate *c, unsigned count)
{
	unsigned i = choice_number(count);

	if (c[i].store->newer && stale_left != UINT32_MAX)
		stale_left--;
	failures_left -= c[i].spurious;
	return c[i];
}

void memory_see(const struct operation *op, const struct store *s)
{
	struct knowledge *k = &threads[sched_self];

	note_seen(op, s);
	view_raise(&k->now, op->location, s->time);
	if (s->view)
		view_join(is_acquire(op->order) ? &k->now : &k->fence_acquire, s->view);
	if (op->order == EXPLORE_SEQ)
		view_raise(&global_sc, op->location, s->time);
}

/* The join of two views, either of which may be NULL; never changes one. */
static const struct view *joined(const struct view *a, const struct view *b)
{
	unsigned count;
	struct view *v;

	if (!a || !b || a == b)
		return a ? a : b;
	count = a->count > b->count ? a->count : b->count;
	v = arena_take(offsetof(struct view, time) + count * sizeof(v->time[0]));
	view_copy(v, a);
	view_join(v, b);
	return v;
}

/* A copy of what the thread tells by a store of this order, or NULL. */
static const struct view *own_message(enum explore_order order)
{
	const struct knowledge *k = &threads[sched_self];
	const struct view *own = is_release(order) ? &k->now : &k->fence_release;
	struct view *v;

	if (!is_release(order) && !k->has_fence_release)
		return NULL;
	v = arena_take(offsetof(struct view, time) + own->count * sizeof(v->time[0]));
	view_copy(v, own);
	return v;
}

/* Gives a new store its message: its thread's own, and what it carries on of release sequences. */
static void make_message(struct store *s, enum explore_order order)
{
	for (int t = 0; t < thread_count; t++) {
		if (s->is_rmw || t == sched_self)
			s->headed[t] = s->older->headed[t];
		if (t == sched_self)
			s->headed[t] = joined(own_message(order), s->headed[t]);
		s->view = joined(s->view, s->headed[t]);
	}
}

void memory_put_behind(const struct operation *op, struct store *behind, uint64_t value,
	bool is_rmw)
{
	uint64_t gap = behind->newer ? behind->newer->time - behind->time : (uint64_t)1 << 41;
	struct knowledge *k = &threads[sched_self];
	struct location *l = &locations[op->location];
	struct store *s = arena_take(sizeof(*s));

	if (gap < 2)
		explore_fail("no more room in modification order");
	*s = (struct store){ .older = behind,
		.newer = behind->newer,
		.time = behind->time + gap / 2,
		.value = value,
		.is_rmw = is_rmw };
	view_raise(&k->now, op->location, s->time);
	make_message(s, op->order);
	behind->newer = s;
	if (s->newer)
		s->newer->older = s;
	else
		l->newest = s;
	memory_put((void *)l->addr, l->size, l->newest->value);
	note_seen(op, s);
	if (op->order == EXPLORE_SEQ)
		view_raise(&global_sc, op->location, s->time);
	k->now.clock[sched_self]++;
}

static void fence(int thread, enum explore_order order)
{
	struct knowledge *k = &threads[thread];

	if (is_acquire(order))
		view_join(&k->now, &k->fence_acquire);
	if (order == EXPLORE_SEQ) {
		view_join_times(&k->now, &global_sc);
		view_join_times(&global_sc, &k->now);
	}
	if (is_release(order)) {
		view_copy(&k->fence_release, &k->now);
		k->has_fence_release = true;
		k->now.clock[thread]++;
	}
}

void memory_fence(enum explore_order order)
{
	fence(sched_self, order);
}

/*
 * The caller learns of all that others did before, and they of all that it did before; what two others
 * did is ordered only as by a fence of each.
 */
void memory_barrier(void)
{
	static struct view before;
	struct knowledge *self = &threads[sched_self];

	fence(sched_self, EXPLORE_SEQ);
	view_copy(&before, &self->now);
	for (int t = 0; t < thread_count; t++) {
		if (t == sched_self)
			continue;
		fence(t, EXPLORE_ACQ);
		view_join(&self->now, &threads[t].now);
		view_join(&threads[t].now, &before);
		fence(t, EXPLORE_SEQ);
	}
	fence(sched_self, EXPLORE_SEQ);
}
