/* SPDX-License-Identifier: MIT */
/*
 * The table of commands, and the two that need no file of their own: help and version.
 */
#include <stdio.h>

#include "cli.h"

static const char *const stats_formats[] = { "text", "json", NULL };

/* The order is known to run.c: see RUN_CONF and RUN_STATS there. */
static const struct cli_option run_options[] = {
	{ "conf", CLI_REQUIRED_ARGUMENT, "KEY:VALUE,...", NULL, "set options of the allocator" },
	{ "stats", CLI_OPTIONAL_ARGUMENT, "text|json", stats_formats,
		"print statistics to stderr at the end" },
	{ NULL },
};

static const struct cli_option json_options[] = {
	{ "json", CLI_NO_ARGUMENT, NULL, NULL, "print one JSON object instead of text" },
	{ NULL },
};

static const struct cli_option no_options[] = { { NULL } };

static int help_main(const struct cli_command *self, int argc, char **argv)
{
	struct cli_parser parser = { .command = self, .argc = argc, .argv = argv, .next = 1 };
	const struct cli_command *topic;
	int index = cli_next_option(&parser);

	if (index == CLI_ERROR)
		return CLI_USAGE;
	if (index == CLI_HELP)
		return cli_finish();
	if (parser.next + 1 < argc) {
		cli_error("help", "unexpected argument '%s' (see 'allod help help')",
			argv[parser.next + 1]);
		return CLI_USAGE;
	}
	if (parser.next >= argc) {
		cli_print_help();
		return cli_finish();
	}
	topic = cli_find_command(argv[parser.next]);
	if (!topic)
		return cli_unknown_command(argv[parser.next]);
	cli_print_command_help(topic);
	return cli_finish();
}

static int version_main(const struct cli_command *self, int argc, char **argv)
{
	struct cli_parser parser = { .command = self, .argc = argc, .argv = argv, .next = 1 };
	bool json = false;
	int index;

	while ((index = cli_next_option_only(&parser)) >= 0)
		json = true;
	if (index == CLI_ERROR)
		return CLI_USAGE;
	if (index == CLI_HELP)
		return cli_finish();
	if (json)
		puts("{\"schema\":\"allod.version/1\",\"version\":\"" ALLOD_VERSION "\"}");
	else
		puts("allod " ALLOD_VERSION);
	return cli_finish();
}

const struct cli_command cli_commands[] = {
	{ "run", "[OPTION]... [--] PROGRAM [ARG]...", "run a program with allod as its malloc",
		"Options end at the first argument that is none; what follows is the program's.\n"
		"The exit code is the program's own; 125 if allod cannot run it on allod, 126 if\n"
		"it cannot be executed, 127 if it is not found, 2 on wrong usage.\n",
		run_options, run_help_more, run_main },
	{ "info", "[OPTION]...", "show what this host offers and what is lost without it", NULL,
		json_options, NULL, info_main },
	{ "stat", "[OPTION]... PID", "show the per-CPU pools of a running process",
		"Needs the permission to trace the process. Pages that it shares with a child\n"
		"are not counted as resident.\n",
		json_options, NULL, stat_main },
	{ "help", "[COMMAND]", "show help about allod or one of its commands", NULL, no_options,
		NULL, help_main },
	{ "version", "[OPTION]...", "show the version of allod", NULL, json_options, NULL,
		version_main },
	{ NULL },
};
