/* SPDX-License-Identifier: MIT */
/*
 * The command line of allod: one table of commands and their options.
 *
 * The parser, the help texts and the shell completions are made from these tables, so they cannot
 * disagree. Every command prints its messages to stderr as one line, "allod VERB: message", and
 * follows the exit codes below. Single-threaded; may use stdio, as it is no part of the library.
 */
#pragma once

#include <stdbool.h>

/* Exit codes. `allod run` otherwise ends with the code of the program it becomes. */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAILURE = 1,        /* output could not be written */
	CLI_USAGE = 2,          /* unknown command, option or value */
	CLI_RUN_FAILURE = 125,  /* run: allod cannot do it */
	CLI_NOT_RUNNABLE = 126, /* run: the program was found but cannot be executed */
	CLI_NOT_FOUND = 127,    /* run: there is no such program */
};

enum cli_argument {
	CLI_NO_ARGUMENT,
	CLI_OPTIONAL_ARGUMENT, /* --name or --name=VALUE */
	CLI_REQUIRED_ARGUMENT, /* --name VALUE or --name=VALUE */
};

struct cli_option {
	const char *name; /* without dashes; NULL ends a table */
	enum cli_argument argument;
	const char *placeholder;   /* the argument in help texts */
	const char *const *values; /* the permitted arguments, NULL for any */
	const char *summary;
};

struct cli_command {
	const char *name; /* NULL ends the table */
	const char *synopsis;
	const char *summary;
	const char *details; /* whole lines, printed under the options; may be NULL */
	const struct cli_option *options;
	/* Prints what help has to add; may be NULL. */
	void (*help_more)(void);
	/* argv[0] is the command's name; argv ends with NULL. Returns the exit code. */
	int (*main)(const struct cli_command *command, int argc, char **argv);
};

extern const struct cli_command cli_commands[];

/* Walks one command's arguments. */
struct cli_parser {
	const struct cli_command *command;
	int argc;
	char **argv;
	int next;          /* index of the first argument not yet looked at */
	const char *value; /* argument of the option just returned, NULL if it has none */
};

enum {
	CLI_END = -1,   /* no more options: argv[next] is the first operand, or NULL */
	CLI_ERROR = -2, /* a message was printed: return CLI_USAGE */
	CLI_HELP = -3,  /* help was asked for and printed: return cli_finish() */
};

/* Returns the index of the next option in the command's table, or one of the values above. */
int cli_next_option(struct cli_parser *parser);

/* Like cli_next_option for a command that takes no operands: one is an error. */
int cli_next_option_only(struct cli_parser *parser);

/* The command called `name`, or NULL. */
const struct cli_command *cli_find_command(const char *name);

/* Prints the help of one command, or of allod as a whole. */
void cli_print_command_help(const struct cli_command *command);
void cli_print_help(void);

/* Prints "allod VERB: message" and a newline to stderr; `verb` may be NULL. */
void cli_error(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints the error of an unknown command, with the nearest name as a hint. Returns CLI_USAGE. */
int cli_unknown_command(const char *name);

/* Flushes stdout: CLI_OK, or a message and CLI_FAILURE when something could not be written. */
int cli_finish(void);

int run_main(const struct cli_command *command, int argc, char **argv);
void run_help_more(void);
int info_main(const struct cli_command *command, int argc, char **argv);
int stat_main(const struct cli_command *command, int argc, char **argv);
