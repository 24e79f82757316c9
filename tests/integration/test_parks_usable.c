/* SPDX-License-Identifier: MIT */
/*
 * What others free into the slabs of parked threads is used again without their owners. Each thread
 * allocates much, frees a quarter and parks while it goes on; the main thread frees half, waits
 * until their heaps count as idle, and allocates as much as was freed: that needs no more memory
 * than there is, but for the slabs that the parked threads keep.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "park.h"
#include "park_face.h"
#include "park_ops.h"

enum {
	ROUNDS = 4,
	VICTIMS = 8,
	BLOCKS = 2000, /* 62 slabs of each thread */
	BYTES = 2000,
	FREED = BLOCKS / 4 * 3,
	STEPS = 6000, /* the victims' operations take more */
	IDLE_MS = 270,
	STAGE_SECONDS_MOST = 60,
	/* The current slab, and the one under work. */
	KEPT_BYTES_EACH = 2 * 65536,
	/* Those of the main thread. */
	KEPT_BYTES_OWN = 4 * 65536,
};

static struct victim victims[VICTIMS];
static _Atomic(uint32_t) trim_now;
static _Atomic(uint32_t) trimmed;
static void *again[VICTIMS * FREED];
static pthread_barrier_t all_filled;

static void use(struct victim *v)
{
	void *p[200];
	for (unsigned i = 0; i < 200; i++)
		p[i] = block_make(face_alloc(BYTES), BYTES);
	for (unsigned i = 0; i < 200; i++)
		block_free(p[i]);
	v->own[0] = NULL;
}

/*
 * Allocates much and frees every fourth block, so that the slabs are its own again: after all have
 * allocated, for else one that is slow would use what the idle ones have free.
 */
static void fill(struct victim *v)
{
	uint32_t kept = 0;
	for (unsigned i = 0; i < BLOCKS; i++)
		v->blocks[i] = block_make(face_alloc(BYTES), BYTES);
	pthread_barrier_wait(&all_filled);
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (i % 4 == 0)
			block_free(v->blocks[i]);
		else
			v->blocks[kept++] = v->blocks[i];
	}
	a_store_rel(&v->count, kept);
}

static void *victim_main(void *arg)
{
	struct victim *v = arg;
	v->stack_top = (uintptr_t)__builtin_frame_address(0);
	fill(v);
	park_begin(v);
	use(v);
	park_end(v);
	a_store_rel(&v->phase, PARK_ENDED);
	return NULL;
}

static void start_all(uint64_t *random)
{
	CHECK_EQ(pthread_barrier_init(&all_filled, NULL, VICTIMS), 0);
	for (unsigned i = 0; i < VICTIMS; i++) {
		victims[i].number = i;
		victims[i].target = REGION_ANY;
		victims[i].steps_most = PARK_STEPS_MOST;
		victims[i].k = (long)(test_random(random) % STEPS);
		CHECK_EQ(pthread_create(&victims[i].thread, NULL, victim_main, &victims[i]), 0);
	}
	for (unsigned i = 0; i < VICTIMS; i++) {
		while (park_phase(&victims[i]) == PARK_RUNNING)
			nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	}
}

static void finish(struct victim *v)
{
	if (v->joined)
		return;
	v->joined = true;
	park_release(v);
	CHECK_EQ(pthread_join(v->thread, NULL), 0);
}

/* Every third of what each victim holds stays. */
static void free_most(void)
{
	for (unsigned i = 0; i < VICTIMS; i++) {
		for (unsigned b = 0; b < a_load_acq(&victims[i].count); b++) {
			if (b % 3 == 0)
				continue;
			block_free(victims[i].blocks[b]);
			victims[i].blocks[b] = NULL;
		}
	}
}

static void wait_until_idle(void)
{
	for (unsigned i = 0; i < 3; i++) {
		/* Needs a new slab, and looks for idle heaps. */
		block_free(block_make(face_alloc(20000 + i * 4000), 20000));
		nanosleep(&(struct timespec){ 0, IDLE_MS * 1000000 }, NULL);
	}
	block_free(block_make(face_alloc(32000), 32000));
	face_trim();
}

/* Allocates as much as was freed of the victims' memory; that must need no more than there is. */
static void use_again(uint64_t before, unsigned owners)
{
	for (unsigned i = 0; i < VICTIMS * FREED; i++)
		again[i] = block_make(face_alloc(BYTES), BYTES);
	const uint64_t after = face_slab_bytes();
	const uint64_t more = after > before ? after - before : 0;
	const uint64_t most = owners * (uint64_t)KEPT_BYTES_EACH + KEPT_BYTES_OWN;
	test_note(
		"%u of %u still hold slabs; of %u KiB that are free %llu are not used (bound %llu)",
		owners, (unsigned)VICTIMS, (unsigned)(VICTIMS * FREED * (BYTES / 8) / 128),
		(unsigned long long)more >> 10, (unsigned long long)most >> 10);
	if (more > most) {
		for (unsigned i = 0; i < VICTIMS; i++)
			park_describe(&victims[i], "malloc and free");
	}
	CHECK(more <= most);
	for (unsigned i = 0; i < VICTIMS * FREED; i++)
		block_free(again[i]);
}

_Noreturn static void round_main(uint64_t random)
{
	unsigned parked = 0;
	alarm(STAGE_SECONDS_MOST);
	face_start();
	start_all(&random);
	for (unsigned i = 0; i < VICTIMS; i++)
		parked += park_phase(&victims[i]) == PARK_PARKED;
	const uint64_t before = face_slab_bytes();
	free_most();
	wait_until_idle();
	use_again(before, parked);
	for (unsigned i = 0; i < VICTIMS; i++)
		finish(&victims[i]);
	for (unsigned i = 0; i < VICTIMS; i++)
		victim_free_blocks(&victims[i]);
	face_check_empty();
	_exit(0);
}

/*
 * Frees, and trims after others have freed as well; then is idle, with no slab beside its current
 * ones.
 */
static void *trimmer_main(void *arg)
{
	struct victim *v = arg;
	fill(v);
	a_store_rel(&v->phase, PARK_PARKED);
	while (!a_load_acq(&trim_now))
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	face_trim();
	a_add_rel(&trimmed, 1);
	while (!a_load_acq(&v->released))
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	return NULL;
}

TEST_TIMEOUT(what_others_freed_before_their_owners_trimmed_is_used, 60)
{
	char path[4096];
	uintptr_t base;
	if (!face_module(path, sizeof path, &base))
		SKIP("liballod-malloc.so is not preloaded");
	face_start();
	CHECK_EQ(pthread_barrier_init(&all_filled, NULL, VICTIMS), 0);
	for (unsigned i = 0; i < VICTIMS; i++)
		CHECK_EQ(pthread_create(&victims[i].thread, NULL, trimmer_main, &victims[i]), 0);
	for (unsigned i = 0; i < VICTIMS; i++) {
		while (park_phase(&victims[i]) == PARK_RUNNING)
			nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	}
	const uint64_t before = face_slab_bytes();
	free_most();
	a_store_rel(&trim_now, 1);
	while (a_load_acq(&trimmed) < VICTIMS)
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	wait_until_idle();
	use_again(before, VICTIMS);
	for (unsigned i = 0; i < VICTIMS; i++)
		finish(&victims[i]);
	for (unsigned i = 0; i < VICTIMS; i++)
		victim_free_blocks(&victims[i]);
	face_check_empty();
}

TEST_TIMEOUT(what_others_freed_of_parked_threads_memory_is_used, 100)
{
	char path[4096];
	uintptr_t base;
	uint64_t random = test_seed();
	park_init();
	if (!face_module(path, sizeof path, &base))
		SKIP("liballod-malloc.so is not preloaded");
	if (!symbols_load(path, base))
		SKIP("the library has no symbol table");
	for (unsigned i = 0; i < ROUNDS; i++) {
		int status;
		const uint64_t seed = test_random(&random);
		const pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0)
			round_main(seed);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		if (status != 0)
			test_fail(__FILE__, __LINE__, "a round ended with status %#x", status);
	}
}
