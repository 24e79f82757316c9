/* SPDX-License-Identifier: MIT */
/* Each entry point as the first call of a fresh thread, and blocks that cross threads. */
#include <pthread.h>
#include <stdio.h>

#include "conformance.h"

/* One block of the main thread's for the thread to use. */
struct first_call {
	void *block;
	size_t result;
};

typedef void first_call_fn(struct first_call *call);

static void first_malloc(struct first_call *call)
{
	M(free)(opaque(M(malloc)(100)));
}

static void first_free(struct first_call *call)
{
	M(free)(call->block);
	call->block = NULL;
}

static void first_free_sized(struct first_call *call)
{
	M(free_sized)(call->block, 1000);
	call->block = NULL;
}

static void first_free_null(struct first_call *call)
{
	M(free)(NULL);
}

static void first_calloc(struct first_call *call)
{
	void *p = opaque(M(calloc)(10, 10));

	CHECK(p != NULL && all_zero(p, 100));
	M(free)(p);
}

static void first_realloc(struct first_call *call)
{
	call->block = opaque(M(realloc)(call->block, 5000));
	CHECK(call->block != NULL && stamp_holds(call->block, 1000, 1));
}

static void first_shrinking_realloc(struct first_call *call)
{
	call->block = opaque(M(realloc)(call->block, 10));
	CHECK(call->block != NULL && stamp_holds(call->block, 10, 1));
}

static void first_realloc_to_zero(struct first_call *call)
{
	CHECK_EQ(M(realloc)(call->block, opaque_size(0)), NULL);
	call->block = NULL;
}

static void first_large_malloc(struct first_call *call)
{
	M(free)(opaque(M(malloc)(5 << 20)));
}

static void first_memalign(struct first_call *call)
{
	M(free)(opaque(M(memalign)(8192, 10)));
}

static void first_posix_memalign(struct first_call *call)
{
	void *p = NULL;

	CHECK_EQ(M(posix_memalign)(&p, 64, 10), 0);
	M(free)(p);
}

static void first_usable_size(struct first_call *call)
{
	CHECK(M(malloc_usable_size)(call->block) >= 1000);
}

static void first_trim(struct first_call *call)
{
	M(malloc_trim)(0);
}

static void first_mallinfo2(struct first_call *call)
{
	CHECK(held_bytes() >= 1000);
}

static void first_mallopt(struct first_call *call)
{
	CHECK_EQ(M(mallopt)(M_ARENA_MAX, 1), 1);
}

static void first_failure(struct first_call *call)
{
	FAILS(M(malloc)(opaque_size(SIZE_MAX)), ENOMEM);
}

static first_call_fn *const first_calls[] = { first_malloc, first_free, first_free_sized,
	first_free_null, first_calloc, first_realloc, first_shrinking_realloc,
	first_realloc_to_zero, first_large_malloc, first_memalign, first_posix_memalign,
	first_usable_size, first_trim, first_mallinfo2, first_mallopt, first_failure };
#define FIRST_CALLS (sizeof(first_calls) / sizeof(first_calls[0]))

struct thread_arg {
	struct first_call call;
	first_call_fn *run;
};

static void *thread_main(void *arg_)
{
	struct thread_arg *arg = arg_;

	/* Whatever it takes to begin a heap: only the failing call leaves a trace in errno. */
	errno = ERRNO_MARK;
	arg->run(&arg->call);
	CHECK_EQ(errno, arg->run == first_failure ? ENOMEM : ERRNO_MARK);
	return NULL;
}

TEST(any_entry_point_may_be_a_threads_first)
{
	for (size_t round = 0; round < 20; round++) {
		for (size_t i = 0; i < FIRST_CALLS; i++) {
			struct thread_arg arg = { { M(malloc)(1000), 0 }, first_calls[i] };
			pthread_t thread;

			stamp(arg.call.block, 1000, 1);
			CHECK_EQ(pthread_create(&thread, NULL, thread_main, &arg), 0);
			CHECK_EQ(pthread_join(thread, NULL), 0);
			M(free)(arg.call.block);
		}
	}
}

/* A ring of threads, each freeing, or resizing and freeing, what the one before it allocated. */
enum { ring_threads = 4, ring_blocks = 2000, ring_rounds = 20 };

static struct ring {
	unsigned char *blocks[ring_threads][ring_blocks];
	size_t sizes[ring_threads][ring_blocks];
	pthread_barrier_t barrier;
} ring;

static void ring_fill(size_t me, uint64_t *random)
{
	for (size_t i = 0; i < ring_blocks; i++) {
		size_t size = test_random(random) % (i % 100 == 0 ? 100000 : 500);

		ring.sizes[me][i] = size;
		ring.blocks[me][i] = opaque(M(malloc)(size));
		CHECK(ring.blocks[me][i] != NULL);
		stamp(ring.blocks[me][i], size, i);
	}
}

static void ring_drain(size_t other)
{
	for (size_t i = 0; i < ring_blocks; i++) {
		unsigned char *p = ring.blocks[other][i];
		size_t size = ring.sizes[other][i];

		CHECK(stamp_holds(p, size, i));
		if (i % 3 == 0) {
			p = opaque(M(realloc)(p, size * 2 + 1));
			CHECK(p != NULL && stamp_holds(p, size, i));
		}
		KEEPS_ERRNO(M(free)(p));
	}
}

static void *ring_main(void *arg)
{
	size_t me = (size_t)arg;
	uint64_t random = 12345 + me;

	for (size_t round = 0; round < ring_rounds; round++) {
		ring_fill(me, &random);
		pthread_barrier_wait(&ring.barrier);
		ring_drain((me + 1 + round % (ring_threads - 1)) % ring_threads);
		pthread_barrier_wait(&ring.barrier);
	}
	return NULL;
}

TEST_TIMEOUT(blocks_cross_threads, 60)
{
	pthread_t threads[ring_threads];
	size_t before = held_bytes();

	pthread_barrier_init(&ring.barrier, NULL, ring_threads);
	for (size_t i = 0; i < ring_threads; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, ring_main, (void *)i), 0);
	for (size_t i = 0; i < ring_threads; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK(held_bytes() <= before + ((size_t)1 << 20));
}

/* The statistics may be read at any time, and stay sane while others allocate. */
TEST_TIMEOUT(statistics_while_threads_allocate, 60)
{
	pthread_t threads[ring_threads];
	FILE *f = tmpfile();

	CHECK(f != NULL);
	pthread_barrier_init(&ring.barrier, NULL, ring_threads);
	for (size_t i = 0; i < ring_threads; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, ring_main, (void *)i), 0);
	for (size_t i = 0; i < 300; i++) {
		struct mallinfo2 info = M(mallinfo2)();

		CHECK_EQ(info.arena, info.uordblks + info.fordblks);
		CHECK(info.uordblks < (size_t)1 << 40);
		CHECK_EQ(M(malloc_info)(0, f), 0);
		rewind(f);
		M(malloc_trim)(0);
	}
	for (size_t i = 0; i < ring_threads; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	fclose(f);
}

static void *churn_main(void *arg)
{
	M(free)(opaque(M(malloc)(32)));
	M(free)(opaque(M(malloc)(5000)));
	return opaque(M(malloc)(32));
}

/* What a thread leaves behind must not add up: neither blocks nor the heap that it had. */
TEST_TIMEOUT(threads_that_end_leave_nothing, 60)
{
	struct mallinfo2 before, after;

	for (size_t i = 0; i < 6000; i++) {
		pthread_t thread;
		void *block;

		if (i == 1000)
			before = M(mallinfo2)();
		CHECK_EQ(pthread_create(&thread, NULL, churn_main, NULL), 0);
		CHECK_EQ(pthread_join(thread, &block), 0);
		M(free)(block);
	}
	after = M(mallinfo2)();
	CHECK(after.uordblks <= before.uordblks + 65536);
	CHECK(after.arena <= before.arena + ((size_t)4 << 20));
}

/* Every call, in a thread that is to be cancelled at the first chance. */
static void *cancelled_main(void *arg)
{
	void *p = NULL;

	CHECK_EQ(pthread_cancel(pthread_self()), 0);
	p = opaque(M(malloc)(100));
	p = opaque(M(realloc)(p, 5 << 20));
	p = opaque(M(realloc)(p, 9 << 20));
	p = opaque(M(reallocarray)(p, 10, 10));
	M(free)(p);
	M(free)(opaque(M(calloc)(100, 100)));
	M(free)(opaque(M(malloc)(5 << 20)));
	M(free)(opaque(M(aligned_alloc)(4096, 100)));
	M(free)(opaque(M(memalign)(1 << 20, 100)));
	M(free)(opaque(M(valloc)(100)));
	M(free)(opaque(M(pvalloc)(100)));
	CHECK_EQ(M(posix_memalign)(&p, 64, 100), 0);
	CHECK(M(malloc_usable_size)(p) >= 100);
	M(free_sized)(p, 100);
	M(malloc_trim)(0);
	M(malloc_stats)();
	M(mallinfo2)();
	M(mallopt)(M_ARENA_MAX, 1);
	FAILS(M(malloc)(opaque_size(SIZE_MAX)), ENOMEM);
	*(bool *)arg = true;
	pthread_testcancel();
	return NULL;
}

/* POSIX has none of them in its lists; a program would lose the block, or worse. */
TEST(no_call_is_a_cancellation_point)
{
	bool came_through = false;
	pthread_t thread;
	void *result;

	/* malloc_stats() writes there. */
	CHECK(freopen("/dev/null", "w", stderr) != NULL);
	CHECK_EQ(pthread_create(&thread, NULL, cancelled_main, &came_through), 0);
	CHECK_EQ(pthread_join(thread, &result), 0);
	CHECK(came_through);
	CHECK(result == PTHREAD_CANCELED);
}
