/* SPDX-License-Identifier: MIT */
/*
 * How a process comes to its way of working: what libc and the kernel say of the area, areas of
 * another owner, threads that are not registered or cannot be, sandboxes. Additions go on while
 * the process changes from sequences to atomic instructions, and none is lost.
 *
 * What is decided before main() is tested in a new process: run_again() executes this program with
 * other circumstances, which the wrapped functions and the first constructor make.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "os/os.h"
#include "percpu/rseq.h"
#include "percpu_fixture.h"

enum { THREADS = 4, AREA_BYTES = 32 };

struct area {
	char bytes[AREA_BYTES];
} __attribute__((aligned(32)));

static __thread struct area other;

/* Circumstances. */

bool __real_os_rseq_libc(ptrdiff_t *ret_offset, unsigned *ret_bytes);
bool __wrap_os_rseq_libc(ptrdiff_t *ret_offset, unsigned *ret_bytes);
unsigned __real_os_rseq_kernel_bytes(void);
unsigned __wrap_os_rseq_kernel_bytes(void);

bool __wrap_os_rseq_libc(ptrdiff_t *ret_offset, unsigned *ret_bytes)
{
	const char *says = os_env("TEST_LIBC_SAYS");
	const bool has = __real_os_rseq_libc(ret_offset, ret_bytes);

	if (has && says != NULL)
		*ret_bytes = (unsigned)atoi(says);
	return has;
}

unsigned __wrap_os_rseq_kernel_bytes(void)
{
	const char *says = os_env("TEST_KERNEL_SAYS");

	return says != NULL ? (unsigned)atoi(says) : __real_os_rseq_kernel_bytes();
}

/* Somebody takes the main thread's registration before any constructor, of libc's even. */
static void own_first(int argc, char **argv, char **variables)
{
	(void)argc, (void)argv;
	for (char **at = variables; *at != NULL; at++) {
		if (strncmp(*at, "TEST_OTHER_OWNER=", 17) == 0)
			os_rseq_register(&other, AREA_BYTES);
	}
}

__attribute__((section(".preinit_array"), used)) static void (*const first)(int argc, char **argv,
	char **variables) = own_first;

/* Runs one of the subtests in a process with these variables: "NAME=VALUE". */
static void run_again(const char *name, const char *const *variables)
{
	int status;
	const pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		for (unsigned i = 0; variables[i] != NULL; i++)
			putenv((char *)(uintptr_t)variables[i]);
		/* What it prints is not part of this program's output. */
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execl("/proc/self/exe", "test_percpu_rseq", name, (char *)NULL);
		_exit(127);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

static bool has_libc_area(void)
{
	ptrdiff_t offset;
	unsigned bytes;

	return os_rseq_libc(&offset, &bytes);
}

#define WITHOUT_LIBC "GLIBC_TUNABLES=glibc.pthread.rseq=0"

static void need_rseq(void)
{
	if (allod_rseq_mode() == ALLOD_RSEQ_MODE_ATOMIC)
		SKIP("the kernel has no restartable sequences");
}

/* Part of what run_again() runs; alone it says what is so here. */
TEST(the_way_is_as_expected)
{
	const char *mode = getenv("WANT_MODE");
	const char *bytes = getenv("WANT_BYTES");

	if (mode != NULL)
		CHECK_EQ(allod_rseq_mode(), atoi(mode));
	if (bytes != NULL)
		CHECK_EQ(allod_rseq_feature_bytes(), atoi(bytes));
	CHECK_EQ(allod_rseq_available(ALLOD_RSEQ_MM_CID), allod_rseq_feature_bytes() >= 28);
	CHECK_EQ(allod_rseq_available(ALLOD_RSEQ_CPU_ID),
		allod_rseq_mode() != ALLOD_RSEQ_MODE_ATOMIC);
	CHECK_EQ(allod_rseq_register(), allod_rseq_mode() == ALLOD_RSEQ_MODE_ATOMIC ? -ENOTSUP : 0);
	hop(1);
	CHECK_EQ(allod_rseq_current(ALLOD_RSEQ_CPU_ID), sched_getcpu());
	/* Without concurrency ids, the processor's number stands for them. */
	if (!allod_rseq_available(ALLOD_RSEQ_MM_CID))
		CHECK_EQ(allod_rseq_current(ALLOD_RSEQ_MM_CID), sched_getcpu());
	uint64_t *p = percpu_memory();
	allod_percpu_add_in(by_cid, p, 3);
	allod_percpu_add_in(by_cpu, p, 4);
	CHECK_EQ(sum_of(p), 7);
}

/* The size that libc says, and what the kernel says that it fills. */
TEST_TIMEOUT(sizes_are_read_with_care, 30)
{
	static const struct {
		const char *libc;
		const char *kernel;
		const char *want;
	} sizes[] = {
		{ "20", "28", "28" }, /* glibc 2.36 with the repair */
		{ "32", "28", "28" }, /* glibc 2.35 */
		{ "32", "33", "32" },
		{ "20", "0", "20" }, /* kernels before 6.3 */
		{ "32", "0", "20" },
		{ "28", "28", "28" }, /* glibc 2.41 says what is so */
		{ "24", "28", "24" },
		{ "33", "33", "33" },
		{ "64", "28", "28" }, /* an area larger than what counts */
		{ "64", "0", "20" },
	};

	if (!has_libc_area())
		SKIP("libc registers no area for restartable sequences");
	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		char libc[32], kernel[32], want[32];
		const char *const variables[] = { libc, kernel, want, "WANT_MODE=0", NULL };

		snprintf(libc, sizeof libc, "TEST_LIBC_SAYS=%s", sizes[i].libc);
		snprintf(kernel, sizeof kernel, "TEST_KERNEL_SAYS=%s", sizes[i].kernel);
		snprintf(want, sizeof want, "WANT_BYTES=%s", sizes[i].want);
		run_again("the_way_is_as_expected", variables);
	}
}

TEST_TIMEOUT(an_area_of_our_own_where_libc_has_none, 30)
{
	need_rseq();
	run_again("the_way_is_as_expected",
		(const char *const[]){ WITHOUT_LIBC, "WANT_MODE=1", NULL });
	run_again("the_way_is_as_expected",
		(const char *const[]){
			WITHOUT_LIBC, "WANT_MODE=1", "TEST_KERNEL_SAYS=0", "WANT_BYTES=20", NULL });
}

TEST_TIMEOUT(atomic_where_another_was_first, 30)
{
	need_rseq();
	if (!has_libc_area())
		SKIP("this libc runs nothing before the library's constructors");
	run_again("the_way_is_as_expected",
		(const char *const[]){ WITHOUT_LIBC, "TEST_OTHER_OWNER=1", "WANT_MODE=2", NULL });
}

/* Threads that cannot be registered, while others work. */

static void *libc_area(void)
{
	char *pointer = (char *)percpu_thread_pointer();

	return pointer + allod_rseq_state_.cs - 8;
}

static struct {
	uint64_t sum;
	struct allod_percpu_pair pair;
	struct allod_percpu_list list;
} * e;
static struct allod_percpu_node nodes[64];
static unsigned rounds;
static _Atomic(uint64_t) additions;
static void (*make_trouble)(void);

static void work_once(void)
{
	struct allod_percpu_node *node = allod_percpu_list_pop_in(by_cid, &e->list);

	allod_percpu_add_in(by_cpu, &e->sum, 1);
	allod_percpu_pair_add_in(by_cpu, &e->pair, 1, 2);
	while (node != NULL && !allod_percpu_list_push_in(by_cid, &e->list, node))
		;
	additions++;
}

static void work_or_trouble(unsigned self)
{
	for (unsigned i = 0; i < rounds; i++) {
		if (self == 0 && i == rounds / 3)
			make_trouble();
		work_once();
		if (i % 64 == self)
			hop(i / 64 + self);
	}
}

static unsigned listed(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < COPIES; i++) {
		struct allod_percpu_node *node = allod_percpu_list_take(by_cid, &e->list, i);

		for (; node != NULL && count <= 64; node = node->next)
			count++;
	}
	return count;
}

static void work_through(void (*trouble)(void), enum allod_rseq_mode then)
{
	uint64_t first_words = 0, second_words = 0;

	need_rseq();
	e = percpu_memory();
	rounds = test_count(20000, 2000000);
	make_trouble = trouble;
	for (unsigned i = 0; i < 64; i++)
		CHECK(allod_percpu_list_push_in(by_cid, &e->list, &nodes[i]));
	run_threads(THREADS, work_or_trouble, 100, work_once);
	CHECK_EQ(allod_rseq_mode(), then);
	CHECK_EQ(sum_of(&e->sum), additions);
	for (unsigned i = 0; i < COPIES; i++) {
		const struct allod_percpu_pair seen =
			allod_percpu_pair_read((struct allod_percpu_pair *)copy_of(&e->pair, i));

		first_words += seen.first;
		second_words += seen.second;
	}
	CHECK_EQ(first_words, additions);
	CHECK_EQ(second_words, 2 * additions);
	CHECK_EQ(listed(), 64);
}

static void unregister(void)
{
	CHECK_EQ(os_rseq_unregister(libc_area(), AREA_BYTES), 0);
	CHECK(allod_cs_index_(ALLOD_RSEQ_CPU_ID) < 0);
	CHECK(allod_cs_index_(ALLOD_RSEQ_MM_CID) < 0);
}

/* Signals are held back, since a handler would register the thread again. */
static void unregister_quietly(void)
{
	uint64_t signals;

	os_signals_block(&signals);
	unregister();
	os_signals_restore(&signals);
}

static void change_owner(void)
{
	uint64_t signals;

	os_signals_block(&signals);
	unregister();
	CHECK_EQ(os_rseq_register(&other, AREA_BYTES), 0);
	os_signals_restore(&signals);
}

TEST_TIMEOUT(a_thread_that_was_unregistered_is_registered, 30)
{
	if (allod_rseq_mode() == ALLOD_RSEQ_MODE_LIBC && has_libc_area() &&
		allod_rseq_feature_bytes() > AREA_BYTES)
		SKIP("libc's area is larger than this test knows how to register");
	work_through(unregister_quietly, allod_rseq_mode());
}

TEST_TIMEOUT(atomic_once_another_owns_a_thread, 30)
{
	work_through(change_owner, ALLOD_RSEQ_MODE_ATOMIC);
}

TEST_TIMEOUT(own_areas_until_another_owns_a_thread, 30)
{
	if (has_libc_area()) {
		need_rseq();
		run_again("own_areas_until_another_owns_a_thread",
			(const char *const[]){ WITHOUT_LIBC, "WANT_MODE=1", NULL });
		return;
	}
	work_through(change_owner, ALLOD_RSEQ_MODE_ATOMIC);
}

/* Sandboxes that the process enters after its start. */

static void forbid(const unsigned *calls, unsigned count)
{
	struct sock_filter filter[16] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		offsetof(struct seccomp_data, nr)) };
	unsigned short at = 1;

	for (unsigned i = 0; i < count; i++) {
		filter[at++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
		filter[at++] =
			(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
	filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { at, filter };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		SKIP("the kernel has no seccomp filters");
}

static void unregister_and_forbid(const unsigned *calls, unsigned count)
{
	uint64_t signals;

	os_signals_block(&signals);
	unregister();
	forbid(calls, count);
	os_signals_restore(&signals);
}

static void unregister_for_good(void)
{
	unregister_and_forbid((const unsigned[]){ SYS_rseq }, 1);
}

TEST_TIMEOUT(atomic_once_a_sandbox_forbids_rseq, 30)
{
	work_through(unregister_for_good, ALLOD_RSEQ_MODE_ATOMIC);
}

static void unregister_without_membarrier(void)
{
	unregister_and_forbid((const unsigned[]){ SYS_rseq, SYS_membarrier }, 2);
}

TEST_TIMEOUT(the_fence_visits_processors_where_membarrier_is_forbidden, 30)
{
	work_through(unregister_without_membarrier, ALLOD_RSEQ_MODE_ATOMIC);
}

static void add_without_any_fence(void)
{
	unregister_and_forbid((const unsigned[]){ SYS_rseq, SYS_membarrier, SYS_sched_setaffinity },
		3);
	work_once();
}

TEST(sequences_that_cannot_be_stopped_end_the_process)
{
	need_rseq();
	e = percpu_memory();
	CHECK_DEATH(add_without_any_fence(), SIGABRT,
		"allod: restartable sequences cannot be stopped\n");
}

TEST(a_number_beyond_the_copies_ends_the_process)
{
	const struct allod_percpu_view none = { STRIDE, ALLOD_RSEQ_CPU_ID, 0 };

	need_rseq();
	e = percpu_memory();
	CHECK_DEATH(allod_percpu_add_in(none, &e->sum, 1), SIGABRT,
		"allod: no copy for this processor\n");
}

/* The child of a process with threads: its only thread is registered, and so are new ones. */

static void work_a_little(unsigned self)
{
	for (unsigned i = 0; i < 1000; i++)
		work_once();
}

static void work_in_child(unsigned self)
{
	int status;

	work_a_little(self);
	if (self != 0)
		return;
	const pid_t pid = fork();
	if (pid == 0) {
		/* What others have added meanwhile is in this copy of the memory. */
		const uint64_t before = sum_of(&e->sum) - additions;

		run_threads(3, work_a_little, 100, work_once);
		_exit(sum_of(&e->sum) - additions == before ? 0 : 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	work_a_little(self);
}

static void fork_among_threads(void)
{
	e = percpu_memory();
	run_threads(THREADS, work_in_child, 0, NULL);
	CHECK_EQ(sum_of(&e->sum), additions);
}

/* (The thread sanitizer ends a child that starts threads after a fork among threads.) */
TEST_PLAIN(a_forked_child_goes_on)
{
	fork_among_threads();
	if (has_libc_area())
		run_again("a_forked_child_goes_on", (const char *const[]){ WITHOUT_LIBC, NULL });
}

TEST(the_fence_knows_its_processors)
{
	CHECK_EQ(allod_rseq_fence(-1), 0);
	CHECK_EQ(allod_rseq_fence(sched_getcpu()), 0);
	CHECK_EQ(allod_rseq_fence(-2), -EINVAL);
	CHECK_EQ(allod_rseq_fence(ALLOD_PERCPU_CPUS_MAX), -EINVAL);
}

TEST(clear_leaves_no_sequence)
{
	uint64_t *p = percpu_memory();

	allod_percpu_add_in(by_cpu, p, 1);
	allod_rseq_clear();
	CHECK_EQ(*(uint64_t *)((char *)libc_area() + 8), 0);
}
