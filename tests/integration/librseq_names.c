/* SPDX-License-Identifier: MIT */
/*
 * A program for librseq's pools: threads count words per processor. The words' statistics come from a
 * pool of per-CPU items, their texts from a set of global pools by length. Knows nothing of allod.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rseq/mempool.h>

enum { WORDS = 300, THREADS = 4, ROUNDS = 20000 };

struct stats {
	unsigned long uses;
	unsigned long bytes;
};

struct word {
	char *text;
	struct stats __rseq_percpu *stats;
};

static struct word words[WORDS];
static int cpus;

static void check(int is_right, const char *what)
{
	if (is_right)
		return;
	printf("not ok 1 - %s\n", what);
	exit(1);
}

static struct rseq_mempool_set *texts_create(void)
{
	struct rseq_mempool_set *set = rseq_mempool_set_create();
	struct rseq_mempool_attr *attr = rseq_mempool_attr_create();

	check(set && attr, "a set and attributes");
	check(rseq_mempool_attr_set_global(attr, 0) == 0, "global pools");
	for (size_t len = 8; len <= 128; len *= 2) {
		struct rseq_mempool *pool = rseq_mempool_create("text", len, attr);

		check(pool && rseq_mempool_get_max_nr_cpus(pool) == -1, "a pool of texts");
		check(rseq_mempool_set_add_pool(set, pool) == 0, "a pool in the set");
	}
	rseq_mempool_attr_destroy(attr);
	return set;
}

static void *use_words(void *arg)
{
	unsigned state = (unsigned)(size_t)arg + 1;

	for (int i = 0; i < ROUNDS; i++) {
		struct word *word = &words[(state = state * 1103515245 + 12345) / 65536 % WORDS];
		int cpu = sched_getcpu();
		struct stats *here = rseq_percpu_ptr(word->stats, cpu);

		__atomic_fetch_add(&here->uses, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&here->bytes, strlen(word->text), __ATOMIC_RELAXED);
	}
	return NULL;
}

static void run(void)
{
	pthread_t threads[THREADS];
	unsigned long uses = 0;

	for (size_t i = 0; i < THREADS; i++)
		check(!pthread_create(&threads[i], NULL, use_words, (void *)i), "a thread");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < WORDS; i++) {
		for (int cpu = 0; cpu < cpus; cpu++) {
			const struct stats *there = rseq_percpu_ptr(words[i].stats, cpu);

			uses += there->uses;
			check(there->bytes == there->uses * strlen(words[i].text), "bytes per use");
		}
	}
	check(uses == (unsigned long)THREADS * ROUNDS, "each use counted once");
}

int main(void)
{
	struct rseq_mempool *pool = rseq_mempool_create("stats", sizeof(struct stats), NULL);
	struct rseq_mempool_set *texts = texts_create();
	char text[128];

	puts("1..1");
	cpus = rseq_mempool_get_max_nr_cpus(pool);
	check(pool && cpus > 0, "a pool with defaults");
	for (int i = 0; i < WORDS; i++) {
		int len = 1 + i * 7 % 120;

		memset(text, 'a' + i % 26, (size_t)len);
		text[len] = 0;
		words[i].text = rseq_mempool_set_zmalloc(texts, (size_t)len + 1);
		words[i].stats = rseq_mempool_percpu_zmalloc(pool);
		check(words[i].text && words[i].stats, "an item for a word");
		check(words[i].text[len] == 0, "zeroed");
		strcpy(words[i].text, text);
	}
	check(!rseq_mempool_set_malloc(texts, 129), "nothing larger than the largest pool");
	run();
	for (int i = 0; i < WORDS; i++) {
		rseq_mempool_free(words[i].text);
		rseq_mempool_percpu_free(words[i].stats);
	}
	check(rseq_mempool_destroy(pool) == 0 && rseq_mempool_set_destroy(texts) == 0, "the end");
	puts("ok 1 - names");
	return 0;
}
