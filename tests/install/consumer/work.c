/* SPDX-License-Identifier: MIT */
/*
 * Threads and children that allocate, by malloc or, built WITH_ALLOD, by allod_malloc; says by
 * whose.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef WITH_ALLOD
#include <allod/heap.h>
#define malloc allod_malloc
#define realloc allod_realloc
#define free allod_free
#define malloc_usable_size allod_malloc_usable_size
#endif

static pthread_key_t key;

static void *work(void *arg)
{
	for (size_t i = 0; i < 5000; i++) {
		const size_t size = i * 37 % 9000 + 1;
		char *p = malloc(size);
		if (p == NULL)
			exit(1);
		memset(p, (int)i, size);
		p = realloc(p, size * 2);
		if (p == NULL || p[0] != (char)i || p[size - 1] != (char)i)
			exit(2);
		free(p);
	}
	pthread_setspecific(key, malloc(100));
	return arg;
}

static void free_late(void *block)
{
	free(block);
}

static void work_in_threads(void)
{
	pthread_t threads[3];
	for (int i = 0; i < 3; i++) {
		if (pthread_create(&threads[i], NULL, work, NULL) != 0)
			exit(3);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	int status;
	pthread_key_create(&key, free_late);
	work_in_threads();
	if (fork() == 0) {
		work_in_threads();
		exit(0);
	}
	wait(&status);
	/* allod's blocks of 17 bytes have 32; others' have 17 or 24. */
	printf("%s\n", status == 0 && malloc_usable_size(malloc(17)) == 32 ? "allod" : "other");
	return 0;
}
