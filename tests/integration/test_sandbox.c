/* SPDX-License-Identifier: MIT */
/*
 * Seccomp, with the library preloaded. System calls that a filter refuses from the start, by ENOSYS
 * as an old kernel does or by EPERM as containers do: the heap does without. And filters that a
 * program puts itself under later, which kill for whatever they do not name: the heap then keeps to
 * the calls that docs/guide/processes.md names.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

enum {
	MIB = 1 << 20,
	THREADS = 3,
	FILTER_MOST = 128,
	LARGE_BYTES = 64 * MIB,
	/* More than the arena's first reservation. */
	BURST_BYTES = 160 * MIB,
	LIST_END = -1,
};

static void pause_ms(long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&time, NULL);
}

/*
 * What a heap is used for.
 */

static void use_blocks(unsigned seed)
{
	unsigned char *blocks[200];
	for (unsigned i = 0; i < 200; i++) {
		const size_t size = 17 + (i * 7919u + seed) % 9000;
		blocks[i] = i % 3 ? malloc(size) : memalign(64, size);
		CHECK(blocks[i] != NULL);
		memset(blocks[i], (int)i, size);
		blocks[i] = realloc(blocks[i], size * 2);
		CHECK(blocks[i] != NULL && blocks[i][0] == i && blocks[i][16] == i);
	}
	for (unsigned i = 0; i < 200; i++)
		free(blocks[i]);
}

/* One block that grows as a file that is read does, by moving from a certain size on. */
static void grow_large(void)
{
	unsigned char *p = NULL;
	for (size_t bytes = MIB / 8; bytes <= LARGE_BYTES; bytes *= 2) {
		p = realloc(p, bytes);
		CHECK(p != NULL);
		p[bytes / 2] = 5;
		p[bytes - 1] = 6;
		CHECK(bytes == MIB / 8 || (p[bytes / 4] == 5 && p[bytes / 2 - 1] == 6));
		void *beside = malloc(200 * 1024);
		free(beside);
	}
	free(p);
}

/* Half of it in small blocks, so that the arena grows, and all of it at once. */
static void burst(void)
{
	enum { SIZE = 4000, COUNT = BURST_BYTES / SIZE };
	static void *blocks[COUNT];
	for (unsigned i = 0; i < COUNT; i++) {
		blocks[i] = malloc(SIZE);
		CHECK(blocks[i] != NULL);
		*(unsigned *)blocks[i] = i;
	}
	for (unsigned i = 0; i < COUNT; i++) {
		CHECK_EQ(*(unsigned *)blocks[i], i);
		free(blocks[i]);
	}
}

static void *use_blocks_often(void *arg)
{
	for (unsigned i = 0; i < 10; i++)
		use_blocks(i);
	return arg;
}

static void use_in_threads(void)
{
	pthread_t threads[THREADS];
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, use_blocks_often, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static void expect_success(pid_t pid)
{
	int status;
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		test_fail(__FILE__, __LINE__, "killed by signal %d", WTERMSIG(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

/* Also what is run under a filter, by its name. */
TEST_TIMEOUT(all_that_a_heap_is_used_for, 30)
{
	use_in_threads();
	grow_large();
	burst();
	const pid_t pid = fork();
	if (pid == 0) {
		use_in_threads();
		grow_large();
		exit(0);
	}
	expect_success(pid);
	malloc_trim(0);
	const struct mallinfo2 info = mallinfo2();
	CHECK(info.uordblks + info.hblkhd < MIB);
	use_blocks(1);
}

/*
 * Filters.
 */

struct filter {
	struct sock_filter code[FILTER_MOST];
	unsigned short length;
};

static void filter_add(struct filter *f, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	CHECK(f->length < FILTER_MOST);
	f->code[f->length++] = (struct sock_filter){ code, yes, no, k };
}

static void filter_start(struct filter *f)
{
	f->length = 0;
	filter_add(f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
}

/* What is to be done for the calls of a list. */
static void filter_for(struct filter *f, const int *calls, uint32_t action)
{
	for (; *calls != LIST_END; calls++) {
		filter_add(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)*calls, 0, 1);
		filter_add(f, BPF_RET | BPF_K, action, 0, 0);
	}
}

static void filter_enter(struct filter *f, uint32_t otherwise)
{
	const struct sock_fprog program = { f->length + 1, f->code };
	filter_add(f, BPF_RET | BPF_K, otherwise, 0, 0);
	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
		SKIP("no seccomp filters here");
}

/*
 * Refused from the start.
 */

static void run_refused(const int *calls, int error)
{
	const pid_t pid = fork();
	if (pid == 0) {
		struct filter f;
		const int null = open("/dev/null", O_WRONLY);
		dup2(null, STDOUT_FILENO);
		filter_start(&f);
		filter_for(&f, calls, SECCOMP_RET_ERRNO | (uint32_t)error);
		filter_enter(&f, SECCOMP_RET_ALLOW);
		execl("/proc/self/exe", "test_sandbox", "all_that_a_heap_is_used_for", NULL);
		_exit(99);
	}
	expect_success(pid);
}

static void run_refused_either_way(const int *calls)
{
	run_refused(calls, ENOSYS);
	run_refused(calls, EPERM);
}

TEST_TIMEOUT(without_the_barrier, 60)
{
	run_refused_either_way((const int[]){ SYS_membarrier, LIST_END });
}

TEST_TIMEOUT(without_advice, 60)
{
	run_refused_either_way((const int[]){ SYS_madvise, LIST_END });
	run_refused((const int[]){ SYS_madvise, LIST_END }, EINVAL);
}

TEST_TIMEOUT(without_moving_pages, 60)
{
	run_refused_either_way((const int[]){ SYS_mremap, LIST_END });
	run_refused((const int[]){ SYS_mremap, LIST_END }, EINVAL);
}

TEST_TIMEOUT(without_names_and_facts, 60)
{
	run_refused_either_way((const int[]){ SYS_prctl, LIST_END });
	run_refused_either_way((const int[]){ SYS_sysinfo, SYS_sched_getaffinity, SYS_prlimit64,
		SYS_kcmp, SYS_close_range, LIST_END });
}

TEST_TIMEOUT(without_what_is_newer_than_the_kernel, 60)
{
	run_refused_either_way((const int[]){
		SYS_membarrier, SYS_rseq, SYS_userfaultfd, SYS_getrandom, SYS_kcmp, LIST_END });
	/* glibc makes threads without clone3() if there is none, and not if it is forbidden. */
	run_refused((const int[]){ SYS_clone3, SYS_close_range, SYS_membarrier, SYS_rseq,
			    SYS_userfaultfd, SYS_getrandom, SYS_memfd_create, LIST_END },
		ENOSYS);
}

TEST_TIMEOUT(without_all_of_it, 60)
{
	run_refused_either_way((const int[]){ SYS_membarrier, SYS_madvise, SYS_mremap, SYS_prctl,
		SYS_sysinfo, SYS_sched_getaffinity, SYS_prlimit64, SYS_kcmp, SYS_close_range,
		SYS_rseq, SYS_userfaultfd, SYS_getrandom, LIST_END });
}

/*
 * Sandboxes that a program enters after its start, as daemons do for what they read from strangers.
 */

/* Such a sandbox's own list: memory, time, descriptors that are open, the end. */
static const int permitted[] = { SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close,
	SYS_exit, SYS_exit_group, SYS_futex, SYS_getpid, SYS_madvise, SYS_mmap, SYS_mprotect,
	SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_poll, SYS_read, SYS_rt_sigprocmask, SYS_select,
	SYS_write, SYS_getrandom, LIST_END };
/* What any library may try is refused without harm. */
static const int refused[] = { SYS_open, SYS_openat, SYS_stat, SYS_lstat, SYS_fstat, SYS_newfstatat,
	LIST_END };

static void enter_strict_sandbox(void)
{
	struct filter f;
	filter_start(&f);
	filter_for(&f, permitted, SECCOMP_RET_ALLOW);
	filter_for(&f, refused, SECCOMP_RET_ERRNO | EACCES);
	filter_enter(&f, SECCOMP_RET_KILL_PROCESS);
}

static atomic_bool entered;
static atomic_uint idle;

/* Has memory to take from it, and idles; then goes on, and ends in the sandbox. */
static void *own_and_idle(void *arg)
{
	void *blocks[2000];
	for (unsigned i = 0; i < 2000; i++)
		blocks[i] = malloc(1000);
	for (unsigned i = 0; i < 2000; i++) {
		if (i % 16)
			free(blocks[i]);
	}
	atomic_fetch_add(&idle, 1);
	while (!atomic_load(&entered))
		pause_ms(10);
	pause_ms(1500);
	for (unsigned i = 0; i < 2000; i += 16)
		free(blocks[i]);
	use_blocks(3);
	return arg;
}

/* For longer than it takes until others' heaps are looked at. */
static void use_for_a_while(void)
{
	enum { KEPT = 3000 };
	static void *kept[KEPT];
	for (unsigned n = 0; n < 1400 / 20; n++) {
		for (unsigned i = 0; i < KEPT; i++) {
			free(kept[i]);
			kept[i] = malloc((i * 31 + n) % 3000);
		}
		pause_ms(20);
	}
}

static void live_in_sandbox(unsigned threads, bool with_janitor)
{
	const pid_t pid = fork();
	if (pid == 0) {
		pthread_t all[THREADS];
		for (unsigned i = 0; i < threads; i++)
			CHECK_EQ(pthread_create(&all[i], NULL, own_and_idle, NULL), 0);
		while (atomic_load(&idle) < threads)
			pause_ms(5);
		use_blocks(1);
		if (with_janitor) {
			burst();
			pause_ms(300);
		}
		enter_strict_sandbox();
		atomic_store(&entered, true);
		use_blocks(2);
		grow_large();
		burst();
		use_for_a_while();
		malloc_trim(0);
		CHECK(mallinfo2().arena > 0);
		for (unsigned i = 0; i < threads; i++)
			CHECK_EQ(pthread_join(all[i], NULL), 0);
		burst();
		exit(0);
	}
	expect_success(pid);
}

TEST_TIMEOUT(in_a_sandbox_that_kills_with_one_thread, 30)
{
	live_in_sandbox(0, false);
	live_in_sandbox(0, true);
}

TEST_TIMEOUT(in_a_sandbox_that_kills_with_threads, 30)
{
	live_in_sandbox(THREADS, false);
	live_in_sandbox(THREADS, true);
}

/* The filter does kill. */
TEST(the_sandbox_is_one)
{
	int status;
	const pid_t pid = fork();
	if (pid == 0) {
		enter_strict_sandbox();
		prctl(PR_GET_SECCOMP);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK_EQ(WTERMSIG(status), SIGSYS);
}
