/* SPDX-License-Identifier: MIT */
/*
 * Option parser, help printer and messages. See cli.h.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* Names longer than this get no hint. */
enum { NAME_MAX_CHARS = 32 };

void cli_error(const char *verb, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "allod%s%s: ", verb ? " " : "", verb ? verb : "");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

int cli_finish(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return CLI_OK;
	cli_error(NULL, "cannot write to standard output: %m");
	return CLI_FAILURE;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;

	return least < c ? least : c;
}

/* Levenshtein's distance of two short names, UINT32_MAX when one is too long. */
static unsigned name_distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_CHARS + 1];
	size_t width = strlen(b);

	if (width > NAME_MAX_CHARS || strlen(a) > NAME_MAX_CHARS)
		return UINT32_MAX;
	for (size_t j = 0; j <= width; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= width; j++) {
			unsigned above = row[j];

			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[width];
}

/* Keeps the nearer of `*best` and `candidate`, if it is near enough to be a slip of the finger. */
static void nearer(const char *wanted, const char *candidate, const char **best)
{
	unsigned distance = name_distance(wanted, candidate);

	if (distance <= 2 && (!*best || distance < name_distance(wanted, *best)))
		*best = candidate;
}

int cli_unknown_command(const char *name)
{
	const char *near = NULL;

	for (const struct cli_command *c = cli_commands; c->name; c++)
		nearer(name, c->name, &near);
	if (near)
		cli_error(NULL, "unknown command '%s' (did you mean '%s'?)", name, near);
	else
		cli_error(NULL, "unknown command '%s' (see 'allod help')", name);
	return CLI_USAGE;
}

static int unknown_option(const struct cli_command *command, const char *text)
{
	const char *name = text + strspn(text, "-");
	const char *near = NULL;

	for (const struct cli_option *o = command->options; o->name; o++)
		nearer(name, o->name, &near);
	if (near)
		cli_error(command->name, "unknown option '%s' (did you mean '--%s'?)", text, near);
	else
		cli_error(command->name, "unknown option '%s' (see 'allod help %s')", text,
			command->name);
	return CLI_ERROR;
}

const struct cli_command *cli_find_command(const char *name)
{
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

static bool value_is_permitted(const struct cli_option *option, const char *value)
{
	if (!option->values || !value)
		return true;
	for (const char *const *v = option->values; *v; v++) {
		if (strcmp(*v, value) == 0)
			return true;
	}
	return false;
}

/* Fetches the argument of `option`, given as "--name=value" when `inline_value` is not NULL. */
static int take_value(struct cli_parser *p, int index, const char *inline_value)
{
	const struct cli_option *option = &p->command->options[index];
	const char *verb = p->command->name;

	p->value = inline_value;
	if (inline_value && option->argument == CLI_NO_ARGUMENT) {
		cli_error(verb, "option '--%s' takes no value (see 'allod help %s')", option->name,
			verb);
		return CLI_ERROR;
	}
	if (!inline_value && option->argument == CLI_REQUIRED_ARGUMENT) {
		if (p->next >= p->argc) {
			cli_error(verb, "option '--%s' needs a value: %s (see 'allod help %s')",
				option->name, option->placeholder, verb);
			return CLI_ERROR;
		}
		p->value = p->argv[p->next++];
	}
	if (!value_is_permitted(option, p->value)) {
		cli_error(verb, "option '--%s': '%s' is not one of %s (see 'allod help %s')",
			option->name, p->value, option->placeholder, verb);
		return CLI_ERROR;
	}
	return index;
}

static bool is_help(const char *text)
{
	return strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0;
}

int cli_next_option(struct cli_parser *p)
{
	const char *text = p->next < p->argc ? p->argv[p->next] : NULL;
	const char *name, *equals;
	size_t length;

	if (!text || text[0] != '-' || text[1] == '\0')
		return CLI_END;
	p->next++;
	if (strcmp(text, "--") == 0)
		return CLI_END;
	if (is_help(text)) {
		cli_print_command_help(p->command);
		return CLI_HELP;
	}
	if (text[1] != '-')
		return unknown_option(p->command, text);
	name = text + 2;
	equals = strchr(name, '=');
	length = equals ? (size_t)(equals - name) : strlen(name);
	for (int i = 0; p->command->options[i].name; i++) {
		const char *candidate = p->command->options[i].name;

		if (strlen(candidate) == length && memcmp(candidate, name, length) == 0)
			return take_value(p, i, equals ? equals + 1 : NULL);
	}
	return unknown_option(p->command, text);
}

int cli_next_option_only(struct cli_parser *p)
{
	int index = cli_next_option(p);

	if (index != CLI_END || p->next >= p->argc)
		return index;
	cli_error(p->command->name, "unexpected argument '%s' (see 'allod help %s')",
		p->argv[p->next], p->command->name);
	return CLI_ERROR;
}

/* Prints one aligned line of a list: a term and its explanation. */
static void print_item(const char *term, const char *summary)
{
	printf("  %-23s %s\n", term, summary);
}

static void print_option(const struct cli_option *option)
{
	char term[80];

	if (option->argument == CLI_NO_ARGUMENT)
		snprintf(term, sizeof(term), "--%s", option->name);
	else if (option->argument == CLI_OPTIONAL_ARGUMENT)
		snprintf(term, sizeof(term), "--%s[=%s]", option->name, option->placeholder);
	else
		snprintf(term, sizeof(term), "--%s %s", option->name, option->placeholder);
	print_item(term, option->summary);
}

void cli_print_command_help(const struct cli_command *command)
{
	printf("Usage: allod %s%s%s\n", command->name, *command->synopsis ? " " : "",
		command->synopsis);
	printf("%c%s.\n\nOptions:\n", command->summary[0] - 'a' + 'A', command->summary + 1);
	for (const struct cli_option *o = command->options; o->name; o++)
		print_option(o);
	print_item("--help", "show this help");
	if (command->details)
		printf("\n%s", command->details);
	if (command->help_more)
		command->help_more();
}

void cli_print_help(void)
{
	puts("Usage: allod COMMAND [OPTION]... [ARG]...\n"
	     "Runs unmodified programs on the allod memory allocator.\n\n"
	     "Commands:");
	for (const struct cli_command *c = cli_commands; c->name; c++)
		print_item(c->name, c->summary);
	puts("\nOptions:");
	print_item("--help", "show this help");
	print_item("--version", "show the version");
	puts("\nFirst steps:\n"
	     "  allod run -- python3 -c 'print(1)'   run a program on allod\n"
	     "  allod run --stats -- sqlite3         and show statistics when it ends\n"
	     "  allod info                           what this host offers to allod\n\n"
	     "'allod help COMMAND' tells more; so do the man pages allod(1), allod-run(1) and\n"
	     "allod-info(1).");
}
