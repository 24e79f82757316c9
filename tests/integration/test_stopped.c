/* SPDX-License-Identifier: MIT */
/*
 * Threads parked for ever by a signal at random moments, with the library preloaded. The others go
 * on: they allocate, free what the parked ones had allocated, begin and end, trim and read
 * statistics. All that must end in time, and what the parked threads keep is bounded.
 *
 * Where the program counter was is counted, and a part must have been inside the library.
 */
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "harness.h"

enum {
	VICTIMS_LEAST = 30,
	VICTIMS_MOST = 150,
	WORKERS = 2,
	SLOTS = 512,          /* blocks under way from thread to thread */
	INSIDE_LEAST = 12,    /* of the victims; parking goes on until there are so many */
	PROGRESS_ROUNDS = 50, /* each worker's, after each parking */
	SHORT_THREADS = 100,
	/*
	 * Of each parked thread: a current slab for each of the 11 classes of `sizes` and of their
	 * doubles (1152 KiB), the one slab that it was working on, a large block, its stack.
	 */
	KEPT_BYTES_EACH = (1152 + 320 + 600 + 64) << 10,
};

static const size_t sizes[] = { 24, 48, 200, 500, 1024, 5000, 20000, 300000 };
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static _Atomic(unsigned char *) slots[SLOTS];
static _Atomic(unsigned) rounds[WORKERS];
static atomic_bool stop;
static atomic_uint begun;
static atomic_uint parked;
static atomic_uint parked_inside;

/* The executable part of the preloaded library. */
static uintptr_t text_from, text_to;

static int find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	if (strstr(info->dlpi_name, "liballod-malloc") == NULL)
		return 0;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		if (header->p_type == PT_LOAD && (header->p_flags & PF_X)) {
			text_from = info->dlpi_addr + header->p_vaddr;
			text_to = text_from + header->p_memsz;
		}
	}
	return 1;
}

static uintptr_t program_counter(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
	return (uintptr_t)context->uc_mcontext.pc;
#endif
}

static void park(int number, siginfo_t *info, void *context)
{
	const uintptr_t pc = program_counter(context);
	sigset_t all;
	sigfillset(&all);
	if (pc >= text_from && pc < text_to)
		atomic_fetch_add(&parked_inside, 1);
	atomic_fetch_add(&parked, 1);
	for (;;)
		sigsuspend(&all);
}

/* Allocates, and swaps the block against one that some other thread left; frees that one. */
static void exchange(uint64_t *random)
{
	const uint64_t r = test_random(random);
	const size_t size = sizes[r % 64 ? r % (SIZES - 1) : SIZES - 1];
	unsigned char *p = r % 5 ? malloc(size) : calloc(1, size);
	CHECK(p != NULL);
	if (r % 7 == 0) {
		p = realloc(p, size * 2);
		CHECK(p != NULL);
	}
	memset(p, (int)(r >> 8), 16);
	p = atomic_exchange(&slots[r / 64 % SLOTS], p);
	CHECK(p == NULL || p[0] == p[15]);
	free(p);
}

/* Runs until it is parked. */
static void *victim(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;
	atomic_fetch_add(&begun, 1);
	for (unsigned i = 0; i < UINT_MAX; i++) {
		exchange(&random);
		if (i % 3000 == 0)
			malloc_trim(0);
	}
	return NULL;
}

static void *worker(void *arg)
{
	const size_t me = (size_t)arg;
	uint64_t random = me;
	while (!atomic_load(&stop)) {
		for (unsigned i = 0; i < 50; i++)
			exchange(&random);
		atomic_fetch_add(&rounds[me], 1);
	}
	return NULL;
}

static void *short_thread(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;
	for (unsigned i = 0; i < 200; i++)
		exchange(&random);
	return NULL;
}

static void pause_us(long us)
{
	const struct timespec time = { us / 1000000, us % 1000000 * 1000 };
	nanosleep(&time, NULL);
}

static size_t resident_bytes(void)
{
	char text[128] = "";
	FILE *f = fopen("/proc/self/statm", "r");
	CHECK(f != NULL && fgets(text, sizeof text, f) != NULL);
	fclose(f);
	return (size_t)atol(strchr(text, ' ')) * (size_t)sysconf(_SC_PAGESIZE);
}

static void park_one(uint64_t *random)
{
	pthread_t thread;
	const unsigned before = atomic_load(&parked);
	const unsigned begun_before = atomic_load(&begun);
	CHECK_EQ(pthread_create(&thread, NULL, victim, (void *)(uintptr_t)test_random(random)), 0);
	/* On a busy machine it may be long until it runs, and it is to be parked inside. */
	while (atomic_load(&begun) == begun_before)
		pause_us(50);
	pause_us(200 + (long)(test_random(random) % 3000));
	CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
	while (atomic_load(&parked) == before)
		pause_us(50);
}

static void expect_progress(void)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		const unsigned from = atomic_load(&rounds[i]);
		while (atomic_load(&rounds[i]) - from < PROGRESS_ROUNDS)
			pause_us(200);
	}
}

static void run_short_threads(uint64_t *random)
{
	for (unsigned i = 0; i < SHORT_THREADS; i++) {
		pthread_t thread;
		void *seed = (void *)(uintptr_t)test_random(random);
		CHECK_EQ(pthread_create(&thread, NULL, short_thread, seed), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
	}
}

static void start(void)
{
	struct sigaction action = { .sa_sigaction = park, .sa_flags = SA_SIGINFO };
	dl_iterate_phdr(find_text, NULL);
	if (text_from == 0)
		SKIP("liballod-malloc.so is not preloaded");
	sigfillset(&action.sa_mask);
	CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
}

static void free_slots(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		free(atomic_exchange(&slots[i], NULL));
}

/* Parked threads leave their slabs to others only after a while (idle heaps are taken from). */
static void settle(void)
{
	for (unsigned i = 0; i < 4; i++) {
		pause_us(300000);
		for (unsigned j = 0; j < 2000; j++)
			free(atomic_exchange(&slots[j % SLOTS], malloc(sizes[j % (SIZES - 1)])));
		free_slots();
	}
	malloc_trim(0);
}

TEST_TIMEOUT(others_go_on_while_threads_are_parked, 60)
{
	uint64_t random = test_seed();
	pthread_t threads[WORKERS];
	start();
	const size_t before = resident_bytes();
	for (size_t i = 0; i < WORKERS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, worker, (void *)i), 0);
	for (unsigned i = 0; i < VICTIMS_MOST; i++) {
		if (i >= VICTIMS_LEAST && atomic_load(&parked_inside) >= INSIDE_LEAST)
			break;
		park_one(&random);
		expect_progress();
		CHECK(mallinfo2().arena > 0);
	}
	run_short_threads(&random);
	atomic_store(&stop, true);
	for (size_t i = 0; i < WORKERS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	free_slots();
	settle();
	const size_t after = resident_bytes();
	const size_t kept = after > before ? after - before : 0;
	test_note("%u parked, %u of them inside the library; %zu KiB kept, %zu each",
		atomic_load(&parked), atomic_load(&parked_inside), kept >> 10,
		(kept >> 10) / atomic_load(&parked));
	CHECK(atomic_load(&parked_inside) >= INSIDE_LEAST);
	CHECK(kept <= (size_t)atomic_load(&parked) * KEPT_BYTES_EACH);
}
