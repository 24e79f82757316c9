/* SPDX-License-Identifier: MIT */
/*
 * Threads parked at random instructions of the allocator, in every region of it, while the others
 * of the process allocate, free, exchange blocks, begin and end, fork, trim and read statistics:
 * all of them go on. What the parked threads keep is measured: a slab for each class and thread,
 * and what they had under work. Then they are released, and end rightly.
 *
 * Each round is a process of its own. TEST_PARKS says how many parkings there are to be at least;
 * which regions they fall into is chance, so there are rounds until each region has had some.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "park.h"
#include "park_face.h"
#include "park_ops.h"

enum {
	PARKS_DEFAULT = 45,
	BATCHES = 6,     /* in a round */
	BATCH = 6,       /* victims at a time; every other one is released at once */
	SEIZE_TRIES = 2, /* in a round; each takes half a second */
	VICTIMS = 1 + BATCHES * BATCH + SEIZE_TRIES,
	HOLDER_BLOCKS = 1000,
	OTHERS_ROUNDS = 2,       /* that each of the others goes after each batch */
	STAGE_SECONDS_MOST = 60, /* a stage takes a fraction of a second on an idle machine */
	ROUND_SECONDS = 4,
	IDLE_MS = 270,        /* after which a heap counts as idle */
	LENGTH_FIRST = 10000, /* of an operation, before it was run to its end */
	REGION_FACTOR = 1000, /* one parking in each region, and one more for each so many */
	TRIES_FACTOR = 8, /* a region that so many times the parkings never meet cannot be met */
	/* Of a parked thread: its stack, its heap, what it was purging. */
	WORK_BYTES_MOST = (64 << 10) + (2 << 20),
	/* The driver's: libc's streams, records and bitmap of an arena that grew. */
	OWN_BYTES_MOST = 2 << 20,
};

/* Of all rounds. */
static struct shared {
	uint64_t parked;
	uint64_t ended;
	uint64_t fell[REGIONS];
	size_t resident_most; /* of a round: bytes kept for each parked thread */
	size_t slabs_most;
	long length[32][2]; /* of each operation: all steps, and those in its region */
} * shared;

static struct victim victims[VICTIMS];
static unsigned victim_count;
static pthread_key_t last_key;
static const char *stage = "start";
static uint64_t random_state;

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static void describe_parked(void)
{
	for (unsigned i = 0; i < victim_count; i++) {
		if (park_phase(&victims[i]) == PARK_PARKED && !a_load_rlx(&victims[i].released))
			park_describe(&victims[i], park_ops[victims[i].op].name);
		else if (park_phase(&victims[i]) != PARK_ENDED)
			test_note("victim %u, %s: goes on", i, park_ops[victims[i].op].name);
	}
}

/* A stage that takes too long: something waits for a parked thread. */
static void on_alarm(int number)
{
	describe_parked();
	if (others_child() != 0)
		kill(others_child(), SIGKILL);
	test_fail(__FILE__, __LINE__, "%s: no end within %u seconds", stage,
		(unsigned)STAGE_SECONDS_MOST);
}

static void stage_begin(const char *name)
{
	stage = name;
	alarm(STAGE_SECONDS_MOST);
}

static void victim_ended(struct victim *v)
{
	park_end(v);
	a_store_rel(&v->phase, PARK_ENDED);
}

/* Made after the heap's key, so its destructor comes after the heap's in the last round. */
static void last_destructor(void *arg)
{
	struct victim *v = arg;
	if (++v->exit_rounds < PTHREAD_DESTRUCTOR_ITERATIONS)
		pthread_setspecific(last_key, v);
	else
		victim_ended(v);
}

static void *victim_main(void *arg)
{
	struct victim *v = arg;
	const struct park_op *op = &park_ops[v->op];
	v->stack_top = (uintptr_t)__builtin_frame_address(0);
	op->prepare(v);
	if (op->run == NULL)
		pthread_setspecific(last_key, v);
	park_begin(v);
	if (op->run == NULL)
		return NULL;
	op->run(v);
	park_end(v);
	victim_free_own(v);
	victim_ended(v);
	return NULL;
}

/* A thread that does `op` and parks; in the region it aims at, or anywhere. */
static struct victim *victim_start(unsigned op, bool anywhere)
{
	CHECK(victim_count < VICTIMS);
	struct victim *v = &victims[victim_count];
	const long known = shared->length[op][anywhere ? 0 : 1];
	/* Now and then beyond: the operation may take longer than the last time. */
	const long length = known == 0           ? LENGTH_FIRST
		: test_random(&random_state) % 8 ? known
						 : 2 * known;
	v->number = victim_count;
	v->op = op;
	v->target = anywhere ? REGION_ANY : park_ops[op].aim;
	v->seed = test_random(&random_state);
	v->steps_most = park_ops[op].is_special ? PARK_STEPS_MOST_SPECIAL : PARK_STEPS_MOST;
	v->k = (long)(test_random(&random_state) % (uint64_t)length);
	victim_count++;
	CHECK_EQ(pthread_create(&v->thread, NULL, victim_main, v), 0);
	return v;
}

/* Notes where it parked, or how long the operation is when it ended before. */
static void victim_note(struct victim *v)
{
	const bool anywhere = v->target == REGION_ANY;
	long *length = &shared->length[v->op][anywhere ? 0 : 1];
	if (park_phase(v) == PARK_PARKED) {
		shared->parked++;
		for (unsigned r = 0; r < REGIONS; r++)
			shared->fell[r] += v->regions >> r & 1;
		if (v->k > *length)
			*length = v->k;
	} else {
		shared->ended++;
		*length = v->steps_in > 4 ? v->steps_in : 4;
	}
}

static void victim_wait(struct victim *v)
{
	while (park_phase(v) == PARK_RUNNING)
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	victim_note(v);
}

static void victim_finish(struct victim *v)
{
	v->joined = true;
	park_release(v);
	CHECK_EQ(pthread_join(v->thread, NULL), 0);
	CHECK_EQ(park_phase(v), PARK_ENDED);
}

/* An operation, oftener one whose region has seen few parkings. */
static unsigned choose_op(void)
{
	const unsigned common = park_op_count - OP_COMMON;
	unsigned op = OP_COMMON + (unsigned)(test_random(&random_state) % common);
	const unsigned other = OP_COMMON + (unsigned)(test_random(&random_state) % common);
	return shared->fell[park_ops[other].aim] < shared->fell[park_ops[op].aim] ? other : op;
}

static void run_batch(void)
{
	struct victim *batch[BATCH];
	stage_begin("parking");
	for (unsigned i = 0; i < BATCH; i++)
		batch[i] = victim_start(choose_op(), test_random(&random_state) % 2);
	for (unsigned i = 0; i < BATCH; i++)
		victim_wait(batch[i]);
	stage_begin("the others' progress");
	others_mark();
	while (!others_went_on(OTHERS_ROUNDS))
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	stage_begin("release");
	for (unsigned i = 0; i < BATCH; i += 2)
		victim_finish(batch[i]);
}

/* Idle threads, whose slabs are held beside the current ones because they freed into them. */

static _Atomic(uint32_t) holder_ready;
static _Atomic(uint32_t) holder_go;

static void *holder_main(void *arg)
{
	void *blocks[HOLDER_BLOCKS];
	for (unsigned i = 0; i < HOLDER_BLOCKS; i++)
		blocks[i] = block_make(face_alloc(i % 2 ? 1024 : 5000), i % 2 ? 1024 : 5000);
	for (unsigned i = 0; i < HOLDER_BLOCKS; i += 4)
		block_free(blocks[i]);
	a_store_rel(&holder_ready, 1);
	while (!a_load_acq(&holder_go))
		pause_ms(1);
	for (unsigned i = 0; i < HOLDER_BLOCKS; i++) {
		if (i % 4)
			block_free(blocks[i]);
	}
	return NULL;
}

/* A malloc that needs a new slab: looks for idle heaps, if the last look was a while ago. */
static void look(unsigned number)
{
	const size_t size = 18000 + number % 8 * 2048;
	block_free(block_make(face_alloc(size), size));
}

static void try_seize(unsigned number)
{
	pthread_t holder;
	stage_begin("seizing");
	a_store_rlx(&holder_ready, 0);
	a_store_rlx(&holder_go, 0);
	CHECK_EQ(pthread_create(&holder, NULL, holder_main, NULL), 0);
	while (!a_load_acq(&holder_ready))
		pause_ms(1);
	pause_ms(IDLE_MS);
	face_trim();
	look(number);
	pause_ms(IDLE_MS);
	victim_wait(victim_start(OP_SEIZE, false));
	a_store_rel(&holder_go, 1);
	CHECK_EQ(pthread_join(holder, NULL), 0);
}

static size_t resident_bytes(void)
{
	char text[128] = "";
	FILE *f = fopen("/proc/self/statm", "r");
	CHECK(f != NULL && fgets(text, sizeof text, f) != NULL);
	fclose(f);
	return (size_t)atol(strchr(text, ' ')) * (size_t)sysconf(_SC_PAGESIZE);
}

/* Frees all that is not under work. Time goes by, and idle heaps are looked for. */
static void settle(void)
{
	stage_begin("freeing what parked threads had allocated");
	for (unsigned i = 0; i < victim_count; i++)
		victim_free_rest(&victims[i]);
	slots_free();
	for (unsigned i = 0; i < 3; i++) {
		face_trim();
		look(i);
		pause_ms(IDLE_MS);
	}
	look(4);
	face_trim();
}

static size_t difference(uint64_t a, uint64_t b)
{
	return a > b ? (size_t)(a - b) : 0;
}

static void check_kept(size_t resident_before, uint64_t slabs_before)
{
	uint32_t ids[VICTIMS];
	unsigned count = 0;
	size_t slabs_most = 0;
	for (unsigned i = 0; i < victim_count; i++) {
		if (park_phase(&victims[i]) != PARK_PARKED)
			continue;
		slabs_most += victim_slab_bytes_most(&victims[i]);
		ids[count++] = victims[i].heap_id;
	}
	const size_t slabs = difference(face_slab_bytes(), slabs_before);
	const size_t resident = difference(resident_bytes(), resident_before);
	const size_t resident_most = slabs_most + count * WORK_BYTES_MOST + OWN_BYTES_MOST;
	CHECK(count > 0);
	const bool bounded = face_kept_is_bounded(ids, count);
	test_note("%u parked, KiB each: resident %zu (bound %zu), in slabs %zu (bound %zu)", count,
		(resident >> 10) / count, (resident_most >> 10) / count, (slabs >> 10) / count,
		(slabs_most >> 10) / count);
	if (resident / count > shared->resident_most)
		shared->resident_most = resident / count;
	if (slabs / count > shared->slabs_most)
		shared->slabs_most = slabs / count;
	if (!bounded || slabs > slabs_most || resident > resident_most)
		describe_parked();
	CHECK(bounded);
	CHECK(slabs <= slabs_most);
	CHECK(resident <= resident_most);
}

static void finish_all(void)
{
	stage_begin("release of all");
	for (unsigned i = 0; i < victim_count; i++) {
		if (!victims[i].joined)
			victim_finish(&victims[i]);
	}
	for (unsigned i = 0; i < victim_count; i++) {
		victim_free_blocks(&victims[i]);
		victim_free_own(&victims[i]);
	}
	face_check_empty();
}

_Noreturn static void round_main(void)
{
	signal(SIGALRM, on_alarm);
	face_start();
	CHECK_EQ(pthread_key_create(&last_key, last_destructor), 0);
	look(0);
	face_trim();
	const size_t resident = resident_bytes();
	const uint64_t slabs = face_slab_bytes();
	stage_begin("the janitor's start");
	victim_wait(victim_start(OP_JANITOR, false));
	others_start();
	for (unsigned i = 0; i < BATCHES; i++)
		run_batch();
	stage_begin("the others' end");
	others_stop();
	for (unsigned i = 0; i < SEIZE_TRIES; i++)
		try_seize(i);
	settle();
	check_kept(resident, slabs);
	finish_all();
	_exit(0);
}

static void run_round(void)
{
	int status;
	random_state = test_random(&random_state);
	const pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		round_main();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (status != 0)
		test_fail(__FILE__, __LINE__, "a round ended with status %#x", status);
}

static void print_regions(void)
{
	test_note("%llu parkings, %llu operations ended before", (unsigned long long)shared->parked,
		(unsigned long long)shared->ended);
	test_note(
		"kept for each parked thread, in the worst round: %zu KiB resident, %zu KiB in slabs",
		shared->resident_most >> 10, shared->slabs_most >> 10);
	for (unsigned r = 0; r < REGIONS; r++)
		test_note("  %-20s %6llu", regions[r].name, (unsigned long long)shared->fell[r]);
}

static void begin(void)
{
	char path[4096];
	uintptr_t base;
	park_init();
	if (!face_module(path, sizeof path, &base))
		SKIP("liballod-malloc.so is not preloaded");
	if (!symbols_load(path, base))
		SKIP("the library has no symbol table");
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		0);
	CHECK(shared != MAP_FAILED);
}

static bool all_regions_met(uint64_t least)
{
	for (unsigned r = 0; r < REGIONS; r++) {
		if (shared->fell[r] < least)
			return false;
	}
	return true;
}

TEST_TIMEOUT(others_go_on_wherever_threads_are_parked, 3600)
{
	const char *text = getenv("TEST_PARKS");
	const uint64_t want = text != NULL ? strtoull(text, NULL, 10) : PARKS_DEFAULT;
	const uint64_t least = 1 + want / REGION_FACTOR;
	random_state = test_seed();
	begin();
	while (shared->parked < want ||
		(!all_regions_met(least) && shared->parked < want * TRIES_FACTOR))
		run_round();
	print_regions();
	CHECK(all_regions_met(least));
}
