/* SPDX-License-Identifier: MIT */
/*
 * The arena's own state, shared by the files of this layer and by nobody else.
 *
 * From low to high addresses (records, the header and granules begin on page boundaries):
 *
 *	records of direct runs     PAGE_RECORD_BYTES each, committed on demand, counted downward
 *	records of granules        PAGE_RECORD_BYTES each, committed with the frontier, downward
 *	struct arena
 *	bitmap of free granules    committed at once, touched as far as the frontier
 *	stamps                     two bytes a granule, likewise
 *	chunks                     a byte for each 2 MiB, likewise
 *	composed                   the same
 *	fit                        places of free runs, see fit.c
 *	links of direct slots      4 bytes a slot, likewise
 *	granules                   2 MiB aligned; [0, frontier) committed
 *
 * Records count downward so that all that the first allocation needs is one range of addresses,
 * made accessible by one system call. What lies farther out is reserved in steps, as the frontier
 * comes near (reserve.c). Where a stranger's mapping is in the way granules are left out: they are
 * below the frontier, but never free. Granules that are reserved are [0, reserved) without those.
 *
 * Operations        arena_get, arena_grow, run_take, run_give and the calls of page.h over them
 * Synchronization   all of them may run beside each other, in any number of threads and in signal
 *                   handlers. Who holds a run (took its bits) owns its stamps; others may read them
 * Linearization     take and give: those of the bitmap. Growth: the CAS of `ends`. Birth: the
 *                   CAS of the pointer to the arena
 * Ordering          [page.1] to [page.7] in docs/design/memory-orders.md; the bitmap orders what is
 *                   written to a run, and to its stamps, before the next taker's reads
 * Progress          lock-free; a thread stopped anywhere keeps the run in its hands, no more
 * Reclamation       none: the arena lives as long as the process
 *
 * Equations, while no thread is inside the layer (page_check() checks them)
 *	free bits + used granules + skipped granules = frontier
 *	dirty granules = free granules whose stamp has an epoch
 *	cold granules = free granules whose stamp has STAMP_COLD; they have an epoch as well
 *	moved = stamps with STAMP_HEAD
 *	composed chunks = those whose byte is set
 */
#pragma once

#include <stdalign.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/bitmap.h"
#include "base/options.h"
#include "base/stack.h"
#include "os/os.h"
#include "page/page.h"

#define ARENA_CHUNK_BYTES ((size_t)ARENA_CHUNK_GRANULES << PAGE_GRANULE_SHIFT)
/* Granule 0 is aligned so. */
#define ARENA_ALIGN_BYTES ((size_t)2 << 20)

enum {
	/* 2 MiB: the size of a step, of a purge's chunk, and of what a page table page covers. */
	ARENA_CHUNK_GRANULES = 32,
	/* Growth steps are a quarter of what is committed, between a chunk and 256 MiB. */
	ARENA_STEP_MAX_GRANULES = 4096,
	/* Records are committed for so many granules at a time: 128 KiB of them. */
	ARENA_RECORD_STEP = 1024,
	/* 64 MiB: granules are reserved in multiples of it, if the system grants them. */
	RESERVE_UNIT_GRANULES = ARENA_RECORD_STEP,
	/* Records of so many granules are reserved at birth: 8 MiB, for the first 4 GiB. */
	RESERVE_RECORDS_FIRST = 65536,
	/* With page:mmap so many direct runs may exist. */
	ARENA_SLOTS_MOST = 1 << 20,
	/* 256 KiB: smaller runs say nothing of how the memory around them is used. */
	HUGE_RUN_GRANULES = 4,
	/* Where searches for runs of fewer than 8 granules begin, by their length. */
	ARENA_HINTS = 4,
	/*
	 * See fit.c: classes of lengths from 5 granules to 1023, three of a single length and 56 of
	 * eighths; and how many places of each.
	 */
	FIT_LEAST_GRANULES = 5,
	FIT_CLASSES = 59,
	FIT_WAYS_SHIFT = 4,
	FIT_WAYS = 1 << FIT_WAYS_SHIFT,
	FIT_WORDS = (FIT_CLASSES * FIT_WAYS + 63) / 64,
};

/*
 * A stamp tells of a granule: when it was freed (0: it reads as zero, because it was never used or
 * was given back), and whether its pages were moved in, so that it lies in a mapping that the
 * kernel cannot merge with its neighbours; STAMP_HEAD marks the first granule of such a mapping.
 * STAMP_COLD: it is free, and the kernel may take its pages when it needs some.
 */
enum {
	STAMP_MOVED = 0x8000,
	STAMP_HEAD = 0x4000,
	STAMP_COLD = 0x2000,
	STAMP_EPOCH = 0x1fff,
	STAMP_EPOCHS = 8191, /* values 1 to 8191; epochs beyond wrap round */
};

/* A claim: position + 1, granules, and which janitor made it. */
enum {
	CLAIM_GRANULES_SHIFT = 32,
	CLAIM_GRANULES_MASK = 0x3f,
	CLAIM_GENERATION_SHIFT = 38,
};

/* The janitor: the task that gives memory back while nobody calls; see background.c. */
struct janitor {
	struct os_task task;
	/* Epoch of its last round; far in the past when none runs. */
	_Atomic(int64_t) beat;
	/* The epoch before which nobody starts it, because that did not help. */
	_Atomic(int64_t) retry;
	/* The epoch before which nobody wakes the one that is there, likewise. */
	_Atomic(int64_t) wake_retry;
	/* The process that the state above speaks of; differs in a child that nobody told. */
	_Atomic(int64_t) owner_pid;
	/* The chunk it is purging, by CLAIM_*, or 0. */
	_Atomic(uint64_t) claim;
	/* Counts janitors, so that no two make the same claim. */
	_Atomic(uint64_t) generation;
	/* The janitor is in a step of the layer above, in which it should not be killed. */
	_Atomic(uint32_t) in_step;
	/* The id of the task whose thread is about to end: it begins no such step any more. */
	_Atomic(uint32_t) retire;
	/* The id of the task that ends by itself: it has looked for the last time. */
	_Atomic(uint32_t) left;
	/* When either was said; an id comes again some day. */
	_Atomic(int64_t) left_epoch;
};

struct arena {
	/* Const after publication. */
	uintptr_t base;                /* address of granule 0 */
	size_t granules;               /* it may grow to; 0: every run is direct */
	uintptr_t records;             /* address of record 0 */
	char *region;                  /* what was reserved at birth */
	size_t region_bytes;           /* its size */
	bool is_whole;                 /* everything was reserved at birth */
	size_t metadata_bytes;         /* committed at birth, records aside */
	_Atomic(uint16_t) *stamps;     /* one a granule */
	_Atomic(uint8_t) *chunks;      /* one for each 2 MiB: see huge.c */
	_Atomic(uint8_t) *composed;    /* likewise: see compose.c */
	_Atomic(uint64_t) *fit;        /* see fit.c */
	_Atomic(uint32_t) *slot_links; /* one a direct slot */
	uint32_t slots;                /* records for direct runs */
	unsigned epoch_shift;          /* an epoch is 2^epoch_shift nanoseconds */
	unsigned decay_epochs;         /* a granule this old is due; 0: at once */
	struct bitmap map;             /* 1 = free granule below the frontier */

	/* The frontier and the end of what is reserved, by ends_*(). */
	alignas(64) _Atomic(uint64_t) ends;
	_Atomic(uint64_t) records_reserved; /* granules whose records are reserved */
	_Atomic(uint64_t) skipped;          /* granules left out: somebody else's addresses */
	_Atomic(uint64_t) closed_at; /* an end of the reservation behind which was no room, or 0 */
	_Atomic(int64_t) closed_epoch; /* when that was */
	_Atomic(uint64_t) slots_used;  /* direct slots ever handed out */
	struct stack slots_free;       /* those handed back */
	/* Where to begin a search; a wrong value costs density, nothing else. */
	_Atomic(uint32_t) hints[ARENA_HINTS];
	/* A bit for each entry of `fit` that counts. */
	_Atomic(uint64_t) fit_known[FIT_WORDS];

	/* Granules used in the low half, free dirty ones in the high half. */
	alignas(64) _Atomic(uint64_t) balance;
	_Atomic(uint64_t) cold;     /* of the dirty ones, those that the kernel may take */
	_Atomic(uint64_t) guard_at; /* so many warm ones: look at the headroom */
	_Atomic(uint64_t) kept; /* warm ones of keepers at the last look, and freed to them since */
	_Atomic(uint64_t) limit; /* dirty ones, those of keepers included; or GUARD_NO_LIMIT */
	_Atomic(uint64_t) peak;  /* highest used, direct ones included, in granules */
	_Atomic(uint64_t) move_calls;
	_Atomic(uint64_t) moved;       /* STAMP_HEAD marks */
	_Atomic(uint64_t) moved_above; /* mappings counted by page_mappings_take() */
	/* So many of both may be, until the process's mappings are counted again; see move.c. */
	_Atomic(uint64_t) mappings_allowed;
	_Atomic(uint64_t) mappings_retry_ns; /* not before this time */
	_Atomic(uint64_t) move_regrets;      /* moved runs that were freed again */
	_Atomic(uint64_t) lost; /* used granules that can never be freed: a refused repair */
	_Atomic(uint64_t) direct_granules;
	_Atomic(uint64_t) direct_runs;

	alignas(64) _Atomic(uint64_t) purged; /* granules, sum */
	_Atomic(uint64_t) purge_epoch;        /* last epoch in which ticks finished a round */
	_Atomic(uint64_t) purge_cursor;       /* where the next tick goes on */
	_Atomic(uint64_t) tick_ns;            /* when a tick last looked at the clock */
	_Atomic(uint64_t) guard_step;         /* until the next look at the headroom, granules */
	_Atomic(uint64_t) guard_room;         /* bytes of headroom at the last look; 0: none yet */
	_Atomic(int64_t) guard_retry; /* the epoch before which no free tries to hold to a bound */
	_Atomic(uint32_t) move_refusals; /* by the kernel */
	_Atomic(uint32_t) cold_epochs;   /* a chunk this old goes cold; 0: none does by age */
	_Atomic(int64_t) cold_retry; /* the epoch before which none is tried, having been refused */
	_Atomic(uint32_t) cost_state;       /* see cost.c */
	_Atomic(uint32_t) cost_cold_ns;     /* measured: two granules going cold, and written to */
	_Atomic(uint32_t) cost_gone_ns;     /* and dropped, and written to */
	_Atomic(uint32_t) huge_chunks;      /* that lie in huge pages by our doing */
	_Atomic(uint32_t) cost_compose_ns;  /* running means of what a chunk took: composed */
	_Atomic(uint32_t) cost_populate_ns; /* and populated */
	_Atomic(uint32_t) compose_skipped;  /* for want of a gain */
	_Atomic(uint32_t) compose_refusals; /* by the kernel */
	_Atomic(uint32_t) composed_chunks;  /* whose byte in `composed` is set */
	_Atomic(uint64_t) composed_runs;    /* sums over the life of the process */
	_Atomic(uint64_t) composed_granules;
	_Atomic(uint8_t) huge_setting; /* of the host; huge.c */
	struct janitor janitor;
	/* For each ARENA_RECORD_STEP direct slots, whether their records are accessible. */
	_Atomic(uint8_t) slot_steps[ARENA_SLOTS_MOST / ARENA_RECORD_STEP];
};

/* arena.c */

/* The arena, or NULL: page_init() has not succeeded yet. */
struct arena *arena_get(void);
/* The same; makes it if there is none. NULL only for want of memory. */
struct arena *arena_need(void);

/* grow.c */

/* arena_grow() found that another thread grew the arena meanwhile: look again. */
#define ARENA_AGAIN (BITMAP_NONE - 1)
/*
 * Moves the frontier, seen at `frontier`, and takes n granules beside it, aligned as in run_take().
 * Returns the position, ARENA_AGAIN, or BITMAP_NONE when there is no room or the system refuses.
 */
size_t arena_grow(struct arena *a, uint64_t frontier, size_t n, size_t align, size_t align_offset);
/* Moves the frontier to `end` at least, leaving what is new free; true when it is there. */
bool arena_grow_to(struct arena *a, uint64_t end);
/*
 * Makes the records of [from, to) accessible, the rest of a step of records included; 0 or -ENOMEM.
 */
int arena_commit_records(struct arena *a, size_t from, size_t to);
/* Lets the inline look-ups reach as far as records are accessible with this frontier. */
void arena_note_reach(const struct arena *a, uint64_t frontier);
/* Makes the first chunk free, before the arena is published; its pages are committed already. */
void arena_grow_first(struct arena *a, size_t n);

/* reserve.c */

/* Exempts reserved addresses from huge pages, and names them. */
void reserve_dress(char *base, size_t bytes);
/* Reserves exactly this range, exempt from huge pages. */
int reserve_range(char *base, size_t bytes);
/*
 * Names it, so that it becomes one mapping with its neighbours: after it was published, because
 * others wait for that, and naming reads a file (os_name()).
 */
void reserve_name(char *base, size_t bytes);
/*
 * Makes sure that [0, need) is reserved but for what was left out. -EEXIST: something else is
 * mapped there. -ENOMEM: the system refuses.
 */
int reserve_extend(struct arena *a, size_t need);
/*
 * After -EEXIST: moves the frontier behind what is in the way. -EAGAIN: it has moved, by us or by
 * another thread. -ENOMEM: there is no room, or the system refuses.
 */
int reserve_jump(struct arena *a);
/* Makes sure that records are reserved for n granules; 0 or -ENOMEM. */
int reserve_records(struct arena *a, size_t n);

/* place.c */

/*
 * Chooses an address for granule 0, with `below` bytes of room below it and `above` bytes from it
 * on that are probably free; another one for each attempt. 0: there is no such place.
 */
uintptr_t place_choose(size_t below, size_t above, unsigned attempt);

/* run.c */

/* Takes n granules such that (position + align_offset) % align == 0, or BITMAP_NONE. */
size_t run_take(struct arena *a, size_t n, size_t align, size_t align_offset);
/* Counts granules just taken as used; returns how many do not read as zero. */
size_t run_account_take(struct arena *a, size_t pos, size_t n);
/* Stamps and frees granules that the caller holds, whose contents are of no use any more. */
void run_give(struct arena *a, size_t pos, size_t n);
/* The same for granules that read as zero. */
void run_give_clean(struct arena *a, size_t pos, size_t n);
/* Frees granules that the caller holds and whose stamps say that `dirty` of them are. */
void run_put(struct arena *a, size_t pos, size_t n, size_t dirty);
/* Raises the peak to what is used now. */
void run_note_peak(struct arena *a, uint64_t balance);

/* fit.c */

/* Takes n granules where a large run is known to have become free, or BITMAP_NONE. */
size_t fit_take(struct arena *a, size_t n);
/* What begins at pos may be free: a run was taken before it. */
void fit_left(struct arena *a, size_t pos);
/* Makes granules free, whose runs are found again so; false: one of them is free. */
bool fit_put(struct arena *a, size_t pos, size_t n);

/* direct.c: runs by a mapping of their own, for what the arena cannot serve. */
int direct_alloc(struct arena *a, size_t n, size_t align_bytes, struct page_run *ret_run);
void direct_free(struct arena *a, char *base, size_t n);
bool direct_extend(struct arena *a, char *base, size_t old_n, size_t new_n);
void direct_shrink(struct arena *a, char *base, size_t old_n, size_t new_n);
/* `slot` is the new run's; on failure it is still the caller's. */
int direct_move(struct arena *a, char *base, size_t old_n, size_t new_n, uint32_t slot,
	struct page_run *ret_run);

/* Whether the records of the slot's step are accessible. */
bool direct_slots_open(struct arena *a, size_t slot);

/* huge.c: huge pages for what is filled and reused. */

/* Counts that a run of n granules, of which some held pages, was handed out once more. */
void huge_note_reuse(struct arena *a, size_t pos, size_t n);
/* In the janitor, before its first sleep: whether the host wants huge pages at all. */
void huge_start(struct arena *a);
/*
 * A part of the janitor's round: backs chunks that have earned it. True: one is to be looked after
 * in the next round.
 */
bool huge_round(struct arena *a);
/* Whether the granule lies in a chunk that was backed so; a hint. */
bool huge_is(const struct arena *a, size_t pos);
/* Granules the caller holds are about to be populated: chunks that have no pages get huge ones. */
void huge_allow(struct arena *a, size_t pos, size_t n);
/* Granules the caller holds are about to lose their pages: their chunks begin anew. */
void huge_forget(struct arena *a, size_t pos, size_t n);

/* Whether the chunk is not backed, nor about to be, so that it lies in one mapping with others. */
bool huge_is_plain(const struct arena *a, size_t chunk);
/* What was backed at one chunk lies at another now, which the caller holds and which is plain. */
void huge_adopt(struct arena *a, size_t chunk);

/* compose.c: chunks whose pages were moved in, and which are mappings of their own. */

/*
 * For a run that page_alloc() has just given, before anything else is done with it: composes whole
 * chunks in its first `granules`; *run tells then what it contains. Returns 0, or -ENOMEM when the
 * kernel made addresses of it unusable: the run is gone then, and another one may be had.
 */
int page_compose(struct page_run *run, size_t granules);
/* Whether one of these chunks is such; the caller holds a granule of each, or gets a hint. */
bool compose_touches(const struct arena *a, size_t pos, size_t n);
/* Whether a mapping ends at that granule for such a chunk's sake. */
bool compose_edge(const struct arena *a, size_t pos);
/*
 * Makes those that are free and without pages the arena's mapping again, which frees mappings: 5 us
 * each. Whether it did one.
 */
bool compose_settle(struct arena *a);

/* map.c: which direct slot an address outside the arena belongs to. */

/* Enters granules [from, to) of the run at base, to the span's end at most; 0 or -ENOMEM. */
int map_set(const char *base, size_t from, size_t to, uint32_t slot);
void map_clear(const char *base, size_t from, size_t to);
/* The slot, or UINT32_MAX. */
uint32_t map_get(const void *p);
/* Takes the entry out; UINT32_MAX if there was none. */
uint32_t map_remove(const char *base);

/* move.c */

/*
 * Makes granules ordinary again that were moved in; the caller holds them. They read as zero then,
 * and their stamps are 0. False: the kernel refused and they can never be used again.
 */
bool move_reset(struct arena *a, size_t pos, size_t n);
/*
 * Makes fresh memory, like its surroundings, of a range that is the caller's or is gone. False: the
 * kernel refused, and it can never be used again.
 */
bool move_fresh(char *base, size_t bytes);
/*
 * After a failed os_move(): makes sure that the range is reserved again. False when somebody else's
 * mapping may be there now, so that it must never be touched again.
 */
bool move_repair(void *base, size_t bytes);

/* purge.c */

/* The epoch of now. */
static inline int64_t purge_now(const struct arena *a)
{
	return (int64_t)(os_now_ns() >> a->epoch_shift);
}

/* The stamp of granules freed in that epoch. */
static inline uint16_t purge_stamp(int64_t epoch)
{
	return (uint16_t)((uint64_t)epoch % STAMP_EPOCHS + 1);
}

/* What a purge looks for, and does. */
struct purge {
	int64_t epoch;   /* now */
	unsigned age;    /* epochs for which it has been free, at least */
	size_t least;    /* granules side by side, at least; a chunk at most */
	size_t end;      /* granules from there on are left alone; 0: none */
	bool only_cold;  /* of what is cold already */
	bool only_warm;  /* of what is not */
	bool to_cold;    /* let the kernel take the pages, instead of dropping them */
	bool is_janitor; /* tells which chunk it has in work */
};

/*
 * Gives back free granules from *pos on, about `budget` of them at most. Leaves in *pos where to go
 * on, 0 when the end was reached. Returns how many it gave back.
 */
size_t purge_some(struct arena *a, size_t *pos, size_t budget, const struct purge *p);
/* Whole chunks whose time has come by cost.c go cold; returns how many granules. */
size_t purge_cool(struct arena *a, int64_t epoch, size_t budget, bool is_janitor);
/*
 * For the janitor: has the kernel drop what free granules hold that read as zero, so that nobody
 * counts it; n is a chunk's at most.
 */
void purge_tidy(struct arena *a, size_t pos, size_t n);
/* Sets page_arena.watch as things stand. */
void purge_watch(struct arena *a, int64_t epoch);

/* cost.c */

/*
 * Once: finds out what it costs to have pages again, and sets cold_epochs by it. Takes 0.2 ms; no
 * round of it begins after 1 ms.
 */
void cost_measure(struct arena *a);
/* Takes what so many chunks took into a running mean. */
void cost_note(_Atomic(uint32_t) *mean, uint64_t ns, size_t chunks);
/* Whether to compose: it has not been dearer than populating lately, or it is time to see again. */
bool cost_compose_pays(struct arena *a);

/* keeper.c: what layers above keep of free memory. */

/* Their part of a janitor's round, with `begin` and `end` around each step; returns bytes left. */
size_t keepers_round(struct arena *a, bool (*begin)(struct arena *a), void (*end)(struct arena *a));
/* Has them give up what page_trim_by() says; returns bytes. */
size_t keepers_trim(unsigned severity);
/* The calling thread has started the janitor: its end is to be seen. */
void keepers_watch(void);
/* Warm bytes that they keep; those that are cold are added to *ret_cold. */
size_t keepers_warm(size_t *ret_cold);

/* guard.c */

/* No limit was set. */
#define GUARD_NO_LIMIT UINT64_MAX

void guard_init(struct arena *a);
/* What was freed came to a threshold: holds to the bounds. */
void guard_freed(struct arena *a);
/*
 * The same once an epoch, for what changes without a free. The janitor has files open; for others
 * NULL.
 */
void guard_round(struct arena *a, const struct os_headroom_files *files);

/*
 * The calling thread gives back on behalf of a free, until guard_end(): what it frees meanwhile does
 * not do the same. False: it is at that already.
 */
bool guard_begin(int64_t epoch);
void guard_end(void);
/* Between both. */
bool guard_is_inside(int64_t epoch);

/* Whether guard_freed() is to be called. */
static inline bool guard_is_due(struct arena *a)
{
	uint64_t dirty = a_load_rlx(&a->balance) >> 32;

	return dirty + a_load_rlx(&a->kept) >= a_load_rlx(&a->guard_at) + a_load_rlx(&a->cold) ||
		dirty > a_load_rlx(&a->limit);
}

/* pressure.c; the tests reach in. */

struct subscriber {
	_Atomic(uint64_t) state;
	/* Written in FILLING, const until FREE. */
	_Atomic(void *) fn;
	_Atomic(void *) arg;
	_Atomic(uint32_t) severity;
	_Atomic(uint32_t) wants_thread;
};

/* In the child of a fork: the callers that were other threads are gone. */
void pressure_fork_child(void);

extern struct subscriber pressure_places[];
/* The place that this thread is calling, plus one. */
extern __thread _Atomic(uint32_t) pressure_calling;

/* stall.c */

/* What the janitor saw at its last look; zeroed at first. */
struct stall_seen {
	struct os_stalls stalls;
	uint64_t ns;
};
/* Lets free memory go if tasks were stalled for want of memory since then. */
void stall_round(struct stall_seen *seen, const struct os_headroom_files *files);

/* background.c */

enum {
	/* 8 MiB: as long as less than this is dirty no janitor is started. */
	BACKGROUND_DIRTY_GRANULES = 128,
	/* It goes round once an epoch; after so many without, it is taken for gone. */
	BACKGROUND_FRESH_EPOCHS = 4,
};

/* Called when there is much to give back; starts the janitor if that is wanted and needed. */
void background_poke(struct arena *a, int64_t epoch);
/* Starts the janitor at birth of the arena, with background:on. */
void background_init(struct arena *a);
/* Puts back the chunk of a janitor that is surely dead. */
void background_recover(struct arena *a);
/*
 * Whether the janitor went its round lately; a caller's epoch may be a little behind the janitor's.
 */
static inline bool background_fresh(struct arena *a, int64_t epoch)
{
	const uint32_t tid = a_load_rlx(&a->janitor.task.tid);

	return tid != 0 && tid != a_load_rlx(&a->janitor.retire) &&
		epoch - a_load_rlx(&a->janitor.beat) <= BACKGROUND_FRESH_EPOCHS;
}

static inline uint64_t balance_used(uint64_t balance)
{
	return (uint32_t)balance;
}

static inline uint64_t balance_dirty(uint64_t balance)
{
	return balance >> 32;
}

static inline size_t min_size(size_t x, size_t y)
{
	return x < y ? x : y;
}

static inline uint64_t ends_make(uint64_t frontier, uint64_t reserved)
{
	return reserved << 32 | frontier;
}

/* Granules committed, or skipped. */
static inline uint64_t ends_frontier(uint64_t ends)
{
	return (uint32_t)ends;
}

/* Granules reserved, or skipped; not below the frontier. */
static inline uint64_t ends_reserved(uint64_t ends)
{
	return ends >> 32;
}

static inline uint64_t ends_get(struct arena *a)
{
	/* [page.2] acq: what lies below the frontier is accessible; pairs with frontier_publish(),
	 * publish() and jump_to(). */
	return a_load_acq(&a->ends);
}

/* The frontier, for those who need nothing of what lies below. */
static inline uint64_t arena_frontier(const struct arena *a)
{
	return ends_frontier(a_load_rlx(&a->ends));
}

/* Granules come in such units, so that their records fill pages whatever the page size. */
static inline size_t arena_unit(void)
{
	size_t unit = os_facts()->page_bytes >> PAGE_RECORD_SHIFT;

	return unit < ARENA_CHUNK_GRANULES ? ARENA_CHUNK_GRANULES : unit;
}

static inline char *arena_address(const struct arena *a, size_t pos)
{
	return (char *)(a->base + (pos << PAGE_GRANULE_SHIFT));
}

/* Whether the address lies in the arena; *ret_pos gets its granule. */
static inline bool arena_position(const struct arena *a, const void *p, size_t *ret_pos)
{
	uintptr_t pos = ((uintptr_t)p - a->base) >> PAGE_GRANULE_SHIFT;

	if ((uintptr_t)p < a->base || pos >= a->granules)
		return false;
	*ret_pos = pos;
	return true;
}

static inline uint16_t stamp_get(const struct arena *a, size_t pos)
{
	return a_load_rlx(&a->stamps[pos]);
}

/* The caller holds the granule. */
static inline void stamp_set(struct arena *a, size_t pos, uint16_t stamp)
{
	a_store_rlx(&a->stamps[pos], stamp);
}
