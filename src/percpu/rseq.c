/* SPDX-License-Identifier: MIT */
/*
 * How the process works on per-CPU memory: in libc's areas, in areas of our own, or by atomic
 * instructions; and the change from the second to the third.
 *
 * operations       start (a constructor, or the first call that comes before it), enter (an
 *                  operation whose thread has no number), give up
 * synchronization  `way` is raised by anybody: UNKNOWN, then LIBC or OWN, then STOPPING, ATOMIC.
 *                  `allod_rseq_state_` is written at the start and by who gives up
 * giving up        a thread cannot be registered, so it can only work by atomic instructions, and so
 *                  must all. It points the indexes at a word that says -1 in every thread, raises
 *                  STOPPING, and passes the fence: each sequence reads the index again in its
 *                  middle, so those that began before have ended or stop, and new ones do not get
 *                  through. Then it raises ATOMIC. Whoever comes while the way is STOPPING does the
 *                  same steps and waits for nobody
 * linearization    the last fence to end before ATOMIC: plain sequences before, atomic ones behind
 * progress         lock-free; a thread stopped while giving up stops nobody
 */
#include <allod/percpu.h>

#include "percpu/rseq.h"

#include <errno.h>
#include <sched.h>

#include "base/atomic.h"
#include "os/os.h"

enum way { WAY_UNKNOWN, WAY_LIBC, WAY_OWN, WAY_STOPPING, WAY_ATOMIC };

enum {
	AREA_BYTES = 32,      /* what every kernel takes */
	FEATURES_BEFORE = 20, /* what a kernel fills that does not say */
	FEATURES_MM_CID = 28,
	NUMBER_NONE = -1,
};

/* The kernel's struct rseq, up to what is used of it. */
struct area {
	uint32_t cpu_id_start;
	int32_t cpu_id;
	uint64_t cs;
	uint32_t flags;
	uint32_t node_id;
	int32_t mm_cid;
	uint32_t more;
	/* Not the kernel's: where indexes lead that nobody may use. */
	int32_t dead;
} __attribute__((aligned(64)));

static __thread struct area own = {
	.cpu_id = NUMBER_NONE,
	.mm_cid = NUMBER_NONE,
	.dead = NUMBER_NONE,
};

static _Atomic(uint32_t) way;
static unsigned features; /* const after the start */

PERCPU_EXPORT struct allod_rseq_state_ allod_rseq_state_;

static ptrdiff_t offset_of(const void *field)
{
	return (const char *)field - (const char *)percpu_thread_pointer();
}

static _Atomic(ptrdiff_t) *index_of(enum allod_rseq_index by)
{
	return (_Atomic(ptrdiff_t) *)&allod_rseq_state_.index[by];
}

static void set_indexes(ptrdiff_t cpu_id, ptrdiff_t mm_cid)
{
	a_store_rlx(index_of(ALLOD_RSEQ_CPU_ID), cpu_id);
	a_store_rlx(index_of(ALLOD_RSEQ_MM_CID), mm_cid);
}

static void use_area(ptrdiff_t area)
{
	const ptrdiff_t cpu_id = area + (ptrdiff_t)offsetof(struct area, cpu_id);

	allod_rseq_state_.cs = area + (ptrdiff_t)offsetof(struct area, cs);
	set_indexes(cpu_id,
		features >= FEATURES_MM_CID ? area + (ptrdiff_t)offsetof(struct area, mm_cid)
					    : cpu_id);
}

static void use_nothing(void)
{
	set_indexes(offset_of(&own.dead), offset_of(&own.dead));
}

/*
 * How much of an area the kernel fills. It says so itself; where it does not, it fills 20. Libc says
 * how large its area is, or how much of it counts: glibc 2.35 says 32 whatever the kernel fills, those
 * with the first repair 20 although the kernel fills more of their 32, later ones what the kernel
 * says, and have as much.
 */
static unsigned features_of(unsigned said)
{
	const unsigned kernel = os_rseq_kernel_bytes();
	const unsigned fills = kernel ? kernel : FEATURES_BEFORE;
	const unsigned room = said == FEATURES_BEFORE ? AREA_BYTES : said;

	return fills < room ? fills : room;
}

/* Libc's areas, if it has some and the kernel has taken this thread's. */
static bool start_libc(void)
{
	ptrdiff_t area;
	unsigned said;

	if (!os_rseq_libc(&area, &said))
		return false;
	features = features_of(said);
	use_area(area);
	if (allod_cs_index_(ALLOD_RSEQ_CPU_ID) < 0)
		return false;
	a_store_rel(&way,
		WAY_LIBC); /* [rseq.1] rel: with the state above; pairs with percpu_enter() */
	return true;
}

/* Areas of our own need the fence, since a thread may turn up that cannot be registered. */
static bool start_own(void)
{
	if (os_rseq_register(&own, AREA_BYTES) != 0)
		return false;
	if (os_rseq_fence_register() != 0) {
		os_rseq_unregister(&own, AREA_BYTES);
		own.cpu_id = NUMBER_NONE;
		own.mm_cid = NUMBER_NONE;
		return false;
	}
	features = features_of(AREA_BYTES);
	use_area(offset_of(&own));
	a_store_rel(&way,
		WAY_OWN); /* [rseq.1] rel: with the state above; pairs with percpu_enter() */
	return true;
}

static void start_atomic(void)
{
	features = 0;
	allod_rseq_state_.cs = offset_of(&own.cs);
	use_nothing();
	a_store_rel(&way, WAY_ATOMIC); /* [rseq.1] rel: pairs with percpu_enter() */
}

/* Before any other constructor, since those may operate on per-CPU memory. */
__attribute__((constructor(101))) static void start(void)
{
	if (a_load_rlx(&way) != WAY_UNKNOWN)
		return;
	if (!start_libc() && !start_own())
		start_atomic();
}

static void give_up(void)
{
	uint32_t seen = a_load_rlx(&way);

	use_nothing();
	while (seen < WAY_STOPPING && !a_cas_weak_rlx(&way, &seen, WAY_STOPPING))
		a_pause();
	/* What is plain now and what will be atomic may not meet. */
	if (os_rseq_fence(-1) != 0)
		os_fatal("allod: restartable sequences cannot be stopped\n");
	a_store_rel(&way,
		WAY_ATOMIC); /* [rseq.1] rel: behind the fence; pairs with percpu_enter() */
}

/* The calling thread's area, whosever it is. */
static void *area_here(void)
{
	return (char *)percpu_thread_pointer() + allod_rseq_state_.cs -
		(ptrdiff_t)offsetof(struct area, cs);
}

/* -EBUSY: a signal handler was faster. */
static bool registered(enum allod_rseq_index by)
{
	if (allod_cs_index_(by) >= 0)
		return true;
	const int ret = os_rseq_register(area_here(), AREA_BYTES);
	return (ret == 0 || ret == -EBUSY) && allod_cs_index_(by) >= 0;
}

/* Pools are told first: what their elements contain on a new processor has to be there. */
/* False: the process works by atomic instructions. */
static bool has_number(enum allod_rseq_index by)
{
	/* [rseq.1] acq: the state, and that the fence has been passed; pairs with start() */
	const uint32_t seen = a_load_acq(&way);

	if (seen == WAY_ATOMIC)
		return false;
	if (seen != WAY_STOPPING && registered(by))
		return true;
	give_up();
	return false;
}

/*
 * -EAGAIN: this is a signal handler, and its thread was just working on a pool. The operation stores
 * all the same: what is lost by that is that the number counts as not active until the next one.
 */
static void mark(unsigned number)
{
	const int ret = allod_percpu_mark_active((int)number);

	if (ret != 0 && ret != -EAGAIN)
		os_fatal("allod: percpu: no memory for this processor\n");
}

bool percpu_enter(struct allod_percpu_view view, int32_t *ret_number)
{
	start();
	if (!has_number(view.by))
		return false;
	const int32_t number = allod_cs_index_(view.by);
	if (number < 0)
		return !percpu_is_atomic() && percpu_enter(view, ret_number);
	if ((uint32_t)number >= view.count)
		os_fatal("allod: no copy for this processor\n");
	mark((unsigned)number);
	*ret_number = number;
	return true;
}

bool percpu_is_atomic(void)
{
	/* [rseq.1] acq: that the fence has been passed; pairs with give_up() */
	const uint32_t seen = a_load_acq(&way);

	if (seen == WAY_STOPPING)
		give_up();
	return seen >= WAY_STOPPING;
}

void *percpu_atomic_copy(struct allod_percpu_view view, const void ALLOD_PERCPU *p)
{
	const int cpu = sched_getcpu();
	const unsigned number = cpu < 0 ? 0 : (unsigned)cpu % view.count;

	mark(number);
	return allod_percpu_copy_(view, p, (int32_t)number);
}

PERCPU_EXPORT enum allod_rseq_mode allod_rseq_mode(void)
{
	start();
	const uint32_t seen = a_load_rlx(&way);

	if (seen >= WAY_STOPPING)
		return ALLOD_RSEQ_MODE_ATOMIC;
	return seen == WAY_LIBC ? ALLOD_RSEQ_MODE_LIBC : ALLOD_RSEQ_MODE_OWN;
}

PERCPU_EXPORT unsigned allod_rseq_feature_bytes(void)
{
	return allod_rseq_mode() == ALLOD_RSEQ_MODE_ATOMIC ? 0 : features;
}

PERCPU_EXPORT int allod_rseq_available(enum allod_rseq_index by)
{
	const unsigned filled = allod_rseq_feature_bytes();

	return by == ALLOD_RSEQ_MM_CID ? filled >= FEATURES_MM_CID : filled > 0;
}

PERCPU_EXPORT int allod_rseq_register(void)
{
	start();
	return has_number(ALLOD_RSEQ_CPU_ID) ? 0 : -ENOTSUP;
}

PERCPU_EXPORT int allod_rseq_current(enum allod_rseq_index by)
{
	int number = allod_rseq_register() == 0 ? allod_cs_index_(by) : -1;

	if (number < 0)
		number = sched_getcpu();
	return number < 0 ? 0 : number;
}

PERCPU_EXPORT int allod_rseq_fence(int cpu)
{
	if (cpu < -1 || cpu >= ALLOD_PERCPU_CPUS_MAX)
		return -EINVAL;
	start();
	if (percpu_is_atomic()) {
		/* [rseq.2] seq: nothing to stop; pairs with the operations of slow.c */
		a_fence_seq();
		return 0;
	}
	return os_rseq_fence(cpu);
}

PERCPU_EXPORT void allod_rseq_clear(void)
{
	start();
	*(volatile uint64_t *)((char *)percpu_thread_pointer() + allod_rseq_state_.cs) = 0;
}
