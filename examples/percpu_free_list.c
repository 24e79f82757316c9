/* SPDX-License-Identifier: MIT */
/*
 * A cache of free buffers for each processor, in front of malloc: taking and giving back are a few
 * instructions on memory that no other processor touches. A thread that wants the memory back takes
 * the lists of all processors, from wherever it runs, while the others go on: what
 * allod_percpu_list_take() does by the fence of <allod/rseq.h>.
 *
 *     cc percpu_free_list.c $(pkg-config --cflags --libs allod) -pthread
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <allod/percpu-ops.h>

enum { THREADS = 4, ROUNDS = 50000, DRAINS = 50, BUFFER_BYTES = 512 };

/* The link lies in the buffer itself while that is free. */
union buffer {
	struct allod_percpu_node node;
	char bytes[BUFFER_BYTES];
};

static struct allod_percpu_list ALLOD_PERCPU *lists;
static uint64_t ALLOD_PERCPU *made;

static union buffer *buffer_get(void)
{
	union buffer *buffer = (union buffer *)allod_percpu_list_pop(lists);

	if (buffer == NULL) {
		buffer = malloc(sizeof *buffer);
		if (buffer == NULL)
			abort();
		allod_percpu_add(made, 1);
	}
	return buffer;
}

static void buffer_put(union buffer *buffer)
{
	/* The list is just being drained: so goes this one. */
	if (!allod_percpu_list_push(lists, &buffer->node)) {
		free(buffer);
		allod_percpu_add(made, (uint64_t)-1);
	}
}

static void *use_buffers(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		union buffer *one = buffer_get(), *two = buffer_get();

		memset(one->bytes, i, sizeof one->bytes);
		memset(two->bytes, ~i, sizeof two->bytes);
		if (one->bytes[BUFFER_BYTES - 1] != (char)i)
			abort();
		buffer_put(one);
		buffer_put(two);
	}
	return arg;
}

/*
 * Where there are no restartable sequences, another thread may still be looking at the link of a
 * buffer that was taken: then its memory must stay readable, and malloc's small blocks do.
 */
static unsigned drain(void)
{
	unsigned freed = 0;
	int cpu;

	allod_percpu_for_each_active(cpu)
	{
		struct allod_percpu_node *node =
			allod_percpu_list_take(allod_percpu_default_view(), lists, (unsigned)cpu);

		while (node != NULL) {
			struct allod_percpu_node *next = node->next;

			free(node);
			allod_percpu_add(made, (uint64_t)-1);
			node = next;
			freed++;
		}
	}
	return freed;
}

int main(void)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("buffers", NULL);
	pthread_t threads[THREADS];
	unsigned freed = 0;
	uint64_t left = 0;
	int cpu;

	lists = pool ? allod_percpu_zalloc(pool, sizeof *lists, 64) : NULL;
	made = pool ? allod_percpu_zalloc(pool, sizeof *made, 0) : NULL;
	if (lists == NULL || made == NULL) {
		perror("no memory for the lists");
		return 1;
	}
	for (int i = 0; i < THREADS; i++) {
		if (pthread_create(&threads[i], NULL, use_buffers, NULL))
			return 1;
	}
	for (int i = 0; i < DRAINS; i++)
		freed += drain();
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	freed += drain();
	allod_percpu_for_each_active(cpu) left += *allod_percpu_ptr(made, cpu);
	printf("%u buffers drained, %llu left\n", freed, (unsigned long long)left);
	return left != 0;
}
