/* SPDX-License-Identifier: MIT */
/*
 * The allod command: hands its arguments to one of the commands of commands.c.
 */
#include <string.h>

#include "cli.h"

/* --help and --version are spellings of commands; any other option is an error. */
static const char *command_of_option(const char *text)
{
	if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0)
		return "help";
	if (strcmp(text, "--version") == 0)
		return "version";
	return text;
}

int main(int argc, char **argv)
{
	const struct cli_command *command;

	if (argc < 2) {
		cli_error(NULL, "no command given (see 'allod help')");
		return CLI_USAGE;
	}
	command = cli_find_command(command_of_option(argv[1]));
	if (command)
		return command->main(command, argc - 1, argv + 1);
	if (argv[1][0] != '-')
		return cli_unknown_command(argv[1]);
	cli_error(NULL, "unknown option '%s' (see 'allod help')", argv[1]);
	return CLI_USAGE;
}
