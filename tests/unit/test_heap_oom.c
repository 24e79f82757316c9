/* SPDX-License-Identifier: MIT */
/*
 * Out of memory, swept: a scenario that uses the heap in every way is run over and over, each time
 * with another system call refused, once or from then on. Whatever is refused, a failed allocation
 * is NULL and ENOMEM and nothing else; blocks keep their contents; and once the system grants
 * again, all works as ever and nothing has been lost.
 *
 * Each run is a process of its own, so that the refusal of the first calls of all is tried as well.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "heap_fixture.h"
#include "os/mock.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define SECOND_NS ((uint64_t)1000000000)

struct held {
	void *p;
	size_t bytes;
	uint64_t seed;
};

enum { HELD_MAX = 2048 };

/* A thread's part of the scenario. */
struct actor {
	struct held held[HELD_MAX];
	size_t count;
	uint64_t seeds;
	unsigned failures;
};

/* Facts and options of a sweep. */
struct setting {
	const char *name;
	enum option_page page;
	enum option_background background;
	uint64_t arena_bytes;
	bool strict; /* strict overcommit */
};

/* Takes note of the answer to a request; a refusal must be a clean one. */
static void hold(struct actor *actor, void *p, size_t bytes, bool zeroed)
{
	if (p == NULL) {
		CHECK_EQ(errno, ENOMEM);
		actor->failures++;
		return;
	}
	CHECK(actor->count < HELD_MAX);
	CHECK(heap_usable_size(p) >= bytes);
	for (size_t i = 0; zeroed && i<bytes; i += bytes> 4096 ? 509 : 1)
		CHECK_EQ(((unsigned char *)p)[i], 0);
	fixture_fill(p, bytes, ++actor->seeds);
	actor->held[actor->count++] = (struct held){ p, bytes, actor->seeds };
}

static void let_go(struct actor *actor, size_t i)
{
	const struct held *held = &actor->held[i];
	fixture_check_fill(held->p, held->bytes, held->seed);
	heap_free(held->p);
	actor->held[i] = actor->held[--actor->count];
}

static void let_all_go(struct actor *actor)
{
	while (actor->count > 0)
		let_go(actor, actor->count - 1);
}

/* Resizes a block; refused, it must be as it was. To shrink is never refused. */
static void change(struct actor *actor, size_t i, size_t bytes)
{
	struct held *held = &actor->held[i];
	errno = 0;
	void *p = heap_resize(held->p, bytes);
	if (p == NULL) {
		CHECK_EQ(errno, ENOMEM);
		CHECK(bytes > held->bytes);
		actor->failures++;
		fixture_check_fill(held->p, held->bytes, held->seed);
		return;
	}
	CHECK_EQ(errno, 0);
	/* Of what is filled only here and there, the last byte was filled besides. */
	if (bytes >= held->bytes)
		fixture_check_fill(p, held->bytes, held->seed);
	held->p = p;
	held->bytes = bytes;
	held->seed = ++actor->seeds;
	fixture_fill(p, bytes, held->seed);
}

/* Blocks of all kinds. */
static void take_blocks(struct actor *actor)
{
	for (size_t size = 1; size <= MIB; size += 1 + size / 2) {
		errno = 0;
		hold(actor, heap_alloc(size), size, false);
		errno = 0;
		hold(actor, heap_alloc_zeroed(size), size, true);
	}
	for (size_t align = 32; align <= 128 * MIB; align *= 4) {
		errno = 0;
		void *p = heap_alloc_aligned(align, align / 64 + 1);
		CHECK_EQ((uintptr_t)p % align, 0);
		hold(actor, p, align / 64 + 1, false);
	}
}

/* Several slabs of one class, so that some are opened, attached and listed. */
static void take_many(struct actor *actor)
{
	for (int i = 0; i < 400; i++) {
		errno = 0;
		hold(actor, heap_alloc(1500), 1500, false);
	}
}

static void free_every(struct actor *actor, size_t step)
{
	for (size_t i = 0; i < actor->count; i += step)
		let_go(actor, i);
}

static void resize_some(struct actor *actor)
{
	for (size_t i = 0; i < actor->count; i += 5)
		change(actor, i, actor->held[i].bytes * 3 + 1);
	for (size_t i = 0; i < actor->count; i += 7)
		change(actor, i, actor->held[i].bytes / 4 + 1);
	/* One block through extension, moves and back. */
	if (actor->count == 0)
		return;
	for (size_t bytes = 300 * KIB; bytes <= 6 * MIB; bytes *= 2)
		change(actor, 0, bytes);
	change(actor, 0, MIB);
	change(actor, 0, 100);
}

static struct actor actors[3];

/* The other threads' part; what they hold in the end stays for the main thread. */
static void *act(void *arg)
{
	struct actor *actor = arg;
	take_blocks(actor);
	take_many(actor);
	free_every(actor, 2);
	resize_some(actor);
	return NULL;
}

static void act_peer(void *arg)
{
	act(arg);
}

static void let_all_go_peer(void *arg)
{
	let_all_go(arg);
}

/* One after the other, so that the calls come in the same order in every run. */
static void scenario(void)
{
	struct peer peer;
	act(&actors[0]);
	heap_trim();
	peer_start(&peer);
	peer_run(&peer, act_peer, &actors[1]);
	/*
	 * Each frees the other's; then the peer has been idle for long, and its slabs are seized.
	 */
	free_every(&actors[1], 3);
	peer_run(&peer, let_all_go_peer, &actors[0]);
	for (int i = 0; i < 3; i++) {
		mock_clock_advance(SECOND_NS);
		take_many(&actors[2]);
	}
	resize_some(&actors[2]);
	for (int i = 0; i < 200; i++)
		page_tick();
	peer_end(&peer);
	heap_trim();
	let_all_go(&actors[1]);
	let_all_go(&actors[2]);
}

static unsigned take_failures(void)
{
	unsigned sum = 0;
	for (int i = 0; i < 3; i++) {
		sum += actors[i].failures;
		actors[i].failures = 0;
	}
	return sum;
}

static void apply(const struct setting *setting)
{
	mock_reset();
	mock_clock_set(1000 * SECOND_NS);
	mock_facts()->overcommit_mode = setting->strict ? 2 : 0;
	mock_facts()->address_limit_bytes = OS_UNLIMITED;
	options.page = setting->page;
	options.background = setting->background;
	options.arena_bytes = setting->arena_bytes;
	heap_register_hooks();
}

/* Takes every refusal back; the clock goes on, as the facts do. */
static void grant_all(const struct setting *setting)
{
	const uint64_t now = os_now_ns();
	mock_reset();
	mock_clock_set(now);
	mock_facts()->overcommit_mode = setting->strict ? 2 : 0;
}

/* A run with a refusal, then one without. Returns how many allocations failed in the first. */
static unsigned run(const struct setting *setting, enum os_call kind, unsigned nth, bool onward)
{
	apply(setting);
	if (onward)
		mock_fail_all_after(kind, nth - 1);
	else if (nth > 0)
		mock_fail(kind, nth, ENOMEM);
	scenario();
	heap_check();
	const unsigned failures = take_failures();
	const unsigned heaps = heap_pool_count();
	grant_all(setting);
	scenario();
	CHECK_EQ(take_failures(), 0);
	/* Nobody's heap was lost. */
	CHECK(heap_pool_count() <= (heaps > 2 ? heaps : 2));
	fixture_check_empty();
	return failures;
}

/* Runs in a process of its own; *ret_failures is what it tells. */
static void run_apart(const struct setting *setting, enum os_call kind, unsigned nth, bool onward,
	unsigned *ret_failures)
{
	int fds[2];
	int status = 0;
	CHECK_EQ(pipe(fds), 0);
	const pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		const unsigned failures = run(setting, kind, nth, onward);
		_exit(write(fds[1], &failures, sizeof failures) == sizeof failures ? 0 : 1);
	}
	close(fds[1]);
	const ssize_t got = read(fds[0], ret_failures, sizeof *ret_failures);
	close(fds[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (status != 0 || got != sizeof *ret_failures)
		test_fail(__FILE__, __LINE__, "%s: refusing %s %u%s: status %x", setting->name,
			mock_call_name(kind), nth, onward ? " and all after" : "", status);
}

/* The calls of each kind in a run that is refused nothing. */
static void count_calls(const struct setting *setting, unsigned counts[OS_CALL_KINDS])
{
	int fds[2];
	int status = 0;
	CHECK_EQ(pipe(fds), 0);
	const pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		unsigned seen[OS_CALL_KINDS];
		apply(setting);
		scenario();
		CHECK_EQ(take_failures(), 0);
		for (unsigned kind = 0; kind < OS_CALL_KINDS; kind++)
			seen[kind] = mock_count((enum os_call)kind);
		_exit(write(fds[1], seen, sizeof seen) == sizeof seen ? 0 : 1);
	}
	close(fds[1]);
	const size_t bytes = sizeof(unsigned[OS_CALL_KINDS]);
	CHECK_EQ(read(fds[0], counts, bytes), bytes);
	close(fds[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

/*
 * Where a kind of call comes often, the first ones and then ever fewer are refused; and fewer where
 * a sanitizer makes each run slow.
 */
static unsigned next_of(unsigned n)
{
	if (TEST_SANITIZED)
		return 4 * n + 1;
	return n < 6 ? n + 1 : 2 * n;
}

/* Refuses calls of one kind; returns how many runs there were. */
static unsigned sweep_kind(const struct setting *setting, enum os_call kind, unsigned count)
{
	unsigned runs = 0;
	unsigned once = 0;
	unsigned onward = 0;
	unsigned failures;
	for (unsigned n = 1; n <= count; n = next_of(n)) {
		run_apart(setting, kind, n, false, &failures);
		once += failures;
		run_apart(setting, kind, n, true, &failures);
		onward += failures;
		runs += 2;
	}
	if (runs > 0)
		test_note(
			"%s: %s, %u calls: %u runs; %u requests failed by one refusal, %u by many",
			setting->name, mock_call_name(kind), count, runs, once, onward);
	return runs;
}

static void sweep(const struct setting *setting)
{
	unsigned counts[OS_CALL_KINDS];
	unsigned runs = 0;
	count_calls(setting, counts);
	for (unsigned kind = 0; kind < OS_CALL_KINDS; kind++)
		runs += sweep_kind(setting, (enum os_call)kind, counts[kind]);
	test_note("%s: %u runs", setting->name, runs);
	CHECK(runs > 20);
}

TEST_TIMEOUT(with_an_arena, 60)
{
	sweep(&(struct setting){ "arena", .background = OPTION_BACKGROUND_ON });
}

TEST_TIMEOUT(with_a_small_arena, 60)
{
	sweep(&(struct setting){
		"small arena", .background = OPTION_BACKGROUND_AUTO, .arena_bytes = 8 * MIB });
}

TEST_TIMEOUT(with_direct_runs_alone, 60)
{
	sweep(&(struct setting){
		"direct runs", .page = OPTION_PAGE_MMAP, .background = OPTION_BACKGROUND_OFF });
}

TEST_TIMEOUT(with_strict_overcommit, 60)
{
	sweep(&(struct setting){
		"strict overcommit", .background = OPTION_BACKGROUND_OFF, .strict = true });
}
