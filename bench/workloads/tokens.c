/* SPDX-License-Identifier: MIT */
/*
 * tokens DOCUMENTS LINES: splits lines into words, copies each word, and counts them in a table of
 * chained nodes that is thrown away after each document, as a parser or an interpreter does.
 */
#include "workload.h"

#include <stdio.h>
#include <string.h>

enum { BUCKETS = 1 << 12, WORDS = 5000, WORD_BYTES = 24 };

static char words[WORDS][WORD_BYTES];

struct entry {
	struct entry *next;
	char *word;
	size_t count;
	char *last_line;
};

static size_t hash(const char *text)
{
	size_t value = 5381;

	while (*text)
		value = value * 33 ^ (unsigned char)*text++;
	return value % BUCKETS;
}

static char *copy_of(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		fail("no memory");
	return copy;
}

/* A line of up to 20 words, some common and most rare. */
static char *make_line(uint32_t *state)
{
	char text[20 * WORD_BYTES];
	char *end = text;

	for (size_t left = 1 + random_below(state, 19); left > 0; left--) {
		end = stpcpy(end, words[random_below(state, 1 + random_below(state, WORDS))]);
		*end++ = ' ';
	}
	*end = '\0';
	return copy_of(text);
}

static void count_word(struct entry **table, char *word, const char *line)
{
	struct entry **link = &table[hash(word)];

	while (*link && strcmp((*link)->word, word) != 0)
		link = &(*link)->next;
	if (*link) {
		free(word);
		free((*link)->last_line);
	} else {
		*link = calloc(1, sizeof(**link));
		if (!*link)
			fail("no memory");
		(*link)->word = word;
	}
	(*link)->count++;
	(*link)->last_line = copy_of(line);
}

static void split(struct entry **table, const char *line)
{
	char *rest = copy_of(line);
	char *position;

	for (char *word = strtok_r(rest, " ", &position); word;
		word = strtok_r(NULL, " ", &position))
		count_word(table, copy_of(word), line);
	free(rest);
}

static size_t table_clear(struct entry **table)
{
	size_t total = 0;

	for (size_t i = 0; i < BUCKETS; i++) {
		while (table[i]) {
			struct entry *entry = table[i];

			table[i] = entry->next;
			total += entry->count;
			free(entry->word);
			free(entry->last_line);
			free(entry);
		}
	}
	return total;
}

int main(int argc, char **argv)
{
	size_t documents = number_of(argc, argv, 1);
	size_t lines = number_of(argc, argv, 2);
	struct entry **table = table_of(BUCKETS, sizeof(*table));
	uint32_t state = 1;

	for (size_t i = 0; i < WORDS; i++)
		snprintf(words[i], WORD_BYTES, "%.*s%zu", (int)(i % 17), "abcdefghijklmnopq", i);
	for (size_t document = 0; document < documents; document++) {
		for (size_t i = 0; i < lines; i++) {
			char *line = make_line(&state);

			split(table, line);
			free(line);
		}
		if (table_clear(table) < lines)
			fail("words are missing");
	}
	return 0;
}
