/* SPDX-License-Identifier: MIT */
/*
 * Writes the words of a shell's completion script from the tables of the command and of the
 * allocator's options, then copies the script's logic from a file. Runs while allod is built:
 * completion posix|fish LOGIC-FILE.
 *
 * The result begins with one function, _allod_words TOPIC, that prints a word and its description,
 * separated by a tab, a line each. Topics: "commands"; a command, for its options; "conf", for the
 * keys of --conf; "conf:KEY", for the values of a key.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "cli.h"

enum { WORD_MAX_BYTES = 80 };

/* How a shell spells the branches of a function. */
struct shell {
	const char *name;
	const char *open;
	const char *topic; /* format, with the topic */
	const char *topic_end;
	const char *close;
};

static const struct shell shells[] = {
	{ "posix", "_allod_words()\n{\n\tcase $1 in\n", "\t%s) printf '%%s\\t%%s\\n'", " ;;\n",
		"\tesac\n}\n\n" },
	{ "fish", "function _allod_words\n\tswitch $argv[1]\n",
		"\tcase %s\n\t\tprintf '%%s\\t%%s\\n'", "\n", "\tend\nend\n\n" },
};

/* Prints a text as one word of the shell; the tables hold no quotes, and none gets through. */
static void print_quoted(const char *text)
{
	putchar(' ');
	putchar('\'');
	for (; *text; text++)
		putchar(*text == '\'' || *text == '\\' ? ' ' : *text);
	putchar('\'');
}

static void print_word(const char *word, const char *description)
{
	fputs(" \\\n\t\t", stdout);
	print_quoted(word);
	print_quoted(description);
}

static void print_option(const struct cli_option *option)
{
	char word[WORD_MAX_BYTES];

	snprintf(word, sizeof(word), "--%s", option->name);
	print_word(word, option->summary);
	for (const char *const *v = option->values; v && *v; v++) {
		snprintf(word, sizeof(word), "--%s=%s", option->name, *v);
		print_word(word, option->summary);
	}
}

static void print_commands(const struct shell *shell)
{
	printf(shell->topic, "commands");
	for (const struct cli_command *c = cli_commands; c->name; c++)
		print_word(c->name, c->summary);
	print_word("--help", "show this help");
	print_word("--version", "show the version");
	fputs(shell->topic_end, stdout);
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		printf(shell->topic, c->name);
		for (const struct cli_option *o = c->options; o->name; o++)
			print_option(o);
		print_word("--help", "show this help");
		fputs(shell->topic_end, stdout);
	}
}

/* The values of a key that is a choice: "a|b|c". */
static void print_values(const struct shell *shell, const struct option_info *info)
{
	char text[WORD_MAX_BYTES];
	const char *words = info->words;

	snprintf(text, sizeof(text), "conf:%s", info->name);
	printf(shell->topic, text);
	while (*words) {
		int length = (int)strcspn(words, "|");

		snprintf(text, sizeof(text), "%.*s", length, words);
		print_word(text, info->name);
		words += length + (words[length] == '|');
	}
	fputs(shell->topic_end, stdout);
}

static void print_conf(const struct shell *shell)
{
	char text[WORD_MAX_BYTES];
	struct option_info info;

	printf(shell->topic, "conf");
	for (size_t i = 0; options_info(i, &info); i++) {
		snprintf(text, sizeof(text), "%s:", info.name);
		print_word(text, info.values);
	}
	fputs(shell->topic_end, stdout);
	for (size_t i = 0; options_info(i, &info); i++) {
		if (info.words)
			print_values(shell, &info);
	}
}

/* Copies the logic; false if it cannot be read. */
static bool copy_file(const char *path)
{
	FILE *logic = fopen(path, "r");
	int c;

	if (!logic)
		return false;
	while ((c = getc(logic)) != EOF)
		putchar(c);
	return fclose(logic) == 0;
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 3 && i < sizeof(shells) / sizeof(shells[0]); i++) {
		if (strcmp(argv[1], shells[i].name) != 0)
			continue;
		/* zsh wants its tag on the first line. */
		puts("#compdef allod\n# Made from the option tables of allod.\n");
		fputs(shells[i].open, stdout);
		print_commands(&shells[i]);
		print_conf(&shells[i]);
		fputs(shells[i].close, stdout);
		if (copy_file(argv[2]))
			return cli_finish();
		cli_error(NULL, "completion: cannot read %s: %m", argv[2]);
		return CLI_FAILURE;
	}
	cli_error(NULL, "completion: give posix or fish, and a file");
	return CLI_USAGE;
}
