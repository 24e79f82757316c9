/* SPDX-License-Identifier: MIT */
/*
 * page: memory in runs of 64 KiB granules.
 *
 * Owns one range of addresses (the arena), of which a growing part is reserved and the front of
 * that committed, and blocks mapped one by one (direct runs) for what the arena cannot serve. A
 * freed run stays mapped and is handed out again without a system call; memory that stays free for
 * options.decay_ms is given back to the kernel while its addresses are kept.
 *
 * Every granule has one record of PAGE_RECORD_BYTES bytes for the layer above. A record is zero at
 * first, is never unmapped and never moves, so a thread that read a stale pointer may still read
 * the record safely; what it holds is the business of the layer above alone. It keeps its contents
 * when its granule is freed and handed out again.
 *
 * Nothing here takes a lock: a thread stopped anywhere, even for ever, stops no other and keeps at
 * most the run it was handling (for a purge: 2 MiB) out of use. Every function may be called by any
 * thread at any time, also from a signal handler that interrupted another one of them.
 *
 * Callers: the layers above. Calls down: os, base.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#define PAGE_GRANULE_SHIFT 16
#define PAGE_GRANULE_BYTES ((size_t)1 << PAGE_GRANULE_SHIFT)
#define PAGE_RECORD_SHIFT 7
#define PAGE_RECORD_BYTES ((size_t)1 << PAGE_RECORD_SHIFT)
#define PAGE_RECORD_INDEX_BITS 28

/* In a direct run the first so many granules find its (one) record; see page_record_of(). */
#define PAGE_DIRECT_SPAN 64

/*
 * What the inline look-ups need. Constant once page_init() has returned, on the thread on which it
 * returned and on those that got a pointer from it; but `bytes` grows, so that an address whose
 * record is not accessible yet, which only a wild pointer can be, is foreign. Before, `base` is an
 * address that no object can have and `bytes` is 0, and a mixture of old and new values finds
 * nothing either.
 */
struct page_arena {
	_Atomic(uintptr_t) base;    /* address of granule 0, 2 MiB aligned */
	_Atomic(uintptr_t) bytes;   /* addresses from there on whose records are accessible */
	_Atomic(uintptr_t) records; /* record 0; record i lies i records below it */
	_Atomic(uint32_t) watch;    /* see page_wants_ticks(); a hint */
};

/* Hidden, like the other data of the fast paths, so that no load of its address goes before. */
extern struct page_arena page_arena __attribute__((visibility("hidden")));

/* A run as handed out: `zeroed` says that every byte of it reads as zero. */
struct page_run {
	char *base;      /* granule aligned */
	size_t granules; /* as asked for */
	size_t fresh;    /* granules of it that read as zero */
	bool zeroed;
};

struct page_stats {
	size_t arena_bytes;     /* addresses that granules may take up in the end */
	size_t reserved_bytes;  /* of those, reserved so far */
	size_t committed_bytes; /* made accessible so far */
	size_t metadata_bytes; /* accessible bytes of records, bitmap and stamps (resident: less) */
	size_t used_bytes;     /* handed out, direct runs included */
	size_t used_peak_bytes;  /* highest used_bytes so far */
	size_t dirty_bytes;      /* free, and still holding pages */
	size_t cold_bytes;       /* of dirty_bytes: the kernel may take the pages */
	size_t kept_bytes;       /* free and warm in the keeping of layers above */
	uint64_t headroom_bytes; /* at the last look; 0: nobody has looked, UINT64_MAX: no bound */
	size_t limit_bytes;      /* set by page_limit_set(); 0: none */
	size_t purged_bytes;     /* given back to the kernel, sum over the life of the process */
	size_t lost_bytes;       /* of used_bytes: addresses that the kernel made unusable */
	size_t direct_bytes;     /* of used_bytes: mapped one by one */
	size_t direct_runs;      /* how many such runs */
	size_t moved_runs;       /* pieces whose pages were moved in: two mappings each */
	uint64_t move_calls;     /* page_move() that succeeded */
	uint64_t composed_runs;  /* runs that got pages of free chunks, page_alloc_composed() */
	uint64_t composed_bytes; /* so much, sum over the life of the process */
	bool background_running; /* whether idle memory is being given back by the janitor */
};

/*
 * Prepares the layer; every thread calls it before anything else here. Idempotent; threads that
 * race finish independently of one another. Reads `options`, which must be final. Returns 0, or
 * -ENOMEM when not even the metadata could be reserved (a later call tries again).
 */
int page_init(void);

/*
 * Hands out `granules` (> 0) contiguous granules at a multiple of `align_bytes` (a power of two; 0
 * or anything up to a granule means a granule). Returns 0, or -ENOMEM and nothing changed.
 */
int page_alloc(size_t granules, size_t align_bytes, struct page_run *ret_run);

/*
 * The same for a run whose first `used` granules are about to be written to, whatever they contain:
 * where they have no pages, whole chunks of 2 MiB get those of free chunks elsewhere, by moving page
 * tables, as far as there are any and it pays. More than 32 MiB are left as they are, for nobody
 * knows whether all of that will be used.
 */
int page_alloc_composed(size_t granules, size_t used, size_t align_bytes, struct page_run *ret_run);

/*
 * page_alloc() without a system call: -EAGAIN when that is not possible, so nothing is grown or
 * mapped.
 */
int page_alloc_ready(size_t granules, size_t align_bytes, struct page_run *ret_run);

/*
 * Hands out room for up to `count` (> 1) runs of so many granules, side by side, that has all of its
 * pages, the first that is found by a short search: for callers that want much at once, but no more
 * memory than there is. Returns how many, at least 2, or 0. Never a system call.
 */
size_t page_alloc_warm(size_t granules, size_t count, struct page_run *ret_run);

/* The same as page_alloc(), as a direct run always: a mapping of its own. */
int page_alloc_direct(size_t granules, size_t align_bytes, struct page_run *ret_run);

/*
 * For a run that page_alloc() has just given, or the front of it: with `zero` all of it reads as
 * zero afterwards, of which only what needs it is written; with `populate_bytes` what has no pages
 * gets them, whole chunks of 2 MiB huge ones, in two system calls as a rule, two for each place
 * where much has them in between. In a direct run no more than so many bytes get them, and in the
 * arena whole granules. A refusal is not told: the pages come when they are touched.
 */
void page_prepare(struct page_run *run, bool zero, size_t populate_bytes);

/*
 * For the owner of a run that is about to move its pages elsewhere: its mapping is one with the
 * arena's again, as far as huge pages are concerned. Those that it has stay.
 */
void page_forbid_huge(const char *base, size_t granules);

/*
 * How many granules of a run, of `granules` from `base` on, lie in one mapping: all of them, or less
 * where it was composed or moved. The kernel moves one mapping at a time.
 */
size_t page_piece(const char *base, size_t granules);

/*
 * Takes back a whole run: `base` and `granules` as handed out or as last changed by page_extend()
 * and page_shrink(). The caller is done with the records of the run before it calls. A run freed
 * twice ends the process.
 */
void page_free(char *base, size_t granules);

/* The same for a run all of which reads as zero, because its pages have been moved elsewhere. */
void page_free_clean(char *base, size_t granules);

/*
 * Grows a run where it stands, from `old_granules` to `new_granules`. True on success; *ret_zeroed
 * says whether the added part reads as zero. False: nothing changed.
 */
bool page_extend(char *base, size_t old_granules, size_t new_granules, bool *ret_zeroed);

/*
 * How many granules, `most` at most, are free now behind a run of the arena, so that page_extend()
 * can add them without the system. 0 for a direct run.
 */
size_t page_room_behind(const char *base, size_t granules, size_t most);

/* Gives back the tail of a run; 0 < new_granules < old_granules. It cannot fail. */
void page_shrink(char *base, size_t old_granules, size_t new_granules);

/*
 * Moves the pages of a run to a new run of `new_granules` (> old_granules) without copying.
 * Returns 0: *ret_run is the new run, holding the old contents in its first old_granules;
 * ret_run->zeroed speaks of the part behind them; the old run, and its records, belong to the page
 * layer again (possibly already to another thread). Returns -ENOTSUP when moving does not pay or is
 * not possible here, -ENOMEM when there is no room: nothing has changed and the caller may copy.
 */
int page_move(char *base, size_t old_granules, size_t new_granules, struct page_run *ret_run);

/*
 * The same for a direct run, by one call of the kernel for all of it, with the new run's number (see
 * page_direct_slot()), which the caller has taken before, so that its own record of that number is
 * ready. On failure the number is still the caller's.
 */
int page_move_direct(char *base, size_t old_granules, size_t new_granules, uint32_t slot,
	struct page_run *ret_run);
/* Takes a number for a direct run (UINT32_MAX: there is none now), and gives one back unused. */
uint32_t page_direct_take(void);
void page_direct_give(uint32_t slot);

/*
 * The kernel cannot join mappings whose pages were moved in with those around. The layer above
 * counts here how many mappings it makes by moving (2^31 at most), beside those that page_move()
 * makes: together they may be a quarter of vm.max_map_count. False: that would be too many, or
 * moving is not possible here, and nothing was counted.
 */
bool page_mappings_take(size_t n);
void page_mappings_give(size_t n);
/* Whether more than half of what may be counted is. */
bool page_mappings_crowded(void);
/*
 * After a refused os_move() to a range that was the caller's, and where os_reserve_at() says that it
 * is taken: whether it is still the caller's for certain, and no stranger's that was faster.
 */
bool page_move_spared(void *base, size_t bytes);

/* Gives all free dirty memory back to the kernel now; returns how many bytes. */
size_t page_trim(void);

/*
 * The same by severity; keepers take part. 0: what is due by its age. 1: all that is warm goes cold,
 * so that the kernel may take it. 2: what is cold goes back, and the rest goes cold. 3: all goes
 * back. Returns how many bytes went back or cold.
 */
size_t page_trim_by(unsigned severity);

/*
 * Until page_brief_end() what the thread frees gives nothing back and starts nothing: for a call that
 * may make no system call. The next free does. False: it is so already, and is not to be ended.
 */
bool page_brief_begin(void);
void page_brief_end(void);

/*
 * For keepers: `bytes` were freed into their keeping. Holds to the bounds of guard.c and starts the
 * janitor, as page_free() does. Not for each small one: it writes to a shared line.
 */
void page_guard(size_t bytes);
/* They are in use again. */
void page_guard_taken(size_t bytes);

/*
 * How many bytes of free memory may be kept, those of keepers included; what is more goes back at
 * once, and what is freed beyond it goes back by the call that frees. 0: no limit but the headroom.
 * Returns 0, or -ENOMEM if the layer cannot be prepared.
 */
int page_limit_set(size_t bytes);
size_t page_limit(void);

/*
 * Called from slow paths: gives back what is due, unless the janitor does. Reads a coarse clock
 * when anything is dirty (6 ns), and does nothing else when nothing is due. The first call after a
 * pause gives back all that fell due in it, up to 2 MiB for each millisecond of the pause; in a
 * program that calls all the time a call gives back 4 MiB at most.
 */
void page_tick(void);

/* Fills in a snapshot; the fields are read one by one, not at one instant. */
void page_stats(struct page_stats *ret_stats);

/*
 * A layer above that keeps free memory of its own, and has a part in giving it back. Members may be
 * NULL.
 *
 * step: a step of a janitor's round. Returns whether it wants another one in this round, and adds
 *       to *ret_waiting the bytes that it expects to give back later. It runs in the janitor: see
 *       os_task in os/os.h for what it may call, and a few milliseconds at most.
 * warm: how many bytes it keeps that are free and neither cold nor gone, and adds to *ret_cold those
 *       that are cold; hints. Any thread, not at each free.
 * trim: page_trim_by() for what it keeps, or hands it to page_free(). Any thread, and the janitor.
 * watch: the calling thread has started the janitor, which ends with it: page_thread_exit() is to be
 *       called at its end. Anywhere in page_free() and the like.
 */
struct page_keeper {
	bool (*step)(size_t *ret_waiting);
	size_t (*warm)(size_t *ret_cold);
	size_t (*trim)(unsigned severity);
	void (*watch)(void);
};

/*
 * Enters a keeper, a constant, for the life of the process; a second time is no error. There is room
 * for PAGE_KEEPERS. Before the first page_alloc() on its behalf.
 */
enum { PAGE_KEEPERS = 4 };
void page_keeper_add(const struct page_keeper *keeper);

/* For a keeper's step: it is to come to an end, for the janitor is about to be killed. */
bool page_round_ends(void);

/* Whether it is the janitor that calls. */
bool page_in_janitor(void);

/* After how long what is free goes cold: nanoseconds, 0 if it does not by its age. A hint. */
uint64_t page_cold_after_ns(void);

/*
 * For slow paths of the layer above, when it has much to give back: true when no janitor goes its
 * rounds, nor could one be started now, so that the caller must do it. Looks at a coarse clock.
 */
bool page_round_is_mine(void);

/* Called in the child after fork, before it goes on: nobody gives memory back there yet. */
void page_fork_child(void);

/*
 * Called by a thread that is about to end. The kernel ends the janitor together with the thread
 * that started it; if that is this thread, what is dirty is given back now, since perhaps nobody
 * calls again.
 */
void page_thread_exit(void);

/* Called when the process ends (a destructor): ends the janitor, so that nothing outlives us. */
void page_exit(void);

/*
 * Whether the equations of the layer hold (free + used = committed, the sums agree with the
 * bitmap and the stamps). For tests, while no other thread is inside the layer.
 */
bool page_check(void);

/* Calls `fn` for every record that may ever have been used, in no order; they go on changing. */
void page_record_each(void (*fn)(void *record, void *arg), void *arg);

/*
 * The same for the arena's records from number `from` on, `count` at most; returns the number to go
 * on from, 0 when there are no more.
 */
uint32_t page_record_some(uint32_t from, uint32_t count, void (*fn)(void *record, void *arg),
	void *arg);

/*
 * The number, below 2^20, that a direct run has as long as it lives; UINT32_MAX if there is none at
 * the address. As page_record_lookup(), it knows the first PAGE_DIRECT_SPAN granules of a run.
 */
uint32_t page_direct_slot(const void *p);

/* Granules handed out, but for direct runs. */
size_t page_used_granules(void);

/*
 * Tells that memory of the arena is used again that the layer above had kept for itself: what is
 * used again often is worth a huge page.
 */
void page_reused(const char *base, size_t granules);

/* Whether the granule of that address of the arena is free at this moment. */
bool page_is_free(const void *p);

/* The record of an address outside the arena: that of a direct run, or NULL. */
void *page_record_lookup(const void *p);

/*
 * The record of the granule that holds `p`, or NULL when `p` is in no memory of this layer. In the
 * arena each granule has its own. A direct run has one, found from any address in its first
 * PAGE_DIRECT_SPAN granules (from further ones: NULL). So whoever marks each granule of a run stops
 * at PAGE_DIRECT_SPAN, or where page_record_of() gives the first granule's record again.
 */
static inline void *page_record_of(const void *p)
{
	uintptr_t offset = (uintptr_t)p - a_load_rlx(&page_arena.base);

	if (__builtin_expect(offset < a_load_rlx(&page_arena.bytes), 1))
		return (void *)(a_load_rlx(&page_arena.records) -
			((offset >> PAGE_GRANULE_SHIFT) << PAGE_RECORD_SHIFT));
	return page_record_lookup(p);
}

/* The number of a record: below 2^PAGE_RECORD_INDEX_BITS, constant for the life of the process. */
static inline uint32_t page_record_index(const void *record)
{
	return (uint32_t)((a_load_rlx(&page_arena.records) - (uintptr_t)record) >>
		PAGE_RECORD_SHIFT);
}

/* The record of that number; the inverse of page_record_index(). */
static inline void *page_record_at(uint32_t index)
{
	return (void *)(a_load_rlx(&page_arena.records) - ((uintptr_t)index << PAGE_RECORD_SHIFT));
}

/*
 * Whether much is dirty (8 MiB) and nobody but page_tick() gives it back: then shorter paths, that
 * would not call it each time, should as well.
 */
static inline bool page_wants_ticks(void)
{
	return __builtin_expect(a_load_rlx(&page_arena.watch) != 0, 0);
}

/* Whether `p` lies in the arena; if not, it may still lie in a direct run. */
static inline bool page_in_arena(const void *p)
{
	return (uintptr_t)p - a_load_rlx(&page_arena.base) < a_load_rlx(&page_arena.bytes);
}
