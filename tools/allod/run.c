/* SPDX-License-Identifier: MIT */
/*
 * allod run: sets the environment up and becomes the program.
 *
 * No wrapper process stays, so signals, job control and the exit code are the program's own. The
 * environment carries three things: LD_PRELOAD, ALLOD_CONF, and for --stats a copy of stderr on a
 * high descriptor, so that statistics appear even when the program closes its stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/options.h"
#include "cli.h"
#include "preload.h"
#include "program.h"

/* Indices of run's options in its table in commands.c. */
enum { RUN_CONF, RUN_STATS };

enum {
	/* Above what programs choose; daemons that close "all" descriptors stop lower. */
	STATS_FD_FROM = 200,
	CONF_BYTES_MAX = 32768,
};

struct run {
	char conf[CONF_BYTES_MAX]; /* what is added to ALLOD_CONF: "key:value,..." */
	const char *stats;         /* "text", "json" or NULL */
};

static const char *first_word(const char *line)
{
	static const char prefix[] = "allod: ";

	return strncmp(line, prefix, sizeof(prefix) - 1) ? line : line + sizeof(prefix) - 1;
}

/* Prints one mistake of --conf in this command's form of message. */
static void warn_conf(const char *line)
{
	line = first_word(line);
	cli_error("run", "%.*s (see 'allod help run')", (int)strcspn(line, "\n"), line);
}

/* What separates more options from these: a comment reaches to the end of its line. */
static const char *separator_after(const char *conf)
{
	if (!conf || !*conf)
		return "";
	return strchr(conf, '#') ? "\n" : ",";
}

/* Appends to the list of options; false, with a message, if it does not fit. */
static bool append_conf(struct run *run, const char *text)
{
	size_t length = strlen(run->conf);
	size_t room = sizeof(run->conf) - length;

	if ((size_t)snprintf(run->conf + length, room, "%s%s", separator_after(run->conf), text) <
		room)
		return true;
	cli_error("run", "--conf: longer than %d bytes", CONF_BYTES_MAX);
	return false;
}

/* Checks one --conf and keeps it. */
static bool take_conf(struct run *run, const char *text)
{
	struct options checked;

	options_default(&checked);
	return options_parse(&checked, text, "--conf", warn_conf) == 0 && append_conf(run, text);
}

/* Reads run's own options. Returns CLI_END, CLI_HELP or CLI_ERROR. */
static int parse(struct run *run, struct cli_parser *parser)
{
	int index;

	while ((index = cli_next_option(parser)) >= 0) {
		if (index == RUN_STATS)
			run->stats = parser->value ? parser->value : "text";
		else if (!take_conf(run, parser->value))
			return CLI_ERROR;
	}
	if (index != CLI_END || parser->next < parser->argc)
		return index;
	cli_error("run", "no program given (see 'allod help run')");
	return CLI_ERROR;
}

/* Adds the options behind --stats. */
static bool add_stats(struct run *run)
{
	char text[64];
	int fd;

	if (!run->stats)
		return true;
	fd = fcntl(STDERR_FILENO, F_DUPFD, STATS_FD_FROM);
	snprintf(text, sizeof(text), "stats:%s,stats_fd:%d", run->stats,
		fd >= 0 ? fd : STDERR_FILENO);
	return append_conf(run, text);
}

/* Sets a variable to the two parts with the separator between them. */
static bool set_joined(const char *name, const char *first, const char *separator,
	const char *second)
{
	char *text;
	int status;

	if (asprintf(&text, "%s%s%s", first, separator, second) < 0)
		return false;
	status = setenv(name, text, 1);
	free(text);
	return status == 0;
}

static bool set_preload(const char *library)
{
	const char *others = getenv("LD_PRELOAD");

	return set_joined("LD_PRELOAD", library, others && *others ? ":" : "",
		others ? others : "");
}

/* Adds this command's options to those of the environment; the later ones win. */
static bool set_conf(const char *added)
{
	const char *given = getenv("ALLOD_CONF");

	if (!*added)
		return true;
	return set_joined("ALLOD_CONF", given ? given : "", separator_after(given), added);
}

/* Finds the library and puts it before whatever is preloaded already. */
static bool set_environment(const struct run *run)
{
	char library[PATH_MAX];

	if (!preload_find(library, sizeof(library))) {
		cli_error("run", "%s is neither beside this command nor in %s", PRELOAD_LIBRARY,
			ALLOD_LIBDIR);
		return false;
	}
	if (library[strcspn(library, ": \t")]) {
		cli_error("run",
			"cannot preload '%s': blanks and colons separate names in LD_PRELOAD",
			library);
		return false;
	}
	if (set_preload(library) && set_conf(run->conf))
		return true;
	cli_error("run", "cannot set the environment: %m");
	return false;
}

/* Becomes the program; returns only on failure. A text without "#!" is given to the shell. */
static int execute(const struct program *program, char **argv)
{
	const char *shell_argv[] = { "/bin/sh", program->path };
	size_t count = 0;
	char **script;

	execv(program->path, argv);
	if (errno == ENOEXEC) {
		while (argv[count])
			count++;
		script = calloc(count + 2, sizeof(*script));
		if (script) {
			memcpy(script, shell_argv, sizeof(shell_argv));
			memcpy(script + 2, argv + 1, (count - 1) * sizeof(*script));
			execv(shell_argv[0], script);
		}
	}
	cli_error("run", "cannot run '%s': %m", argv[0]);
	return errno == ENOENT ? CLI_NOT_FOUND : CLI_NOT_RUNNABLE;
}

static int exit_code_of(enum program_state state)
{
	switch (state) {
	case PROGRAM_NOT_FOUND: return CLI_NOT_FOUND;
	case PROGRAM_NOT_RUNNABLE: return CLI_NOT_RUNNABLE;
	default: return CLI_RUN_FAILURE;
	}
}

int run_main(const struct cli_command *command, int argc, char **argv)
{
	struct cli_parser parser = { .command = command, .argc = argc, .argv = argv, .next = 1 };
	static struct program program;
	static struct run run;
	enum program_state state;
	int end = parse(&run, &parser);

	if (end == CLI_HELP)
		return cli_finish();
	if (end != CLI_END)
		return CLI_USAGE;
	state = program_inspect(argv[parser.next], &program);
	if (state != PROGRAM_OK) {
		cli_error("run", "cannot run '%s'%s: %s", argv[parser.next],
			state == PROGRAM_NOT_PRELOADABLE ? " on allod" : "", program.reason);
		return exit_code_of(state);
	}
	if (!add_stats(&run) || !set_environment(&run))
		return CLI_RUN_FAILURE;
	return execute(&program, argv + parser.next);
}

/* Lists the options of the allocator under run's help. */
void run_help_more(void)
{
	struct option_info info;

	puts("\nOptions of the allocator, for --conf and the variable ALLOD_CONF:");
	for (size_t i = 0; options_info(i, &info); i++)
		printf("  %-23s %s\n", info.name, info.values);
	puts("\nWhat each of them does: allod-malloc(7).");
}
