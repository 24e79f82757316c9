/* SPDX-License-Identifier: MIT */
/*
 * The remote side of a slab: frees by threads that do not hold it, and the passing of a slab from
 * hand to hand. Everything here acts on one word (heap/slab.h); no function retries because another
 * thread is stopped, only because another thread got on.
 *
 * operation        who may call                      linearization point
 *   remote_push, remote_push_chain  any thread that frees blocks  its exchange of the word
 *   remote_take_whole  any thread that frees all blocks  its exchange of the word
 *   remote_collect the slab's owner                  its exchange
 *   remote_adopt   any thread with a heap            its exchange; fails unless the slab is OPEN
 *   remote_open    the slab's owner                  its exchange
 *   remote_open_full  the slab's owner               its exchange; fails when a free has arrived
 *   remote_begin, remote_end  who holds the run      their exchange
 *   remote_unlist  who popped the slab's link        its exchange
 *
 * synchronization: push and push, push and anything else are safe with each other, and need no
 * version: each exchange decides by the whole word, and a word equal to the one read describes
 * the same list. The one value that could come back with another meaning, the count of an OPEN
 * slab against its capacity, is fixed for a slab's life, and a pusher still holds a block of it.
 * ordering: a push releases the program's last writes to the block and the link inside it; whoever
 * takes the list acquires them. remote_open releases the owner's plain fields; adopt and the last
 * push acquire them.
 * progress: lock-free. reclamation: records are never unmapped; a run goes back to page by exactly
 * one thread, the one whose exchange made the state FREED. Reads of `class` by who holds no block
 * may be stale; they only decide where a link is put.
 */
#pragma once

#include "heap/slab.h"

enum remote_result {
	REMOTE_DONE,
	REMOTE_LIST_OWNER, /* LISTED was set: push the link onto the pending stack of the owner */
	REMOTE_LIST_OPEN,  /* LISTED was set: push the link onto the class's available stack */
	REMOTE_WHOLE,      /* the slab is FREED and the caller holds its run */
	REMOTE_INVALID,    /* the program holds no block of the slab: the free is its error */
};

/* Frees `block`; for REMOTE_LIST_OWNER also says whose. */
enum remote_result remote_push(struct slab *slab, struct block *block, uint32_t *ret_owner);

/*
 * Frees `count` different blocks of a slab, linked from first to last, as one; as remote_push().
 */
enum remote_result remote_push_chain(struct slab *slab, struct block *first, struct block *last,
	uint32_t count, uint32_t *ret_owner);

/*
 * For the holder of all blocks of a slab, which frees them: takes its run, and the slab is FREED.
 * False, and nothing changed, unless it is OPEN and no block of it is counted as free.
 */
bool remote_take_whole(struct slab *slab);

/* Takes every remotely freed block; the count is written always. BLOCK_END: there is none. */
struct block *remote_collect(struct slab *slab, uint32_t *ret_count);

/*
 * Makes an OPEN slab OWNED by `owner`; gives its list, and its count of blocks free or not carved.
 * LISTED is cleared if the caller `holds_link`, that is, has popped it.
 */
bool remote_adopt(struct slab *slab, uint32_t owner, bool holds_link, struct block **ret_list,
	uint32_t *ret_count);

/* Opens a slab with `count` blocks free or not carved; first..last is the list of the free ones. */
enum remote_result remote_open(struct slab *slab, struct block *first, struct block *last,
	uint32_t count);

/* Opens a full slab; false, and nothing changed, when a remote free has come in. */
bool remote_open_full(struct slab *slab);

/* Gives a run a meaning, and takes it away; LISTED stays as it is. */
void remote_begin(struct slab *slab, enum slab_state state, uint32_t owner);
/* Only for a state that nobody but the caller may change; false when it was not `from`. */
bool remote_end(struct slab *slab, enum slab_state from);

/*
 * After popping the link: clears LISTED, unless the slab has enough blocks to be listed again at
 * once; returns the word as left. LISTED in it means that the link is still the caller's.
 */
uint64_t remote_unlist(struct slab *slab);
