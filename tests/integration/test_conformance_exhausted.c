/* SPDX-License-Identifier: MIT */
/*
 * When there is no memory: every call says so in its own way, leaves what there is as it was, and
 * works again when something was freed; also where it is the first call of its thread, and where
 * the kernel refuses what the library asks of it.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "conformance.h"

#define MIB ((size_t)1 << 20)

/* Blocks that hold one another. */
struct node {
	struct node *next;
};

static size_t mapped_bytes(void)
{
	char text[64] = "";
	int fd = open("/proc/self/statm", O_RDONLY);

	CHECK(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return strtoul(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static void limit_address_space(size_t spare)
{
	struct rlimit limit;

	M(free)(opaque(M(malloc)(1)));
	CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = mapped_bytes() + spare;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

/* Takes all there is in blocks of this size; a failure tells its reason. */
static struct node *take_all(struct node *head, size_t size)
{
	for (;;) {
		struct node *node;

		errno = ERRNO_MARK;
		node = opaque(M(malloc)(size));
		if (node == NULL) {
			CHECK_EQ(errno, ENOMEM);
			return head;
		}
		CHECK_EQ(errno, ERRNO_MARK);
		node->next = head;
		head = node;
	}
}

/* From large to small, so that nothing is left at the end. */
static struct node *take_everything(void)
{
	struct node *head = NULL;

	for (size_t size = 4 * MIB; size >= 16; size /= 2)
		head = take_all(head, size);
	CHECK(head != NULL);
	return head;
}

static void give_everything(struct node *head)
{
	while (head != NULL) {
		struct node *next = head->next;

		KEEPS_ERRNO(M(free)(head));
		head = next;
	}
}

static void check_that_all_fail(size_t size)
{
	void *p = &p;

	FAILS(M(malloc)(size), ENOMEM);
	FAILS(M(calloc)(1, size), ENOMEM);
	FAILS(M(calloc)(size, 1), ENOMEM);
	FAILS(M(realloc)(NULL, size), ENOMEM);
	FAILS(M(reallocarray)(NULL, size, 1), ENOMEM);
	FAILS(M(aligned_alloc)(64, size), ENOMEM);
	FAILS(M(memalign)(4096, size), ENOMEM);
	FAILS(M(valloc)(size), ENOMEM);
	FAILS(M(pvalloc)(size), ENOMEM);
	CHECK_EQ(M(posix_memalign)(&p, 64, size), ENOMEM);
	CHECK_EQ(p, &p);
}

TEST(every_call_says_that_memory_is_gone)
{
	static const size_t sizes[] = { 65536, MIB, 20 * MIB };
	struct node *head;

	limit_address_space(40 * MIB);
	head = take_everything();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		check_that_all_fail(sizes[i]);
	FAILS(M(malloc)(opaque_size(16)), ENOMEM);
	give_everything(head);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		void *p;

		KEEPS_ERRNO(p = opaque(M(malloc)(sizes[i])));
		CHECK(p != NULL);
		M(free)(p);
	}
}

/* C: a block that could not be resized keeps its place and its contents. */
TEST(what_cannot_grow_stays)
{
	static const size_t sizes[] = { 10, 1000, 40000, 3 * MIB };
	unsigned char *blocks[4];
	struct node *head;

	limit_address_space(40 * MIB);
	for (size_t i = 0; i < 4; i++) {
		blocks[i] = opaque(M(malloc)(sizes[i]));
		stamp(blocks[i], sizes[i], i);
	}
	head = take_everything();
	for (size_t i = 0; i < 4; i++) {
		FAILS(M(realloc)(blocks[i], sizes[i] + 10 * MIB), ENOMEM);
		FAILS(M(reallocarray)(blocks[i], 10 * MIB, 2), ENOMEM);
		CHECK(stamp_holds(blocks[i], sizes[i], i));
	}
	give_everything(head);
	for (size_t i = 0; i < 4; i++) {
		blocks[i] = opaque(M(realloc)(blocks[i], sizes[i] + 10 * MIB));
		CHECK(blocks[i] != NULL && stamp_holds(blocks[i], sizes[i], i));
		M(free)(blocks[i]);
	}
}

/* Programs shrink without a thought of failure; C would allow it, glibc never does it. */
TEST(shrinking_needs_no_memory)
{
	static const size_t sizes[] = { 1000, 20000, 300000, 3 * MIB };
	unsigned char *blocks[4];
	struct node *head;

	limit_address_space(40 * MIB);
	for (size_t i = 0; i < 4; i++) {
		blocks[i] = opaque(M(malloc)(sizes[i]));
		stamp(blocks[i], sizes[i], i);
	}
	head = take_everything();
	for (size_t i = 0; i < 4; i++) {
		for (size_t size = sizes[i] / 2; size > 0; size /= 4) {
			KEEPS_ERRNO(blocks[i] = opaque(M(realloc)(blocks[i], size)));
			CHECK(blocks[i] != NULL && stamp_holds(blocks[i], size, i));
		}
	}
	give_everything(head);
	for (size_t i = 0; i < 4; i++)
		M(free)(blocks[i]);
}

/* One block of the main thread's for each thread, which begins when there is nothing left. */
struct late {
	pthread_t thread;
	size_t number;
	unsigned char *block;
};

static pthread_barrier_t begin;

static void late_allocation(void *block, size_t size)
{
	CHECK(block != NULL || errno == ENOMEM);
	CHECK(block == NULL || errno == ERRNO_MARK);
	if (block != NULL)
		stamp(block, size, 1);
	M(free)(block);
}

static void *late_main(void *arg)
{
	struct late *late = arg;
	void *p = NULL;

	pthread_barrier_wait(&begin);
	errno = ERRNO_MARK;
	switch (late->number % 8) {
	case 0: late_allocation(opaque(M(malloc)(100)), 100); break;
	case 1: late_allocation(opaque(M(calloc)(10, 10)), 100); break;
	case 2: late_allocation(opaque(M(malloc)(MIB)), MIB); break;
	case 3: late_allocation(opaque(M(memalign)(4096, 100)), 100); break;
	case 4: CHECK(M(posix_memalign)(&p, 64, 10) == (p == NULL ? ENOMEM : 0)); break;
	case 5:
		p = opaque(M(realloc)(late->block, 20 * MIB));
		CHECK(p == NULL && errno == ENOMEM);
		break;
	case 6:
		CHECK_EQ(M(malloc_usable_size)(late->block) >= 5000, true);
		CHECK_EQ(errno, ERRNO_MARK);
		break;
	default: break;
	}
	M(free)(late->number % 8 == 4 ? p : NULL);
	CHECK(stamp_holds(late->block, 5000, late->number));
	KEEPS_ERRNO(M(free)(late->block));
	return NULL;
}

TEST_TIMEOUT(threads_that_begin_without_memory, 60)
{
	enum { count = 16 };
	static struct late lates[count];
	pthread_attr_t attr;
	struct node *head;

	CHECK_EQ(pthread_barrier_init(&begin, NULL, count + 1), 0);
	CHECK_EQ(pthread_attr_init(&attr), 0);
	CHECK_EQ(pthread_attr_setstacksize(&attr, 256 * 1024), 0);
	for (size_t i = 0; i < count; i++) {
		lates[i].number = i;
		lates[i].block = opaque(M(malloc)(5000));
		stamp(lates[i].block, 5000, i);
		CHECK_EQ(pthread_create(&lates[i].thread, &attr, late_main, &lates[i]), 0);
	}
	limit_address_space(20 * MIB);
	head = take_everything();
	pthread_barrier_wait(&begin);
	for (size_t i = 0; i < count; i++)
		CHECK_EQ(pthread_join(lates[i].thread, NULL), 0);
	give_everything(head);
	M(free)(opaque(M(malloc)(MIB)));
}

/* Threads that want all there is, and give it back, over and over. */
static void *greedy_main(void *arg)
{
	size_t got = 0;

	pthread_barrier_wait(&begin);
	for (size_t round = 0; round < 5; round++) {
		struct node *head = take_all(NULL, (size_t)arg);

		for (struct node *node = head; node != NULL; node = node->next)
			got++;
		give_everything(head);
	}
	return (void *)got;
}

TEST_TIMEOUT(threads_that_take_all_there_is, 60)
{
	static const size_t sizes[] = { 200, 3000, 50000, MIB };
	pthread_t threads[4];
	void *p;

	CHECK_EQ(pthread_barrier_init(&begin, NULL, 5), 0);
	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, greedy_main, (void *)sizes[i]), 0);
	limit_address_space(60 * MIB);
	pthread_barrier_wait(&begin);
	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(threads[i], &p), 0);
	p = opaque(M(malloc)(10 * MIB));
	CHECK(p != NULL);
	M(free)(p);
}

/* From now on the kernel refuses every change to what is mapped. */
static void refuse_mappings(void)
{
#define REFUSE(name)                                           \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES)
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		REFUSE(mmap),
		REFUSE(munmap),
		REFUSE(mremap),
		REFUSE(mprotect),
		REFUSE(madvise),
		REFUSE(brk),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static const struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
		SKIP("seccomp filters (CONFIG_SECCOMP_FILTER) cannot be had");
}

/* POSIX.1-2024: free() keeps errno, also when what it does inside fails. */
TEST(nothing_is_told_of_what_the_kernel_refuses)
{
	static const size_t sizes[] = { 100, 5000, 70000, 300000, 3 * MIB, 40 * MIB };
	enum { count = sizeof(sizes) / sizeof(sizes[0]) };
	void *blocks[4][count];
	struct node *head;

	for (size_t round = 0; round < 4; round++) {
		for (size_t i = 0; i < count; i++) {
			blocks[round][i] = opaque(M(malloc)(sizes[i]));
			stamp(blocks[round][i], sizes[i], i);
		}
	}
	refuse_mappings();
	for (size_t i = 0; i < count; i++) {
		KEEPS_ERRNO(blocks[0][i] = opaque(M(realloc)(blocks[0][i], sizes[i] / 3)));
		CHECK(blocks[0][i] != NULL && stamp_holds(blocks[0][i], sizes[i] / 3, i));
		for (size_t round = 0; round < 4; round++)
			KEEPS_ERRNO(M(free)(blocks[round][i]));
	}
	KEEPS_ERRNO(M(malloc_trim)(0));
	KEEPS_ERRNO(M(mallinfo2)());
	head = take_all(NULL, MIB);
	FAILS(M(realloc)(NULL, opaque_size((size_t)1 << 36)), ENOMEM);
	FAILS(M(memalign)(MIB, opaque_size((size_t)1 << 36)), ENOMEM);
	give_everything(head);
}
