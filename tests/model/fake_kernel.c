/* SPDX-License-Identifier: MIT */
/* See fake_kernel.h. */
#include "fake_kernel.h"

#include <errno.h>
#include <string.h>

#include "base/options.h"

enum { WORD_BITS = 64 };

struct arena fake_arena;
struct page_arena page_arena;
struct options options = { .enabled = true };

/* No object lies so high: whatever is below is the address of records. */
static const uintptr_t base = (uintptr_t)1 << 60;

/* By unit: granules in the low half, records in the high one. */
static _Atomic(uint64_t) mapped;
/* By granule. */
static _Atomic(uint64_t) accessible[FAKE_UNITS * FAKE_UNIT / WORD_BITS];
/* By step of records. */
static _Atomic(uint64_t) records_accessible;
static _Alignas(64) _Atomic(uint64_t) storage[FAKE_UNITS * FAKE_UNIT / 64 + FAKE_UNITS * 8];
static _Atomic(uint16_t) stamps[FAKE_UNITS * FAKE_UNIT];
static _Atomic(uint64_t) fit[FIT_CLASSES * FIT_WAYS];
static _Atomic(uint8_t) composed[FAKE_UNITS * FAKE_UNIT / ARENA_CHUNK_GRANULES];
static _Atomic(uint32_t) links[FAKE_SLOT_STEPS * ARENA_RECORD_STEP];
static uint64_t next_mapping;
static uint32_t slots_held[8];
static bool kill_janitor;
static _Atomic(uint32_t) is_killed;
jmp_buf fake_killed;
static unsigned slot_count;
static int overcommit_mode;
static void (*on_touch)(size_t pos, size_t n, bool begins);
static _Atomic(uint64_t) mappings;

static uint64_t bits(size_t from, size_t to)
{
	return to - from < 64 ? (((uint64_t)1 << (to - from)) - 1) << from : ~(uint64_t)0;
}

/* The units that a range of addresses covers, as bits of `mapped`. */
static uint64_t units_of(const void *p, size_t bytes)
{
	uintptr_t at = (uintptr_t)p;
	size_t unit_bytes = (size_t)FAKE_UNIT << PAGE_RECORD_SHIFT;
	size_t end;

	if (at >= base) {
		unit_bytes = (size_t)FAKE_UNIT << PAGE_GRANULE_SHIFT;
		EXPLORE_CHECK((at - base) % unit_bytes == 0 && bytes % unit_bytes == 0);
		return bits((at - base) / unit_bytes, (at - base + bytes) / unit_bytes);
	}
	end = (uintptr_t)&fake_arena - at;
	EXPLORE_CHECK(end % unit_bytes == 0 && bytes % unit_bytes == 0);
	return bits(32 + (end - bytes) / unit_bytes, 32 + end / unit_bytes);
}

static void commit_granules(size_t pos, size_t n)
{
	while (n) {
		size_t low = pos % WORD_BITS;
		size_t count = min_size(n, WORD_BITS - low);
		(void)a_or_rlx(&accessible[pos / WORD_BITS], bits(low, low + count));
		pos += count;
		n -= count;
	}
}

void fake_kernel_reset(size_t frontier)
{
	struct arena *a = &fake_arena;

	memset(a, 0, sizeof(*a));
	memset(storage, 0, sizeof(storage));
	memset(stamps, 0, sizeof(stamps));
	memset(links, 0, sizeof(links));
	memset(composed, 0, sizeof(composed));
	memset(fit, 0, sizeof(fit));
	a_store_rlx(&mappings, 0);
	/* Strict: steps of growth are small. */
	overcommit_mode = 2;
	on_touch = NULL;
	memset(accessible, 0, sizeof(accessible));
	a->base = base;
	a->granules = (size_t)FAKE_UNITS * FAKE_UNIT;
	a->slots = FAKE_SLOT_STEPS * ARENA_RECORD_STEP;
	a->records = (uintptr_t)a - PAGE_RECORD_BYTES;
	a->stamps = stamps;
	a->slot_links = links;
	a->composed = composed;
	a->fit = fit;
	a->epoch_shift = FAKE_EPOCH_SHIFT;
	a->decay_epochs = 2;
	a_store_rlx(&a->guard_at, GUARD_NO_LIMIT / 2);
	a_store_rlx(&a->limit, GUARD_NO_LIMIT);
	bitmap_init(&a->map, storage, a->granules);
	a_store_rlx(&a->ends, ends_make(frontier, FAKE_UNIT));
	a_store_rlx(&a->records_reserved, FAKE_UNIT);
	a_store_rlx(&a->balance, frontier);
	a_store_rlx(&mapped, (uint64_t)1 | (uint64_t)1 << 32);
	a_store_rlx(&records_accessible, 1);
	a_store_rlx(&page_arena.bytes, (uintptr_t)FAKE_UNIT << PAGE_GRANULE_SHIFT);
	commit_granules(0, frontier);
	next_mapping = 0;
	slot_count = 0;
	kill_janitor = false;
	a_store_rlx(&is_killed, 0);
}

void fake_stranger_granules(unsigned unit)
{
	a_or_rlx(&mapped, (uint64_t)1 << unit);
}

void fake_stranger_records(unsigned unit)
{
	a_or_rlx(&mapped, (uint64_t)1 << (32 + unit));
}

void fake_records_ahead(void)
{
	a_or_rlx(&mapped, bits(32, 32 + FAKE_UNITS));
	a_store_rlx(&fake_arena.records_reserved, FAKE_UNITS * FAKE_UNIT);
}

void fake_kill_janitor(void)
{
	kill_janitor = true;
}

void fake_slots_used(size_t used)
{
	for (size_t first = 0; first < used; first += ARENA_RECORD_STEP) {
		size_t unit = FAKE_UNITS + first / ARENA_RECORD_STEP;
		a_or_rlx(&mapped, (uint64_t)1 << (32 + unit));
		a_or_rlx(&records_accessible, (uint64_t)1 << unit);
		a_store_rlx(&fake_arena.slot_steps[first / ARENA_RECORD_STEP], 1);
	}
	a_store_rlx(&fake_arena.slots_used, used);
}

void fake_touch_record(size_t index)
{
	EXPLORE_CHECK(a_load_rlx(&records_accessible) >> index / ARENA_RECORD_STEP & 1);
}

void fake_touch(size_t pos, size_t n)
{
	for (size_t i = pos; i < pos + n; i++) {
		EXPLORE_CHECK(a_load_rlx(&accessible[i / WORD_BITS]) >> i % WORD_BITS & 1);
		fake_touch_record(i);
	}
}

struct arena *arena_get(void)
{
	return &fake_arena;
}

struct arena *arena_need(void)
{
	return &fake_arena;
}

const struct os_facts *os_facts(void)
{
	static struct os_facts facts = { .page_bytes = 4096,
		.address_limit_bytes = OS_UNLIMITED,
		.data_limit_bytes = OS_UNLIMITED };

	facts.overcommit_mode = (unsigned)overcommit_mode;
	return &facts;
}

int os_reserve_at(void *p, size_t bytes)
{
	uint64_t wanted = units_of(p, bytes);
	uint64_t now = a_load_rlx(&mapped);

	do {
		if (now & wanted)
			return -EEXIST;
	} while (!a_cas_strong_rlx(&mapped, &now, now | wanted));
	return 0;
}

int os_commit(void *p, size_t bytes)
{
	uintptr_t at = (uintptr_t)p;

	if (at >= base) {
		size_t pos = (at - base) >> PAGE_GRANULE_SHIFT;
		size_t n = bytes >> PAGE_GRANULE_SHIFT;
		for (size_t unit = pos / FAKE_UNIT; unit <= (pos + n - 1) / FAKE_UNIT; unit++)
			EXPLORE_CHECK(a_load_rlx(&mapped) >> unit & 1);
		commit_granules(pos, n);
	} else {
		uint64_t units = units_of(p, bytes);
		EXPLORE_CHECK((a_load_rlx(&mapped) & units) == units);
		(void)a_or_rlx(&records_accessible, units >> 32);
	}
	return 0;
}

/* What is unmapped was the caller's, and nobody has anything there. */
int os_unmap(void *p, size_t bytes)
{
	uint64_t units = units_of(p, bytes);

	for (unsigned unit = 0; unit < FAKE_UNITS; unit++)
		for (unsigned i = 0; units >> unit & 1 && i < FAKE_UNIT / WORD_BITS; i++)
			EXPLORE_CHECK(!a_load_rlx(&accessible[unit * FAKE_UNIT / WORD_BITS + i]));
	EXPLORE_CHECK(!(a_load_rlx(&records_accessible) & units >> 32));
	EXPLORE_CHECK((a_and_rlx(&mapped, ~units) & units) == units);
	return 0;
}

/* The kernel is at these pages: nobody else may be. */
static void touch(void *p, size_t bytes, bool begins)
{
	if (on_touch)
		on_touch(((uintptr_t)p - base) >> PAGE_GRANULE_SHIFT, bytes >> PAGE_GRANULE_SHIFT,
			begins);
}

void fake_may_move(void (*fn)(size_t pos, size_t n, bool begins))
{
	overcommit_mode = 0;
	on_touch = fn;
}

int os_decommit(void *p, size_t bytes)
{
	touch(p, bytes, true);
	touch(p, bytes, false);
	if (!kill_janitor)
		return 0;
	a_store_rlx(&is_killed, 1);
	longjmp(fake_killed, 1);
}

/* What is cold keeps its contents here: a taker must not rely on either. */
int os_lazyfree(void *p, size_t bytes)
{
	return os_decommit(p, bytes);
}

void cost_measure(struct arena *a)
{
}

void cost_note(_Atomic(uint32_t) *mean, uint64_t ns, size_t chunks)
{
}

bool cost_compose_pays(struct arena *a)
{
	return true;
}

bool os_task_is_me(const struct os_task *task)
{
	return false;
}

void guard_round(struct arena *a, const struct os_headroom_files *files)
{
}

void stall_round(struct stall_seen *seen, const struct os_headroom_files *files)
{
}

void os_headroom_open(struct os_headroom_files *ret_files)
{
}

int os_huge(void *p, size_t bytes, bool on)
{
	return 0;
}

int os_name(void *p, size_t bytes, const char *name)
{
	return 0;
}

/* Direct runs: any address that is nobody's. */
void *os_map(size_t bytes, size_t align)
{
	next_mapping += bytes;
	return (void *)(base * 2 + next_mapping);
}

uint64_t os_now_ns(void)
{
	return (uint64_t)FAKE_EPOCH << FAKE_EPOCH_SHIFT;
}

bool os_task_alive(const struct os_task *task)
{
	return !explore_is_stopped(0) && !a_load_rlx(&is_killed);
}

void os_fatal(const char *line)
{
	explore_fail("%s", line);
}

/* Whoever has a slot may write to its record, and nobody else has it. */
int map_set(const char *p, size_t from, size_t to, uint32_t slot)
{
	fake_touch_record(fake_arena.granules + slot);
	for (unsigned i = 0; i < slot_count; i++)
		EXPLORE_CHECK(slots_held[i] != slot);
	EXPLORE_CHECK(slot_count < sizeof(slots_held) / sizeof(slots_held[0]));
	slots_held[slot_count++] = slot;
	return 0;
}

/* What the scenarios never come to. */

__attribute__((noinline)) static _Noreturn void unexpected(const char *name);

void pressure_fork_child(void)
{
}

bool guard_begin(int64_t epoch)
{
	return true;
}

void guard_end(void)
{
}

bool guard_is_inside(int64_t epoch)
{
	return false;
}

void guard_freed(struct arena *a)
{
	unexpected(__func__);
}

static _Noreturn void unexpected(const char *name)
{
	explore_fail("%s was called", name);
}

void map_clear(const char *p, size_t from, size_t to)
{
	unexpected(__func__);
}

uint32_t map_get(const void *p)
{
	unexpected(__func__);
}

uint32_t map_remove(const char *p)
{
	unexpected(__func__);
}

/* No huge pages: what is known of them are hints. */
void huge_note_reuse(struct arena *a, size_t pos, size_t n)
{
}

void huge_start(struct arena *a)
{
}

bool huge_round(struct arena *a)
{
	return false;
}

bool huge_is(const struct arena *a, size_t pos)
{
	return false;
}

bool huge_is_plain(const struct arena *a, size_t chunk)
{
	return true;
}

void huge_adopt(struct arena *a, size_t chunk)
{
}

void huge_forget(struct arena *a, size_t pos, size_t n)
{
}

bool move_reset(struct arena *a, size_t pos, size_t n)
{
	unexpected(__func__);
}

bool move_repair(void *p, size_t bytes)
{
	unexpected(__func__);
}

void *os_reserve(size_t bytes, size_t align)
{
	unexpected(__func__);
}

int os_grow(void *p, size_t old_bytes, size_t new_bytes)
{
	unexpected(__func__);
}

void *os_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old)
{
	touch(old, old_bytes, true);
	touch(dst, new_bytes, true);
	touch(dst, new_bytes, false);
	touch(old, old_bytes, false);
	return dst;
}

bool move_fresh(char *p, size_t bytes)
{
	touch(p, bytes, true);
	touch(p, bytes, false);
	return true;
}

int os_present(void *p, size_t bytes, size_t *ret_pages)
{
	*ret_pages = bytes / 4096;
	return 0;
}

bool page_move_spared(void *p, size_t bytes)
{
	unexpected(__func__);
}

uint64_t os_fine_ns(void)
{
	return os_now_ns();
}

bool page_mappings_take(size_t n)
{
	a_add_rlx(&mappings, n);
	return true;
}

void page_mappings_give(size_t n)
{
	EXPLORE_CHECK(a_sub_rlx(&mappings, n) >= n);
}

bool page_mappings_crowded(void)
{
	return false;
}

uint64_t fake_mappings(void)
{
	return a_load_rlx(&mappings);
}

int os_task_start(struct os_task *task, void (*fn)(void *arg), void *arg)
{
	unexpected(__func__);
}

int page_init(void)
{
	return 0; /* the scenarios begin with an arena that is made */
}

void os_wait_while(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns)
{
	unexpected(__func__);
}

bool os_task_sleep(struct os_task *task, uint64_t ns)
{
	unexpected(__func__);
}

void os_task_wake(struct os_task *task)
{
	unexpected(__func__);
}

void os_task_stop(struct os_task *task)
{
	unexpected(__func__);
}

void os_task_fork_child(struct os_task *task)
{
	unexpected(__func__);
}

bool os_task_is_mine(const struct os_task *task)
{
	unexpected(__func__);
}

int os_pid(void)
{
	unexpected(__func__);
}
